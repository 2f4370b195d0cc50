//! The documents in the repository are those that the types make, and every sample of a message that
//! was ever published can still be read. `UPDATE=1 cargo test -p contract --test documents` writes the
//! documents anew; samples it never touches, for they stand for what is out there.

use contract::{
    Command, Envelope, Event, Outcome, Reply, Signal, StepKind, TraceParent, decode_batch,
    document::{asyncapi, kinds},
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn schemas() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Compares a file with what it should hold, or writes it with `UPDATE=1`.
fn kept(name: &str, made: &str) {
    let path = schemas().join(name);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, made).expect("the document can be written");
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == made,
        "schemas/{name} is not what the types say: run `UPDATE=1 cargo test -p contract --test documents`"
    );
}

fn read(name: &str) -> Value {
    let text = fs::read_to_string(schemas().join(name)).expect(name);
    serde_json::from_str(&text).expect(name)
}

#[test]
fn json_schemas_are_up_to_date() {
    for kind in kinds() {
        let text = serde_json::to_string_pretty(&kind.schema).expect("a schema is JSON") + "\n";
        kept(&format!("json/{}", kind.file_name()), &text);
    }
    let files = fs::read_dir(schemas().join("json")).expect("the folder is there");
    assert_eq!(files.count(), kinds().len(), "a schema is nobody's");
}

#[test]
fn asyncapi_is_up_to_date() {
    let text = serde_norway::to_string(&asyncapi()).expect("the document is YAML");
    kept("asyncapi.yaml", &text);
}

#[test]
fn every_reference_in_asyncapi_leads_somewhere() {
    let document = serde_json::to_value(asyncapi()).expect("the document is JSON");
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    assert!(references.len() > 50);
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("all are local");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

fn collect_references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(target)) = fields.get("$ref") {
                found.push(target.clone());
            }
            fields.values().for_each(|v| collect_references(v, found));
        }
        Value::Array(values) => values.iter().for_each(|v| collect_references(v, found)),
        _ => {}
    }
}

/// Reads a sample with today's types, and checks that nothing of it is lost on the way back.
fn sample<T: Envelope>(file: &str) -> Vec<T> {
    let value = read(&format!("samples/{file}"));
    let decoded = decode_batch::<T>(value.to_string().as_bytes());
    assert!(
        decoded.undecodable.is_empty(),
        "{file}: {:?}",
        decoded.undecodable
    );
    let again = serde_json::to_value(&decoded.envelopes).expect("envelopes are JSON");
    assert_eq!(again, value, "{file}: something was lost or changed");
    decoded.envelopes
}

#[test]
fn samples_are_read_by_todays_types() {
    let commands = sample::<Command>("command.v1.json");
    let kinds: BTreeSet<_> = commands.iter().map(|c| c.kind as u8).collect();
    assert_eq!(kinds.len(), 3, "do, undo and probe");
    for command in &commands {
        assert_eq!(
            command.effect_key,
            Command::effect_key(command.saga_id, &command.step)
        );
    }
    assert!(
        commands
            .iter()
            .any(|command| command.kind == StepKind::Probe)
    );

    let replies = sample::<Reply>("reply.v1.json");
    for outcome in [
        Outcome::Done,
        Outcome::Rejected,
        Outcome::Retry,
        Outcome::Unknown,
        Outcome::Waiting,
    ] {
        let of_it = replies.iter().find(|reply| reply.outcome == outcome);
        let reply = of_it.unwrap_or_else(|| panic!("no sample of {outcome:?}"));
        let explained = !matches!(outcome, Outcome::Done | Outcome::Waiting);
        assert_eq!(reply.error.is_some(), explained, "{outcome:?}");
    }
    assert_eq!(sample::<Signal>("signal.v1.json").len(), 1);
    assert_eq!(sample::<Event>("event.v1.json").len(), 1);
}

#[test]
fn samples_are_valid_and_every_version_has_one() {
    let mut sampled = BTreeSet::new();
    for kind in kinds() {
        let schema = jsonschema::options()
            .should_validate_formats(true)
            .build(&kind.schema)
            .expect("the schema is one");
        let batch = read(&format!("samples/{}", kind.file_name()));
        for envelope in batch.as_array().expect("a sample is a batch") {
            let errors: Vec<_> = schema
                .iter_errors(envelope)
                .map(|e| e.to_string())
                .collect();
            assert!(errors.is_empty(), "{}: {errors:?}", kind.name);
            without_required_fields(&schema, kind.name, envelope);
        }
        sampled.insert(kind.file_name());
    }
    let files = fs::read_dir(schemas().join("samples")).expect("the folder is there");
    let present: BTreeSet<String> = files
        .map(|file| {
            file.expect("listed")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    // A version that is not written any more keeps its sample as long as it may arrive.
    assert!(present.is_superset(&sampled), "{present:?}");
}

/// The schema means what it says: without any one of the fields that are not optional it refuses.
fn without_required_fields(schema: &jsonschema::Validator, name: &str, envelope: &Value) {
    for field in envelope.as_object().expect("an envelope").keys() {
        let mut less = envelope.clone();
        less.as_object_mut().expect("an envelope").remove(field);
        let optional = ["input", "output", "error"].contains(&field.as_str());
        assert_eq!(schema.is_valid(&less), optional, "{name} without {field}");
    }
}

/// The samples are from before signals and events had a trace.
#[test]
fn signals_and_events_may_bear_a_trace() {
    fn traced<T: Envelope>(file: &str, trace_of: fn(&T) -> Option<TraceParent>) {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(trace_of(&sample(file)[0]), None, "{file}");
        let mut batch = read(&format!("samples/{file}"));
        batch[0]["traceparent"] = trace.into();
        let decoded = decode_batch::<T>(batch.to_string().as_bytes()).envelopes;
        assert_eq!(trace_of(&decoded[0]), trace.parse().ok(), "{file}");
        let kind = kinds().into_iter().find(|kind| kind.file_name() == file);
        let schema = kind.expect("it is sampled").schema;
        let schema = jsonschema::validator_for(&schema).expect("the schema is one");
        assert!(schema.is_valid(&batch[0]), "{file}");
        batch[0]["traceparent"] = "nonsense".into();
        assert!(!schema.is_valid(&batch[0]), "{file}");
    }
    traced::<Signal>("signal.v1.json", |signal| signal.traceparent);
    traced::<Event>("event.v1.json", |event| event.traceparent);
}

#[test]
fn fields_of_a_later_version_are_ignored() {
    fn later<T: Envelope + std::fmt::Debug + PartialEq>(file: &str) {
        let mut value = read(&format!("samples/{file}"));
        let today = decode_batch::<T>(value.to_string().as_bytes()).envelopes;
        for envelope in value.as_array_mut().expect("a sample is a batch") {
            envelope["of_a_later_version"] = serde_json::json!({ "a": [1] });
        }
        let decoded = decode_batch::<T>(value.to_string().as_bytes());
        assert!(decoded.undecodable.is_empty(), "{file}");
        assert_eq!(decoded.envelopes, today, "{file}");
    }
    later::<Command>("command.v1.json");
    later::<Reply>("reply.v1.json");
    later::<Signal>("signal.v1.json");
    later::<Event>("event.v1.json");
}
