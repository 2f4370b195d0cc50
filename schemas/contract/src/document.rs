//! The generated documents of the bus: a JSON Schema for each envelope and the AsyncAPI document.
//! A worker in another language can be written from them alone.
//!
//! They are made here and kept in the repository beside this crate, where other people's tools find
//! them; a test compares the two. What a program has to *do* (acknowledge, deduplicate, answer) is
//! prose, in `document/worker.md`, and part of the AsyncAPI document.

mod asyncapi;

pub use asyncapi::asyncapi;

use crate::{Command, Envelope, Event, Reply, Signal};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

/// A kind of message, with its documents.
#[derive(Debug)]
pub struct Kind {
    /// `command`, `reply`, `signal` or `event`.
    pub name: &'static str,
    /// The version in the AMQP property `type`.
    pub version: u16,
    /// The JSON Schema (draft 2020-12) of one envelope.
    pub schema: Value,
}

impl Kind {
    /// The file that holds the schema or the sample: `command.v1.json`.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}.v{}.json", self.name, self.version)
    }
}

/// All kinds of messages, in their present versions.
#[must_use]
pub fn kinds() -> [Kind; 4] {
    [
        kind::<Command>(),
        kind::<Reply>(),
        kind::<Signal>(),
        kind::<Event>(),
    ]
}

fn kind<T: Envelope + JsonSchema>() -> Kind {
    let (name, version) = name_and_version(T::TYPE.0);
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<T>();
    schema.insert(
        "$id".to_owned(),
        format!("urn:guichet:schema:{name}.v{version}").into(),
    );
    let mut schema = schema.to_value();
    // Another crate in the build may make maps keep their order; a document must not depend on it.
    schema.sort_all_objects();
    Kind {
        name,
        version,
        schema,
    }
}

/// `guichet.command.v1` is version 1 of `command`.
fn name_and_version(message_type: &'static str) -> (&'static str, u16) {
    message_type
        .strip_prefix("guichet.")
        .and_then(|rest| rest.rsplit_once(".v"))
        .and_then(|(name, version)| Some((name, version.parse().ok()?)))
        .expect("every type is guichet.NAME.vNUMBER, which the test below checks")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_say_their_name_and_version() {
        let files = kinds().map(|kind| kind.file_name());
        let expected = [
            "command.v1.json",
            "reply.v1.json",
            "signal.v1.json",
            "event.v1.json",
        ];
        assert_eq!(files, expected);
    }
}
