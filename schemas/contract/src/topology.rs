//! Names of exchanges, queues and routing keys. Every name begins with the namespace, `guichet`
//! unless configured, so that several installations (and tests) share a broker undisturbed.

use crate::{StepKind, StepName};

/// The names on the bus for one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    namespace: String,
}

impl Topology {
    /// The names under `namespace`.
    #[must_use]
    pub fn new(namespace: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
        }
    }

    /// The namespace itself.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Direct exchange for commands; routing keys are those of [`Self::command_key`].
    #[must_use]
    pub fn commands_exchange(&self) -> String {
        format!("{}.commands", self.namespace)
    }

    /// Direct exchange for nudges to the owner of a shard; the routing key is the shard's number.
    #[must_use]
    pub fn sagas_exchange(&self) -> String {
        format!("{}.sagas", self.namespace)
    }

    /// Topic exchange for nudges about things that happened; see [`Self::order_event_key`].
    #[must_use]
    pub fn events_exchange(&self) -> String {
        format!("{}.events", self.namespace)
    }

    /// Fanout exchange for envelopes that nobody can read.
    #[must_use]
    pub fn parked_exchange(&self) -> String {
        format!("{}.parked", self.namespace)
    }

    /// The queue where undecodable envelopes wait for a person.
    #[must_use]
    pub fn parked_queue(&self) -> String {
        self.parked_exchange()
    }

    /// The queue of a step's commands: `do` apart from `undo` and `probe`, so that new work never
    /// starves a refund. The kind is that which the command goes as ([`Command::goes_as`]).
    ///
    /// [`Command::goes_as`]: crate::Command::goes_as
    #[must_use]
    pub fn command_queue(&self, step: &StepName, kind: StepKind) -> String {
        format!(
            "{}.commands.{}",
            self.namespace,
            Self::command_key(step, kind)
        )
    }

    /// The routing key that leads to [`Self::command_queue`].
    #[must_use]
    pub fn command_key(step: &StepName, kind: StepKind) -> String {
        match kind {
            StepKind::Do => step.as_str().to_owned(),
            StepKind::Undo | StepKind::Probe => format!("{step}.undo"),
        }
    }

    /// Routing key of the event that an order's status changed to `status`.
    #[must_use]
    pub fn order_event_key(status: &str) -> String {
        format!("order.{status}")
    }

    /// Name of an orchestrator's reply queue; a new one for each session with the broker, since a
    /// fixed name is locked by its half-open predecessor.
    #[must_use]
    pub fn reply_queue(&self, node: &str, session: &str) -> String {
        format!("{}.replies.{node}.{session}", self.namespace)
    }
}
