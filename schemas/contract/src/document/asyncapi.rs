//! The AsyncAPI 3.0 document, as a worker sees the bus.

use crate::{
    BATCH_MAX_BYTES, Command, Envelope, Event, Reply, Signal, StepKind, StepName, Topology,
};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// The rules that no schema can say.
const WORKER: &str = include_str!("worker.md");

const BINDING: &str = "0.3.0";

/// The document: its parts in the order in which one reads them, everything below sorted by name.
#[derive(Serialize)]
struct Document {
    asyncapi: &'static str,
    id: &'static str,
    info: Value,
    #[serde(rename = "defaultContentType")]
    default_content_type: &'static str,
    servers: Value,
    channels: Value,
    operations: Value,
    components: Value,
}

/// The AsyncAPI document of the namespace `guichet`, to be written as YAML.
#[must_use]
pub fn asyncapi() -> impl Serialize {
    let names = Topology::new("guichet");
    let mut document = Document {
        asyncapi: "3.0.0",
        id: "urn:guichet:bus",
        info: json!({
            "title": "Guichet: the bus, as a worker sees it",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {
                "name": "Apache-2.0",
                "url": "https://www.apache.org/licenses/LICENSE-2.0",
            },
            "description": WORKER,
        }),
        default_content_type: "application/json",
        servers: servers(),
        channels: channels(&names),
        operations: operations(),
        components: components(),
    };
    for part in [
        &mut document.info,
        &mut document.servers,
        &mut document.channels,
        &mut document.operations,
        &mut document.components,
    ] {
        part.sort_all_objects();
    }
    document
}

fn servers() -> Value {
    let server = |protocol: &str, port: &str, what: &str| {
        json!({
            "host": format!("{{host}}:{port}"),
            "pathname": "/{vhost}",
            "protocol": protocol,
            "protocolVersion": "0.9.1",
            "description": what,
            "variables": {
                "host": { "default": "127.0.0.1", "description": "The broker." },
                "vhost": { "default": "%2f", "description": "The virtual host, percent-encoded." },
            },
            "security": [{ "$ref": "#/components/securitySchemes/user" }],
        })
    };
    json!({
        "plain": server("amqp", "5672", "RabbitMQ 3.10 or later."),
        "tls": server("amqps", "5671", "The same with TLS from the first byte."),
    })
}

fn channels(names: &Topology) -> Value {
    let mut channels = Map::new();
    let mut insert = |name: String, channel: Value| channels.insert(name, channel);
    let keys: Vec<String> = queues()
        .map(|(step, kind)| Topology::command_key(&step, kind))
        .collect();
    insert(
        "commands".to_owned(),
        exchange(
            &names.commands_exchange(),
            "direct",
            "{routingKey}",
            "Every command goes through this exchange; the routing key is `<step>` for a `do`, and \
             `<step>.undo` for an `undo`, a `probe`, or a `do` that stands for one (`redo`).",
            &["command"],
            json!({ "routingKey": {
                "description": "Which step, and whether it is new work.", "enum": keys } }),
        ),
    );
    for (step, kind) in queues() {
        let key = Topology::command_key(&step, kind);
        let what = match kind {
            StepKind::Do => "New work: commands of kind `do`.",
            StepKind::Undo | StepKind::Probe => {
                "Commands of kind `undo` and `probe`, and those of kind `do` that stand for a probe \
                 (`redo`), apart from new work so that a refund never waits behind a sale."
            }
        };
        let mut channel = queue(
            &names.command_queue(&step, kind),
            what,
            &["command"],
            json!({ "durable": true, "exclusive": false, "autoDelete": false }),
        );
        channel["x-exchange"] = names.commands_exchange().into();
        channel["x-routing-key"] = key.into();
        channel["x-arguments"] = json!({ "x-queue-type": "classic" });
        insert(channel_name(&step, kind), channel);
    }
    insert(
        "replies".to_owned(),
        json!({
            "address": null,
            "description": "The queue named by `reply_to` of the command that is answered, reached \
                through the default exchange (its name is empty) with that name as the routing key. \
                It belongs to one orchestrator's session: exclusive, auto-delete, and never to be \
                declared by a worker.",
            "messages": messages(&["reply"]),
            "bindings": { "amqp": {
                "is": "routingKey",
                "exchange": { "name": "", "type": "default", "vhost": "/" },
                "bindingVersion": BINDING,
            } },
        }),
    );
    insert(
        "sagas".to_owned(),
        exchange(
            &names.sagas_exchange(),
            "direct",
            "{shard}",
            "Nudges to the orchestrator that owns a shard. A worker neither sends nor reads them.",
            &["signal"],
            json!({ "shard": { "description": "The shard's number: 0 to 7 unless the installation \
                has another number of shards." } }),
        ),
    );
    insert(
        "events".to_owned(),
        exchange(
            &names.events_exchange(),
            "topic",
            "order.{status}",
            "Nudges that an order's status changed. Transient and unconfirmed: some are missing, so \
             whoever needs all of them reads the order.",
            &["event"],
            json!({ "status": {
                "description": "The new status.",
                "enum": ["pending", "action_required", "in_review", "confirmed", "cancelling", "cancelled"],
            } }),
        ),
    );
    let mut parked = exchange(
        &names.parked_exchange(),
        "fanout",
        &names.parked_queue(),
        "What nobody can read, for a person. The exchange has one durable queue of the same name.",
        &["parked"],
        Value::Null,
    );
    parked["x-queue"] = json!({ "name": names.parked_queue(), "durable": true,
        "exclusive": false, "autoDelete": false, "arguments": { "x-queue-type": "classic" } });
    insert("parked".to_owned(), parked);
    channels.into()
}

