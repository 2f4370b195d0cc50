//! What a step says became of an effect.

use contract::{Command, Outcome, Refusal, Reply, ReplyError};
use serde_json::Value;

/// An output is at most this long as JSON.
pub const OUTPUT_MAX_BYTES: usize = 4 * 1024;

/// What became of a command. See [`Outcome`] for what each means of a `do` and of an `undo`.
#[derive(Clone, PartialEq, Debug)]
pub enum Verdict {
    /// In force (of a `do` or `probe`), or gone (of an `undo`). The output holds ids and amounts,
    /// at most 4 KiB, no personal data.
    Done(Option<Value>),
    /// Refused for good. Of a `do`: it is certain that there is no effect, nor can there be one.
    Rejected(ReplyError),
    /// A passing trouble: the same command may succeed later.
    Retry(ReplyError),
    /// It cannot be told.
    Unknown(ReplyError),
    /// A `do` has begun and needs something outside (a customer, a reviewer). The output is kept in
    /// the ledger; the effect counts as begun, so an undo will come to the step.
    Waiting(Value),
}

impl Verdict {
    /// Done, with nothing to tell.
    #[must_use]
    pub fn done() -> Self {
        Self::Done(None)
    }

    /// Refused for one of the public reasons.
    #[must_use]
    pub fn refused(refusal: Refusal) -> Self {
        Self::rejected(refusal.code(), refusal.message())
    }

    /// Refused for good. Code: at most 40 of `a-z 0-9 _`; message: no personal data.
    #[must_use]
    pub fn rejected(code: &str, message: &str) -> Self {
        Self::Rejected(ReplyError::new(code, message))
    }

    /// Try again.
    #[must_use]
    pub fn retry(code: &str, message: &str) -> Self {
        Self::Retry(ReplyError::new(code, message))
    }

    /// Try again, not before so many milliseconds.
    #[must_use]
    pub fn retry_after_ms(code: &str, message: &str, ms: u32) -> Self {
        let mut error = ReplyError::new(code, message);
        error.retry_after_ms = Some(ms);
        Self::Retry(error)
    }

    /// It cannot be told.
    #[must_use]
    pub fn unknown(code: &str, message: &str) -> Self {
        Self::Unknown(ReplyError::new(code, message))
    }

    /// The outcome it stands for.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Done(_) => Outcome::Done,
            Self::Rejected(_) => Outcome::Rejected,
            Self::Retry(_) => Outcome::Retry,
            Self::Unknown(_) => Outcome::Unknown,
            Self::Waiting(_) => Outcome::Waiting,
        }
    }

    /// The error's code, if there is one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Done(_) | Self::Waiting(_) => None,
            Self::Rejected(error) | Self::Retry(error) | Self::Unknown(error) => Some(&error.code),
        }
    }

    /// The reply to a command.
    #[must_use]
    pub fn reply(self, command: &Command) -> Reply {
        let mut reply = command.reply(self.outcome());
        match self {
            Self::Done(output) => reply.output = output,
            Self::Waiting(output) => reply.output = Some(output),
            Self::Rejected(error) | Self::Retry(error) | Self::Unknown(error) => {
                reply.error = Some(error);
            }
        }
        reply
    }

    /// The same, with what PostgreSQL or the contract would refuse taken out: NUL characters, codes
    /// and messages that are too long, an output of more than [`OUTPUT_MAX_BYTES`] (logged and
    /// left out: the outcome matters more).
    #[must_use]
    pub(crate) fn storable(self, command: &Command) -> Self {
        match self {
            Self::Done(Some(output)) => Self::Done(storable_output(output, command)),
            Self::Done(None) => Self::Done(None),
            Self::Waiting(output) => {
                Self::Waiting(storable_output(output, command).unwrap_or(Value::Bool(true)))
            }
            Self::Rejected(error) => Self::Rejected(storable_error(&error)),
            Self::Retry(error) => Self::Retry(storable_error(&error)),
            Self::Unknown(error) => Self::Unknown(storable_error(&error)),
        }
    }
}

fn storable_error(error: &ReplyError) -> ReplyError {
    ReplyError {
        retry_after_ms: error.retry_after_ms,
        ..ReplyError::new(&error.code, &error.message)
    }
}

fn storable_output(mut output: Value, command: &Command) -> Option<Value> {
    let bytes = output.to_string().len();
    if bytes > OUTPUT_MAX_BYTES {
        tracing::error!(
            saga_id = %command.saga_id,
            trace_id = %command.traceparent.trace_id(),
            step = %command.step,
            bytes,
            "a step's output is too long and is left out"
        );
        return None;
    }
    strip_nul(&mut output);
    Some(output)
}

fn strip_nul(value: &mut Value) {
    match value {
        Value::String(text) => text.retain(|c| c != '\0'),
        Value::Array(values) => values.iter_mut().for_each(strip_nul),
        Value::Object(fields) => {
            fields.retain(|name, _| !name.contains('\0'));
            fields.values_mut().for_each(strip_nul);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::testing::command;
    use contract::{SagaId, StepKind, StepName};
    use serde_json::json;

    #[test]
    fn what_the_database_refuses_is_taken_out() {
        let command = command(&StepName::RESERVE, SagaId::new(), StepKind::Do);
        let bad = Verdict::Done(Some(json!({"a": "x\0y", "b": [{"c\0": 1}]})));
        let bad = bad.storable(&command);
        assert_eq!(bad, Verdict::Done(Some(json!({"a": "xy", "b": [{}]}))));
        let long = "x".repeat(OUTPUT_MAX_BYTES);
        assert_eq!(
            Verdict::Done(Some(json!(long))).storable(&command),
            Verdict::Done(None)
        );
        let Verdict::Rejected(error) = Verdict::rejected(&"c".repeat(99), &"m\0".repeat(600))
        else {
            panic!("a refusal stays one");
        };
        assert_eq!((error.code.len(), error.message.len()), (40, 500));
    }
}
