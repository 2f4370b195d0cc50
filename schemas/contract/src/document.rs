//! The generated documents of the bus: a JSON Schema for each envelope and the AsyncAPI document.
//! A worker in another language can be written from them alone.
