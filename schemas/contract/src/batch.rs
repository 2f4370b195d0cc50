//! A message's body: a JSON array of 1 to N envelopes, at most [`BATCH_MAX_BYTES`].
//!
//! Poison is an *envelope*, not a message: when the array does not decode as a whole it is decoded
//! element by element, so that one bad element costs its neighbours nothing.

use crate::Envelope;
use serde_json::value::RawValue;

/// No body is longer, unless a single envelope is.
pub const BATCH_MAX_BYTES: usize = 128 * 1024;

/// The readable envelopes of a body, and the others with the reason.
#[derive(Debug)]
pub struct Decoded<T> {
    /// In their order in the body.
    pub envelopes: Vec<T>,
    /// What could not be read.
    pub undecodable: Vec<Undecodable>,
}

/// An element of a body (or a whole body) that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecodable {
    /// The bytes as they came.
    pub body: Vec<u8>,
    /// Why, for a person.
    pub reason: String,
}

/// Reads a body. Never fails: what cannot be read is in `undecodable`.
#[must_use]
pub fn decode_batch<T: Envelope>(body: &[u8]) -> Decoded<T> {
    if let Ok(envelopes) = serde_json::from_slice::<Vec<T>>(body) {
        return Decoded {
            envelopes,
            undecodable: Vec::new(),
        };
    }
    let elements = match serde_json::from_slice::<Vec<&RawValue>>(body) {
        Ok(elements) => elements,
        Err(error) => {
            let reason = format!("the body is not a JSON array: {error}");
            let whole = Undecodable {
                body: body.to_vec(),
                reason,
            };
            return Decoded {
                envelopes: Vec::new(),
                undecodable: vec![whole],
            };
        }
    };
    let mut decoded = Decoded {
        envelopes: Vec::with_capacity(elements.len()),
        undecodable: Vec::new(),
    };
    for element in elements {
        match serde_json::from_str(element.get()) {
            Ok(envelope) => decoded.envelopes.push(envelope),
            Err(error) => decoded.undecodable.push(Undecodable {
                body: element.get().as_bytes().to_vec(),
                reason: format!("not a {}: {error}", T::TYPE.0),
            }),
        }
    }
    decoded
}

/// Writes envelopes into as few bodies as the limits allow, in order: at most `max_count` envelopes
/// and [`BATCH_MAX_BYTES`] in each. Returns each body with the number of its envelopes.
///
/// # Errors
/// An envelope that cannot be written as JSON (none of this crate's can fail).
pub fn encode_batches<T: Envelope>(
    envelopes: &[T],
    max_count: usize,
) -> Result<Vec<(Vec<u8>, usize)>, serde_json::Error> {
    let mut bodies = Vec::new();
    let mut body: Vec<u8> = Vec::new();
    let mut count = 0;
    for envelope in envelopes {
        let start = body.len();
        body.push(if count == 0 { b'[' } else { b',' });
        serde_json::to_writer(&mut body, envelope)?;
        count += 1;
        if body.len() >= BATCH_MAX_BYTES && count > 1 {
            // This one does not fit any more: it begins the next body.
            let mut next = body.split_off(start);
            next[0] = b'[';
            body.push(b']');
            bodies.push((std::mem::replace(&mut body, next), count - 1));
            count = 1;
        }
        if count >= max_count.max(1) {
            body.push(b']');
            bodies.push((std::mem::take(&mut body), count));
            count = 0;
        }
    }
    if count > 0 {
        body.push(b']');
        bodies.push((body, count));
    }
    Ok(bodies)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Incarnation, MessageId, SagaId, Signal};
    use proptest::prelude::*;

    fn signal() -> Signal {
        Signal {
            id: MessageId::new(),
            saga_id: SagaId::new(),
            incarnation: Incarnation(7),
            traceparent: None,
        }
    }

    #[test]
    fn one_bad_element_costs_its_neighbours_nothing() {
        let good = serde_json::to_string(&signal()).expect("serialises");
        let body = format!(r#"[{good},{{"id":1}},{good},"x"]"#);
        let decoded = decode_batch::<Signal>(body.as_bytes());
        assert_eq!(decoded.envelopes.len(), 2);
        assert_eq!(decoded.undecodable.len(), 2);
        assert_eq!(decoded.undecodable[0].body, br#"{"id":1}"#);
        assert!(decoded.undecodable[0].reason.contains("guichet.signal.v1"));
    }

    #[test]
    fn a_body_that_is_no_array_is_undecodable_as_a_whole() {
        for body in [&b"{}"[..], b"", b"[{", b"\xff\xfe", b"null"] {
            let decoded = decode_batch::<Signal>(body);
            assert!(decoded.envelopes.is_empty());
            assert_eq!(decoded.undecodable.len(), 1, "{body:?}");
            assert_eq!(decoded.undecodable[0].body, body);
        }
    }

    proptest! {
        #[test]
        fn batches_keep_every_envelope_in_order(count in 0_usize..2_000, max in 1_usize..700) {
            let envelopes: Vec<Signal> = (0..count).map(|_| signal()).collect();
            let bodies = encode_batches(&envelopes, max).expect("encodes");
            let mut back = Vec::new();
            for (body, stated) in &bodies {
                prop_assert!(body.len() <= BATCH_MAX_BYTES);
                let decoded = decode_batch::<Signal>(body);
                prop_assert_eq!(decoded.envelopes.len(), *stated);
                prop_assert!(*stated <= max);
                back.extend(decoded.envelopes);
            }
            prop_assert_eq!(back, envelopes);
        }
    }
}
