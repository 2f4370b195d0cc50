//! JSON bodies: read within a bound, decoded strictly, refused with a pointer to the place.

use super::{ApiError, answer::Call};
use bytes::Bytes;
use contract::ProblemCode;
use http::header;
use runtime::http::BodyError;
use serde::de::DeserializeOwned;
use serde_path_to_error::{Path, Segment};

/// Characters of a decoder's message that a detail repeats; it may quote the body.
const ECHO_MAX: usize = 200;

impl Call {
    /// Reads the body and decodes it. Gives the bytes too, for whoever compares requests.
    ///
    /// # Errors
    /// Wrong content type, longer than the gateway's bound, not there in time, not JSON, a field that
    /// is not known, missing or of the wrong type.
    pub async fn json<T: DeserializeOwned>(&mut self) -> Result<(Bytes, T), ApiError> {
        let content_type = self.headers.get(header::CONTENT_TYPE);
        if !content_type
            .and_then(|value| value.to_str().ok())
            .is_some_and(is_json)
        {
            return Err(ApiError::new(
                ProblemCode::ContentTypeUnsupported,
                "Send the body as `Content-Type: application/json`.",
            ));
        }
        let bytes = self.bytes().await?;
        let value = decode(&bytes)?;
        Ok((bytes, value))
    }

    /// Reads the body as it is.
    ///
    /// # Errors
    /// Longer than the gateway's bound, or not there in time.
    pub async fn bytes(&mut self) -> Result<Bytes, ApiError> {
        let limit = self.body_max_bytes;
        let length = self.headers.get(header::CONTENT_LENGTH);
        let length = length
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse().ok());
        if length.is_some_and(|length: usize| length > limit) {
            return Err(refused(BodyError::TooLarge { limit }));
        }
        runtime::http::read_body(&mut self.body, limit)
            .await
            .map_err(refused)
    }
}

fn refused(error: BodyError) -> ApiError {
    match error {
        BodyError::TooLarge { limit } => ApiError::new(
            ProblemCode::BodyTooLarge,
            format!("The body may have {limit} bytes."),
        ),
        BodyError::TooSlow { within } => ApiError::new(
            ProblemCode::BodyTimeout,
            format!("The body did not arrive within {} s.", within.as_secs()),
        ),
        BodyError::Broken(_) => {
            ApiError::new(ProblemCode::BodyNotJson, "The body broke off.").because(error)
        }
    }
}

fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

/// Decodes a body.
///
/// # Errors
/// Not JSON, or not what `T` wants.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let pointer = pointer(error.path());
        explain(pointer, error.inner())
    })?;
    json.end().map_err(|error| explain(String::new(), &error))?;
    Ok(value)
}

fn explain(pointer: String, error: &serde_json::Error) -> ApiError {
    let message = error.to_string();
    // The place is told as a pointer, or as line and column where there is none.
    let bare = message
        .rsplit_once(" at line ")
        .map_or(message.as_str(), |(bare, _)| bare);
    let echo = |text: &str| text.chars().take(ECHO_MAX).collect::<String>();
    if !error.is_data() {
        let detail = format!("The body is not JSON: {}.", echo(&message));
        return ApiError::new(ProblemCode::BodyNotJson, detail);
    }
    let (code, what, name) = if let Some(name) = quoted(bare, "unknown field `") {
        (
            ProblemCode::UnknownField,
            "There is no such field.",
            Some(name),
        )
    } else if let Some(name) = quoted(bare, "missing field `") {
        (ProblemCode::WrongType, "The field is required.", Some(name))
    } else {
        (
            ProblemCode::WrongType,
            "The field is not what is expected here.",
            None,
        )
    };
    let pointer = match name {
        Some(name) if !pointer.ends_with(&segment(name)) => pointer + &segment(name),
        _ => pointer,
    };
    ApiError::new(code, format!("{what} See `errors`.")).field(pointer, code, echo(bare))
}

fn quoted<'a>(message: &'a str, before: &str) -> Option<&'a str> {
    message.strip_prefix(before)?.split('`').next()
}

fn pointer(path: &Path) -> String {
    path.iter()
        .map(|part| match part {
            Segment::Seq { index } => format!("/{index}"),
            Segment::Map { key } => segment(key),
            Segment::Enum { variant } => segment(variant),
            Segment::Unknown => String::new(),
        })
        .collect()
}

/// A name as a part of a JSON pointer (RFC 6901).
fn segment(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Order {
        #[serde(rename = "items")]
        _items: Vec<Item>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Item {
        #[serde(rename = "quantity")]
        _quantity: u32,
    }

    fn problem(body: &str) -> (ProblemCode, String) {
        let error = decode::<Order>(body.as_bytes()).expect_err("not an order");
        let pointer = error.fields().first().map(|field| field.pointer.clone());
        (error.code(), pointer.unwrap_or_default())
    }

    #[test]
    fn every_mistake_has_its_code_and_its_place() {
        use ProblemCode::{BodyNotJson, UnknownField, WrongType};
        let cases = [
            (
                r#"{"items":[{"quantity":"2"}]}"#,
                WrongType,
                "/items/0/quantity",
            ),
            (
                r#"{"items":[{"quantity":2},{"quantity":-2}]}"#,
                WrongType,
                "/items/1/quantity",
            ),
            (
                r#"{"items":[{"quantity":2,"price":1}]}"#,
                UnknownField,
                "/items/0/price",
            ),
            (r#"{"items":[],"a/b":1}"#, UnknownField, "/a~1b"),
            (r#"{"items":[{}]}"#, WrongType, "/items/0/quantity"),
            ("{}", WrongType, "/items"),
            ("[]", WrongType, ""),
            ("", BodyNotJson, ""),
            (r#"{"items":["#, BodyNotJson, ""),
            (r#"{"items":[]} {}"#, BodyNotJson, ""),
            ("\u{1}", BodyNotJson, ""),
        ];
        for (body, code, pointer) in cases {
            assert_eq!(problem(body), (code, pointer.to_owned()), "{body}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(problem(&format!(r#"{{"items":{deep}"#)).0, WrongType);
        let error = decode::<Order>(b"{\"items\": \xff\"}").expect_err("not UTF-8");
        assert_eq!(error.code(), BodyNotJson);
    }

    #[test]
    fn only_json_is_json() {
        assert!(is_json("application/json"));
        assert!(is_json("Application/JSON; charset=utf-8"));
        assert!(!is_json("text/json"));
        assert!(!is_json("application/jsonp"));
    }
}
