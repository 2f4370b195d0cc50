//! A request over a connection of its own.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use serde_json::Value;

/// The status of a GET, if there is an answer.
pub(crate) fn status(address: &str, path: &str) -> Option<String> {
    Some(exchange(address, "GET", path, "", "")?.0)
}

/// What a GET answers.
pub(crate) fn get(address: &str, path: &str) -> Value {
    document(exchange(address, "GET", path, "", ""))
}

/// What a POST with an idempotency key answers.
pub(crate) fn post(address: &str, path: &str, key: &str, body: &Value) -> Value {
    let headers = format!("Content-Type: application/json\r\nIdempotency-Key: {key}\r\n");
    document(exchange(address, "POST", path, &headers, &body.to_string()))
}

fn document(answer: Option<(String, String)>) -> Value {
    let (status, body) = answer.expect("it answers");
    assert!(status.contains(" 20"), "{status} {body}");
    serde_json::from_str(&body).expect("it is JSON")
}

/// The first line of the answer, and its body.
fn exchange(
    address: &str,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\
         Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.lines().next()?.to_owned(), body.to_owned()))
}
