//! One run of one fault: customers come, the fault happens and ends, it is measured how soon somebody is
//! sold a ticket again, everything comes to rest, and the checker judges.

use crate::{
    customers::{Customers, Placed, Shop, shown},
    fault::Fault,
    meddler::Meddler,
    role::Kind,
    stage::{NAMESPACE, Stage, named},
    story::{Slowest, slowest},
};
use anyhow::{Context, Result};
use checker::{
    Evidence, Excused, Violation, collect,
    evidence::{Mail, Parked},
    judge,
};
use contract::{StepKind, StepName, Topology};
use lapin::{options::QueueDeclareOptions, types::FieldTable};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tests::{simulation::rng::Rng, world::tap::Tap};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

/// How long everything may take to come to rest after the fault's end before what has not is told.
pub(crate) const REST_WITHIN: Duration = Duration::from_secs(180);
/// The same after a fault of minutes: orders that wait for its end have their whole time before them.
const REST_AFTER_LONG: Duration = Duration::from_secs(1_200);
/// While nobody has been sold a ticket yet another one comes so often,
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// as long as no more than so many wait for theirs.
const LOOKS_MAX: usize = 20;
/// How long a customer who has to authenticate his payment waits to be asked, beside the fault's time.
const STAYS: Duration = Duration::from_secs(120);
/// When a recovery is not waited for any more; the limit that it is judged by is shorter.
const RECOVERY_GIVEN_UP: Duration = Duration::from_secs(60);

/// What all runs have in common.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) rate_per_s: u32,
    pub(crate) lasting: Duration,
}

/// A run while it lasts.
pub(crate) struct Run {
    pub(crate) stage: Stage,
    pub(crate) rng: Rng,
    pub(crate) customers: Customers,
    pub(crate) load: Load,
    /// Whatever a fault has to keep until it is healed, such as tasks.
    pub(crate) kept: Vec<Box<dyn Send>>,
    /// What a fault has seen of itself while it was brought about.
    pub(crate) note: String,
    /// A counter of the roles before the fault.
    pub(crate) counted_before: u64,
    /// Orders sold before the fault.
    pub(crate) sold_before: i64,
    pub(crate) meddler: Option<Meddler>,
    pub(crate) tap: Option<Tap>,
}

/// What came of it.
pub(crate) struct Outcome {
    /// What was seen of the fault.
    pub(crate) seen: String,
    pub(crate) slowest: Option<Slowest>,
    pub(crate) recovery: Option<Duration>,
    /// How much of that it took until somebody was sold a ticket.
    pub(crate) sold: Option<Duration>,
    pub(crate) rest: Option<Duration>,
    pub(crate) violations: Vec<Violation>,
    pub(crate) orders: usize,
}

impl Run {
    pub(crate) async fn prepare(
        stage: Stage,
        seed: u64,
        load: Load,
        fault: &Fault,
    ) -> Result<Self> {
        let stays = STAYS + fault.lasts.unwrap_or_default();
        let journal = Arc::clone(&stage.journal);
        let shop = Arc::new(Shop::at(&stage.gateways, journal, stays)?);
        let on_sale = shop.on_sale().await?;
        let customers = Customers::new(shop, on_sale);
        Ok(Self {
            stage,
            rng: Rng::new(seed),
            customers,
            load,
            kept: Vec::new(),
            note: String::new(),
            counted_before: 0,
            sold_before: 0,
            meddler: None,
            tap: None,
        })
    }

    /// Holds a fault: a part of the time for which customers come, longer or shorter by chance.
    pub(crate) fn hold(&mut self) -> Duration {
        self.load
            .lasting
            .mul_f64(0.3 + self.rng.range(0, 20) as f64 / 100.0)
    }

    /// Plays the fault.
    pub(crate) async fn play(&mut self, fault: &Fault) -> Result<Outcome> {
        let reviewer = tokio::spawn(crate::reviewer::review(
            self.stage.binary.clone(),
            self.stage.root.clone(),
            named(&[
                ("DATABASE_URL", self.stage.operators_url()),
                ("AMQP_URL", self.stage.rabbitmq.url()),
            ]),
        ));
        // Whether nothing is or was wrong; then nothing may be sent twice.
        let calm = fault.name == crate::catalogue::CALM && !self.stage.touched;
        self.stage.touched = true;
        for role in &mut self.stage.roles {
            role.forget_end();
        }
        let lasting = self.load.lasting + fault.lasts.unwrap_or_default();
        self.customers
            .come(&mut self.rng, self.load.rate_per_s, lasting);
        sleep(
            self.load
                .lasting
                .mul_f64(0.15 + self.rng.range(0, 15) as f64 / 100.0),
        )
        .await;
        (fault.inject)(self)
            .await
            .context("the fault cannot be brought about")?;
        let hold = fault.lasts.unwrap_or_else(|| self.hold());
        sleep(hold).await;
        let seen = (fault.seen)(self).await;
        (fault.heal)(self)
            .await
            .context("the fault cannot be ended")?;
        self.kept.clear();
        let healed = Instant::now();
        let healed_at_ms = now_ms();
        let (recovery, sold, mut placed) = self.recovered(healed).await;
        placed.extend(self.customers.leave().await);
        let within = match fault.lasts {
            Some(_) => REST_AFTER_LONG,
            None => REST_WITHIN,
        };
        let rest = self.rest(healed, within).await;
        let unready = self.unready().await;
        reviewer.abort();
        let shown = shown(&self.customers.shop, &placed).await;
        let evidence = Evidence {
            healed_at_ms,
            shown,
            // What lasts for minutes lasts longer than an order may take. Nothing leads to a person.
            excused: Excused {
                late: fault.lasts.is_some(),
                ..Excused::default()
            },
            ..self.evidence(calm).await?
        };
        let mut violations = judge(&evidence);
        let seen = seen.unwrap_or_else(|error| {
            violations.push(Violation {
                promise: "a fault takes effect",
                subject: fault.name.to_owned(),
                detail: format!("{error:#}"),
            });
            "nothing".to_owned()
        });
        for name in unready {
            violations.push(Violation {
                promise: "every process answers",
                subject: name,
                detail: "it is not ready".to_owned(),
            });
        }
        Ok(Outcome {
            seen,
            slowest: slowest(&evidence),
            recovery,
            sold,
            rest,
            violations,
            orders: placed.len(),
        })
    }

