//! One kept HTTP/1.1 connection: hyper itself, without a client's pool, redirects or cookies above it.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is sent.
pub(crate) type Body = Full<Bytes>;

/// One connection, opened again when it breaks.
pub(crate) struct Connection {
    to: SocketAddr,
    open: Option<SendRequest<Body>>,
}

impl Connection {
    /// Opens it.
    pub(crate) async fn open(to: SocketAddr) -> Result<Self> {
        let open = Some(connect(to).await?);
        Ok(Self { to, open })
    }

    /// One exchange.
    pub(crate) async fn send(&mut self, request: Request<Body>) -> Result<Response<Bytes>> {
        let exchange = async {
            let mut open = match self.open.take() {
                Some(open) if !open.is_closed() => open,
                _ => connect(self.to).await?,
            };
            open.ready().await?;
            let (head, body) = open.send_request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            // Only a connection whose answer was read to the end can be used again.
            self.open = Some(open);
            Ok(Response::from_parts(head, body))
        };
        match timeout(PATIENCE, exchange).await {
            Ok(answer) => answer,
            Err(_) => bail!("no answer within {} s", PATIENCE.as_secs()),
        }
    }

    /// What is at a path.
    pub(crate) async fn text(&mut self, path: &str) -> Result<String> {
        let answer = self.send(get(self.to, path)).await?;
        if answer.status() != StatusCode::OK {
            bail!("GET {path}: {}", answer.status());
        }
        Ok(String::from_utf8(answer.into_body().to_vec())?)
    }

    /// The JSON at a path.
    pub(crate) async fn json(&mut self, path: &str) -> Result<serde_json::Value> {
        Ok(serde_json::from_str(&self.text(path).await?)?)
    }
}

/// A GET request.
pub(crate) fn get(to: SocketAddr, path: &str) -> Request<Body> {
    Request::get(path)
        .header(header::HOST, to.to_string())
        .body(Body::default())
        .expect("paths come from our own URLs")
}

async fn connect(to: SocketAddr) -> Result<SendRequest<Body>> {
    let stream = TcpStream::connect(to)
        .await
        .with_context(|| format!("cannot connect to {to}"))?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // It ends with its connection, whose failure the sender sees too.
    tokio::spawn(connection);
    Ok(sender)
}
