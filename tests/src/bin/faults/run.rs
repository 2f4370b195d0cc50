//! One run of one fault: customers come, the fault happens and ends, it is measured how soon somebody is
//! sold a ticket again, everything comes to rest, and the checker judges.

use crate::{
    clerks::attend,
    customers::{Customers, Placed, Shop, shown},
    fault::Fault,
    meddler::Meddler,
    operator::{Desk, operate},
    rest::rest,
    role::Kind,
    served::unserved,
    stage::{NAMESPACE, Stage, named},
    story::{Slowest, slowest},
    supervisor::{Supervisor, all_there, beside, look},
};
use anyhow::{Context, Result};
use checker::{
    Evidence, Excused, Reached, Violation, books::Saga, evidence::Mail, journal::Entry, judge,
};
use contract::Topology;
use std::{
    collections::BTreeSet,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tests::{
    simulation::rng::Rng,
    world::{
        evidence::{collected, now_ms},
        tap::Tap,
    },
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::task::AbortOnDropHandle;

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
/// How long a customer tries to be heard, beside the time for which customers come: a fault is a part of that, so
/// it leaves everybody time to be served, unless it lasts for minutes.
const PERSISTS: Duration = Duration::from_secs(60);
/// When a recovery is not waited for any more; the limit that it is judged by is shorter.
const RECOVERY_GIVEN_UP: Duration = Duration::from_secs(60);

/// The shortest time for which a step is tried; a fault that is held for longer is felt by orders.
const STEPS_TRY: Duration = Duration::from_secs(25);

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
    /// When it ended, if that was before all that has to be done about it.
    pub(crate) healed: Option<(Instant, i64)>,
    /// Whatever a fault has to keep until it is healed, such as tasks.
    pub(crate) kept: Vec<Box<dyn Send>>,
    /// What a fault has seen of itself while it was brought about.
    pub(crate) note: String,
    /// A counter of the roles before the fault.
    pub(crate) counted_before: u64,
    /// Commands sent again before the fault.
    pub(crate) resent_before: u64,
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
    pub(crate) persons: Persons,
    /// Whether it left behind what only its fault excuses, and would be held against the next.
    pub(crate) stained: bool,
    /// What sagas have met.
    pub(crate) reached: BTreeSet<Reached>,
}

/// How many orders stand before a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Persons {
    pub(crate) held: usize,
    pub(crate) asking: usize,
}

impl Persons {
    fn of(evidence: &Evidence) -> Self {
        let count = |is: fn(&Saga) -> bool| {
            let sagas = evidence.books.sagas.iter();
            sagas.filter(|saga| is(saga)).count()
        };
        Self {
            held: count(Saga::is_held),
            asking: count(Saga::asks),
        }
    }
}

/// This moment, by both clocks.
pub(crate) fn moment() -> (Instant, i64) {
    (Instant::now(), now_ms())
}