    /// How long it takes until every process is ready and somebody who came after the fault's end has his
    /// ticket confirmed.
    async fn recovered(
        &mut self,
        healed: Instant,
    ) -> (Option<Duration>, Option<Duration>, Vec<Placed>) {
        let (mut placed, mut sold) = (Vec::new(), None);
        let mut looks = JoinSet::new();
        let mut next_look = Instant::now();
        let recovery = loop {
            if sold.is_none() && Instant::now() >= next_look && looks.len() < LOOKS_MAX {
                looks.spawn(self.customers.look(RECOVERY_GIVEN_UP));
                next_look = Instant::now() + LOOK_EVERY;
            }
            while let Some(look) = looks.try_join_next() {
                if let Some((one, confirmed)) = look.ok().flatten() {
                    placed.push(one);
                    if confirmed {
                        sold.get_or_insert(healed.elapsed());
                    }
                }
            }
            if sold.is_some() && self.stage.is_ready().await {
                break Some(healed.elapsed());
            }
            if healed.elapsed() > RECOVERY_GIVEN_UP {
                break None;
            }
            sleep(Duration::from_millis(50)).await;
        };
        while let Some(look) = looks.join_next().await {
            placed.extend(look.ok().flatten().map(|(one, _)| one));
        }
        (recovery, sold, placed)
    }

    /// How long it takes until every accepted order has ended or is before a person.
    async fn rest(&self, healed: Instant, within: Duration) -> Option<Duration> {
        while healed.elapsed() < within {
            let restless = match self.stage.reader().await {
                Ok(reader) => reader.restless().await.map_or(i64::MAX, |(count, _)| count),
                Err(_) => i64::MAX,
            };
            if restless == 0 {
                return Some(healed.elapsed());
            }
            sleep(Duration::from_millis(200)).await;
        }
        None
    }

    /// Processes that do not answer, and those that ended without being asked to.
    async fn unready(&mut self) -> Vec<String> {
        let mut unready = Vec::new();
        for role in &mut self.stage.roles {
            let ended = role.ended();
            if ended.is_some() || !role.is_wanted() || !role.is_ready().await {
                unready.push(format!("{} ({ended:?})", role.name));
            }
        }
        unready
    }

    async fn evidence(&mut self, calm: bool) -> Result<Evidence> {
        let topology = Topology::new(NAMESPACE);
        let mails = self.stage.mail.mails().into_iter().flat_map(|mail| {
            let id = mail.header("Message-ID").unwrap_or_default();
            let to = mail.to.into_iter();
            to.map(move |to| Mail {
                to,
                message_id: id.clone(),
            })
            .collect::<Vec<_>>()
        });
        let journal = self
            .stage
            .journal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut resent = 0;
        for role in self.stage.of(Kind::Orchestrator) {
            resent += role.counted("guichet_saga_resends_total").await;
        }
        Ok(Evidence {
            mails: mails.collect(),
            journal,
            ledger: collect::ledger(&self.stage.provider).await?,
            books: self.stage.reader().await?.books().await?,
            queues: self.queues(&topology).await?,
            parked: Parked {
                queue: topology.parked_queue(),
                sent: self.stage.garbage,
            },
            calm: calm.then_some(resent),
            ..Evidence::default()
        })
    }

    /// Messages ready in each queue, once they had time to be acknowledged.
    async fn queues(&self, topology: &Topology) -> Result<BTreeMap<String, u64>> {
        let connection = self.stage.rabbitmq.connect().await?;
        let mut names = vec![topology.parked_queue()];
        for step in StepName::OF_AN_ORDER {
            names.extend(
                [StepKind::Do, StepKind::Undo].map(|kind| topology.command_queue(&step, kind)),
            );
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let mut queues = BTreeMap::new();
            for name in &names {
                let channel = connection.create_channel().await?;
                let options = QueueDeclareOptions {
                    passive: true,
                    ..QueueDeclareOptions::default()
                };
                let queue = channel
                    .queue_declare(name.as_str().into(), options, FieldTable::default())
                    .await;
                // A queue that is not there holds nothing.
                let count = queue.map_or(0, |queue| queue.message_count());
                queues.insert(name.clone(), u64::from(count));
            }
            let others = queues
                .iter()
                .filter(|(name, _)| **name != topology.parked_queue());
            let waiting: u64 = others.map(|(_, count)| count).sum();
            if waiting == 0 || Instant::now() > deadline {
                // A connection that is gone is closed, too.
                let _ = connection.close(200, "bye".into()).await;
                return Ok(queues);
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

pub(crate) fn now_ms() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or_default()
}
