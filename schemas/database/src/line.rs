//! A line that falls silent.
//!
//! The server cancels a statement that runs too long, and the kernels notice a host that is gone. Neither
//! helps when what stands between (a proxy that hangs, a firewall that has forgotten the connection) takes
//! what is said and passes nothing on; and no time-out of the server's bounds a `COMMIT`, which may wait for
//! a standby for ever. So whoever has asked something and hears nothing for longer than any statement may
//! run gives the connection up. Everything that is under way on it then fails as on a connection that was
//! cut: whether a commit happened is not known, and is read back on another one.
//!
//! A future that is dropped half-way would do for one statement; it would leave the connection in the pool,
//! and not cover those who forget it. So this stands beneath them all, where the bytes pass. The driver has
//! one place for that: where TLS would be, which with direct negotiation gets the stream before anything
//! was said.

use crate::error::chain;
use diesel::{ConnectionError, ConnectionResult};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use std::{
    future::{Future, Ready, ready},
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};
use tokio_postgres::{
    Socket,
    config::{Host, SslMode, SslNegotiation},
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
};

/// Bytes before the content of a message: its kind, and a length that counts itself.
const HEAD: usize = 5;
/// What a client says that the server owes an answer to: `Query`, `Sync`, `FunctionCall`, and the first
/// message, which has no kind and counts as 0.
const ASKS: [u8; 4] = [0, b'Q', b'S', b'F'];
/// What ends an answer: `ReadyForQuery`.
const ANSWERS: [u8; 1] = [b'Z'];

/// Connects; the connection fails once it has owed an answer and said nothing for so long.
pub(crate) async fn establish(url: &str, silence: Duration) -> ConnectionResult<AsyncPgConnection> {
    let Ok(mut config) = url.parse::<tokio_postgres::Config>() else {
        return AsyncPgConnection::establish(url).await; // it says what is wrong
    };
    let by_name = |host: &Host| matches!(host, Host::Tcp(_));
    let hosts = config.get_hosts();
    // A socket in the file system has nothing in between; and TLS that is asked for cannot be had here.
    let watched = !hosts.is_empty() && hosts.iter().all(by_name);
    if !watched || config.get_ssl_mode() == SslMode::Require {
        return AsyncPgConnection::establish(url).await;
    }
    config
        .ssl_mode(SslMode::Require)
        .ssl_negotiation(SslNegotiation::Direct);
    let (client, connection) = config
        .connect(Watch { silence })
        .await
        .map_err(|error| ConnectionError::BadConnection(chain(&error)))?;
    AsyncPgConnection::try_from_client_and_connection(client, connection).await
}

/// Puts a stream under watch.
#[derive(Clone, Copy)]
struct Watch {
    silence: Duration,
}

impl MakeTlsConnect<Socket> for Watch {
    type Stream = Watched<Socket>;
    type TlsConnect = Self;
    type Error = io::Error;

    fn make_tls_connect(&mut self, _: &str) -> io::Result<Self> {
        Ok(*self)
    }
}

impl TlsConnect<Socket> for Watch {
    type Stream = Watched<Socket>;
    type Error = io::Error;
    type Future = Ready<io::Result<Watched<Socket>>>;

    fn connect(self, stream: Socket) -> Self::Future {
        ready(Ok(Watched::new(stream, self.silence)))
    }
}

/// A stream that fails when it owes an answer for too long.
struct Watched<S> {
    stream: S,
    silence: Duration,
    /// When it is too long; counts while something is owed.
    deadline: Pin<Box<Sleep>>,
    said: Messages,
    heard: Messages,
    /// How many answers are owed.
    owed: u64,
}

impl<S> Watched<S> {
    fn new(stream: S, silence: Duration) -> Self {
        Self {
            stream,
            silence,
            deadline: Box::pin(sleep(silence)),
            said: Messages::of_a_client(),
            heard: Messages::default(),
            owed: 0,
        }
    }

    fn wait_anew(&mut self) {
        self.deadline.as_mut().reset(Instant::now() + self.silence);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        match read {
            Poll::Ready(Ok(())) => {
                let answers = this.heard.count(&buffer.filled()[before..], &ANSWERS);
                this.owed = this.owed.saturating_sub(answers);
                if this.owed > 0 {
                    this.wait_anew();
                }
            }
            Poll::Pending if this.owed > 0 && this.deadline.as_mut().poll(context).is_ready() => {
                let silent = "the server owes an answer and says nothing";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, silent)));
            }
            _ => {}
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = written {
            let asked = this.said.count(&bytes[..count], &ASKS);
            if asked > 0 && this.owed == 0 {
                this.wait_anew();
                // Whoever reads has looked already, so the reader is to be woken from here. It is not over
                // yet, and should it be, the reader says so.
                let _not_yet = this.deadline.as_mut().poll(context);
            }
            this.owed += asked;
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Watched<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

/// The messages of one direction, however they are cut.
#[derive(Default)]
struct Messages {
    head: [u8; HEAD],
    /// Bytes of the head that are there.
    has: usize,
    /// Bytes of the content that are to come.
    rest: usize,
}

impl Messages {
    /// The kind of the first one is not said.
    fn of_a_client() -> Self {
        Self {
            has: 1,
            ..Self::default()
        }
    }

    /// How many messages of these kinds begin in what passes now.
    fn count(&mut self, mut bytes: &[u8], kinds: &[u8]) -> u64 {
        let mut count = 0;
        while !bytes.is_empty() {
            let content = self.rest.min(bytes.len());
            self.rest -= content;
            bytes = &bytes[content..];
            let part = (HEAD - self.has).min(bytes.len());
            self.head[self.has..self.has + part].copy_from_slice(&bytes[..part]);
            self.has += part;
            bytes = &bytes[part..];
            if self.has == HEAD {
                let [kind, a, b, c, d] = self.head;
                let length = u32::from_be_bytes([a, b, c, d]) as usize;
                self.rest = length.saturating_sub(HEAD - 1);
                self.has = 0;
                count += u64::from(kinds.contains(&kind));
            }
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len() + 4).expect("short");
        [&[kind][..], &length.to_be_bytes(), content].concat()
    }

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let startup = message(0, b"\0\x03\0\0user\0guichet\0\0");
        let asked = [
            message(b'P', b"SQSQ"),
            message(b'S', b""),
            message(b'Q', b"x\0"),
        ]
        .concat();
        let said = [&startup[1..], &asked].concat();
        for length in 1..=said.len() {
            let mut messages = Messages::of_a_client();
            let pieces = said.chunks(length);
            let count: u64 = pieces.map(|piece| messages.count(piece, &ASKS)).sum();
            assert_eq!(count, 3, "in pieces of {length}");
        }
    }
}
