//! The world of one seed: what exists, and what happens next. Time is a number; everything that will
//! happen stands in one queue, and chance comes from the seed alone, so a seed is one story.

use super::{
    broker::{Body, Broker, Queue},
    coverage::Coverage,
    customer::Order,
    database::{Database, NAMES, Told},
    fault::{Fault, Mix},
    judge::{Judge, Violation},
    orchestrator::{Act, Orchestrator, PROCESSES},
    provider::Request,
    race::{self, Race},
    rng::Rng,
    setting::Setting,
    worker::{Work, Worker},
};
use contract::{Incarnation, OfferId};
use engine::{Cause, SLEEPS_MS, definitions::Definitions, sleeps};
use saga::Definition;
use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    sync::Arc,
};
use uuid::Uuid;

/// This life of the database.
pub(super) const INCARNATION: Incarnation = Incarnation(1);
/// The virtual time at which a seed begins, in milliseconds since the epoch.
pub(super) const BEGIN: i64 = 1_800_000_000_000;

/// So long after the last fault every process knows what is its own.
const SETTLED_MS: i64 = 12_000;
/// So long after the last fault every owner has looked at all of its sagas.
const SCANNED_MS: i64 = 130_000;

/// Events for each order, far beyond what any needs.
const EVENTS_MAX: u64 = 10_000;

/// What happens.
#[derive(Debug)]
pub(super) enum Event {
    Place,
    End(usize),
    Review(usize),
    /// The bank, or the customer at his bank, decides about a payment.
    Bank(usize, usize),
    /// The provider tells of an order's payment, and what caused it.
    Webhook(usize, Cause),
    /// Somebody looks at an order that asks for it.
    Operator(usize),
    /// Somebody else corrects what a step of it is given.
    Correct(usize, usize),
    /// Somebody stops an order's saga for a while.
    Pause(usize),
    /// He lets it go on.
    Resume(usize),
    /// Somebody of ours ends an order.
    OperatorEnds(usize),
    /// Somebody moves an order's saga to the other version.
    Migrate(usize),
    /// A definition is withdrawn.
    Withdraw,
    Arrive(Queue, Body),
    Orchestrator(usize, u32, Act),
    Worker(usize, u32, Work),
    /// A request reaches the provider; whose effect it was, if he still listens.
    Request(usize, Request, Option<(usize, u32, u64)>),
    BrokerBack,
    /// An orchestrator can reach the broker again.
    LineBack(usize),
    Heal,
}

struct Entry(i64, u64, Event);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// The world.
pub(super) struct World {
    pub(super) now: i64,
    pub(super) rng: Rng,
    /// What goes wrong now.
    pub(super) mix: Mix,
    pub(super) calm: bool,
    /// Nothing goes wrong but with what loses no step its time.
    in_time: bool,
    pub(super) db: Database,
    /// By how much the database's clock is off.
    pub(super) db_offset: i64,
    /// Until when each orchestrator cannot reach the broker.
    pub(super) cut_until: [i64; PROCESSES],
    pub(super) broker: Broker,
    pub(super) orders: Vec<Order>,
    pub(super) orchestrators: [Orchestrator; PROCESSES],
    pub(super) workers: [Worker; 2],
    pub(super) definitions: Definitions,
    pub(super) race: Option<Race>,
    pub(super) version: Option<i16>,
    /// Since when everything is at rest.
    pub(super) over_at: Option<i64>,
    pub(super) judge: Judge,
    pub(super) coverage: Coverage,
    pub(super) healed: bool,
    pub(super) healed_at: Option<i64>,
    pub(super) offers: Vec<OfferId>,
    to_place: usize,
    /// Orders that somebody is about to look at.
    pub(super) operators: usize,
    /// How often sagas are paused, in ten thousand; also when nothing goes wrong any more.
    pub(super) pauses: u32,
    /// Rows of the audit log.
    pub(super) audit: i64,
    /// Until when nobody can reach the provider.
    pub(super) provider_back_at: i64,
    /// It is away for captures only.
    pub(super) captures_only: bool,
    queue: BinaryHeap<Reverse<Entry>>,
    entries: u64,
    story: Option<Vec<(i64, Option<usize>, String)>>,
}

