//! Which life of the database this is.
//!
//! A database that was brought back to an earlier point goes on elsewhere: in another cluster, on another
//! timeline, or under another oid. That place alone does not tell lives apart. Two clones of one backup may
//! both be on timeline 2, and what the first one sent before it was given up is still in the broker when the
//! second begins. So each life has a number drawn by chance, in a row, and beside it the place where it was
//! drawn. Whoever begins and finds the row at another place draws anew; of several at once one draws, for it
//! is one row. The row is restored like everything else, and never at its own place.
//!
//! What has no other place cannot be told: the copy of a stopped server's files, or of its disk. For that
//! there is [`renew_incarnation`], and a page for operators that says when.
//!
//! The timeline is that of the log that is written now. The control file's last checkpoint still names the
//! old one for a while after a promotion, and whoever began then would have belonged to another life than
//! those after him. A server that still replays refuses to tell, so nobody begins on it.

use crate::{Connection, Error};
use diesel::{
    OptionalExtension,
    sql_types::{BigInt, Bool, Nullable, Text},
};
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};

/// Looks before it is given up: one to find no number, and one to find the number of whoever was quicker.
const LOOKS: u32 = 4;

/// How long a connection of an earlier life may take to end.
const GONE_WITHIN_MS: u32 = 2_000;

/// 64 bits by chance: the digits of two UUIDs, without those that say which kind of UUID they are.
const CHANCE: &str = "('x' || translate(left(gen_random_uuid()::text, 13), '-', '')
  || right(gen_random_uuid()::text, 4))::bit(64)::bigint";

/// Where the database is.
const HERE: &str = "here AS (
  SELECT concat_ws('/', s.system_identifier,
           ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint, d.oid) AS place
  FROM pg_control_system() s, pg_database d WHERE d.datname = current_database())";

#[derive(diesel::QueryableByName)]
struct Found {
    #[diesel(sql_type = Text)]
    place: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    number: Option<i64>,
}

/// What is noted, and whether it is of the place where the database is now.
#[derive(diesel::QueryableByName)]
pub(crate) struct Standing {
    #[diesel(sql_type = BigInt)]
    pub(crate) number: i64,
    #[diesel(sql_type = Bool)]
    pub(crate) here: bool,
}

#[derive(diesel::QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// The number of this life: the same as long as the database goes on; another one, drawn by chance, once
/// it goes on elsewhere (a restore, a failover, a copy).
///
/// # Errors
/// The database cannot be asked, still replays its log, or lacks the table: `guichet migrate` was not run.
pub async fn incarnation(connection: &mut Connection) -> Result<u64, Error> {
    for _ in 0..LOOKS {
        let found = look(connection).await?;
        match found.number {
            Some(number) => return Ok(number.cast_unsigned()),
            None => draw(connection, &found.place).await?,
        }
    }
    Err(Error::Statement(diesel::result::Error::NotFound))
}

/// The number as it stands, without looking whether the database goes on elsewhere since, and without drawing
/// one; `None` where nobody ever began.
///
/// # Errors
/// As [`incarnation`].
pub async fn present_incarnation(connection: &mut Connection) -> Result<Option<u64>, Error> {
    let number: Option<Number> = diesel::sql_query("SELECT number FROM incarnation")
        .get_result(connection)
        .await
        .optional()?;
    Ok(number.map(|row| row.number.cast_unsigned()))
}

/// Draws another number: from now on this is another life, whatever the place says. Nothing is written any more
/// by processes that began before: their connections are ended, and whether a new one is let in
/// ([`crate::Life`]) is seen once this is committed.
///
/// # Errors
/// As [`incarnation`].
pub async fn renew_incarnation(connection: &mut Connection) -> Result<u64, Error> {
    incarnation(connection).await?; // there is a row
    connection
        .transaction(async |connection| {
            let alone = "LOCK TABLE incarnation IN ACCESS EXCLUSIVE MODE";
            connection.batch_execute(alone).await?;
            connection.batch_execute(&end_connections()).await?;
            let sql = format!(
                "UPDATE incarnation SET number = {CHANCE}, since = clock_timestamp() RETURNING number"
            );
            let row: Number = diesel::sql_query(sql).get_result(connection).await?;
            Ok(row.number.cast_unsigned())
        })
        .await
}

/// Ends those of every process of ours, as far as this role may.
fn end_connections() -> String {
    format!(
        "SELECT pg_terminate_backend(pid, {GONE_WITHIN_MS}) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()
           AND application_name LIKE 'guichet %' AND pg_has_role(usesysid, 'USAGE')"
    )
}

async fn look(connection: &mut Connection) -> Result<Found, Error> {
    let sql = format!(
        "WITH {HERE}
         SELECT here.place, i.number FROM here LEFT JOIN incarnation i ON i.place = here.place"
    );
    Ok(diesel::sql_query(sql).get_result(connection).await?)
}

/// What is noted, if anything is; draws nothing.
pub(crate) async fn standing(connection: &mut Connection) -> Result<Option<Standing>, Error> {
    let sql = format!(
        "WITH {HERE} SELECT i.number, i.place = here.place AS here FROM here, incarnation i"
    );
    Ok(diesel::sql_query(sql)
        .get_result(connection)
        .await
        .optional()?)
}

/// The first number is what earlier versions of this program, which may still be at work, make of the
/// place.
async fn draw(connection: &mut Connection, place: &str) -> Result<(), Error> {
    let sql = format!(
        "INSERT INTO incarnation AS i (number, place) VALUES ($1, $2)
         ON CONFLICT (one) DO UPDATE
           SET number = {CHANCE}, place = excluded.place, since = clock_timestamp()
           WHERE i.place <> excluded.place"
    );
    diesel::sql_query(sql)
        .bind::<BigInt, _>(fnv1a(place).cast_signed())
        .bind::<Text, _>(place)
        .execute(connection)
        .await?;
    Ok(())
}

/// FNV-1a, 64 bits: short, stable across versions of ours, and not a matter of security.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
