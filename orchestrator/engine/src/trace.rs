//! The trace of the request that started a saga, on the bus and in the logs.

use contract::{MessageId, TraceParent};

/// A trace's id as it stands in a `traceparent`, for the logs.
pub(crate) fn id(trace: u128) -> String {
    format!("{trace:032x}")
}

/// What a message says of its trace. The message is the span: its id follows from the message's, so
/// that one that is sent again is the same span. Sampled, whatever the caller said, for what happens to
/// an order is always recorded.
pub(crate) fn parent(trace: u128, message: MessageId) -> TraceParent {
    let (_, low) = message.0.as_u64_pair();
    TraceParent::new(trace, low, true)
}
