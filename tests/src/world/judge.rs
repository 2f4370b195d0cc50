//! What the books say: the rows of the database and the payment provider's own ledger.

use super::{catalogue::Offer, until};
use crate::provider::{Balance, Provider};
use contract::{EventId, OrderId, Outcome, StepKind, StepName, TicketId};
use database::Pool;
use diesel::sql_types::{
    Array, BigInt, Bool, Bytea, Integer, Jsonb, Nullable, SmallInt, Text, Uuid as SqlUuid,
};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use engine::{
    definitions::Definitions,
    view::{Moment, SagaView},
};
use saga::State;
use serde_json::Value;
use std::{collections::BTreeMap, fmt::Write, sync::Arc};
use uuid::Uuid;
use workers::issue::code::{Content, KeyId, Signatory, verify};

database::statement! {
    struct ReadEffects { order: Uuid => SqlUuid } -> (Text, SmallInt, Nullable<Text>, Nullable<Jsonb>) =
    "SELECT step, state, outside_id, output FROM effects WHERE saga_id = {order}"
}

database::statement! {
    struct ReadTickets { orders: Vec<Uuid> => Array<SqlUuid> } ->
      (SqlUuid, SqlUuid, SqlUuid, Integer, Bool, Text, Bytea, Bytea, Bool, BigInt) =
    "SELECT t.id, t.event_id, t.offer_id, t.number, t.companion, t.holder_name, t.key_id, t.signature,
            t.revoked_at IS NOT NULL, i.unit_amount_minor
     FROM tickets t JOIN order_items i ON i.order_id = t.order_id AND i.line = t.line
     WHERE t.order_id = ANY({orders}) ORDER BY t.event_id, t.number"
}

database::statement! {
    struct ReadNumbers { event: Uuid => SqlUuid } -> (Integer,) =
    "SELECT number FROM tickets WHERE event_id = {event} ORDER BY number"
}

database::statement! {
    /// The signals of a saga: all, and those not applied.
    struct ReadSignals {
        id: Uuid => SqlUuid,
    } -> (BigInt, BigInt) =
    "SELECT count(*), count(*) FILTER (WHERE applied_at IS NULL) FROM signals WHERE saga_id = {id}"
}

database::statement! {
    struct ReadTaken { offer: Uuid => SqlUuid } -> (Integer,) =
    "SELECT taken FROM stock WHERE offer_id = {offer}"
}

database::statement! {
    struct ReadQuotas {} -> (BigInt,) =
    "SELECT coalesce(sum(taken), 0)::bigint FROM quotas"
}

database::statement! {
    struct ReadOrders {} -> (SqlUuid,) = "SELECT id FROM orders ORDER BY id"
}

database::statement! {
    struct ReadLive {} -> (BigInt,) = "SELECT count(*) FROM sagas WHERE NOT ended"
}

database::statement! {
    struct ReadBefore { step: i16 => SmallInt } -> (BigInt,) =
    "SELECT count(*) FROM sagas WHERE NOT ended AND state = 1 AND step < {step}"
}

database::statement! {
    struct ReadDone { step: String => Text } -> (BigInt,) =
    "SELECT count(*) FROM effects WHERE step = {step} AND state = 2"
}

database::statement! {
    /// How many of a role's connections wait for somebody else's lock.
    struct ReadBlocked { role: String => Text } -> (BigInt,) =
    "SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND application_name = {role} AND wait_event_type = 'Lock'"
}

/// How far an effect has come, as the ledger's column says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stands {
    /// Somebody began.
    Claimed,
    /// In force.
    Done,
    /// Refused for good.
    Rejected,
    /// Taken back.
    Undone,
}

/// A row of the effect ledger.
#[derive(Clone, PartialEq, Debug)]
pub struct Effect {
    /// How far it has come.
    pub stands: Stands,
    /// What the outside calls it.
    pub outside_id: Option<String>,
    /// What it produced.
    pub output: Option<Value>,
}

/// A ticket.
#[derive(Clone, PartialEq, Debug)]
pub struct Ticket {
    /// Its offer.
    pub offer: Uuid,
    /// Its number at the event.
    pub number: i32,
    /// Whether it is a companion's.
    pub companion: bool,
    /// The name on it.
    pub holder_name: String,
    /// Whether it was taken back.
    pub revoked: bool,
    /// What it cost, in minor units.
    pub amount_minor: i64,
    content: Content,
    key: KeyId,
    signature: [u8; 64],
}

