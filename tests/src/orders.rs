//! Orders written straight into the database, for tests of single steps.

use contract::SagaId;
use diesel::sql_types::{BigInt, Integer, Jsonb, Text, Uuid as SqlUuid};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use serde_json::Value;
use uuid::Uuid;

/// An order of one line.
#[derive(Clone, Debug)]
pub struct Order {
    /// Its id, and its saga's.
    pub id: SagaId,
    /// In minor units of EUR.
    pub total_minor: i64,
    /// The provider's name of what it is paid with.
    pub payment_method: String,
    /// Where mails go.
    pub email: String,
    /// The buyer.
    pub name: String,
    /// The buyer's language.
    pub locale: String,
    /// How many tickets.
    pub quantity: i32,
    /// The offer; by itself it need not exist.
    pub offer_id: Uuid,
    /// The event; by itself it need not exist.
    pub event_id: Uuid,
}

impl Order {
    /// An order paid with `payment_method`, by a buyer of its own.
    #[must_use]
    pub fn new(payment_method: &str) -> Self {
        let id = SagaId::new();
        Self {
            id,
            total_minor: 12_500,
            payment_method: payment_method.to_owned(),
            email: format!("{}@example.org", id.0.simple()),
            name: "Zoë O'Neil".to_owned(),
            locale: "fr-CA".to_owned(),
            quantity: 1,
            offer_id: Uuid::now_v7(),
            event_id: Uuid::now_v7(),
        }
    }

    /// Writes it.
    ///
    /// # Panics
    /// When the database refuses it.
    pub async fn insert(&self, pool: &database::Pool) {
        let mut connection = pool.get().await.expect("a connection");
        diesel::sql_query(
            "INSERT INTO orders (id, total_minor, currency, email, name, locale, payment_method)
             VALUES ($1, $2, 'EUR', $3, $4, $5, $6)",
        )
        .bind::<SqlUuid, _>(self.id.0)
        .bind::<BigInt, _>(self.total_minor)
        .bind::<Text, _>(&self.email)
        .bind::<Text, _>(&self.name)
        .bind::<Text, _>(&self.locale)
        .bind::<Text, _>(&self.payment_method)
        .execute(&mut *connection)
        .await
        .expect("the order is sound");
        diesel::sql_query(
            "INSERT INTO order_items (order_id, offer_id, event_id, unit_amount_minor, quantity, line, attendees)
             VALUES ($1, $2, $3, $4, $5, 1, $6)",
        )
        .bind::<SqlUuid, _>(self.id.0)
        .bind::<SqlUuid, _>(self.offer_id)
        .bind::<SqlUuid, _>(self.event_id)
        .bind::<BigInt, _>(self.total_minor / i64::from(self.quantity))
        .bind::<Integer, _>(self.quantity)
        .bind::<diesel::sql_types::Nullable<Jsonb>, _>(None::<Value>)
        .execute(&mut *connection)
        .await
        .expect("the line is sound");
    }
}

const EVENT: &str = "
    INSERT INTO sports VALUES ('DIV', 'Diving', 'Plongeon', 'sport') ON CONFLICT DO NOTHING;
    INSERT INTO venues VALUES ('AQC', 'Aquatics Centre', 'Centre Aquatique', 'Saint-Denis', 'Europe/Paris',
      48.9, 2.3, 5000) ON CONFLICT DO NOTHING;
    INSERT INTO events (id, starts_at, ends_at, published_starts_at, code, sport, venue, name, status, tier,
      currency)
    VALUES ('{event}', '2027-01-31T18:00:00Z', '2027-01-31T20:00:00Z', '2024-08-06T13:00:00Z', '{code}', 'DIV',
      'AQC', 'Diving: Women''s 10m Platform Final', 'on_sale', 'standard', 'EUR');
    INSERT INTO offers (id, event_id, amount_minor, category, currency, accessible, companion)
    VALUES ('{offer}', '{event}', 12500, 'A', 'EUR', false, false)";

impl Order {
    /// Writes its event and offer, and a ticket for each place, numbered from 1.
    ///
    /// # Panics
    /// When the database refuses them.
    pub async fn issue(&self, pool: &database::Pool) {
        let mut connection = pool.get().await.expect("a connection");
        let code: String = self.event_id.simple().to_string().to_uppercase();
        let event = EVENT
            .replace("{event}", &self.event_id.to_string())
            .replace("{offer}", &self.offer_id.to_string())
            .replace("{code}", &code[20..]);
        connection
            .batch_execute(&event)
            .await
            .expect("the event is sound");
        diesel::sql_query(
            "INSERT INTO tickets (id, order_id, event_id, offer_id, issued_at, number, line, position,
               companion, holder_name, key_id, signature)
             SELECT gen_random_uuid(), $1, $2, $3, now(), n, 1, n, false, $4, decode('01020304', 'hex'),
               decode(repeat('07', 64), 'hex')
             FROM generate_series(1, $5) AS n",
        )
        .bind::<SqlUuid, _>(self.id.0)
        .bind::<SqlUuid, _>(self.event_id)
        .bind::<SqlUuid, _>(self.offer_id)
        .bind::<Text, _>(&self.name)
        .bind::<Integer, _>(self.quantity)
        .execute(&mut *connection)
        .await
        .expect("the tickets are sound");
    }
}

/// Writes a correction of what the `do` (1) or `undo` (2) of a step is given.
///
/// # Panics
/// When the database refuses it.
pub async fn correct(
    pool: &database::Pool,
    saga: Uuid,
    (step, kind): (&str, i32),
    (audit, after_seq): (i64, i32),
    (field, value): (&str, &str),
) {
    let mut connection = pool.get().await.expect("a connection");
    diesel::sql_query(
        "INSERT INTO corrections (saga_id, audit, after_seq, kind, step, made_by, reason, fields)
         VALUES ($1, $2, $3, $4, $5, 'ann', 'case 12', jsonb_build_object($6, $7))",
    )
    .bind::<SqlUuid, _>(saga)
    .bind::<BigInt, _>(audit)
    .bind::<Integer, _>(after_seq)
    .bind::<Integer, _>(kind)
    .bind::<Text, _>(step)
    .bind::<Text, _>(field)
    .bind::<Text, _>(value)
    .execute(&mut *connection)
    .await
    .expect("a sound correction");
}
