//! The shapes that other people's programs rely on: identifiers, money, the messages on the bus,
//! the names of exchanges and queues, and the stable codes of problems and refusals.
//!
//! The generated documents beside this crate (`../json`, `../asyncapi.yaml`) are made from these
//! types and checked for drift by a test.
//!
//! This crate knows no clock, no socket and no database; whoever holds one of its values may send
//! it anywhere.

pub mod batch;
pub mod correction;
pub mod crash;
pub mod document;
pub mod email;
pub mod id;
pub mod message;
pub mod money;
pub mod outage;
pub mod planted;
pub mod problem;
pub mod refusal;
pub mod step;
pub mod tier;
pub mod topology;
pub mod trace;

pub use batch::{BATCH_MAX_BYTES, Decoded, Undecodable, decode_batch, encode_batches};
pub use correction::{Correctable, Correction};
pub use email::is_email;
pub use id::{EventId, Incarnation, MessageId, OfferId, OrderId, SagaId, TicketId};
pub use message::{
    CODE_MAX_CHARS, Command, Envelope, Event, MESSAGE_MAX_CHARS, MessageType, Outcome, Reply,
    ReplyError, Signal, StepKind,
};
pub use money::{Currency, Money};
pub use problem::{FieldProblem, Problem, ProblemCode};
pub use refusal::Refusal;
pub use step::StepName;
pub use tier::Tier;
pub use topology::Topology;
pub use trace::TraceParent;
