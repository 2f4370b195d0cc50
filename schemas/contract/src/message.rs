//! The envelopes on the bus. A message's body is a JSON array of them (see [`crate::batch`]); the
//! AMQP property `type` names kind and version. A reader ignores fields it does not know.

use crate::{Incarnation, MessageId, SagaId, StepName, TraceParent};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// What a command asks of a step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StepKind {
    /// Bring the effect about.
    Do,
    /// Take the effect back, and make sure that a late `do` can never bring it about.
    Undo,
    /// Tell whether the effect is in force. It brings nothing about; what it finds refused or not there may be
    /// made sure of, and is remembered.
    Probe,
}

impl StepKind {
    /// As it stands in messages, logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Do => "do",
            Self::Undo => "undo",
            Self::Probe => "probe",
        }
    }
}

/// What became of a command.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The effect is in force (of a `do` or `probe`), or gone (of an `undo`). Recorded.
    Done,
    /// Refused for good. Of a `do` or `probe`: certainly no effect. Recorded.
    Rejected,
    /// A passing trouble; the same command may succeed later.
    Retry,
    /// It cannot be told whether the effect is in force.
    Unknown,
    /// Something outside has to happen first: a customer, a reviewer.
    Waiting,
}

impl Outcome {
    /// As it stands in messages, logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Rejected => "rejected",
            Self::Retry => "retry",
            Self::Unknown => "unknown",
            Self::Waiting => "waiting",
        }
    }
}

/// Characters of a code at most.
pub const CODE_MAX_CHARS: usize = 40;
/// Characters of an error's message at most.
pub const MESSAGE_MAX_CHARS: usize = 500;

/// Why an outcome is not `done`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReplyError {
    /// Stable code, at most 40 characters of `a-z 0-9 _`.
    #[schemars(length(max = CODE_MAX_CHARS))]
    pub code: String,
    /// For people; at most 500 characters, no personal data.
    #[schemars(length(max = MESSAGE_MAX_CHARS))]
    pub message: String,
    /// With `retry`: not before so many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u32>,
}

impl ReplyError {
    /// Code and message, cut to what the contract allows and without NUL characters.
    #[must_use]
    pub fn new(code: &str, message: &str) -> Self {
        let clean = |text: &str, max| text.chars().filter(|c| *c != '\0').take(max).collect();
        Self {
            code: clean(code, CODE_MAX_CHARS),
            message: clean(message, MESSAGE_MAX_CHARS),
            retry_after_ms: None,
        }
    }
}

/// One order to a worker: `guichet.command.v1`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Command {
    /// The command's own id, new for each attempt; it only matches the reply.
    pub id: MessageId,
    /// `<saga id>/<step>`: what workers and providers deduplicate by.
    pub effect_key: String,
    /// The saga that asks. In the definition `order` it is also the order's id.
    pub saga_id: SagaId,
    /// Counts the saga's commands; a resent command keeps its number.
    pub seq: i32,
    /// Number of the definition that decided the command.
    pub definition: i16,
    /// The step to work on.
    pub step: StepName,
    /// What to do.
    pub kind: StepKind,
    /// 1 for the first try.
    pub attempt: i16,
    /// When it was sent, by the database's clock.
    pub sent_at: DateTime<Utc>,
    /// A command older than this is answered `retry` with the code `expired`.
    pub ttl_ms: u32,
    /// Queue for the reply, through the default exchange.
    pub reply_to: String,
    /// Life of the database.
    pub incarnation: Incarnation,
    /// Trace.
    pub traceparent: TraceParent,
    /// What the step needs beside the saga's id: ids and amounts, never personal data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<serde_json::Value>,
    /// A `do` that comes once more because nobody knows what became of the last: in place of a probe, and by
    /// the queue of probes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redo: bool,
}

impl Command {
    /// The kind of those commands whose queue it shares.
    #[must_use]
    pub fn goes_as(&self) -> StepKind {
        if self.redo {
            StepKind::Probe
        } else {
            self.kind
        }
    }