/// Writes a line of the story, if it is written.
macro_rules! tell {
    ($world:expr, $order:expr, $($text:tt)+) => {
        if $world.tells() {
            $world.note($order, format!($($text)+));
        }
    };
}
pub(super) use tell;

impl World {
    pub(super) fn new(setting: &Setting) -> Self {
        let mut rng = Rng::new(setting.seed);
        let mix = setting.mix.clone().unwrap_or_else(|| Mix::draw(&mut rng));
        let calm = mix.is_calm();
        let in_time = !calm && mix.loses_no_step_its_time();
        let pauses = mix.of(Fault::OperatorPauses);
        let offers: Vec<OfferId> = (1..=3).map(|n| OfferId(Uuid::from_u128(n))).collect();
        let wanted = i64::try_from(setting.sagas).unwrap_or(i64::MAX);
        let stock = offers
            .iter()
            .map(|id| (*id, rng.range(wanted / 3, wanted * 2) + 1));
        let db = Database::new(stock.collect::<Vec<_>>());
        let definitions = race::definitions(setting.race);
        let mut world = Self {
            now: BEGIN,
            mix,
            calm,
            in_time,
            db,
            db_offset: 0,
            cut_until: [i64::MIN; PROCESSES],
            broker: Broker::default(),
            orders: Vec::with_capacity(setting.sagas),
            orchestrators: std::array::from_fn(|i| Orchestrator::of(i, BEGIN, &definitions)),
            workers: [0, 1].map(|_| Worker::new()),
            definitions,
            race: setting.race,
            version: setting.version,
            over_at: None,
            judge: Judge::default(),
            coverage: Coverage::default(),
            healed: calm,
            healed_at: calm.then_some(BEGIN),
            offers,
            to_place: setting.sagas,
            operators: 0,
            pauses,
            audit: 0,
            provider_back_at: i64::MIN,
            captures_only: false,
            queue: BinaryHeap::new(),
            entries: 0,
            story: setting.story.then(Vec::new),
            rng,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        let faults: Vec<&str> = Fault::ALL
            .iter()
            .filter(|f| self.mix.of(**f) > 0)
            .map(|f| f.name())
            .collect();
        tell!(self, None, "faults: {}", faults.join(", "));
        let (first, rush) = if self.calm {
            (15_000, 10_000)
        } else {
            (0, self.rng.range(2_000, 40_000))
        };
        let late = self.to_place / 4;
        for number in 0..self.to_place {
            let at = match number < self.to_place - late || self.calm {
                true => first + self.rng.range(0, rush),
                false => rush + self.rng.range(0, 60_000),
            };
            self.after(at, Event::Place);
        }
        // Now and then later than an order's whole time.
        let most = if self.rng.chance(1_000) {
            900_000
        } else {
            40_000
        };
        let heal = rush + self.rng.range(5_000, most);
        if !self.calm {
            self.after(heal, Event::Heal);
        }
        if self.rng.chance(self.mix.of(Fault::DefinitionWithdrawn)) {
            let at = self.rng.range(0, heal + 20_000);
            self.after(at, Event::Withdraw);
        }
        for i in 0..NAMES.len() {
            self.start_orchestrator(i);
        }
    }

    /// Runs until everything has ended, or a promise is broken.
    pub(super) fn run(&mut self) {
        let most = EVENTS_MAX * (self.to_place as u64 + 10);
        while self.judge.violation.is_none() {
            if self.entries > most {
                let what = "the world does not come to rest".to_owned();
                return self.broken("bounded-work", None, what);
            }
            let next = self.queue.peek().map(|Reverse(entry)| entry.0);
            let tick = (0..PROCESSES).filter(|i| self.orchestrators[*i].up);
            let tick = tick.min_by_key(|i| self.orchestrators[*i].next_tick);
            let tick_at = tick.map_or(i64::MAX, |i| self.orchestrators[i].next_tick);
            let is_settled = self.healed_at.is_some_and(|at| self.now > at + SETTLED_MS);
            let is_over = is_settled && self.is_over();
            self.over_at = self.over_at.or(Some(self.now)).filter(|_| is_over);
            if is_over && self.is_drained() {
                self.judge.close(&self.db, &self.orders);
                if self.in_time {
                    self.judge.close_in_time(&self.db);
                }
                self.check_owners();
                return;
            }
            let quiet = next.is_none_or(|at| at > tick_at.saturating_add(10_000));
            if quiet && self.healed_at.is_some_and(|at| self.now > at + SCANNED_MS) {
                self.skip(next, tick_at);
            }
            match (next, tick) {
                (Some(at), Some(i)) if tick_at < at => self.tick_at(i, tick_at),
                (None, Some(i)) => self.tick_at(i, tick_at),
                (None, None) => return,
                (Some(_), _) => {
                    if let Some(Reverse(Entry(at, _, event))) = self.queue.pop() {
                        self.now = self.now.max(at);
                        self.happen(event);
                    }
                }
            }
        }
    }

    fn tick_at(&mut self, i: usize, at: i64) {
        self.now = self.now.max(self.orchestrators[i].next_tick.max(at));
        self.tick(i);
        if self.healed {
            let now = self.now;
            self.judge.in_time(&self.db, now);
        }
    }

    /// Nothing but heartbeats until something happens: they are taken as read.
    fn skip(&mut self, next: Option<i64>, tick_at: i64) {
        let unread = |signal: &super::database::SignalRow| {
            let saga = &self.db.orders[signal.order].saga;
            let stays = saga.flags.paused && !matches!(signal.told, Told::Resume(_));
            !signal.applied && !stays && !Judge::rests(saga)
        };
        let known = |saga: &saga::Instance| {
            let mut up = self.orchestrators.iter().filter(|process| process.up);
            up.any(|process| process.owner.knows(saga.id))
        };
        let db_now = self.db_now();
        let sagas = || self.db.orders.iter().map(|row| &row.saga);
        // One that sleeps is found by a scan when its time comes near.
        let mut awake = sagas().filter(|saga| !Judge::rests(saga) && !sleeps(saga, db_now));
        if self.db.signals.iter().any(unread) || awake.any(|saga| !known(saga)) {
            return;
        }
        let due = self.judge.next_due(&self.db);
        let asleep = sagas().filter(|saga| sleeps(saga, db_now));
        let wakes = asleep.filter_map(|saga| saga.wake_at).min();
        let scan = wakes.map_or(i64::MAX, |at| at - self.db_offset - SLEEPS_MS);
        let until = next.unwrap_or(i64::MAX).min(due).min(scan) - 3_000;
        if until <= tick_at || until == i64::MAX - 3_000 {
            return;
        }
        let by = until - tick_at;
        for lease in &mut self.db.leases {
            lease.until = lease.until.saturating_add(by);
        }
        for seen in &mut self.db.seen_until {
            *seen += by;
        }
        for orchestrator in &mut self.orchestrators {
            orchestrator.next_tick += by;
            orchestrator.renewed += by;
        }
    }

    fn is_over(&self) -> bool {
        self.operators == 0
            && self.orders.len() == self.to_place
            && self
                .db
                .orders
                .iter()
                .all(|row| Judge::rests(&row.saga) && !row.saga.flags.paused)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Place => self.place(),
            Event::End(order) => {
                tell!(self, Some(order), "the customer ends the order");
                self.coverage.fault(Fault::CustomerEnds);
                self.tell_saga(order, Told::End, 0);
            }
            Event::Review(order) => self.review(order),
            Event::Bank(order, payment) => self.bank(order, payment),
            Event::Webhook(order, cause) => self.webhook(order, cause),
            Event::Operator(order) => self.operator(order),
            Event::Correct(order, step) => self.correct(order, step),
            Event::Pause(order) => self.pause(order),
            Event::Resume(order) => self.resume(order),
            Event::OperatorEnds(order) => self.operator_ends(order),
            Event::Migrate(order) => self.migrate(order),
            Event::Withdraw => self.withdraw(),
            Event::Arrive(queue, body) => self.arrive(queue, body),
            Event::Orchestrator(i, life, act) => self.orchestrator_acts(i, life, act),
            Event::Worker(w, life, work) => self.worker_works(w, life, work),
            Event::Request(order, request, asker) => self.request_arrives(order, &request, asker),
            Event::BrokerBack => self.broker_back(),
            Event::LineBack(i) => self.line_back(i),
            Event::Heal => self.heal(),
        }
    }

