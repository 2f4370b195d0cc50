//! The step against a real database, with what the kit puts around it.

mod limits;
mod payments;
mod reviews;
mod signs;

use super::{Config, FraudCheck};
use crate::kit::testing::{Bench, command};
use contract::{Command, Outcome, Reply, SagaId, StepKind, StepName};
use database::{Connection, Pool, testing::TestDatabase};
use diesel::sql_types::{BigInt, Text};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use uuid::Uuid;

/// A database with a few events.
struct Shop {
    _database: TestDatabase,
    pool: Pool,
}

/// An order to be placed.
#[derive(Clone)]
struct Order {
    id: SagaId,
    account: Option<Uuid>,
    email: String,
    address: &'static str,
    total_minor: i64,
    lines: Vec<(Uuid, i32)>,
}

/// An event's id by number: 0 is a ceremony, 1 is most wanted, the others are ordinary.
fn event(number: u128) -> Uuid {
    Uuid::from_u128(1_000 + number)
}

fn order(email: &str, lines: &[(u128, i32)]) -> Order {
    Order {
        id: SagaId::new(),
        account: None,
        email: email.to_owned(),
        address: "192.0.2.7",
        total_minor: 5_000,
        lines: lines
            .iter()
            .map(|&(number, quantity)| (event(number), quantity))
            .collect(),
    }
}

/// The defaults without the velocity rules: they would hold back those who order fifty times, and
/// their counters' locks would let no race come about.
fn only_limits() -> Config {
    let mut config = Config::default();
    config.rules.velocity_email.weight = 0;
    config.rules.velocity_address.weight = 0;
    config
}

fn asks(order: &Order, kind: StepKind) -> Command {
    command(&StepName::FRAUD_CHECK, order.id, kind)
}

fn code(reply: &Reply) -> Option<&str> {
    reply.error.as_ref().map(|error| error.code.as_str())
}

fn done(replies: &[Reply]) -> usize {
    replies
        .iter()
        .filter(|reply| reply.outcome == Outcome::Done)
        .count()
}

impl Shop {
    async fn open() -> Self {
        let database = TestDatabase::create().await;
        let pool = database.pool();
        let mut connection = pool.get().await.expect("a connection");
        connection
            .batch_execute(
                "INSERT INTO venues VALUES ('V1', 'Stade', 'Stade', 'Paris', 'Europe/Paris', 48, 2, 9);
                 INSERT INTO sports VALUES ('ATH', 'Athletics', 'Athlétisme', 'sport');
                 INSERT INTO events (id, starts_at, ends_at, published_starts_at, code, sport,
                                     venue, name, status, tier, currency)
                 SELECT lpad(to_hex(1000 + n), 32, '0')::uuid, now(), now() + interval '1 hour',
                        now(), 'ATH' || n, 'ATH', 'V1', 'Heat', 'on_sale',
                        CASE n WHEN 0 THEN 'ceremony' WHEN 1 THEN 'most_wanted' ELSE 'standard' END,
                        'EUR'
                 FROM generate_series(0, 99) AS n",
            )
            .await
            .expect("a catalogue");
        Self {
            _database: database,
            pool,
        }
    }

    fn worker(&self, config: Config) -> Bench<FraudCheck> {
        Bench::new(FraudCheck::new(config), self.pool.clone())
    }

    async fn connection(&self) -> impl std::ops::DerefMut<Target = Connection> {
        self.pool.get().await.expect("a connection")
    }

    async fn place(&self, orders: &[Order]) {
        let mut sql = String::new();
        for order in orders {
            let Order {
                id,
                email,
                address,
                total_minor,
                ..
            } = order;
            let account = order.account.map_or("NULL".into(), |id| format!("'{id}'"));
            sql += &format!(
                "INSERT INTO orders (id, account_id, total_minor, currency, email, name,
                                     locale, payment_method, client_addr)
                 VALUES ('{id}', {account}, {total_minor}, 'EUR', '{email}', '王', 'en',
                         'pm_card_visa', '{address}');"
            );
            for (line, (event, quantity)) in order.lines.iter().enumerate() {
                sql += &format!(
                    "INSERT INTO order_items (order_id, offer_id, event_id, unit_amount_minor,
                                              quantity, line)
                     VALUES ('{id}', '{event}', '{event}', 100, {quantity}, {line});"
                );
            }
        }
        let mut connection = self.connection().await;
        connection
            .batch_execute(&sql)
            .await
            .expect("the orders are placed");
    }

    /// One number out of a query.
    async fn number(&self, sql: &str) -> i64 {
        #[derive(diesel::QueryableByName)]
        struct Number {
            #[diesel(sql_type = BigInt)]
            number: i64,
        }
        let sql = format!("SELECT ({sql})::bigint AS number");
        let mut connection = self.connection().await;
        let found: Number = diesel::sql_query(sql)
            .get_result(&mut *connection)
            .await
            .expect("a number");
        found.number
    }

    /// One text out of a query.
    async fn text(&self, sql: &str) -> String {
        #[derive(diesel::QueryableByName)]
        struct Found {
            #[diesel(sql_type = Text)]
            text: String,
        }
        let sql = format!("SELECT ({sql})::text AS text");
        let mut connection = self.connection().await;
        let found: Found = diesel::sql_query(sql)
            .get_result(&mut *connection)
            .await
            .expect("a text");
        found.text
    }

    async fn taken(&self) -> i64 {
        self.number("SELECT coalesce(sum(taken), 0) FROM quotas")
            .await
    }

    async fn sql(&self, sql: &str) {
        let mut connection = self.connection().await;
        connection
            .batch_execute(sql)
            .await
            .expect("the statement runs");
    }
}

/// Works on the commands with five workers and eight connections at once, in batches of so many.
async fn at_once(shop: &Shop, config: &Config, commands: Vec<Command>, batch: usize) -> Vec<Reply> {
    let workers: Vec<_> = (0..5).map(|_| shop.worker(config.clone())).collect();
    let batches: Vec<Vec<Command>> = commands.chunks(batch).map(<[_]>::to_vec).collect();
    let work = batches
        .into_iter()
        .enumerate()
        .map(|(number, batch)| workers[number % workers.len()].process(batch));
    let replies = futures_util::future::join_all(work).await;
    let replies = replies.into_iter().flatten();
    replies
        .map(|reply| reply.expect("each is answered"))
        .collect()
}