/// A channel that is an exchange with a routing key.
fn exchange(
    name: &str,
    kind: &str,
    address: &str,
    description: &str,
    of: &[&str],
    parameters: Value,
) -> Value {
    let mut channel = json!({
        "address": address,
        "description": description,
        "messages": messages(of),
        "bindings": { "amqp": {
            "is": "routingKey",
            "exchange": { "name": name, "type": kind, "durable": true, "autoDelete": false, "vhost": "/" },
            "bindingVersion": BINDING,
        } },
    });
    if !parameters.is_null() {
        channel["parameters"] = parameters;
    }
    channel
}

/// A channel that is a queue.
fn queue(name: &str, description: &str, of: &[&str], mut properties: Value) -> Value {
    properties["name"] = name.into();
    properties["vhost"] = "/".into();
    json!({
        "address": name,
        "description": description,
        "messages": messages(of),
        "bindings": { "amqp": { "is": "queue", "queue": properties, "bindingVersion": BINDING } },
    })
}

fn messages(of: &[&str]) -> Value {
    let entry = |name: &&str| {
        let target = format!("#/components/messages/{name}");
        ((*name).to_owned(), json!({ "$ref": target }))
    };
    of.iter().map(entry).collect::<Map<_, _>>().into()
}

/// The queues that a worker may consume.
fn queues() -> impl Iterator<Item = (StepName, StepKind)> {
    StepName::OF_AN_ORDER
        .into_iter()
        .flat_map(|step| [(step.clone(), StepKind::Do), (step, StepKind::Undo)])
}

fn channel_name(step: &StepName, kind: StepKind) -> String {
    format!(
        "queue-{}",
        Topology::command_key(step, kind).replace('.', "-")
    )
}

fn operations() -> Value {
    let mut operations = Map::new();
    for (step, kind) in queues() {
        let channel = channel_name(&step, kind);
        let verb = if kind == StepKind::Do { "do" } else { "undo" };
        let summary = match kind {
            StepKind::Do => format!("Bring effects of `{step}` about."),
            StepKind::Undo | StepKind::Probe => {
                format!("Take effects of `{step}` back, or tell how they stand.")
            }
        };
        operations.insert(
            format!("{verb}-{step}"),
            json!({
                "action": "receive",
                "summary": summary,
                "channel": { "$ref": format!("#/channels/{channel}") },
                "messages": [{ "$ref": format!("#/channels/{channel}/messages/command") }],
                "reply": {
                    // Of the first envelope; each envelope names its own.
                    "address": { "location": "$message.payload#/0/reply_to" },
                    "channel": { "$ref": "#/channels/replies" },
                    "messages": [{ "$ref": "#/channels/replies/messages/reply" }],
                },
                "bindings": { "amqp": { "ack": true, "bindingVersion": BINDING } },
            }),
        );
    }
    let publish = |channel: &str, message: &str, summary: &str, persistent: bool| {
        json!({
            "action": "send",
            "summary": summary,
            "channel": { "$ref": format!("#/channels/{channel}") },
            "messages": [{ "$ref": format!("#/channels/{channel}/messages/{message}") }],
            "bindings": { "amqp": {
                "deliveryMode": if persistent { 2 } else { 1 },
                "mandatory": true,
                "bindingVersion": BINDING,
            } },
        })
    };
    let answer = "Answer commands. Transient, without confirms; one that comes back as unroutable is dropped.";
    operations.insert(
        "answer".to_owned(),
        publish("replies", "reply", answer, false),
    );
    let park = "Put aside what cannot be read. Persistent, and confirmed before the message that \
                it came in is acknowledged.";
    operations.insert("park".to_owned(), publish("parked", "parked", park, true));
    operations.into()
}

fn components() -> Value {
    // AsyncAPI's own schemas are those of draft 07; the files in `json/` are draft 2020-12.
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let command = message::<Command>(&mut generator, "Commands", "Commands for one step.");
    let reply = message::<Reply>(&mut generator, "Replies", "What became of commands.");
    let signal = message::<Signal>(&mut generator, "Nudges", "Sagas to look at.");
    let event = message::<Event>(&mut generator, "Events", "Orders whose status changed.");
    let parked = json!({
        "name": "guichet.parked",
        "title": "Parked",
        "summary": "One envelope, or a whole body, that nobody could read: the bytes as they came.",
        "contentType": "application/octet-stream",
        "headers": {
            "type": "object",
            "required": ["x-reason", "x-source"],
            "properties": {
                "x-reason": { "type": "string", "maxLength": 500, "description": "Why, for a person." },
                "x-source": { "type": "string", "description": "The queue's role: `pay`, `pay.undo`, `replies` …" },
                "x-type": { "type": "string", "description": "The property `type` that it came with, if any." },
            },
        },
        "payload": { "type": "string", "format": "binary" },
    });
    json!({
        "messages": {
            "command": command,
            "reply": reply,
            "signal": signal,
            "event": event,
            "parked": parked,
        },
        "schemas": generator.take_definitions(true),
        "securitySchemes": {
            "user": { "type": "userPassword", "description": "A user of the broker." },
        },
    })
}

/// A message: a batch of envelopes.
fn message<T: Envelope + JsonSchema>(
    generator: &mut SchemaGenerator,
    title: &str,
    summary: &str,
) -> Value {
    let envelope = generator.subschema_for::<T>().to_value();
    json!({
        "name": T::TYPE.0,
        "title": title,
        "summary": summary,
        "contentType": "application/json",
        "payload": {
            "type": "array",
            "minItems": 1,
            "items": envelope,
            "description": format!("At most {BATCH_MAX_BYTES} bytes, unless it holds a single envelope that is longer."),
        },
        "bindings": { "amqp": {
            "messageType": T::TYPE.0,
            "bindingVersion": BINDING,
        } },
    })
}