impl Ticket {
    /// Whether a gate that knows `signatory`'s public key lets it in.
    #[must_use]
    pub fn verifies(&self, signatory: &Signatory) -> bool {
        let code = self.content.code(self.key, &self.signature);
        verify(&code, &[signatory.public_key()]) == Ok(self.content)
    }
}

type TicketRow = (
    Uuid,
    Uuid,
    Uuid,
    i32,
    bool,
    String,
    Vec<u8>,
    Vec<u8>,
    bool,
    i64,
);

fn ticket(row: TicketRow) -> Ticket {
    let (id, event, offer, number, companion, holder_name, key, signature, revoked, amount_minor) =
        row;
    Ticket {
        offer,
        number,
        companion,
        holder_name,
        revoked,
        amount_minor,
        content: Content {
            ticket_id: TicketId(id),
            event_id: EventId(event),
            number: number.try_into().expect("positive"),
        },
        key: KeyId(key.try_into().expect("4 bytes")),
        signature: signature.try_into().expect("64 bytes"),
    }
}

/// Reads the books.
#[derive(Clone)]
pub struct Judge {
    pool: Pool,
    provider: Arc<Provider>,
    definitions: Definitions,
}

const READABLE: &str = "the database answers";

impl Judge {
    pub(crate) fn new(pool: Pool, provider: Arc<Provider>, definitions: Definitions) -> Self {
        Self {
            pool,
            provider,
            definitions,
        }
    }

    async fn connection(&self) -> impl std::ops::DerefMut<Target = database::Connection> {
        self.pool.get().await.expect(READABLE)
    }

    /// Changes something behind everybody's back.
    ///
    /// # Panics
    /// When the database refuses.
    pub async fn execute(&self, sql: &str) {
        let executed = self.connection().await.batch_execute(sql).await;
        executed.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The saga of an order and its history.
    ///
    /// # Panics
    /// When there is none.
    pub async fn saga(&self, order: OrderId) -> SagaView {
        let mut connection = self.connection().await;
        let read = engine::view::read(&mut connection, &self.definitions, order.into()).await;
        read.expect(READABLE).expect("the order has a saga")
    }

    /// Waits until the saga has ended.
    ///
    /// # Panics
    /// When it does not.
    pub async fn at_rest(&self, order: OrderId) -> SagaView {
        until("the saga ends", async || {
            let saga = self.saga(order).await;
            saga.instance.state.is_end().then_some(saga)
        })
        .await
    }

    /// Every effect of an order, by step.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn effects(&self, order: OrderId) -> BTreeMap<String, Effect> {
        let read = ReadEffects { order: order.0 };
        let mut connection = self.connection().await;
        let rows: Vec<(String, i16, Option<String>, Option<Value>)> =
            read.load(&mut connection).await.expect(READABLE);
        rows.into_iter()
            .map(|(step, state, outside_id, output)| {
                let stands = match state {
                    1 => Stands::Claimed,
                    2 => Stands::Done,
                    3 => Stands::Rejected,
                    _ => Stands::Undone,
                };
                let effect = Effect {
                    stands,
                    outside_id,
                    output,
                };
                (step, effect)
            })
            .collect()
    }

    /// How a step of an order stands in the ledger; `None` if nobody began.
    pub async fn effect(&self, order: OrderId, step: &StepName) -> Option<Effect> {
        self.effects(order).await.remove(step.as_str())
    }

