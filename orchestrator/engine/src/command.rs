//! From a decision to an envelope.

use crate::trace;
use chrono::DateTime;
use contract::{Command, Incarnation, MessageId, SagaId};
use saga::{Definition, Instance, Send, TimestampMs};
use uuid::Uuid;

/// Where replies go and in which life of the database.
#[derive(Clone, Debug)]
pub struct Sender {
    /// The queue for the replies.
    pub reply_to: String,
    /// This life of the database.
    pub incarnation: Incarnation,
    /// The database's time.
    pub now_ms: TimestampMs,
}

impl Sender {
    /// The envelope of a command; `None` if the definition does not have its step.
    #[must_use]
    pub fn command(&self, definition: &Definition, saga: &Instance, send: Send) -> Option<Command> {
        let step = definition.step(send.step)?;
        let id = command_id(saga.id, send.seq);
        Some(Command {
            id,
            effect_key: Command::effect_key(saga.id, &step.name),
            saga_id: saga.id,
            seq: send.seq,
            definition: saga.definition,
            step: step.name.clone(),
            kind: send.kind,
            attempt: send.attempt,
            sent_at: DateTime::from_timestamp_millis(self.now_ms).unwrap_or_default(),
            ttl_ms: step.ttl_ms,
            reply_to: self.reply_to.clone(),
            incarnation: self.incarnation,
            traceparent: trace::parent(saga.trace_id, id),
            input: step.input.clone(),
            redo: send.redo,
        })
    }
}

/// A command's id follows from the saga and the command's number, so that a command that is sent
/// again is the same command without being stored.
pub(crate) fn command_id(saga: SagaId, seq: i32) -> MessageId {
    MessageId(Uuid::new_v5(&saga.0, &seq.to_be_bytes()))
}
