//! A small catalogue and orders for the tests of steps.

use contract::{EventId, OfferId, SagaId};
use database::{Connection, Pool, testing::TestDatabase};
use diesel::sql_types::BigInt;
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};

/// A database of its own with what is sold in it.
pub(crate) struct Shop {
    pub(crate) database: TestDatabase,
    pub(crate) pool: Pool,
}

#[derive(diesel::QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        let database = TestDatabase::create().await;
        let mut config = database::Config::new(database.url(), "test");
        (config.pool_max, config.wait_timeout_ms) = (16, 30_000);
        let pool = database::pool(&config).expect("the pool's settings are sound");
        let shop = Self { database, pool };
        shop.run(
            "INSERT INTO sports VALUES ('ATH', 'Athletics', 'Athlétisme', 'sport');
             INSERT INTO venues VALUES ('STA', 'Stade', 'Stade', 'Paris', 'Europe/Paris', 48, 2, 9)",
        )
        .await;
        shop
    }

    pub(crate) async fn connection(&self) -> Connection {
        self.database.connection().await
    }

    pub(crate) async fn run(&self, sql: &str) {
        let mut connection = self.connection().await;
        let done = connection.batch_execute(sql).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// One number out of a query.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let mut connection = self.connection().await;
        let found: Number = diesel::sql_query(format!("SELECT ({sql})::bigint AS number"))
            .get_result(&mut connection)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        found.number
    }

    /// An event on sale.
    pub(crate) async fn event(&self) -> EventId {
        let event = EventId::new();
        let hex = event.0.simple().to_string().to_uppercase();
        self.run(&format!(
            "INSERT INTO events (id, starts_at, ends_at, published_starts_at, code, sport, venue,
                                 name, status, tier, currency)
             VALUES ('{event}', now() + interval '60 days', now() + interval '61 days', now(),
                     '{}', 'ATH', 'STA', 'Final', 'on_sale', 'standard', 'EUR')",
            &hex[20..]
        ))
        .await;
        event
    }

    /// An offer of an event; `companion` makes it one of wheelchair places.
    pub(crate) async fn offer(&self, event: EventId, capacity: i32, companion: bool) -> OfferId {
        let offer = OfferId::new();
        self.run(&format!(
            "INSERT INTO offers (id, event_id, amount_minor, category, currency, accessible, companion)
             VALUES ('{offer}', '{event}', 5000, 'A', 'EUR', {companion}, {companion});
             INSERT INTO stock (offer_id, capacity) VALUES ('{offer}', {capacity})"
        ))
        .await;
        offer
    }

    /// Orders with the same lines: event, offer, quantity.
    pub(crate) async fn orders(
        &self,
        count: usize,
        lines: &[(EventId, OfferId, i32)],
    ) -> Vec<SagaId> {
        let ids: Vec<SagaId> = (0..count).map(|_| SagaId::new()).collect();
        let mut sql = String::new();
        for id in &ids {
            sql += &format!(
                "INSERT INTO orders (id, total_minor, currency, email, name, locale,
                                     payment_method)
                 VALUES ('{id}', 5000, 'EUR', 'ada@example.org', 'Ada Buyer',
                         'en', 'pm_card_visa');"
            );
            for (line, (event, offer, quantity)) in lines.iter().enumerate() {
                sql += &format!(
                    "INSERT INTO order_items (order_id, line, event_id, offer_id, quantity,
                                              unit_amount_minor)
                     VALUES ('{id}', {line} + 1, '{event}', '{offer}', {quantity}, 5000);"
                );
            }
        }
        self.run(&sql).await;
        ids
    }

    /// How much of an offer is taken.
    pub(crate) async fn taken(&self, offer: OfferId) -> i64 {
        let sql = format!("SELECT taken FROM stock WHERE offer_id = '{offer}'");
        self.number(&sql).await
    }
}
