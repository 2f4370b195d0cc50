use super::*;
use contract::{MessageId, TraceParent};
use proptest::prelude::*;
use serde_json::json;
