//! A TCP proxy that goes down, comes back, and holds everything up, between a role and its server.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use url::Url;

/// What the proxy does with connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    /// Bytes pass.
    Up,
    /// Connections stay, and nothing passes in either direction.
    Held,
    /// What the server says passes, and nothing that it is told.
    Mute,
    /// Open connections are closed, and so are new ones.
    Down,
}

/// A proxy on a free port of the loopback, until it is dropped.
#[derive(Debug)]
pub struct TcpProxy {
    address: SocketAddr,
    line: watch::Sender<Line>,
    unheard: watch::Sender<Option<Vec<u8>>>,
    cuts: watch::Sender<u64>,
    serving: JoinHandle<()>,
}

impl TcpProxy {
    /// A proxy to the server of a URL, which must name a port.
    ///
    /// # Panics
    /// When the URL has no host and port, or no port can be had.
    pub async fn to(url: &str) -> Self {
        let url: Url = url.parse().expect("a URL");
        let port = url.port().expect("the URL names a port");
        let target = format!("{}:{port}", url.host_str().expect("the URL names a host"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let line = watch::Sender::new(Line::Up);
        let unheard = watch::Sender::new(None);
        let cuts = watch::Sender::new(0);
        let of = (line.subscribe(), unheard.subscribe(), cuts.subscribe());
        Self {
            address: listener.local_addr().expect("it is bound"),
            serving: tokio::spawn(serve(listener, target, of)),
            line,
            unheard,
            cuts,
        }
    }

    /// The same URL, through the proxy.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn through(&self, url: &str) -> String {
        let mut url: Url = url.parse().expect("a URL");
        url.set_host(Some("127.0.0.1")).expect("it has a host");
        url.set_port(Some(self.address.port()))
            .expect("it has a port");
        url.to_string()
    }

    /// What it does from now on.
    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }

    /// Closes the connections that are open, and no others.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// From now on a connection hears nothing any more once it has said this: the server does what it
    /// was told, and its answer is lost.
    pub fn lose_answer_to(&self, said: &[u8]) {
        self.unheard.send_replace(Some(said.to_vec()));
    }

    /// Connections that say it from now on hear the answer.
    pub fn lose_no_answer(&self) {
        self.unheard.send_replace(None);
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(
    listener: TcpListener,
    target: String,
    (line, unheard, cuts): (
        watch::Receiver<Line>,
        watch::Receiver<Option<Vec<u8>>>,
        watch::Receiver<u64>,
    ),
) {
    // Ends with the task, and the connections with it.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (target, mut line, unheard) = (target.clone(), line.clone(), unheard.clone());
        let mut cuts = cuts.clone();
        let cuts_before = *cuts.borrow();
        connections.spawn(async move {
            if *line.borrow() == Line::Down {
                return;
            }
            let Ok(server) = TcpStream::connect(target).await else {
                return;
            };
            let (client_in, client_out) = client.into_split();
            let (server_in, server_out) = server.into_split();
            let deaf = AtomicBool::new(false);
            let hears = |said: &[u8]| {
                let unheard = unheard.borrow();
                let lost = |of: &Vec<u8>| said.windows(of.len()).any(|part| part == of);
                if unheard.as_ref().is_some_and(lost) {
                    deaf.store(true, Ordering::SeqCst);
                }
                true
            };
            let heard = |_: &[u8]| !deaf.load(Ordering::SeqCst);
            tokio::select! {
                () = copy(client_in, server_out, line.clone(), &[Line::Up], hears) => {}
                () = copy(server_in, client_out, line.clone(), &[Line::Up, Line::Mute], heard) => {}
                _ = line.wait_for(|line| *line == Line::Down) => {}
                _ = cuts.wait_for(|cuts| *cuts > cuts_before) => {}
            }
        });
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut line: watch::Receiver<Line>,
    passes: &[Line],
    passes_on: impl Fn(&[u8]) -> bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if line.wait_for(|line| passes.contains(line)).await.is_err() {
            return;
        }
        if passes_on(&buffer[..count]) && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
