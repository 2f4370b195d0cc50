//! The envelope of every list.

use super::{ApiError, cursor, query::Query};
use contract::ProblemCode;
use serde::Serialize;
use utoipa::ToSchema;

/// Items on a page at most, and unless `limit` says otherwise.
pub const PAGE_MAX: usize = 100;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct List<T> {
    /// The items.
    pub data: Vec<T>,
    /// Give it as `cursor` to get the next page; null on the last one.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// What the query says about paging.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Paging {
    /// Items on the page, 1 to [`PAGE_MAX`].
    pub limit: usize,
    /// Where the page begins.
    pub cursor: Option<String>,
}

impl Paging {
    /// Reads `limit` and `cursor`.
    pub fn from_query(query: &mut Query, default: usize) -> Self {
        let limit = query.take("limit", |text| {
            let limit = text
                .parse::<usize>()
                .ok()
                .filter(|limit| (1..=PAGE_MAX).contains(limit));
            limit.ok_or_else(|| format!("must be a whole number from 1 to {PAGE_MAX}"))
        });
        let cursor = query.take("cursor", |text| Ok(text.to_owned()));
        Self {
            limit: limit.unwrap_or(default),
            cursor,
        }
    }
}

/// A page of a list that is sorted by a unique code.
///
/// # Errors
/// [`ProblemCode::CursorInvalid`].
pub fn page_by_code<T>(
    items: &[T],
    code: impl Fn(&T) -> &str,
    name: &str,
    paging: &Paging,
) -> Result<(usize, usize, Option<String>), ApiError> {
    let begin = match &paging.cursor {
        None => 0,
        Some(cursor) => {
            let last = String::from_utf8(cursor::decode(name, cursor)?)
                .map_err(|_| ApiError::new(ProblemCode::CursorInvalid, "The cursor is damaged."))?;
            items.partition_point(|item| code(item) <= last.as_str())
        }
    };
    let end = (begin + paging.limit).min(items.len());
    let more = end < items.len();
    let next = more.then(|| cursor::encode(name, code(&items[end - 1]).as_bytes()));
    Ok((begin, end, next))
}
