//! The kit with two toy steps against real servers.

mod corrected;
mod lanes;
mod local;
mod outside;

use super::{Claim, LocalStep, OutsideStep, Verdict};
use crate::{Error, fixture::Shop, ledger::Ledger};
use chrono::{DateTime, Utc};
use contract::{Command, Reply, SagaId, StepKind, StepName};
use database::Connection;
use diesel::sql_types::Uuid as SqlUuid;
use diesel_async::RunQueryDsl;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Notify, Semaphore};

fn toy() -> StepName {
    "toy".parse().expect("a name")
}

fn ask(saga: SagaId, kind: StepKind) -> Command {
    super::testing::command(&toy(), saga, kind)
}

fn told(saga: SagaId, kind: StepKind, input: &str) -> Command {
    Command {
        input: Some(json!(input)),
        ..ask(saga, kind)
    }
}

fn code(reply: &Reply) -> &str {
    reply.error.as_ref().map_or("", |error| &error.code)
}

/// A database with the local toy's table: a row is its effect.
async fn shop() -> Shop {
    let shop = Shop::open().await;
    shop.run("CREATE TABLE toys (saga_id uuid PRIMARY KEY, acts int NOT NULL CHECK (acts = 1))")
        .await;
    shop
}

async fn toys(shop: &Shop) -> i64 {
    shop.number("SELECT count(*) FROM toys").await
}

/// A local step that does what the command's input says.
#[derive(Clone, Default)]
struct Toy {
    /// `stop`: says that it is there, and stays there for ever.
    stopped: Arc<Notify>,
    /// `hang up`: has the server cut the connection, the first time.
    hung_up: Arc<AtomicBool>,
}

impl LocalStep for Toy {
    fn name(&self) -> StepName {
        toy()
    }

    async fn act(
        &self,
        connection: &mut Connection,
        claims: &[Claim],
        _: DateTime<Utc>,
    ) -> Result<Vec<Verdict>, Error> {
        let mut verdicts = Vec::new();
        for claim in claims {
            let input = claim
                .command
                .input
                .as_ref()
                .and_then(Value::as_str)
                .unwrap_or("");
            let resumed = claim.output().is_some();
            let sql = match input {
                "poison" => "INSERT INTO toys VALUES ($1, 13)",
                "hang up" if !self.hung_up.swap(true, Ordering::Relaxed) => {
                    "SELECT $1, pg_terminate_backend(pg_backend_pid())"
                }
                "refuse" | "retry" | "panic" => "SELECT $1",
                _ if resumed => "SELECT $1",
                _ => "INSERT INTO toys VALUES ($1, 1)",
            };
            let query = diesel::sql_query(sql).bind::<SqlUuid, _>(claim.saga_id().0);
            query.execute(connection).await?;
            if input == "stop" {
                self.stopped.notify_one();
                std::future::pending::<()>().await;
            }
            assert!(input != "panic", "as told");
            verdicts.push(match input {
                "refuse" => Verdict::rejected("refused", "As told."),
                "retry" => Verdict::retry("later", "As told."),
                "wait" if !resumed => Verdict::Waiting(json!({"review": 1})),
                "miscount" => continue,
                _ => Verdict::Done(Some(json!({"toy": claim.saga_id()}))),
            });
        }
        Ok(verdicts)
    }

    async fn undo(
        &self,
        connection: &mut Connection,
        claims: &[Claim],
        _: DateTime<Utc>,
    ) -> Result<Vec<Verdict>, Error> {
        let mut verdicts = Vec::new();
        for claim in claims {
            assert!(claim.output().is_some(), "an undo knows what was done");
            if claim.command.input == Some(json!("refuse")) {
                verdicts.push(Verdict::rejected("disputed", "As told."));
                continue;
            }
            let gone = diesel::sql_query("DELETE FROM toys WHERE saga_id = $1")
                .bind::<SqlUuid, _>(claim.saga_id().0)
                .execute(connection)
                .await?;
            assert_eq!(gone, 1, "an effect is undone once");
            verdicts.push(Verdict::done());
        }
        Ok(verdicts)
    }
}

/// How a thing outside stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Thing {
    Created,
    Confirmed,
    Cancelled,
}

/// The outside: things by id, with the fence that a cancelled thing is never confirmed.
#[derive(Default)]
struct World {
    things: Mutex<HashMap<String, Thing>>,
    confirms: Mutex<u32>,
}