    /// The effect key of a saga's step.
    #[must_use]
    pub fn effect_key(saga: SagaId, step: &StepName) -> String {
        format!("{saga}/{step}")
    }

    /// The reply to this command.
    #[must_use]
    pub fn reply(&self, outcome: Outcome) -> Reply {
        Reply {
            id: MessageId::new(),
            in_reply_to: self.id,
            saga_id: self.saga_id,
            seq: self.seq,
            step: self.step.clone(),
            kind: self.kind,
            attempt: self.attempt,
            outcome,
            output: None,
            error: None,
            incarnation: self.incarnation,
            traceparent: self.traceparent,
        }
    }
}

/// A worker's answer: `guichet.reply.v1`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Reply {
    /// The reply's own id.
    pub id: MessageId,
    /// Id of the command.
    pub in_reply_to: MessageId,
    /// As in the command.
    pub saga_id: SagaId,
    /// As in the command; a reply with another number than the current one is stale.
    pub seq: i32,
    /// As in the command.
    pub step: StepName,
    /// As in the command.
    pub kind: StepKind,
    /// As in the command.
    pub attempt: i16,
    /// What became of it.
    pub outcome: Outcome,
    /// What the step produced: ids and amounts, never personal data; at most 4 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<serde_json::Value>,
    /// Why it is not `done`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ReplyError>,
    /// As in the command.
    pub incarnation: Incarnation,
    /// As in the command.
    pub traceparent: TraceParent,
}

impl Reply {
    /// The same with an output.
    #[must_use]
    pub fn with_output(mut self, output: serde_json::Value) -> Self {
        self.output = Some(output);
        self
    }

    /// The same with an error. Code and message are cut to what the contract allows.
    #[must_use]
    pub fn with_error(mut self, code: &str, message: &str) -> Self {
        self.error = Some(ReplyError::new(code, message));
        self
    }

    /// The same, asking for a pause before the next attempt.
    #[must_use]
    pub fn retry_after_ms(mut self, ms: u32) -> Self {
        if let Some(error) = &mut self.error {
            error.retry_after_ms = Some(ms);
        }
        self
    }
}

/// "Look at this saga": `guichet.signal.v1`. A nudge only; what happened is a row in the database.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Signal {
    /// The nudge's own id.
    pub id: MessageId,
    /// The saga to look at.
    pub saga_id: SagaId,
    /// Life of the database.
    pub incarnation: Incarnation,
    /// Trace of the saga, where the sender knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<TraceParent>,
}

/// Something happened to a saga: `guichet.event.v1`. A nudge only; the history has the row.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// The event's own id.
    pub id: MessageId,
    /// The saga it happened to.
    pub saga_id: SagaId,
    /// The saga's revision after it; events of one saga are ordered by it.
    pub rev: i32,
    /// The status after it, as in `GET /v1/orders/{id}`.
    pub status: String,
    /// When it was committed, by the database's clock.
    pub at: DateTime<Utc>,
    /// Life of the database.
    pub incarnation: Incarnation,
    /// Trace of the saga; those of older versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<TraceParent>,
}

/// What travels in batches: kind and version by a type name.
pub trait Envelope: Serialize + DeserializeOwned + Send + 'static {
    /// The AMQP property `type`.
    const TYPE: MessageType;
}

/// Kind and version of a message, as it stands in the AMQP property `type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MessageType(pub &'static str);

impl Envelope for Command {
    const TYPE: MessageType = MessageType("guichet.command.v1");
}

impl Envelope for Reply {
    const TYPE: MessageType = MessageType("guichet.reply.v1");
}

impl Envelope for Signal {
    const TYPE: MessageType = MessageType("guichet.signal.v1");
}

impl Envelope for Event {
    const TYPE: MessageType = MessageType("guichet.event.v1");
}
