//! Declaring exchanges, queues and bindings. All of it is idempotent, so everyone who needs a thing
//! declares it, and a deleted one comes back.

use crate::{QueueType, error::SessionError};
use contract::{StepKind, StepName, Topology};
use lapin::{
    Channel, ErrorKind, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::{AMQPValue, FieldTable},
};

/// Out of reach: unset, RabbitMQ 4 drops a message after 20 failed deliveries, and before 4.3 each
/// reconnect counts as one. Poison is found by us, envelope by envelope.
const DELIVERY_LIMIT: i32 = 1_000_000;

/// An event queue that nobody reads for a while keeps the newest only: events are nudges.
const EVENTS_MAX: i32 = 10_000;

/// The exchanges and the queue for parked envelopes.
pub(crate) async fn declare_base(
    channel: &Channel,
    topology: &Topology,
    kind: QueueType,
) -> Result<(), SessionError> {
    let exchanges = [
        (topology.commands_exchange(), ExchangeKind::Direct),
        (topology.sagas_exchange(), ExchangeKind::Direct),
        (topology.events_exchange(), ExchangeKind::Topic),
        (topology.parked_exchange(), ExchangeKind::Fanout),
    ];
    for (name, kind) in exchanges {
        let options = ExchangeDeclareOptions {
            passive: false,
            durable: true,
            auto_delete: false,
            internal: false,
            nowait: false,
        };
        channel
            .exchange_declare(name.as_str().into(), kind, options, FieldTable::default())
            .await
            .map_err(|error| explain("exchange", &name, "its configured kind", error))?;
    }
    let queue = topology.parked_queue();
    declare_durable(channel, &queue, kind).await?;
    bind(channel, &queue, &topology.parked_exchange(), "").await
}

/// Both queues of a step, bound.
pub(crate) async fn declare_step(
    channel: &Channel,
    topology: &Topology,
    kind: QueueType,
    step: &StepName,
) -> Result<(), SessionError> {
    for of in [StepKind::Do, StepKind::Undo] {
        let queue = topology.command_queue(step, of);
        declare_durable(channel, &queue, kind).await?;
        let key = Topology::command_key(step, of);
        bind(channel, &queue, &topology.commands_exchange(), &key).await?;
    }
    Ok(())
}

/// A queue of this session alone; the broker deletes it with the connection.
pub(crate) async fn declare_private(
    channel: &Channel,
    queue: &str,
    bounded: bool,
) -> Result<(), SessionError> {
    let options = QueueDeclareOptions {
        passive: false,
        durable: false,
        exclusive: true,
        auto_delete: true,
        nowait: false,
    };
    let mut arguments = type_argument(QueueType::Classic);
    if bounded {
        arguments.insert("x-max-length".into(), AMQPValue::LongInt(EVENTS_MAX));
        arguments.insert(
            "x-overflow".into(),
            AMQPValue::LongString("drop-head".into()),
        );
    }
    channel
        .queue_declare(queue.into(), options, arguments)
        .await?;
    Ok(())
}

/// Binds a queue.
pub(crate) async fn bind(
    channel: &Channel,
    queue: &str,
    exchange: &str,
    key: &str,
) -> Result<(), SessionError> {
    let options = QueueBindOptions { nowait: false };
    let arguments = FieldTable::default();
    channel
        .queue_bind(
            queue.into(),
            exchange.into(),
            key.into(),
            options,
            arguments,
        )
        .await?;
    Ok(())
}

/// Removes a binding, if it is there.
pub(crate) async fn unbind(
    channel: &Channel,
    queue: &str,
    exchange: &str,
    key: &str,
) -> Result<(), SessionError> {
    let arguments = FieldTable::default();
    channel
        .queue_unbind(queue.into(), exchange.into(), key.into(), arguments)
        .await?;
    Ok(())
}

async fn declare_durable(
    channel: &Channel,
    queue: &str,
    kind: QueueType,
) -> Result<(), SessionError> {
    let options = QueueDeclareOptions {
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        nowait: false,
    };
    let mut arguments = type_argument(kind);
    if kind == QueueType::Quorum {
        arguments.insert(
            "x-delivery-limit".into(),
            AMQPValue::LongInt(DELIVERY_LIMIT),
        );
    }
    channel
        .queue_declare(queue.into(), options, arguments)
        .await
        .map_err(|error| explain("queue", queue, kind.as_str(), error))?;
    Ok(())
}

/// Always said, never left to the broker: a virtual host may have another default.
fn type_argument(kind: QueueType) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString(kind.as_str().into()),
    );
    arguments
}

fn explain(what: &str, name: &str, configured: &str, error: lapin::Error) -> SessionError {
    let ErrorKind::ProtocolError(protocol) = error.kind() else {
        return error.into();
    };
    if *protocol.kind() != AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) {
        return error.into();
    }
    SessionError::Topology(format!(
        "{what} {name} exists with other properties than configured ({configured}): {}; \
         configure what exists, or delete it once it is empty",
        protocol.get_message()
    ))
}
