//! A TCP proxy between the bus and the broker that can be cut, stalled, and made to say things the
//! broker did not say.

use crate::{AmqpUrl, Config};
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::{broadcast, watch},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A proxy on a free port of the loopback, until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    stalled: watch::Sender<bool>,
    cut: watch::Sender<u64>,
    inject: broadcast::Sender<Arc<[u8]>>,
    _stop: DropGuard,
}

impl Proxy {
    /// A proxy to the broker of a configuration.
    ///
    /// # Panics
    /// When the URL is not one, or no port can be had.
    pub async fn to(config: &Config) -> Self {
        let uri = config.url.parse().expect("the test's URL is one");
        let target = format!("{}:{}", uri.authority.host, uri.authority.port);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let stop = CancellationToken::new();
        let proxy = Self {
            address: listener
                .local_addr()
                .expect("a bound listener has an address"),
            stalled: watch::Sender::new(false),
            cut: watch::Sender::new(0),
            inject: broadcast::Sender::new(16),
            _stop: stop.clone().drop_guard(),
        };
        let (stalled, cut) = (proxy.stalled.clone(), proxy.cut.clone());
        let inject = proxy.inject.clone();
        tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let accepted = tokio::select! {
                    () = stop.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((client, _)) = accepted else { return };
                let (target, inject) = (target.clone(), inject.subscribe());
                let (stalled, mut cut) = (stalled.subscribe(), cut.subscribe());
                cut.mark_unchanged();
                connections.spawn(async move {
                    let Ok(server) = TcpStream::connect(target).await else {
                        return;
                    };
                    let (client_in, client_out) = client.into_split();
                    let (server_in, server_out) = server.into_split();
                    tokio::select! {
                        () = copy(client_in, server_out, stalled.clone()) => {}
                        () = copy_frames(server_in, client_out, stalled, inject) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        proxy
    }

    /// The same configuration, through the proxy.
    ///
    /// # Panics
    /// When the URL is not one.
    #[must_use]
    pub fn through(&self, config: &Config) -> Config {
        let mut uri = config.url.parse().expect("the test's URL is one");
        "127.0.0.1".clone_into(&mut uri.authority.host);
        uri.authority.port = self.address.port();
        Config {
            url: AmqpUrl::new(uri.to_string()),
            ..config.clone()
        }
    }

    /// Closes every connection; new ones are let through.
    pub fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }

    /// Lets nothing pass in either direction, closing nothing, until it is undone.
    pub fn stall(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }

    /// Makes every connection's client hear that the broker takes no messages
    /// (`connection.blocked`), or takes them again.
    pub fn say_blocked(&self, blocked: bool) {
        let mut arguments: Vec<u8> = vec![0, 10, 0, if blocked { 60 } else { 61 }];
        if blocked {
            arguments.extend([4, b't', b'e', b's', b't']);
        }
        let length = u8::try_from(arguments.len()).expect("a dozen bytes");
        let mut frame: Vec<u8> = vec![1, 0, 0, 0, 0, 0, length];
        frame.extend(arguments);
        frame.push(0xCE);
        // Without connections there is nobody to hear it.
        let _ = self.inject.send(frame.into());
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut stalled: watch::Receiver<bool>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if stalled.wait_for(|stalled| !stalled).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

/// Copies whole frames, so that others can be put between them. What is injected passes even while
/// the broker's own frames are stalled.
async fn copy_frames(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut stalled: watch::Receiver<bool>,
    mut inject: broadcast::Receiver<Arc<[u8]>>,
) {
    let mut waiting: Vec<u8> = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let still = *stalled.borrow_and_update();
        let frames = tokio::select! {
            read = from.read(&mut buffer), if !still => {
                let Ok(count @ 1..) = read else { return };
                waiting.extend_from_slice(&buffer[..count]);
                whole_frames(&mut waiting)
            }
            injected = inject.recv() => {
                let Ok(frame) = injected else { return };
                frame.to_vec()
            }
            changed = stalled.changed() => {
                let Ok(()) = changed else { return };
                continue;
            }
        };
        if to.write_all(&frames).await.is_err() {
            return;
        }
    }
}

/// Takes the whole frames off the front: type, channel, length, payload, end.
fn whole_frames(waiting: &mut Vec<u8>) -> Vec<u8> {
    let mut end = 0;
    while let Some(&[a, b, c, d]) = waiting.get(end + 3..end + 7).and_then(|b| b.first_chunk()) {
        let length = u32::from_be_bytes([a, b, c, d]) as usize + 8;
        if end + length > waiting.len() {
            break;
        }
        end += length;
    }
    waiting.drain(..end).collect()
}