    fn heal(&mut self) {
        self.mix = Mix::none();
        self.healed = true;
        self.provider_back_at = self.now;
        // Whoever stalls now is still to wake up.
        let stalled = self.orchestrators.iter().map(|o| o.stalled_until);
        let stalled = stalled.chain(self.workers.iter().map(|w| w.stalled_until));
        self.healed_at = Some(stalled.fold(self.now, i64::max));
        tell!(self, None, "from now on nothing goes wrong");
        if self.broker.away {
            self.broker_back();
        }
        for i in 0..PROCESSES {
            self.cut_until[i] = self.now;
            self.line_back(i);
            if !self.orchestrators[i].up && self.orchestrators[i].minded {
                self.start_orchestrator(i);
            }
        }
        for w in 0..2 {
            self.workers[w].up = true;
        }
        self.kick_all();
        let db_now = self.db_now();
        let from = self.healed_at.unwrap_or(self.now);
        for (number, row) in self.db.orders.iter().enumerate() {
            let order = &self.orders[number];
            let Some(definition) = self.definitions.get(row.saga.definition) else {
                continue;
            };
            self.judge
                .expect(number, from, db_now, &row.saga, order, definition);
        }
    }

    /// The definition with this number: orders have those that this program knows.
    pub(super) fn definition(&self, number: i16) -> Arc<Definition> {
        let known = self.definitions.get(number).map(Arc::clone);
        known.unwrap_or_else(|| Arc::new(saga::order::v1()))
    }

