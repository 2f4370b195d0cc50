//! The trace a request belongs to (W3C Trace Context): the caller's, or a new one.

use contract::TraceParent;
use http::HeaderMap;

/// The caller's trace with a span of ours below it, or a new trace if he sent none that is valid.
#[must_use]
pub fn of(headers: &HeaderMap) -> TraceParent {
    let callers = headers
        .get("traceparent")
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<TraceParent>().ok());
    match callers {
        Some(trace) => trace.child(rand::random()),
        None => TraceParent::new(rand::random(), rand::random(), true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_trace_goes_on_and_nonsense_starts_another() {
        let mut headers = HeaderMap::new();
        let first = of(&headers);
        assert_ne!(first.trace_id(), of(&headers).trace_id());
        headers.insert("traceparent", first.to_string().parse().expect("a header"));
        let second = of(&headers);
        assert_eq!(second.trace_id(), first.trace_id());
        assert_ne!(second.to_string(), first.to_string());
        headers.insert("traceparent", "00-nonsense".parse().expect("a header"));
        assert_ne!(of(&headers).trace_id(), first.trace_id());
    }
}
