//! Versions of a definition that are withdrawn.
//!
//! What is found to be wrong with a version may not go on by it: no saga is started by it any more, and
//! those under way are ended, with their effects undone by the version that did them. Past its pivot a saga
//! only goes forward, whatever becomes of its version.
//!
//! The race: a gateway that has not heard of it yet starts one more saga. So there is no list of sagas to be
//! ended; the withdrawal is a row, and in each round of its housekeeping an owner ends whatever it has that
//! runs by a withdrawn version and can be ended. One that is paused is ended when it goes on.

use contract::Refusal;
use database::Connection;
use diesel::sql_types::{BigInt, SmallInt, Text};
use diesel_async::RunQueryDsl;
use saga::Input;
use serde_json::{Value, json};

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    /// The definition's number.
    pub definition: i16,
    /// Who withdrew it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// The row of the audit log.
    pub audit: i64,
}

database::statement! {
    /// Withdraws a definition, unless it is.
    struct Insert {
        definition: i16 => SmallInt,
        by: String => Text,
        reason: String => Text,
        audit: i64 => BigInt,
    } -> SmallInt =
    "INSERT INTO withdrawals (definition, withdrawn_by, reason, audit)
     VALUES ({definition}, {by}, {reason}, {audit}) ON CONFLICT DO NOTHING RETURNING definition"
}

database::statement! {
    /// All of them.
    struct ReadWithdrawals {} -> (SmallInt, Text, Text, BigInt) =
    "SELECT definition, withdrawn_by, reason, audit FROM withdrawals ORDER BY definition"
}

database::statement! {
    /// Of the sagas that run by a definition: how many can be ended and are not yet, how many are ending or
    /// being undone, how many are past their pivot, how many are paused or held.
    struct CountInFlight { definition: i16 => SmallInt } -> (BigInt, BigInt, BigInt, BigInt) =
    "WITH live AS (
       SELECT CASE WHEN done & pivot <> 0 THEN 3
                   WHEN state = 3 OR reason IS NOT NULL THEN 2
                   WHEN flags & 3 <> 0 THEN 4 ELSE 1 END AS part
       FROM sagas WHERE NOT ended AND definition = {definition})
     SELECT count(*) FILTER (WHERE part = 1), count(*) FILTER (WHERE part = 2),
            count(*) FILTER (WHERE part = 3), count(*) FILTER (WHERE part = 4) FROM live"
}

/// The sagas in flight that run by a definition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    /// Before their pivot, and nothing ends them yet.
    pub running: i64,
    /// They are being undone, or an ending waits for the pivot's outcome.
    pub ending: i64,
    /// Past their pivot: they go on to the end.
    pub past_pivot: i64,
    /// Paused or set aside: they are ended when they go on.
    pub stopped: i64,
}

/// Withdraws a definition, in the caller's transaction; `false` if it was withdrawn before.
///
/// # Errors
/// The database fails.
pub async fn withdraw(
    connection: &mut Connection,
    withdrawal: Withdrawal,
) -> Result<bool, database::Error> {
    let Withdrawal {
        definition,
        by,
        reason,
        audit,
    } = withdrawal;
    let insert = Insert {
        definition,
        by,
        reason,
        audit,
    };
    let new: Vec<i16> = insert.load(connection).await?;
    Ok(!new.is_empty())
}

/// All that are withdrawn.
///
/// # Errors
/// The database fails.
pub async fn withdrawn(connection: &mut Connection) -> Result<Vec<Withdrawal>, database::Error> {
    let rows: Vec<(i16, String, String, i64)> = ReadWithdrawals {}.load(connection).await?;
    let rows = rows.into_iter();
    let rows = rows.map(|(definition, by, reason, audit)| Withdrawal {
        definition,
        by,
        reason,
        audit,
    });
    Ok(rows.collect())
}

/// The sagas in flight that run by a definition.
///
/// # Errors
/// The database fails.
pub async fn in_flight(
    connection: &mut Connection,
    definition: i16,
) -> Result<InFlight, database::Error> {
    let count = CountInFlight { definition };
    let (running, ending, past_pivot, stopped) = count.get_result(connection).await?;
    Ok(InFlight {
        running,
        ending,
        past_pivot,
        stopped,
    })
}

impl Withdrawal {
    /// What its sagas are told.
    #[must_use]
    pub fn input() -> Input {
        Input::End {
            reason: Refusal::DefinitionWithdrawn.code().to_owned(),
        }
    }

    /// What their histories say of who did it.
    pub(crate) fn says(&self) -> Value {
        json!({ "by": self.by, "reason": self.reason, "audit": self.audit })
    }
}
