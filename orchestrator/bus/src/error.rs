//! Errors: what a publisher is told, and why a session ended.

/// Why a message may not have reached its queue. Whatever the reason, it *may* have: the sender
/// sends again when it matters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// There is no session with the broker; nothing was sent.
    #[error("not connected to the broker")]
    Disconnected,
    /// The broker has no memory or disk left and takes no messages (`connection.blocked`).
    #[error("the broker accepts no messages at the moment")]
    Blocked,
    /// No queue is bound for it: the broker returned the message.
    #[error("no queue takes the message")]
    Returned,
    /// The broker refused the message.
    #[error("the broker refused the message")]
    Nacked,
    /// The broker did not confirm in time; the session is given up.
    #[error("the broker did not confirm in time")]
    TimedOut,
    /// The session ended before the broker confirmed.
    #[error("the session ended before the broker confirmed")]
    Lost,
    /// The bus has been stopped; nothing was sent.
    #[error("the bus is stopped")]
    Closed,
    /// The envelope cannot be written: its JSON or an address in it breaks a limit of the protocol.
    #[error("the envelope cannot be written")]
    Unwritable,
}

impl PublishError {
    /// A stable code for logs, metrics and problem documents.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Disconnected => "bus_disconnected",
            Self::Blocked => "bus_blocked",
            Self::Returned => "bus_returned",
            Self::Nacked => "bus_nacked",
            Self::TimedOut => "bus_timed_out",
            Self::Lost => "bus_lost",
            Self::Closed => "bus_closed",
            Self::Unwritable => "bus_unwritable",
        }
    }
}

/// Why a session could not be had, or ended. Logged once, by the supervisor.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum SessionError {
    /// The URL is not one; only a changed configuration helps.
    #[error("amqp.url: {0}")]
    Url(String),
    #[error("not connected within {0} ms")]
    ConnectTimeout(u64),
    #[error("{0}")]
    Driver(#[from] lapin::Error),
    /// What exists on the broker contradicts the configuration; an operator has to decide.
    #[error("{0}")]
    Topology(String),
    #[error("the broker cancelled the consumer of `{0}`")]
    Cancelled(String),
    #[error("messages were not confirmed within {0} ms")]
    Unconfirmed(u64),
    #[error("the {0} connection is gone")]
    Gone(&'static str),
}