    // Time, chance and the story.

    pub(super) fn at(&mut self, at: i64, event: Event) {
        self.entries += 1;
        self.queue.push(Reverse(Entry(at, self.entries, event)));
    }

    pub(super) fn after(&mut self, ms: i64, event: Event) {
        self.at(self.now + ms, event);
    }

    /// A moment later.
    pub(super) fn soon(&mut self, event: Event) {
        let ms = self.rng.range(0, 4);
        self.after(ms, event);
    }

    pub(super) fn db_now(&self) -> i64 {
        self.now + self.db_offset
    }

    /// Whether a fault strikes on this occasion.
    pub(super) fn strikes(&mut self, fault: Fault) -> bool {
        let strikes = self.rng.chance(self.mix.of(fault));
        if strikes {
            self.coverage.fault(fault);
        }
        strikes
    }

    pub(super) fn tells(&self) -> bool {
        self.story.is_some()
    }

    pub(super) fn note(&mut self, order: Option<usize>, text: String) {
        let at = self.now - BEGIN;
        if let Some(story) = &mut self.story {
            story.push((at, order, text));
        }
    }

    /// What happened to an order, and to the world around it.
    pub(super) fn story_of(&self, order: Option<usize>) -> Vec<String> {
        let lines = self.story.iter().flatten();
        lines
            .filter(|(_, about, _)| about.is_none() || order.is_none() || *about == order)
            .map(|(at, _, text)| format!("{:>10.3} s  {text}", *at as f64 / 1_000.0))
            .collect()
    }

    pub(super) fn broken(&mut self, invariant: &'static str, order: Option<usize>, what: String) {
        self.judge.violation.get_or_insert(Violation {
            invariant,
            order,
            what,
        });
    }

    /// An effect may have come into force, or gone.
    pub(super) fn effect(&mut self, order: usize, step: usize) {
        let (row, truth) = (&self.db.orders[order], &self.orders[order]);
        self.judge.effect(order, step, row, truth);
    }
}
