//! A TCP proxy between a role and its server, that does to the connection what a network can do: it goes
//! down and comes back, holds everything up, lets only one direction pass, is slow or narrow, forgets one
//! end, and loses exactly the answer to a commit.

mod answers;

use answers::Answers;
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use url::Url;

/// Pieces on their way in one direction of one connection.
const UNDER_WAY: usize = 64;

/// What the proxy does with connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    /// Bytes pass.
    Up,
    /// Connections stay, and nothing passes in either direction.
    Held,
    /// What the server says passes, and nothing that it is told.
    Mute,
    /// What the server is told passes, and nothing that it says.
    Deaf,
    /// Open connections are closed, and so are new ones.
    Down,
    /// The server's ends are closed, and the clients hear nothing of it; so it is with new ones.
    HalfOpen,
    /// Everything takes so much longer in each direction.
    Slow {
        /// How much, in milliseconds.
        delay_ms: u32,
    },
    /// Only so much passes in each direction of each connection.
    Thin {
        /// How much, in bytes a second.
        bytes_per_s: u32,
    },
    /// To PostgreSQL: of so many answers to what was committed one is lost, and its connection with it.
    LosesCommits {
        /// Of how many.
        every: u32,
    },
}

impl Line {
    fn passes(self, direction: Direction) -> bool {
        match self {
            Self::Held | Self::Down | Self::HalfOpen => false,
            Self::Mute => direction == Direction::Back,
            Self::Deaf => direction == Direction::There,
            Self::Up | Self::Slow { .. } | Self::Thin { .. } | Self::LosesCommits { .. } => true,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// To the server.
    There,
    /// From it.
    Back,
}

/// A proxy on a free port of the loopback, until it is dropped.
#[derive(Debug)]
pub struct TcpProxy {
    address: SocketAddr,
    line: watch::Sender<Line>,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    target: Mutex<String>,
    lost: AtomicU64,
    /// What met the line as it is now, and would have passed better without.
    hindered: AtomicU64,
    /// How many answers to commits there were since the proxy began, over all connections.
    commits: AtomicU64,
    unheard: watch::Sender<Option<Vec<u8>>>,
    cuts: watch::Sender<u64>,
}

impl TcpProxy {
    /// A proxy to the server of a URL, which must name a port.
    ///
    /// # Panics
    /// When the URL has no host and port, or no port can be had.
    pub async fn to(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let line = watch::Sender::new(Line::Up);
        let shared = Arc::new(Shared {
            target: Mutex::new(target(url)),
            lost: AtomicU64::new(0),
            hindered: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            unheard: watch::Sender::new(None),
            cuts: watch::Sender::new(0),
        });
        Self {
            address: listener.local_addr().expect("it is bound"),
            serving: tokio::spawn(serve(listener, Arc::clone(&shared), line.subscribe())),
            line,
            shared,
        }
    }

    /// The port that leads through it.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
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

    /// What it does from now on. Whatever is not [`Line::Up`] is counted anew.
    pub fn set(&self, line: Line) {
        if line != Line::Up {
            self.shared.lost.store(0, Ordering::Relaxed);
            self.shared.hindered.store(0, Ordering::Relaxed);
        }
        self.line.send_replace(line);
    }

    /// Closes the connections that are open, and no others.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// From now on a connection hears nothing any more once it has said this: the server does what it
    /// was told, and its answer is lost.
    pub fn lose_answer_to(&self, said: &[u8]) {
        self.shared.unheard.send_replace(Some(said.to_vec()));
    }

    /// Connections that say it from now on hear the answer.
    pub fn lose_no_answer(&self) {
        self.shared.unheard.send_replace(None);
    }

    /// Leads new connections to the server of this URL.
    ///
    /// # Panics
    /// When the URL has no host and port.
    pub fn lead_to(&self, url: &str) {
        let mut current = self
            .shared
            .target
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *current = target(url);
    }

    /// How many answers to commits were lost.
    #[must_use]
    pub fn commits_lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// How many connections were ended or refused, and pieces of them lost, late or held up.
    #[must_use]
    pub fn hindered(&self) -> u64 {
        self.shared.hindered.load(Ordering::Relaxed)
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn target(url: &str) -> String {
    let url: Url = url.parse().expect("a URL");
    let port = url.port().expect("the URL names a port");
    format!("{}:{port}", url.host_str().expect("the URL names a host"))
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, line: watch::Receiver<Line>) {
    // Ends with the task, and the connections with it.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        // Those that have ended need no memory any more.
        while connections.try_join_next().is_some() {}
        connections.spawn(carry(client, Arc::clone(&shared), line.clone()));
    }
}

async fn carry(mut client: TcpStream, shared: Arc<Shared>, mut line: watch::Receiver<Line>) {
    let mut cuts = shared.cuts.subscribe();
    let cuts_before = *cuts.borrow();
    let deaf = AtomicBool::new(false);
    let now = *line.borrow_and_update();
    if matches!(now, Line::Down | Line::HalfOpen) {
        shared.hindered.fetch_add(1, Ordering::Relaxed);
    }
    if now == Line::Down {
        return;
    }
    if now != Line::HalfOpen {
        let target = shared.target.lock().map(|target| target.clone());
        let target = target.unwrap_or_else(|poisoned| poisoned.into_inner().clone());
        let Ok(server) = TcpStream::connect(target).await else {
            return;
        };
        // Small answers are not to wait for one another; a proxy that cannot set it is only slower.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (mut client_in, mut client_out) = client.into_split();
        let (mut server_in, mut server_out) = server.into_split();
        let forgotten = tokio::select! {
            () = copy((&mut client_in, &mut server_out), &line, Direction::There, &shared, &deaf) => false,
            () = copy((&mut server_in, &mut client_out), &line, Direction::Back, &shared, &deaf) => false,
            _ = cuts.wait_for(|cuts| *cuts > cuts_before) => false,
            line = ends(line.clone()) => {
                shared.hindered.fetch_add(1, Ordering::Relaxed);
                line == Line::HalfOpen
            }
        };
        if !forgotten {
            return;
        }
        client = client_in.reunite(client_out).expect("two halves of one");
    }
    // The client hears of it when it is over, as from a host that knows no such connection.
    let _ = line.wait_for(|line| *line != Line::HalfOpen).await;
    drop(client);
}

/// Until no connection may go on.
async fn ends(mut line: watch::Receiver<Line>) -> Line {
    let ending = |line: &Line| matches!(line, Line::Down | Line::HalfOpen);
    line.wait_for(ending).await.map_or(Line::Down, |line| *line)
}

async fn copy(
    (from, to): (&mut OwnedReadHalf, &mut OwnedWriteHalf),
    line: &watch::Receiver<Line>,
    direction: Direction,
    shared: &Shared,
    deaf: &AtomicBool,
) {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let now = line.clone();
    let reading = async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let late = match *now.borrow() {
                Line::Slow { delay_ms } => Duration::from_millis(delay_ms.into()),
                _ => Duration::ZERO,
            };
            let piece = (Instant::now() + late, buffer[..count].to_vec());
            if sender.send(piece).await.is_err() {
                return;
            }
        }
    };
    let mut line = line.clone();
    let writing = async {
        let mut answers = Answers::default();
        while let Some((due, mut bytes)) = receiver.recv().await {
            tokio::time::sleep_until(due).await;
            let before = *line.borrow();
            if !before.passes(direction) || matches!(before, Line::Slow { .. } | Line::Thin { .. })
            {
                shared.hindered.fetch_add(1, Ordering::Relaxed);
            }
            let Ok(now) = line
                .wait_for(|line| line.passes(direction))
                .await
                .map(|line| *line)
            else {
                return;
            };
            if let Line::Thin { bytes_per_s } = now {
                let seconds = bytes.len() as f64 / f64::from(bytes_per_s.max(1));
                tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
            }
            if direction == Direction::There {
                let unheard = shared.unheard.borrow();
                let lost = |of: &Vec<u8>| bytes.windows(of.len()).any(|part| part == of);
                if unheard.as_ref().is_some_and(lost) {
                    deaf.store(true, Ordering::SeqCst);
                }
            } else if deaf.load(Ordering::SeqCst) {
                continue;
            } else {
                let losing = match now {
                    Line::LosesCommits { every } => Some(every.into()),
                    _ => None,
                };
                match answers.pass(&bytes, losing, &shared.commits) {
                    Some(passing) => bytes = passing,
                    None => {
                        shared.lost.fetch_add(1, Ordering::Relaxed);
                        shared.hindered.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                }
            }
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = writing => {}
        // What was read is still to be written.
        () = async { reading.await; std::future::pending().await } => {}
    }
}
