//! Seeing from outside that a process works.

use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

/// The first wait between two looks; it grows to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_millis(250);
/// How long one look may take.
const LOOK: Duration = Duration::from_secs(2);

/// How a process shows that it works.
#[derive(Debug, Clone)]
pub(crate) enum Probe {
    /// It accepts connections.
    Tcp(SocketAddr),
    /// It greets as an AMQP 0-9-1 broker: RabbitMQ listens only when everything else has begun.
    Amqp(SocketAddr),
    /// `postmaster.pid` says `ready`, which is what `pg_ctl -w` waits for, too.
    Postmaster(PathBuf),
    /// `GET /readyz` answers 200.
    Http(SocketAddr),
    /// It does not have to: a task that ends by itself.
    Nothing,
}

impl Probe {
    /// Looks again and again until it works. Bound it with a time-out.
    pub(crate) async fn until_ready(&self) -> Duration {
        let began = Instant::now();
        let mut wait = FIRST_WAIT;
        while !self.look().await {
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        began.elapsed()
    }

    async fn look(&self) -> bool {
        let look = async {
            match self {
                Self::Tcp(addr) => TcpStream::connect(addr).await.is_ok(),
                Self::Amqp(addr) => greets_amqp(*addr).await.unwrap_or(false),
                Self::Postmaster(pid_file) => std::fs::read_to_string(pid_file)
                    .is_ok_and(|text| text.lines().nth(7).map(str::trim) == Some("ready")),
                Self::Nothing => true,
                Self::Http(addr) => answers_ready(*addr).await.unwrap_or(false),
            }
        };
        timeout(LOOK, look).await.unwrap_or(false)
    }
}

/// Sends the protocol header; a broker that accepts it answers with a method frame.
async fn greets_amqp(addr: SocketAddr) -> std::io::Result<bool> {
    const METHOD_FRAME: u8 = 1;
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
    Ok(stream.read_u8().await? == METHOD_FRAME)
}

/// A request this small needs no client library.
async fn answers_ready(addr: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(addr).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut status = [0; 12];
    stream.read_exact(&mut status).await?;
    Ok(&status == b"HTTP/1.1 200")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    /// A server that reads a little and answers `answer`, for as long as the test lasts.
    async fn answering(answer: &'static [u8]) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("the loopback address exists");
        let addr = listener.local_addr().expect("it is bound");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read_u8().await;
                let _ = stream.write_all(answer).await;
            }
        });
        addr
    }

    #[tokio::test]
    async fn only_a_broker_that_speaks_our_protocol_is_ready() {
        let ready = answering(b"\x01\x00\x00").await;
        assert!(Probe::Amqp(ready).look().await);
        let other = answering(b"AMQP\x00\x01\x00\x00").await;
        assert!(!Probe::Amqp(other).look().await);
    }

    #[tokio::test]
    async fn readyz_must_say_200() {
        let ready = answering(b"HTTP/1.1 200 OK\r\n\r\n").await;
        assert!(Probe::Http(ready).look().await);
        let starting = answering(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").await;
        assert!(!Probe::Http(starting).look().await);
    }

    #[tokio::test]
    async fn the_postmaster_is_ready_when_its_file_says_so() {
        let temp = TempDir::new();
        let path = temp.path().join("postmaster.pid");
        let probe = Probe::Postmaster(path.clone());
        assert!(!probe.look().await);
        let text = |status: &str| format!("1\n/d\n2\n3\n\n127.0.0.1\n5 6\n{status}\n");
        std::fs::write(&path, text("starting")).expect("written");
        assert!(!probe.look().await);
        std::fs::write(&path, text("ready   ")).expect("written");
        assert!(probe.look().await);
    }
}