impl World {
    fn thing(&self, saga: SagaId) -> Option<Thing> {
        self.things
            .lock()
            .expect("unpoisoned")
            .get(&saga.to_string())
            .copied()
    }

    fn confirms(&self) -> u32 {
        *self.confirms.lock().expect("unpoisoned")
    }
}

/// An outside step: creates a thing, stores its id, confirms it. It halts where it is told to.
#[derive(Clone)]
struct Maker {
    world: Arc<World>,
    /// Effects that got to their halt.
    reached: Arc<Semaphore>,
    /// Permits to go on from there.
    go: Arc<Semaphore>,
}

impl Maker {
    fn new() -> Self {
        Self {
            world: Arc::default(),
            reached: Arc::new(Semaphore::new(0)),
            go: Arc::new(Semaphore::new(0)),
        }
    }

    async fn halt(&self, claim: &Claim, place: &str) {
        if claim.command.input == Some(json!(place)) {
            self.reached.add_permits(1);
            self.go.acquire().await.expect("open").forget();
        }
    }

    /// Waits until so many effects have got to their halt.
    async fn reached(&self, count: u32) {
        let all = tokio::time::timeout(Duration::from_secs(20), self.reached.acquire_many(count));
        all.await.expect("they get there").expect("open").forget();
    }
}

impl OutsideStep for Maker {
    type Input = ();

    fn name(&self) -> StepName {
        toy()
    }

    async fn load(
        &self,
        _: &mut Connection,
        claims: &[Claim],
    ) -> Result<HashMap<SagaId, ()>, Error> {
        let known = |claim: &&Claim| claim.command.input != Some(json!("no input"));
        Ok(claims
            .iter()
            .filter(known)
            .map(|claim| (claim.saga_id(), ()))
            .collect())
    }

    async fn act(&self, claim: &Claim, (): &(), ledger: &Ledger) -> Result<Verdict, Error> {
        match claim.command.input.as_ref().and_then(Value::as_str) {
            Some("panic") => panic!("as told"),
            Some("fail") => return Err(Error::Outside("as told".to_owned())),
            Some("refuse") => return Ok(Verdict::rejected("declined", "As told.")),
            Some("refuse late") => {
                self.halt(claim, "refuse late").await;
                return Ok(Verdict::rejected("declined", "As told."));
            }
            _ => {}
        }
        self.halt(claim, "before").await;
        let id = claim
            .outside_id()
            .map_or_else(|| claim.saga_id().to_string(), str::to_owned);
        let create = |mut things: std::sync::MutexGuard<'_, HashMap<String, Thing>>| {
            things.entry(id.clone()).or_insert(Thing::Created);
        };
        create(self.world.things.lock().expect("unpoisoned"));
        if !ledger.store_outside_id(claim, &id).await? {
            self.world
                .things
                .lock()
                .expect("unpoisoned")
                .insert(id, Thing::Cancelled);
            return Ok(Verdict::rejected("overtaken", "An undo was there."));
        }
        self.halt(claim, "between").await;
        let confirmed = {
            let mut things = self.world.things.lock().expect("unpoisoned");
            match things.get_mut(&id) {
                Some(thing @ Thing::Created) => {
                    *thing = Thing::Confirmed;
                    *self.world.confirms.lock().expect("unpoisoned") += 1;
                    true
                }
                Some(Thing::Confirmed) => true,
                Some(Thing::Cancelled) | None => false,
            }
        };
        self.halt(claim, "after").await;
        Ok(if confirmed {
            Verdict::Done(Some(json!({"id": id})))
        } else {
            Verdict::rejected("cancelled", "It was cancelled outside.")
        })
    }

    async fn undo(&self, claim: &Claim, (): &(), _: &Ledger) -> Result<Verdict, Error> {
        let id = claim
            .outside_id()
            .expect("an undo has something to undo")
            .to_owned();
        self.world
            .things
            .lock()
            .expect("unpoisoned")
            .insert(id, Thing::Cancelled);
        Ok(Verdict::done())
    }

    async fn probe(&self, claim: &Claim, (): &(), _: &Ledger) -> Result<Verdict, Error> {
        Ok(match self.world.thing(claim.saga_id()) {
            Some(Thing::Confirmed) => Verdict::Done(Some(json!({"id": claim.outside_id()}))),
            Some(Thing::Cancelled) => Verdict::rejected("cancelled", "It was cancelled outside."),
            Some(Thing::Created) | None => Verdict::unknown("open", "Not confirmed yet."),
        })
    }
}