    /// The tickets of an order.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn tickets(&self, order: OrderId) -> Vec<Ticket> {
        let read = ReadTickets {
            orders: vec![order.0],
        };
        let mut connection = self.connection().await;
        let rows: Vec<TicketRow> = read.load(&mut connection).await.expect(READABLE);
        rows.into_iter().map(ticket).collect()
    }

    /// The numbers of an event's tickets, revoked ones too, ascending.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn numbers(&self, event: Uuid) -> Vec<i32> {
        let mut connection = self.connection().await;
        let rows: Vec<(i32,)> = ReadNumbers { event }
            .load(&mut connection)
            .await
            .expect(READABLE);
        rows.into_iter().map(|(number,)| number).collect()
    }

    /// How much of an offer is taken.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn taken(&self, offer: Offer) -> i32 {
        let mut connection = self.connection().await;
        let (taken,) = ReadTaken { offer: offer.id }
            .get_result(&mut connection)
            .await
            .expect(READABLE);
        taken
    }

    /// The sum of all purchase limits' counters.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn quotas(&self) -> i64 {
        let mut connection = self.connection().await;
        let (sum,) = ReadQuotas {}
            .get_result(&mut connection)
            .await
            .expect(READABLE);
        sum
    }

    /// How often an order's saga was told something, and how much of it is not applied yet.
    ///
    /// # Panics
    /// When the database cannot be read.
    pub async fn signals(&self, order: OrderId) -> (i64, i64) {
        let mut connection = self.connection().await;
        let read = ReadSignals { id: order.0 };
        read.get_result(&mut connection).await.expect(READABLE)
    }

    /// Whether a role of the binary waits for a lock that somebody else holds.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn is_blocked(&self, role: &str) -> bool {
        let role = format!("guichet {role}");
        let mut connection = self.connection().await;
        let (count,): (i64,) = ReadBlocked { role }
            .get_result(&mut connection)
            .await
            .expect(READABLE);
        count > 0
    }

    /// How many sagas have not ended.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn live(&self) -> i64 {
        let mut connection = self.connection().await;
        let (live,): (i64,) = ReadLive {}
            .get_result(&mut connection)
            .await
            .expect(READABLE);
        live
    }

    /// How many running orders have not come to a step yet, by its number.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn before(&self, step: u8) -> i64 {
        let read = ReadBefore { step: step.into() };
        let mut connection = self.connection().await;
        let (before,): (i64,) = read.get_result(&mut connection).await.expect(READABLE);
        before
    }

    /// How many orders' effects of a step are done.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn done(&self, step: &StepName) -> i64 {
        let read = ReadDone {
            step: step.to_string(),
        };
        let mut connection = self.connection().await;
        let (done,): (i64,) = read.get_result(&mut connection).await.expect(READABLE);
        done
    }

    /// All orders there are.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn orders(&self) -> Vec<OrderId> {
        let mut connection = self.connection().await;
        let rows: Vec<(Uuid,)> = ReadOrders {}.load(&mut connection).await.expect(READABLE);
        rows.into_iter().map(|(id,)| OrderId(id)).collect()
    }

    /// Judges everything at rest: each order's saga has ended; the provider kept exactly the price of
    /// the valid tickets, by one capture at most; and no query of `guichet check` finds anything.
    ///
    /// # Panics
    /// When anything is wrong.
    pub async fn verdict(&self) {
        for order in self.orders().await {
            self.verdict_of(order).await;
        }
        self.check_finds_nothing().await;
    }

    /// The same of one order, by itself.
    ///
    /// # Panics
    /// As [`Self::verdict`].
    pub async fn verdict_of(&self, order: OrderId) -> (State, Balance) {
        let saga = self.at_rest(order).await;
        let balance = self.provider.balance(order.0).await;
        let mut story = tell(&saga);
        let _ = write!(story, "{balance:?}");
        assert!(balance.captures <= 1, "captured twice: {order}\n{story}");
        let kept = balance.captured_minor - balance.refunded_minor;
        let tickets = self.tickets(order).await;
        let valid = tickets
            .iter()
            .filter(|ticket| !ticket.revoked && !ticket.companion);
        let price: i64 = valid.map(|ticket| ticket.amount_minor).sum();
        assert_eq!(kept, price, "money-iff-ticket: {order}\n{story}");
        let sold = saga.instance.state == State::Completed;
        assert_eq!(price > 0, sold, "{order}\n{story}");
        (saga.instance.state, balance)
    }

    /// `guichet check` finds nothing.
    ///
    /// # Panics
    /// When it does.
    pub async fn check_finds_nothing(&self) {
        let report = self.check().await;
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
        assert!(report.apart.is_empty(), "{:#?}", report.apart);
    }

    /// What `guichet check` says.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn check(&self) -> inspector::check::Report {
        let mut connection = self.connection().await;
        let report = inspector::check::run(&mut connection).await;
        report.expect(READABLE)
    }
}

/// The history of a saga, a line each.
#[must_use]
pub fn tell(saga: &SagaView) -> String {
    let mut story = String::new();
    for moment in &saga.timeline {
        let Moment {
            rev,
            input,
            step,
            kind,
            attempt,
            outcome,
            code,
            next,
            state,
            ..
        } = moment;
        let next = next
            .as_ref()
            .map(|next| (&next.step, next.kind, next.attempt));
        let _ = writeln!(
            story,
            "{rev} {input} {step:?} {kind:?} {attempt:?} {outcome:?} {code:?} -> {state} {next:?}"
        );
    }
    story
}

/// How often a saga's history has this outcome of a step.
#[must_use]
pub fn times(saga: &SagaView, step: &StepName, kind: StepKind, outcome: Outcome) -> usize {
    let fits = |moment: &&Moment| {
        moment.step.as_ref() == Some(step)
            && moment.kind == Some(kind)
            && moment.outcome == Some(outcome)
    };
    saga.timeline.iter().filter(fits).count()
}
