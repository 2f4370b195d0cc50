//! Loading the catalogue: idempotent, all or nothing, never below what is taken.

use chrono::{TimeDelta, Utc};
use database::{Connection, testing::TestDatabase};
use diesel::sql_types::{BigInt, Text};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use gateway::catalogue::{
    load::{LoadError, LoadOptions, LoadReport, load},
    source::Source,
};

#[derive(diesel::QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

#[derive(diesel::QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

async fn number(connection: &mut Connection, sql: &str) -> i64 {
    diesel::sql_query(format!("SELECT ({sql})::bigint AS n"))
        .get_result::<Number>(connection)
        .await
        .unwrap()
        .n
}

/// The whole catalogue as one text, to compare two states of it.
async fn contents(connection: &mut Connection) -> String {
    let mut text = String::new();
    for table in ["venues", "sports", "events", "offers", "stock"] {
        let rows = diesel::sql_query(format!(
            "SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) AS line FROM {table} t"
        ))
        .get_result::<Line>(connection)
        .await
        .unwrap();
        text += &rows.line;
    }
    text
}

async fn paris(connection: &mut Connection) -> LoadReport {
    load(
        connection,
        &Source::embedded().unwrap(),
        LoadOptions::default(),
    )
    .await
    .unwrap()
}

fn with_capacity(code: &str, capacity: u32) -> Source {
    let mut source = Source::embedded().unwrap();
    for venue in source.venues.iter_mut().filter(|venue| venue.code == code) {
        venue.capacity = Some(capacity);
    }
    source
}

#[tokio::test(flavor = "multi_thread")]
async fn paris_2024_is_loaded_and_loading_it_again_changes_nothing() {
    let database = TestDatabase::create().await;
    let mut connection = database.connection().await;
    let report = paris(&mut connection).await;
    assert_eq!((report.events, report.venues, report.sports), (722, 40, 45));
    assert_eq!(report.places, 12_023_054);
    assert_eq!(report.others, 0);
    assert!(report.first_starts_at >= Utc::now() + TimeDelta::days(60));
    assert_eq!(report.shift_days % 364, 0);
    assert_eq!(
        number(&mut connection, "SELECT sum(capacity) FROM stock").await,
        12_023_054
    );
    let offers = number(
        &mut connection,
        "SELECT count(*) FROM offers JOIN stock ON offer_id = id",
    );
    assert_eq!(usize::try_from(offers.await).unwrap(), report.offers);
    let shifted = "SELECT count(*) FROM events, catalogue_state \
        WHERE starts_at = published_starts_at + make_interval(days => shift_days)";
    assert_eq!(number(&mut connection, shifted).await, 722);

    connection
        .batch_execute("UPDATE stock SET taken = 1 WHERE capacity > 5")
        .await
        .unwrap();
    let before = contents(&mut connection).await;
    let again = paris(&mut connection).await;
    assert_eq!(again, report);
    assert_eq!(contents(&mut connection).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn times_can_be_left_as_published() {
    let database = TestDatabase::create().await;
    let mut connection = database.connection().await;
    let options = LoadOptions { as_published: true };
    let report = load(&mut connection, &Source::embedded().unwrap(), options)
        .await
        .unwrap();
    assert_eq!(report.shift_days, 0);
    assert_eq!(
        report.first_starts_at.to_rfc3339(),
        "2024-07-24T13:00:00+00:00"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capacity_below_what_is_taken_is_refused_and_nothing_is_written() {
    let database = TestDatabase::create().await;
    let mut connection = database.connection().await;
    paris(&mut connection).await;
    let taken = "UPDATE stock SET taken = capacity WHERE offer_id IN (SELECT offers.id FROM offers \
        JOIN events ON events.id = event_id WHERE code = 'LGN01' OR code = 'GLF01')";
    connection.batch_execute(taken).await.unwrap();
    let before = contents(&mut connection).await;
    let error = load(
        &mut connection,
        &with_capacity("LGN", 20_000),
        LoadOptions::default(),
    )
    .await
    .unwrap_err();
    assert!(error.to_string().contains("GLF01"), "{error}");
    assert!(matches!(error, LoadError::BelowTaken(_)));
    assert_eq!(contents(&mut connection).await, before);

    // More places, or fewer where none is taken, are fine.
    load(
        &mut connection,
        &with_capacity("LGN", 40_000),
        LoadOptions::default(),
    )
    .await
    .unwrap();
    load(
        &mut connection,
        &with_capacity("YDM", 10_000),
        LoadOptions::default(),
    )
    .await
    .unwrap();
    let places = "SELECT sum(capacity) FROM stock JOIN offers ON offers.id = offer_id \
        JOIN events ON events.id = event_id WHERE code = 'HOC01'";
    assert_eq!(number(&mut connection, places).await, 10_000);

    // Offers that exist do not vanish.
    let error = load(
        &mut connection,
        &with_capacity("YDM", 0),
        LoadOptions::default(),
    )
    .await
    .unwrap_err();
    assert!(matches!(error, LoadError::OfferGone(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_event_stays_cancelled_and_every_change_is_seen_in_the_version() {
    let database = TestDatabase::create().await;
    let mut connection = database.connection().await;
    paris(&mut connection).await;
    let version = "SELECT version FROM catalogue_state";
    let before = number(&mut connection, version).await;
    let cancel = "UPDATE events SET status = 'cancelled' WHERE code = 'ATH20'";
    connection.batch_execute(cancel).await.unwrap();
    assert!(number(&mut connection, version).await > before);
    paris(&mut connection).await;
    let cancelled = "SELECT count(*) FROM events WHERE status = 'cancelled'";
    assert_eq!(number(&mut connection, cancelled).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_loads_at_once_end_as_one() {
    let database = TestDatabase::create().await;
    let (mut one, mut two) = (database.connection().await, database.connection().await);
    let (a, b) = tokio::join!(paris(&mut one), paris(&mut two));
    assert_eq!(a, b);
    assert_eq!(number(&mut one, "SELECT count(*) FROM events").await, 722);
}
