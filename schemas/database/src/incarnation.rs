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
    sql_types::{BigInt, Nullable, Text},
};
use diesel_async::RunQueryDsl;

/// Looks before it is given up: one to find no number, and one to find the number of whoever was quicker.
const LOOKS: u32 = 4;

/// 64 bits by chance: the digits of two UUIDs, without those that say which kind of UUID they are.
const CHANCE: &str = "('x' || translate(left(gen_random_uuid()::text, 13), '-', '')
  || right(gen_random_uuid()::text, 4))::bit(64)::bigint";

#[derive(diesel::QueryableByName)]
struct Found {
    #[diesel(sql_type = Text)]
    place: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    number: Option<i64>,
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
/// one; `None` where nobody ever began. For those who are at work already.
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

/// Draws another number: from now on this is another life, whatever the place says.
///
/// # Errors
/// As [`incarnation`].
pub async fn renew_incarnation(connection: &mut Connection) -> Result<u64, Error> {
    incarnation(connection).await?; // there is a row
    let sql = format!(
        "UPDATE incarnation SET number = {CHANCE}, since = clock_timestamp() RETURNING number"
    );
    let row: Number = diesel::sql_query(sql).get_result(connection).await?;
    Ok(row.number.cast_unsigned())
}

async fn look(connection: &mut Connection) -> Result<Found, Error> {
    let found = diesel::sql_query(
        "WITH here AS (
           SELECT concat_ws('/', s.system_identifier,
                    ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint,
                    d.oid) AS place
           FROM pg_control_system() s, pg_database d WHERE d.datname = current_database())
         SELECT here.place, i.number FROM here LEFT JOIN incarnation i ON i.place = here.place",
    )
    .get_result(connection)
    .await?;
    Ok(found)
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