impl Run {
    pub(crate) async fn prepare(
        stage: Stage,
        seed: u64,
        load: Load,
        fault: &Fault,
    ) -> Result<Self> {
        stage.tell(fault.told(seed))?;
        let stays = STAYS + fault.lasts.unwrap_or_default();
        let journal = Arc::clone(&stage.journal);
        let persists = PERSISTS + load.lasting;
        let shop = Arc::new(Shop::at(
            &stage.gateways,
            &stage.provider,
            journal,
            stays,
            persists,
        )?);
        let on_sale = shop.on_sale().await?;
        let customers = Customers::new(shop, on_sale);
        Ok(Self {
            stage,
            rng: Rng::new(seed),
            customers,
            load,
            healed: None,
            kept: Vec::new(),
            note: String::new(),
            counted_before: 0,
            resent_before: 0,
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
        // They leave with a run that fails, too.
        let reviewer = crate::reviewer::review(
            self.stage.binary.clone(),
            self.stage.root.clone(),
            self.operators(),
        );
        let reviewer = AbortOnDropHandle::new(tokio::spawn(reviewer));
        let more = Arc::new(AtomicBool::new(!fault.undisturbed));
        let desk = Desk {
            binary: self.stage.binary.clone(),
            folder: self.stage.root.clone(),
            environment: self.operators(),
        };
        let journal = Arc::clone(&self.stage.journal);
        let clerks = attend(desk.clone(), journal, Arc::clone(&more));
        let clerks = AbortOnDropHandle::new(tokio::spawn(clerks));
        let operator = AbortOnDropHandle::new(tokio::spawn(operate(desk, Arc::clone(&more))));
        let begun = self.journal().len();
        // Whether nothing is or was wrong; then nothing may be sent twice.
        let calm = fault.name == crate::catalogue::CALM && !self.stage.touched;
        self.stage.touched = true;
        self.stage.supervisor = Supervisor::default();
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
        let broken_at_ms = now_ms();
        (fault.inject)(self)
            .await
            .context("the fault cannot be brought about")?;
        let hold = match fault.lasts {
            Some(time) => time,
            None if fault.at_once => Duration::ZERO,
            None => self.hold(),
        };
        sleep(hold).await;
        let seen = (fault.seen)(self).await;
        (fault.heal)(self)
            .await
            .context("the fault cannot be ended")?;
        self.stage.supervisor.there = fault.supervised;
        self.kept.clear();
        more.store(false, Ordering::Relaxed);
        let (healed, healed_at_ms) = self.healed.take().unwrap_or_else(moment);
        let (recovery, sold, mut placed) = self.recovered(healed).await?;
        placed.extend(beside(&mut self.stage, self.customers.leave()).await?);
        let within = if fault.is_long() {
            REST_AFTER_LONG
        } else {
            REST_WITHIN
        };
        let rest = self.rest(healed, within).await?;
        let unready = self.unready().await;
        let starts = self.stage.supervisor.starts;
        reviewer.abort();
        operator.abort();
        clerks.abort();
        let now_shown = shown(&self.customers.shop, &placed).await;
        self.stage.shown.extend(now_shown);
        let evidence = Evidence {
            broken_at_ms,
            healed_at_ms,
            shown: self.stage.shown.clone(),
            excused: Excused {
                spent: hold > STEPS_TRY,
                ..fault.excused
            },
            ..self.evidence(calm).await?
        };
        let mut violations = judge(&evidence);
        let mut broken = |promise, detail| {
            let subject = fault.name.to_owned();
            violations.push(Violation {
                promise,
                subject,
                detail,
            });
        };
        let mut seen = seen.unwrap_or_else(|error| {
            broken("a fault takes effect", format!("{error:#}"));
            "nothing".to_owned()
        });
        if starts > 0 {
            seen += &format!("; servers that had ended were started {starts} times");
        }
        if let Some(after) = fault.after {
            match after(self).await {
                Ok(more) => seen += &format!("; {more}"),
                Err(error) => broken("what comes after a fault", format!("{error:#}")),
            }
        }
        // Whoever was told to come back was told the truth, unless it lasted for longer than he tried.
        let recovered_ms = i64::try_from(fault.recovery().as_millis()).unwrap_or(i64::MAX);
        let gone_ms = fault.is_long().then(|| healed_at_ms + recovered_ms);
        let journal = self.journal();
        let unserved = unserved(&journal[begun..], gone_ms);
        if !unserved.is_empty() {
            broken(
                "everybody is served",
                format!("never answered: {unserved:?}"),
            );
        }
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
            persons: Persons::of(&evidence),
            stained: fault.spoils || evidence.excused != Excused::default(),
            reached: checker::reached(&evidence),
        })
    }

    /// How long it takes until every process is ready and somebody who came after the fault's end has his
    /// ticket confirmed.
    async fn recovered(
        &mut self,
        healed: Instant,
    ) -> Result<(Option<Duration>, Option<Duration>, Vec<Placed>)> {
        let (mut placed, mut sold) = (Vec::new(), None);
        let mut looks = JoinSet::new();
        let mut next_look = Instant::now();
        let recovery = loop {
            look(&mut self.stage)?;
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
        while let Some(look) = beside(&mut self.stage, looks.join_next()).await? {
            placed.extend(look.ok().flatten().map(|(one, _)| one));
        }
        Ok((recovery, sold, placed))
    }

    /// Rest, and of servers that are minded the rest after the last of them was started again.
    async fn rest(&mut self, healed: Instant, within: Duration) -> Result<Option<Duration>> {
        loop {
            let starts = self.stage.supervisor.starts;
            let database_url = self.stage.database_url();
            let rest = rest(&database_url, healed, within);
            let rest = beside(&mut self.stage, rest).await?;
            if rest.is_none() || !all_there(&mut self.stage, starts).await? {
                return Ok(rest);
            }
        }
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

    /// What the customers have written down.
    pub(crate) fn journal(&self) -> Vec<Entry> {
        let journal = self.stage.journal.lock();
        journal.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What people's commands are told.
    fn operators(&self) -> Vec<(String, String)> {
        named(&[
            ("DATABASE_URL", self.stage.operators_url()),
            ("AMQP_URL", self.stage.rabbitmq.url()),
        ])
    }

    async fn evidence(&mut self, calm: bool) -> Result<Evidence> {
        let mails = self.stage.mail.mails().into_iter().flat_map(|mail| {
            let id = mail.header("Message-ID").unwrap_or_default();
            let to = mail.to.into_iter();
            to.map(move |to| Mail {
                to,
                message_id: id.clone(),
            })
            .collect::<Vec<_>>()
        });
        let mut resent = 0;
        for role in self.stage.of(Kind::Orchestrator) {
            resent += role.counted("guichet_saga_resends_total").await;
        }
        let topology = Topology::new(NAMESPACE);
        // Every queue, those of replies and those that were left behind too.
        let queues = self.stage.rabbitmq.tool();
        let queues = queues.messages("", &topology.parked_queue()).await?;
        Ok(Evidence {
            mails: mails.collect(),
            journal: self.journal(),
            calm: calm.then_some(resent),
            ..collected(
                &self.stage.database_url(),
                queues,
                &topology,
                &self.stage.provider,
                self.stage.garbage,
            )
            .await?
        })
    }
}
