//! What a consumer is handed, and how it says that it is done with it.

use crate::{metrics::METRICS, session::Ended};
use contract::{Reply, Signal};
use futures_util::future::join_all;
use lapin::options::BasicAckOptions;
use std::sync::Arc;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The envelopes of one message.
#[derive(Debug)]
pub struct Delivery<T> {
    /// In their order in the message; never empty, all of this incarnation.
    pub envelopes: Vec<T>,
    /// The broker has delivered this message before, to someone.
    pub redelivered: bool,
    /// To acknowledge the message.
    pub acker: Acker,
}

/// A message to the owner of sagas: replies, or nudges to look at sagas.
#[derive(Debug)]
pub struct ReplyDelivery {
    /// Workers' answers; empty when the message holds signals.
    pub replies: Vec<Reply>,
    /// Nudges; empty when the message holds replies.
    pub signals: Vec<Signal>,
    /// To acknowledge the message.
    pub acker: Acker,
}

/// The right to acknowledge one message, once. Dropped unused, the message stays with the broker,
/// which delivers it again when the session ends.
#[derive(Debug)]
#[must_use = "a message that is not acknowledged is delivered again"]
pub struct Acker {
    pub(crate) inner: lapin::Acker,
    pub(crate) ended: Ended,
    pub(crate) label: Arc<str>,
    /// An orderly stop waits for it.
    pub(crate) _in_hand: TaskTrackerToken,
}

impl Acker {
    /// Acknowledges the message. If its session is gone that is impossible; it is counted, and the
    /// message comes again.
    pub async fn ack(self) {
        let options = BasicAckOptions { multiple: false };
        // The driver's answer never comes when its connection hangs, so the session's end counts
        // as one.
        let acked = tokio::select! {
            acked = self.inner.ack(options) => matches!(acked, Ok(true)),
            () = self.ended.wait() => false,
        };
        if !acked {
            METRICS.late_acks.with_label_values(&[&self.label]).inc();
        }
    }

    /// Acknowledges many at once.
    pub async fn ack_all(ackers: impl IntoIterator<Item = Self>) {
        join_all(ackers.into_iter().map(Self::ack)).await;
    }
}
