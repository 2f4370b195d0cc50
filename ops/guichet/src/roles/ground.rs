//! What the roles that do the work stand on: the database, its clock and its life, and the bus.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bus::Bus;
use contract::Incarnation;
use database::{Clock, Connection, Pool};
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
    /// Waits for the database, for as long as it takes, and begins to connect to the broker.
    /// `None` if a stop was asked for meanwhile.
    pub(crate) async fn open(process: &Process, config: &Config) -> Result<Option<Self>> {
        let role = process.role;
        let pool = database::pool(&config.database.named(role))
            .context("cannot make the pool of connections")?;
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
        let watched = watch_database(check, pool.clone(), incarnation);
        let stop = process.shutdown.clone();
        process.tasks.spawn("incarnation", async move {
            match stop.run_until_cancelled_owned(watched).await {
                None => Ok(()),
                Some(other) => Err(anyhow!(
                    "the database is in another life ({other}): what this process remembers is of {incarnation}"
                )),
            }
        });
        Ok(Some(Self {
            pool,
            bus,
            incarnation,
            clock: Clock::new(now_ms),
            node,
            bus_stop,
        }))
    }

    /// Waits for the end of the role, then closes the bus.
    pub(crate) async fn finish(self, process: Process, drain: Duration) -> Result<()> {
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

/// Keeps the readiness in step with the database, both ways. Returns when the database is in another life,
/// and says in which: what a process remembers (sagas, leases, what it is about to write) is of the one that
/// it began in, so it ends, and whoever started it starts it again.
async fn watch_database(check: Check, pool: Pool, began_in: Incarnation) -> Incarnation {
    let (mut well, mut look) = (true, 0_u32);
    loop {
        sleep(LOOK).await;
        look = look.wrapping_add(1);
        let asked = !well || look.is_multiple_of(ASK_LOOKS);
        let looked = match asked {
            true => ask(&pool).await,
            false => match pool.get().await {
                Ok(_) => Ok(began_in),
                Err(error) => Err(error).context("cannot connect"),
            },
        };
        well = looked.is_ok();
        match looked {
            Ok(found) if found != began_in => return found,
            Ok(_) => check.ready(),
            Err(error) => check.not_ready(format!("{error:#}")),
        }
    }
}

async fn ask(pool: &Pool) -> Result<Incarnation> {
    let mut connection = pool.get().await.context("cannot connect")?;
    let number = timeout(ANSWER, database::present_incarnation(&mut connection))
        .await
        .context("no answer in time")?
        .context("no answer")?;
    number
        .map(Incarnation)
        .context("the database has no incarnation")
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
