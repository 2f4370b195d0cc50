//! Commands on their way through the kit, and answers on their way out.

use super::{Verdict, metrics};
use contract::{Command, Reply};
use tokio::sync::mpsc;

/// A command with whatever its bringer wants back with the answer.
#[derive(Debug)]
pub(crate) struct Letter<T> {
    pub(crate) ticket: T,
    pub(crate) command: Command,
}

/// The end of a letter: the queue and the reply; or neither, for a command that is dropped.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    pub(crate) ticket: T,
    pub(crate) reply: Option<(String, Reply)>,
}

/// Where answers go, each as soon as it is there.
#[derive(Debug)]
pub(crate) struct Outbox<T>(pub(crate) mpsc::UnboundedSender<Answer<T>>);

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Outbox<T> {
    pub(crate) fn answer(&self, letter: Letter<T>, verdict: Verdict) {
        metrics::answered(&letter.command, &verdict);
        let reply = verdict.reply(&letter.command);
        self.send(letter.ticket, Some((letter.command.reply_to, reply)));
    }

    pub(crate) fn drop_letter(&self, letter: Letter<T>, reason: &'static str) {
        let command = letter.command;
        metrics::METRICS
            .dropped
            .with_label_values(&[command.step.as_str(), reason])
            .inc();
        tracing::warn!(
            saga_id = %command.saga_id,
            trace_id = %command.traceparent.trace_id(),
            step = %command.step,
            reason,
            "dropped a command"
        );
        self.send(letter.ticket, None);
    }

    fn send(&self, ticket: T, reply: Option<(String, Reply)>) {
        // Nobody listens any more once the worker has stopped; unanswered, it will come again.
        let _stopped = self.0.send(Answer { ticket, reply });
    }
}
