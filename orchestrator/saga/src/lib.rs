//! The pure core of a saga.
//!
//! A saga is a stored object with a ledger of effects, not a try/catch in user code. [`step`] takes
//! its state, one input and the time, and returns the next state, at most one command to send, and
//! what to write into the history. [`settle()`] does the same for a batch. Both are total and
//! deterministic; the services and the simulation run the same functions.
//!
//! This crate knows no clock, no chance, no database and no bus, so nothing that happens outside
//! can make it decide differently.

pub mod breaker;
mod definition;
mod instance;
pub mod invariant;
pub mod migrate;
pub mod order;
mod resend;
mod retry;
mod settle;
mod step;

pub use breaker::Breakers;
pub use definition::{
    BadDefinition, Class, Definition, ProbeMode, StepDefinition, WaitingDefinition,
};
pub use instance::{Cursor, Flags, Instance, State, Status, Steps};
pub use resend::{Answers, after_silence, current};
pub use retry::RetryPolicy;
pub use settle::{Applied, Plan, Settlement, Write, settle};
pub use step::{
    Action, DEADLINE_NEAR, Illegal, Input, InputKind, Log, Now, ReplyInput, Send, SignalKind,
    Transition, start, step, warns_at,
};

/// Milliseconds since the Unix epoch, by the database's clock.
pub type TimestampMs = i64;
