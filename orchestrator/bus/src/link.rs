//! One connection, with a way to end it for certain.
//!
//! The driver runs a thread per connection. Neither a connection that hangs in its handshake nor
//! one that waits for the answer to its `connection.close` has a deadline of its own (in the
//! closing state the driver even stops watching heartbeats), so against a peer that accepts and
//! then says nothing, each reconnect would leave a thread and a socket behind. Therefore we open
//! the socket ourselves and keep a second handle to it: shutting that down ends the thread
//! whatever it waits for.

use crate::{Config, error::SessionError};
use lapin::{
    Connection, ConnectionProperties,
    tcp::{AsyncTcpStream, TLSConfig},
    uri::AMQPScheme,
};
use std::{
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection that is certainly gone once this is dropped.
pub(crate) struct Link {
    pub(crate) connection: Connection,
    socket: SocketGuard,
}

impl Link {
    /// Connects. The caller bounds the time; a dropped future leaves nothing behind.
    pub(crate) async fn connect(config: &Config, role: &str) -> Result<Self, SessionError> {
        let mut uri = config.url.parse().map_err(SessionError::Url)?;
        uri.query.heartbeat = Some(config.heartbeat_s);
        let properties = ConnectionProperties::default()
            .with_connection_name(format!("{} {} {role}", config.namespace, config.node).into());
        let guard = SocketGuard::default();
        let slot = Arc::clone(&guard.0);
        let connection = Connection::connector(
            uri,
            lapin::runtime::default_runtime()?,
            async move |uri, runtime| {
                let address = (uri.authority.host.clone(), uri.authority.port);
                let stream =
                    AsyncTcpStream::connect(&runtime, runtime.to_socket_addrs(address)).await?;
                if let AsyncTcpStream::Plain(plain) = &stream {
                    let second = plain.get_ref().as_fd().try_clone_to_owned()?;
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(second.into());
                }
                Ok(match uri.scheme {
                    AMQPScheme::AMQP => stream,
                    AMQPScheme::AMQPS => {
                        stream
                            .into_tls(&uri.authority.host, TLSConfig::default())
                            .await?
                    }
                })
            },
            properties,
        )
        .await?;
        Ok(Self {
            connection,
            socket: guard,
        })
    }

    /// Closes the connection in the protocol's way, if the broker answers within a second.
    pub(crate) async fn say_goodbye(&self) {
        let goodbye = self.connection.close(200, "bye".into());
        // Whether it answered changes nothing for us.
        let _ = tokio::time::timeout(GOODBYE_TIMEOUT, goodbye).await;
    }

    /// Ends the connection for certain, as dropping it does.
    pub(crate) fn end(&self) {
        self.socket.shutdown();
    }
}

#[derive(Default)]
struct SocketGuard(Arc<Mutex<Option<TcpStream>>>);

impl SocketGuard {
    fn shutdown(&self) {
        if let Some(socket) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // It fails when the peer was quicker, which is as good.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for SocketGuard {
    fn drop(&mut self) {
        self.shutdown();
    }
}
