//! The generated documents of the bus: one JSON Schema per envelope, and the AsyncAPI document.
