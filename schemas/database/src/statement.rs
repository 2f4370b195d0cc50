//! Statements of fixed shape over arrays.
//!
//! diesel prepares anew, each time, nearly everything a batch needs: `UPDATE`, `ON CONFLICT`,
//! batch `INSERT`, `sql_query`. A type with static SQL and a `QueryId` is prepared once per
//! connection and found again by its type; over arrays and `unnest` the same text serves any batch
//! size.

/// Declares a statement as a type: its parameters are the fields, named in the SQL as `{field}`.
///
/// ```
/// use diesel::sql_types::{Array, Integer, Uuid as SqlUuid};
/// database::statement! {
///     /// Adds to the revisions of some sagas.
///     pub struct AddToRevisions {
///         ids: Vec<uuid::Uuid> => Array<SqlUuid>,
///         by: i32 => Integer,
///     } -> (SqlUuid, Integer) =
///     "UPDATE sagas SET rev = rev + {by} FROM unnest({ids}) AS wanted(id)
///      WHERE sagas.id = wanted.id RETURNING sagas.id, sagas.rev"
/// }
/// ```
///
/// Run it with `diesel_async::RunQueryDsl`: `.load::<(Uuid, i32)>(connection)`,
/// `.get_result(…)`, or `.execute(…)`. The SQL may not contain other braces (write `ARRAY[]::t[]`
/// for an empty array).
#[macro_export]
macro_rules! statement {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $($field:ident : $rust:ty => $sql:ty),* $(,)?
        } -> $row:ty = $text:expr
    ) => {
        $(#[$meta])*
        #[derive($crate::reexport::diesel::query_builder::QueryId)]
        #[allow(missing_docs, reason = "the fields are the statement's parameters")]
        $vis struct $name { $($vis $field: $rust),* }

        impl $name {
            /// The statement's text, parameters as `{name}`.
            pub const SQL: &'static str = $text;

            fn pieces() -> &'static [$crate::Piece] {
                static PIECES: std::sync::OnceLock<Vec<$crate::Piece>> = std::sync::OnceLock::new();
                PIECES.get_or_init(|| $crate::pieces(Self::SQL))
            }
        }

        impl $crate::reexport::diesel::query_builder::QueryFragment<$crate::reexport::diesel::pg::Pg> for $name {
            fn walk_ast<'b>(
                &'b self,
                #[allow(unused_mut, reason = "a statement may have no parameter")]
                mut out: $crate::reexport::diesel::query_builder::AstPass<'_, 'b, $crate::reexport::diesel::pg::Pg>,
            ) -> $crate::reexport::diesel::QueryResult<()> {
                for piece in Self::pieces() {
                    match piece {
                        $crate::Piece::Text(text) => out.push_sql(text),
                        $crate::Piece::Parameter(name) => match *name {
                            $(stringify!($field) => out.push_bind_param::<$sql, _>(&self.$field)?,)*
                            other => return Err($crate::reexport::diesel::result::Error::QueryBuilderError(
                                format!("{} has no parameter {other}", stringify!($name)).into(),
                            )),
                        },
                    }
                }
                Ok(())
            }
        }

        impl $crate::reexport::diesel::query_builder::Query for $name {
            type SqlType = $row;
        }
    };
}

/// A part of a statement's text.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// SQL.
    Text(&'static str),
    /// The name of a parameter.
    Parameter(&'static str),
}

/// Splits a text at its `{parameters}`.
#[must_use]
pub fn pieces(sql: &'static str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = sql;
    while let Some(open) = rest.find('{') {
        let Some(length) = rest[open..].find('}') else {
            break;
        };
        pieces.push(Piece::Text(&rest[..open]));
        pieces.push(Piece::Parameter(&rest[open + 1..open + length]));
        rest = &rest[open + length + 1..];
    }
    pieces.push(Piece::Text(rest));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_split_at_its_parameters() {
        let expected = [
            Piece::Text("SELECT "),
            Piece::Parameter("a"),
            Piece::Text(", "),
            Piece::Parameter("b"),
            Piece::Text(""),
        ];
        assert_eq!(pieces("SELECT {a}, {b}"), expected);
        assert_eq!(pieces("SELECT 1"), [Piece::Text("SELECT 1")]);
    }
}
