use std::sync::{Arc, Mutex};

use super::*;

/// A place to write to that the test can read.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("not poisoned").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Buffer {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn logged(style: Style, filter: &str, log: impl FnOnce()) -> String {
    let buffer = Buffer::default();
    let filter = EnvFilter::try_new(filter).expect("a filter");
    let dispatch = dispatch("worker", style, filter, buffer.clone());
    tracing::dispatcher::with_default(&dispatch, log);
    let bytes = buffer.0.lock().expect("not poisoned").clone();
    String::from_utf8(bytes).expect("UTF-8")
}

#[derive(Debug, thiserror::Error)]
#[error("outer")]
struct Outer(#[source] std::fmt::Error);

#[test]
fn json_is_one_flat_object_per_event() {
    let text = logged(Style::Json, "info", || {
        let outer = tracing::info_span!(
            "saga",
            saga_id = "abc",
            attempt = 1,
            late = tracing::field::Empty
        );
        let _outer = outer.enter();
        outer.record("late", "set");
        let inner = tracing::info_span!("step", attempt = 2);
        let _inner = inner.enter();
        let error: &dyn std::error::Error = &Outer(std::fmt::Error);
        tracing::warn!(
            amount_minor = 12_500,
            level = "ours",
            error,
            quote = "\"\n",
            "sent"
        );
        tracing::debug!("filtered");
    });
    assert_eq!(text.lines().count(), 1, "{text}");
    let mut line: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let timestamp = line["timestamp"].take();
    assert!(
        timestamp.as_str().is_some_and(|at| at.ends_with('Z')),
        "{text}"
    );
    let expected = serde_json::json!({
        "timestamp": null, "level": "WARN", "role": "worker", "target": module_path!(),
        "message": "sent", "saga_id": "abc", "attempt": 2, "late": "set", "amount_minor": 12500,
        "level_": "ours", "quote": "\"\n",
        "error": "outer: an error occurred when formatting an argument",
    });
    assert_eq!(line, expected);
}

#[test]
fn text_is_for_people() {
    let log = || {
        let _span = tracing::info_span!("saga", saga_id = "abc").entered();
        tracing::info!(step = "pay", "sent");
    };
    let plain = logged(Style::Text { ansi: false }, "info", log);
    assert!(plain.starts_with("worker       20"), "{plain}");
    assert!(plain.ends_with("sent step=\"pay\"\n"), "{plain}");
    assert!(plain.contains("saga_id=\"abc\""), "{plain}");
    assert!(!plain.contains('\u{1b}'), "{plain}");
    let coloured = logged(Style::Text { ansi: true }, "info", log);
    assert!(coloured.contains('\u{1b}'), "{coloured}");
}

#[test]
fn a_filter_that_cannot_be_read_is_a_problem() {
    assert_eq!(Config::default().problems(), [""; 0]);
    let config = Config {
        filter: "info,engine=loud".to_owned(),
        ..Config::default()
    };
    let problems = config.problems();
    assert!(
        problems[0].starts_with("filter is not like"),
        "{problems:?}"
    );
}
