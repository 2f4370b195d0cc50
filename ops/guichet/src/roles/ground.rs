//! What the roles that do the work stand on: the database, its clock and its life, and the bus.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bus::Bus;
use contract::Incarnation;
use database::{Clock, Connection, Life, Other, Pool};
use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl;
use runtime::health::Check;
use tokio::{
    select,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::Process;
use crate::config::Config;

/// The pause before an absent database is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often the pool is looked at. That costs no statement: a connection whose other end is gone shows
/// it, and another one is opened then, or cannot be.
const LOOK: Duration = Duration::from_secs(2);
/// Looks for each that asks something, because a server that hangs closes nothing, and one that was brought
/// back to an earlier point is another life. Few, for an idle installation shall be one.
const ASK_LOOKS: u32 = 5;
/// How long the answer may take.
const ANSWER: Duration = Duration::from_secs(3);
/// How long the bus may take to close, beyond its own deadline.
const CLOSING: Duration = Duration::from_secs(10);
/// Characters of the host's name in a node's name.
const HOSTNAME_MAX_CHARS: usize = 40;

/// The database and the bus of one process.
pub(crate) struct Ground {
    /// The life of the database that every connection is to.
    pub(crate) life: Life,
    /// Connections.
    pub(crate) pool: Pool,
    /// The broker.
    pub(crate) bus: Bus,
    /// This life of the database.
    pub(crate) incarnation: Incarnation,
    /// The database's clock.
    pub(crate) clock: Clock,
    /// This process's name among those of its role.
    pub(crate) node: String,
    bus_stop: CancellationToken,
}

impl Ground {
    /// Waits for the database, reached as `database` says, for as long as it takes, and begins to connect to the
    /// broker.
    /// `None` if a stop was asked for meanwhile.
    pub(crate) async fn open(
        process: &Process,
        config: &Config,
        database: &database::Config,
    ) -> Result<Option<Self>> {
        let role = process.role;
        let life = Life::default();
        let pool =
            database::pool_of(database, &life).context("cannot make the pool of connections")?;
        let check = process.readiness.check("database");
        let (incarnation, now_ms) = loop {
            match look(&pool).await {
                Ok(found) => break found,
                Err(error) => {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "the database cannot be reached; trying again"
                    );
                    check.not_ready(format!("{error:#}"));
                }
            }
            select! {
                () = sleep(AGAIN) => {}
                () = process.shutdown.cancelled() => return Ok(None),
            }
        };
        check.ready();
        life.begin(incarnation.0);
        let mut amqp = config.amqp.clone();
        // Two processes of one role under one name would take each other's leases, so the default
        // is a name that differs.
        if amqp.node == bus::Config::default().node {
            amqp.node = format!("{role}-{}", hostname()?);
        }
        let node = amqp.node.clone();
        // It outlives the role's own stop, for what is then still published.
        let bus_stop = CancellationToken::new();
        let bus = Bus::start(amqp, incarnation, bus_stop.clone());
        watch(process, &bus, &bus_stop);
        let watched = watch_database(check, pool.clone(), life.clone());
        tokio::spawn(process.shutdown.clone().run_until_cancelled_owned(watched));
        let (stop, goes_on) = (process.shutdown.clone(), life.clone());
        process.tasks.spawn("incarnation", async move {
            match stop
                .run_until_cancelled_owned(async { goes_on.over().await })
                .await
            {
                None => Ok(()),
                Some(other) => Err(ended_by(other, incarnation)),
            }
        });
        Ok(Some(Self {
            life,
            pool,
            bus,
            incarnation,
            clock: Clock::new(now_ms),
            node,
            bus_stop,
        }))
    }

    /// Waits for the end of the role, then closes the bus. What was begun in an earlier life of the database is
    /// not finished.
    pub(crate) async fn finish(self, process: Process, drain: Duration) -> Result<()> {
        process.shutdown.cancelled().await;
        let drain = match self.life.is_over() {
            true => Duration::ZERO,
            false => drain,
        };
        let ended = process.finish(drain).await;
        self.bus_stop.cancel();
        if timeout(CLOSING, self.bus.stopped()).await.is_err() {
            tracing::warn!("the bus did not close in time");
        }
        ended
    }
}

/// Keeps the readiness in step with the session.
fn watch(process: &Process, bus: &Bus, stop: &CancellationToken) {
    let check = process.readiness.check("bus");
    let (mut state, stop) = (bus.state(), stop.clone());
    tokio::spawn(async move {
        loop {
            let now = state.borrow_and_update().clone();
            match (now.connected, now.blocked) {
                (true, false) => check.ready(),
                (true, true) => check.not_ready("the broker takes no messages"),
                (false, _) => check.not_ready(now.problem.unwrap_or_else(|| "no session".into())),
            }
            select! {
                changed = state.changed() => if changed.is_err() { return },
                () = stop.cancelled() => return,
            }
        }
    });
}

/// What a process remembers (sagas, leases, what it is about to write) is of the life of the database that it
/// began in, so it ends, and whoever started it starts it again.
fn ended_by(other: Other, began_in: Incarnation) -> anyhow::Error {
    let other = match other {
        Other::Number(number) => format!("in another life ({})", Incarnation(number)),
        Other::Place => {
            "elsewhere since it was restored or failed over, which is another life".to_owned()
        }
    };
    anyhow!("the database is {other}: what this process remembers is of {began_in}")
}

/// Keeps the readiness in step with the database, both ways, and looks whether its life goes on.
async fn watch_database(check: Check, pool: Pool, life: Life) {
    let (mut well, mut look) = (true, 0_u32);
    loop {
        sleep(LOOK).await;
        look = look.wrapping_add(1);
        let asked = !well || look.is_multiple_of(ASK_LOOKS);
        let looked = match asked {
            true => ask(&pool, &life).await,
            false => match pool.get().await {
                Ok(_) => Ok(()),
                Err(error) => Err(error).context("cannot connect"),
            },
        };
        well = looked.is_ok();
        match looked {
            Ok(()) => check.ready(),
            Err(error) => check.not_ready(format!("{error:#}")),
        }
    }
}

async fn ask(pool: &Pool, life: &Life) -> Result<()> {
    let mut connection = pool.get().await.context("cannot connect")?;
    timeout(ANSWER, life.look(&mut connection))
        .await
        .context("no answer in time")?
        .context("no answer")
}

#[derive(diesel::QueryableByName)]
struct Now {
    #[diesel(sql_type = BigInt)]
    now_ms: i64,
}

async fn look(pool: &Pool) -> Result<(Incarnation, i64)> {
    let mut connection = pool.get().await.context("cannot connect")?;
    let number = database::incarnation(&mut connection)
        .await
        .context("cannot tell which database this is")?;
    Ok((Incarnation(number), now(&mut connection).await?))
}

async fn now(connection: &mut Connection) -> Result<i64> {
    let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms";
    let now: Now = diesel::sql_query(sql)
        .get_result(connection)
        .await
        .context("cannot read the database's clock")?;
    Ok(now.now_ms)
}

/// The host's name with what a node's name may not hold left out.
fn hostname() -> Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .context("cannot read the host's name; set amqp.node")?;
    let clean: String = name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || ".-_".contains(*c))
        .take(HOSTNAME_MAX_CHARS)
        .collect();
    if clean.is_empty() {
        bail!("the host has no usable name; set amqp.node");
    }
    Ok(clean)
}
