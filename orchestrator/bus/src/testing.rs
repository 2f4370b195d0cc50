//! For tests, of this crate and others, against a real broker: a namespace of one's own that is
//! deleted at the end, the bus's raw side, and a TCP proxy that cuts and stalls.

mod namespace;
mod proxy;
mod raw;

pub use namespace::TestNamespace;
pub use proxy::Proxy;
pub use raw::{RawBroker, RawMessage};

use chrono::DateTime;
use contract::{Command, Incarnation, MessageId, SagaId, StepKind, StepName, TraceParent};

/// The incarnation of [`sample_command`].
pub const INCARNATION: Incarnation = Incarnation(7);

/// A valid command with ids of its own and no reply address.
#[must_use]
pub fn sample_command(step: &StepName, kind: StepKind) -> Command {
    let saga_id = SagaId::new();
    Command {
        id: MessageId::new(),
        effect_key: Command::effect_key(saga_id, step),
        saga_id,
        seq: 1,
        definition: 1,
        step: step.clone(),
        kind,
        attempt: 1,
        sent_at: DateTime::UNIX_EPOCH,
        ttl_ms: 60_000,
        reply_to: String::new(),
        incarnation: INCARNATION,
        traceparent: TraceParent::new(1, 1, false),
        input: None,
        redo: false,
    }
}
