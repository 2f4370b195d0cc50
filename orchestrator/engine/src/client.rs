//! What a service that starts sagas holds: the gateway.

use crate::{
    Error, NewSaga, Started, Told, command::Sender, definitions::Definitions, metrics::METRICS,
    start, trace,
};
use bus::Bus;
use contract::{
    Event, MessageId, SagaId, Signal,
    crash::{self, Gateway, Point},
};
use database::{Clock, Connection, Pool};
use diesel_async::RunQueryDsl;
use saga::{Definition, Now};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};
use tokio::sync::{Semaphore, mpsc};

/// Batches whose first commands are on their way at once. A bus that takes them this slowly is helped
/// by those who come later leaving it to the owners.
const SENDING_MAX: usize = 64;

/// Starts sagas and tells what happens to them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    bus: Bus,
    definition: Arc<Definition>,
    shards: i16,
    clock: Clock,
    seed: AtomicU64,
    sending: Semaphore,
}

/// The client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The database or its definitions are not as they must be.
    #[error(transparent)]
    Engine(#[from] Error),
    /// There is no definition with this number in this program.
    #[error("this program has no definition number {0}")]
    NoDefinition(i16),
}

impl Client {
    /// A client that starts sagas of one definition, after checking that the database has it.
    ///
    /// # Errors
    /// The database cannot be reached or has other definitions.
    pub async fn new(
        pool: &Pool,
        bus: Bus,
        definitions: &Definitions,
        definition: i16,
    ) -> Result<Self, ClientError> {
        let found = definitions
            .get(definition)
            .ok_or(ClientError::NoDefinition(definition))?;
        let mut connection = pool.get().await.map_err(Error::from)?;
        crate::definitions::check(&mut connection, definitions).await?;
        let (shards, now_ms) = shards(&mut connection).await?;
        bus.declare_steps(
            &found
                .steps
                .iter()
                .map(|step| step.name.clone())
                .collect::<Vec<_>>(),
        );
        let inner = Inner {
            bus,
            definition: Arc::clone(found),
            shards,
            clock: Clock::new(now_ms),
            seed: AtomicU64::new(rand::random()),
            sending: Semaphore::new(SENDING_MAX),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Inserts sagas in the caller's transaction. Once it is committed, hand the result to
    /// [`Self::send_first`].
    ///
    /// # Errors
    /// The statement fails.
    pub async fn start(
        &self,
        connection: &mut Connection,
        new: &[NewSaga],
    ) -> Result<Started, Error> {
        let inner = &self.inner;
        let seed = inner.seed.fetch_add(1, Ordering::Relaxed);
        let now = Now::new(inner.clock.now_ms(), seed);
        let asked = Instant::now();
        let started = start(connection, &inner.definition, new, inner.shards, now).await?;
        inner.clock.observe(asked, started.database_now_ms());
        Ok(started)
    }

    /// Sends the first commands. That may fail without harm: the owner of the shard finds the sagas
    /// and sends their commands again in time.
    pub async fn send_first(&self, started: Started) {
        let inner = &self.inner;
        let Ok(_permit) = inner.sending.try_acquire() else {
            let sagas = started.sagas.len();
            METRICS.unpublished.inc_by(sagas as u64);
            tracing::warn!(
                sagas,
                "the bus is slow; these sagas' owners send their first commands"
            );
            return;
        };
        let mut commands = Vec::new();
        let mut nudges: HashMap<i16, Vec<Signal>> = HashMap::new();
        for saga in started.sagas {
            let Some(reply_to) = saga.reply_to else {
                let signal = self.signal(saga.instance.id, saga.instance.trace_id);
                nudges.entry(saga.shard).or_default().push(signal);
                continue;
            };
            let sender = Sender {
                reply_to,
                incarnation: inner.bus.incarnation(),
                now_ms: inner.clock.now_ms(),
            };
            let command = saga
                .send
                .and_then(|send| sender.command(&inner.definition, &saga.instance, send));
            commands.extend(command);
        }
        for (shard, signals) in nudges {
            inner.bus.nudge(shard, signals);
        }
        let about: Vec<_> = commands
            .iter()
            .map(|c| (c.saga_id, c.traceparent))
            .collect();
        crash::at(Point::Gateway(Gateway::BeforeFirstCommand));
        let results = inner.bus.publish_commands(commands).await;
        crash::at(Point::Gateway(Gateway::AfterFirstCommand));
        for ((saga_id, trace), result) in about.into_iter().zip(results) {
            if let Err(error) = result {
                METRICS.unpublished.inc();
                tracing::warn!(
                    %saga_id,
                    trace_id = %trace.trace_id(),
                    %error,
                    "a saga's first command was not published; its owner sends it"
                );
            }
        }
    }

    /// Has the owners of sagas look at what they were told, now rather than within seconds. That may
    /// fail without harm.
    pub fn nudge(&self, told: impl IntoIterator<Item = Told>) {
        let mut nudges: HashMap<i16, Vec<Signal>> = HashMap::new();
        for told in told {
            let signal = self.signal(told.saga, told.trace_id);
            nudges.entry(told.shard).or_default().push(signal);
        }
        for (shard, signals) in nudges {
            self.inner.bus.nudge(shard, signals);
        }
    }

    fn signal(&self, saga_id: SagaId, trace_id: u128) -> Signal {
        let id = MessageId::new();
        Signal {
            id,
            saga_id,
            incarnation: self.inner.bus.incarnation(),
            traceparent: Some(trace::parent(trace_id, id)),
        }
    }

    /// What happens to all sagas from now on. Nudges: some may be missing.
    #[must_use]
    pub fn events(&self) -> mpsc::Receiver<Event> {
        self.inner.bus.consume_events()
    }

    /// Whether commands can be published at the moment.
    #[must_use]
    pub fn can_publish(&self) -> bool {
        let state = self.inner.bus.state();
        let state = state.borrow();
        state.connected && !state.blocked
    }

    /// The definition that new sagas run by.
    #[must_use]
    pub fn definition(&self) -> &Definition {
        &self.inner.definition
    }

    /// The database's time as this process knows it.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }
}

/// What a step needs outside has been away for so long when no new sagas are taken any more: much less
/// than a saga may take, so that what was taken can still be done.
pub const AWAY_MS: i64 = 30_000;

database::statement! {
    /// The step that has been away for so long at one of the owners, if there is one; and whether a
    /// definition is withdrawn.
    struct ReadClosed {
        ms: i64 => diesel::sql_types::BigInt,
        definition: i16 => diesel::sql_types::SmallInt,
    } -> (diesel::sql_types::Nullable<diesel::sql_types::Text>, diesel::sql_types::Bool) =
    "SELECT (SELECT st.name FROM shards s JOIN steps st ON st.number = s.away_step
             WHERE s.lease_until > clock_timestamp()
               AND s.away_since < clock_timestamp() - {ms} * interval '1 ms'
             ORDER BY s.away_since LIMIT 1),
            EXISTS (SELECT FROM withdrawals WHERE definition = {definition})"
}

/// Why no new sagas are to be started at the moment, if for any reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// The step before the pivot to which nothing could be sent for [`AWAY_MS`], because what it needs
    /// outside is away; what is started now would only wait with the others.
    pub away: Option<String>,
    /// The definition that new sagas run by is withdrawn: what is started now would only be ended.
    pub withdrawn: bool,
}

impl Client {
    /// Asks whether new sagas are to be started.
    ///
    /// # Errors
    /// The database fails.
    pub async fn closed(&self, connection: &mut Connection) -> Result<Closed, Error> {
        let read = ReadClosed {
            ms: AWAY_MS,
            definition: self.inner.definition.id,
        };
        let (away, withdrawn) = read.get_result(connection).await?;
        Ok(Closed { away, withdrawn })
    }
}

database::statement! {
    /// The number of shards and the database's time.
    struct CountShards {} -> (diesel::sql_types::BigInt, diesel::sql_types::BigInt) =
    "SELECT count(*), (extract(epoch FROM clock_timestamp()) * 1000)::bigint FROM shards"
}

pub(crate) async fn shards(connection: &mut Connection) -> Result<(i16, i64), Error> {
    let (shards, now_ms): (i64, i64) = CountShards {}.get_result(connection).await?;
    Ok((i16::try_from(shards).unwrap_or(i16::MAX), now_ms))
}
