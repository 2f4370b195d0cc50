//! Which life of the database this is.

use crate::{Connection, Error};
use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;

#[derive(diesel::QueryableByName)]
struct Identity {
    #[diesel(sql_type = Text)]
    system: String,
    #[diesel(sql_type = BigInt)]
    timeline: i64,
    #[diesel(sql_type = BigInt)]
    database: i64,
}

/// A number made of the cluster's system identifier, its timeline and the database's oid: the same
/// as long as the database goes on, another one after a restore from backup or in a copy.
///
/// # Errors
/// The database cannot be asked.
pub async fn incarnation(connection: &mut Connection) -> Result<u64, Error> {
    let identity: Identity = diesel::sql_query(
        "SELECT s.system_identifier::text AS system, c.timeline_id::bigint AS timeline, \
                d.oid::bigint AS database \
         FROM pg_control_system() s, pg_control_checkpoint() c, pg_database d \
         WHERE d.datname = current_database()",
    )
    .get_result(connection)
    .await?;
    Ok(fnv1a(&format!(
        "{}/{}/{}",
        identity.system, identity.timeline, identity.database
    )))
}

/// FNV-1a, 64 bits: short, stable across versions of ours, and not a matter of security.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
