//! What the bus counts, in the process-wide default registry of `prometheus`. Labels name queues by
//! role (`pay`, `pay.undo`, `replies`, `signals`, `events`, `parked`), never by a session's
//! generated name, so their number is bounded.

use prometheus::{
    HistogramVec, IntCounter, IntCounterVec, IntGauge, register_histogram_vec,
    register_int_counter, register_int_counter_vec, register_int_gauge,
};
use std::sync::LazyLock;

const ONCE: &str = "the name is registered here only, once, and is valid";

pub(crate) struct Metrics {
    pub(crate) messages_published: IntCounterVec,
    pub(crate) envelopes_published: IntCounterVec,
    pub(crate) messages_consumed: IntCounterVec,
    pub(crate) envelopes_consumed: IntCounterVec,
    pub(crate) batch_envelopes: HistogramVec,
    pub(crate) publish_failures: IntCounterVec,
    pub(crate) returned: IntCounterVec,
    pub(crate) dropped: IntCounterVec,
    pub(crate) parked: IntCounterVec,
    pub(crate) foreign: IntCounterVec,
    pub(crate) redelivered: IntCounterVec,
    pub(crate) late_acks: IntCounterVec,
    pub(crate) sessions: IntCounter,
    pub(crate) session_failures: IntCounter,
    pub(crate) connected: IntGauge,
    pub(crate) blocked: IntGauge,
}

macro_rules! counters {
    ($name:literal, $help:literal, $label:literal) => {
        register_int_counter_vec!(concat!("guichet_bus_", $name), $help, &[$label]).expect(ONCE)
    };
}

pub(crate) static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    messages_published: counters!(
        "messages_published_total",
        "Messages sent to the broker (confirmed ones: confirmed)",
        "queue"
    ),
    envelopes_published: counters!(
        "envelopes_published_total",
        "Envelopes in the messages sent to the broker",
        "queue"
    ),
    messages_consumed: counters!("messages_consumed_total", "Messages received", "queue"),
    envelopes_consumed: counters!(
        "envelopes_consumed_total",
        "Envelopes received and handed out",
        "queue"
    ),
    batch_envelopes: register_histogram_vec!(
        "guichet_bus_batch_envelopes",
        "Envelopes per published message",
        &["queue"],
        vec![1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0]
    )
    .expect(ONCE),
    publish_failures: counters!(
        "publish_failures_total",
        "Publishings that failed, in messages; whoever asked for them was told, and keeps what is in them",
        "code"
    ),
    returned: counters!("returned_total", "Messages returned as unroutable", "queue"),
    dropped: counters!(
        "dropped_total",
        "Unconfirmed envelopes lost: no session, too many waiting, or a reply's address that is none",
        "queue"
    ),
    parked: counters!("parked_total", "Envelopes parked as undecodable", "queue"),
    foreign: counters!(
        "foreign_dropped_total",
        "Envelopes of another incarnation of the database, dropped",
        "queue"
    ),
    redelivered: counters!(
        "redelivered_total",
        "Messages received not for the first time",
        "queue"
    ),
    late_acks: counters!(
        "late_acks_total",
        "Acknowledgements whose session was gone; the message comes again",
        "queue"
    ),
    sessions: register_int_counter!("guichet_bus_sessions_total", "Sessions established")
        .expect(ONCE),
    session_failures: register_int_counter!(
        "guichet_bus_session_failures_total",
        "Sessions lost, and attempts that failed"
    )
    .expect(ONCE),
    connected: register_int_gauge!("guichet_bus_connected", "1 while a session is established")
        .expect(ONCE),
    blocked: register_int_gauge!(
        "guichet_bus_blocked",
        "1 while the broker takes no messages"
    )
    .expect(ONCE),
});
