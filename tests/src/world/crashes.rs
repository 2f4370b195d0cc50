//! Processes that die at a named place (`contract::crash`), and orders of every kind that go through
//! them meanwhile.
//!
//! One world serves many places. For each, the role that has it is started anew, told to die there;
//! orders are placed until it does; it is started again without being told, as a supervisor would; and
//! every order has to end as it should, as if nothing had happened.

use super::{
    Judge, PATIENCE, Placed, Processes, Shop, Wish,
    broker::Node,
    catalogue::{DIVING_A, DIVING_B},
    evidence::{collected, now_ms},
    judge::times,
    processes::{Name, binary},
    until,
};
use crate::provider::Provider;
use checker::{Evidence, evidence::Mail};
use contract::{OrderId, Outcome, StepKind, StepName, Topology};
use serde_json::json;
use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt,
    pin::pin,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::join;

/// Rounds of orders within which a place has to be reached.
const ROUNDS_MAX: u32 = 4;

/// More than a request is tried.
const TIMES_MANY: u32 = 1_000;

/// Somebody has leased the shards again and read their sagas.
const RELOAD_MAX: Duration = Duration::from_secs(3);

/// The longest that a round may take from the moment at which the dead role is ready again. A command
/// whose first copy is lost with its sender is sent again by the saga's timer, after 5 s.
const RECOVERY_MAX: Duration = Duration::from_secs(20);

/// Somebody else takes all shards, and dies at once.
const ROB: &str = "UPDATE shards SET owner = 'robber', epoch = epoch + 1, lease_until = now()";

/// A place, reached.
#[derive(Clone, Copy, Debug)]
pub struct Hit {
    /// The rounds of orders that it took.
    pub rounds: u32,
    /// From the moment at which the dead role was ready again until the last order was at rest.
    pub recovery: Duration,
}

/// The names of all places that the binary has.
///
/// # Panics
/// When the binary is built without them.
#[must_use]
pub fn places() -> Vec<String> {
    let output = Command::new(binary())
        .env("GUICHET_CRASH_AT", "list")
        .arg("orchestrator")
        .output()
        .expect("the binary can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    let places: Vec<String> = text.lines().map(str::to_owned).collect();
    assert!(
        output.status.success() && places.len() > 1,
        "{} has no crash points: run ./ops/test, or cargo build -p guichet --features crash-points first",
        binary().display()
    );
    places
}

/// The broker, if it is one of ours.
#[must_use]
pub fn broker() -> Option<Node> {
    Node::at(&std::env::var("GUICHET_AMQP_URL").ok()?)
}

/// The role that has a place.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn role_of(place: &str) -> Name {
    match place.split('.').next() {
        Some("worker" | "provider") => Name::Worker,
        Some("orchestrator") => Name::Orchestrator,
        Some("gateway") => Name::Gateway,
        _ => panic!("{place} is of no role"),
    }
}

/// The versions of an order on whose way a place is. Only the second captures in a step of its own; and by
/// the first, issuing is the pivot, so an undo of it finds nothing that was done.
#[must_use]
pub fn versions_with(place: &str) -> &'static [i16] {
    let nothing_was_done = [
        "worker.issue.undo.claimed",
        "worker.issue.undo.before_effect",
        "worker.issue.undo.after_effect",
    ];
    match place.split('.').nth(1) {
        Some("capture") => &[2],
        _ if nothing_was_done.contains(&place) => &[2],
        _ => &[1, 2],
    }
}

/// Whether a place is on the way of an order whose capture nobody hears of, or beside it: where leases are taken,
/// and where the provider is asked. Elsewhere there is none, to keep a whole run short.
fn needs_unheard(place: &str) -> bool {
    let parts = ["provider.", ".lease.", ".capture.", ".issue.undo."];
    parts.iter().any(|part| place.contains(part))
}

/// A world in which roles die by name.
pub struct Stage {
    world: Processes,
    broker: Option<Node>,
    version: i16,
}

impl Stage {
    /// Starts every role, for orders of this version.
    pub async fn set(version: i16) -> Self {
        let world = Processes::start_selling(version).await;
        // Enough for all rounds; and an offer whose tickets can never be made.
        let prepare = format!(
            "UPDATE stock SET capacity = 1000000;
             CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
               'BEGIN RAISE EXCEPTION ''refused''; END';
             CREATE TRIGGER refuse BEFORE INSERT ON tickets FOR EACH ROW
               WHEN (new.offer_id = '{}') EXECUTE FUNCTION refuse()",
            DIVING_B.id
        );
        world.judge.execute(&prepare).await;
        Self {
            broker: broker(),
            world,
            version,
        }
    }

    /// The version of its orders.
    #[must_use]
    pub const fn version(&self) -> i16 {
        self.version
    }

    /// Has a role die at this passing of a place of its, and judges what becomes of the orders that were
    /// on their way.
    ///
    /// # Panics
    /// When the place is never reached, the role ends in another way, an order does not end as it should
    /// or in time, or a promise is broken.
    pub async fn hit(&mut self, place: &str, passing: u64) -> Hit {
        let role = role_of(place);
        let told = format!("{place}:{passing}");
        self.world.kill(role);
        self.world
            .launch(role, &[("GUICHET_CRASH_AT", told.clone())]);
        let customers = Customers {
            shop: self.world.shop.clone(),
            judge: self.world.judge.clone(),
            provider: Arc::clone(&self.world.provider),
            version: self.version,
            unheard: needs_unheard(place),
        };
        let mut back = None;
        for rounds in 1..=ROUNDS_MAX {
            if rounds > 1 && place.starts_with("orchestrator.lease.") {
                self.world.judge.execute(ROB).await;
            }
            let mut round = pin!(customers.round());
            let orders = loop {
                tokio::select! {
                    orders = &mut round => break orders,
                    () = tokio::time::sleep(Duration::from_millis(5)), if back.is_none() => {
                        back = self.bring_back(role, &told).await;
                    }
                }
            };
            // What comes after an order's end may be the place.
            if back.is_none() {
                tokio::time::sleep(Duration::from_millis(50)).await;
                back = self.bring_back(role, &told).await;
            }
            for (order, expected) in orders {
                let state = self.world.judge.at_rest(order).await.instance.state;
                assert_eq!(state.name(), expected, "{told}: {order}");
                self.world.judge.verdict_of(order).await;
            }
            // To judge takes a while, too.
            let (recovery, at_rest_ms) = (back.map(|back| back.elapsed()), now_ms());
            self.world.judge.check_finds_nothing().await;
            let healed = recovery.unwrap_or_default().as_millis();
            let healed = i64::try_from(healed).expect("a short time");
            self.keeps_its_promises(&told, at_rest_ms - healed).await;
            if let Some(recovery) = recovery {
                assert!(recovery < RECOVERY_MAX, "{told}: {recovery:?}");
                return Hit { rounds, recovery };
            }
        }
        panic!("{told} was never reached");
    }

    /// Judges everything and stops every role in good order.
    pub async fn strike(self) {
        self.world.close().await;
    }

    /// Judges every promise from the outside, as the fault runs do. How each order ended was looked at by who
    /// placed it, so the customers' journal stays empty.
    async fn keeps_its_promises(&self, told: &str, healed_at_ms: i64) {
        let ground = &self.world.ground;
        let topology = ground.namespace.topology();
        let (database, provider) = (ground.database.url(), self.world.provider.url());
        let queues = self.queues(&topology).await;
        let collected = collected(&database, queues, &topology, provider, 0);
        let evidence = Evidence {
            mails: self
                .world
                .mails()
                .iter()
                .filter_map(|text| mail(text))
                .collect(),
            healed_at_ms,
            ..collected.await.expect("everybody answers")
        };
        let broken = checker::judge(&evidence);
        assert!(broken.is_empty(), "{told}: {broken:#?}");
    }

    /// What the queues hold, those of replies too, and messages that somebody has got and not acknowledged.
    /// The tests may be given a broker that is somebody else's (a `crash-points` may not): there, what
    /// waits for steps.
    async fn queues(&self, topology: &Topology) -> BTreeMap<String, u64> {
        let parked = topology.parked_queue();
        if let Some(broker) = &self.broker {
            let prefix = format!("{}.", topology.namespace());
            let queues = broker.messages(&prefix, &parked).await;
            let queues = queues.expect("the broker's tool answers");
            assert!(queues.contains_key(&parked), "no queue of {prefix}");
            return queues;
        }
        let raw = self.world.ground.namespace.raw().await;
        let mut queues = BTreeMap::new();
        for step in StepName::OF_AN_ORDER {
            for kind in [StepKind::Do, StepKind::Undo] {
                let name = topology.command_queue(&step, kind);
                until("its messages are acknowledged", async || {
                    (raw.waiting(&name).await? == 0).then_some(())
                })
                .await;
                queues.insert(name, 0);
            }
        }
        let waiting = raw.waiting(&parked).await.unwrap_or_default();
        queues.insert(parked, u64::from(waiting));
        queues
    }

    /// Starts a role again if it has died as it was told, and says when it was ready.
    async fn bring_back(&mut self, role: Name, told: &str) -> Option<Instant> {
        let status = self.world.ended(role)?;
        assert_eq!(
            status.signal(),
            Some(nix::libc::SIGABRT),
            "{told}: {status}"
        );
        // Others abort, too: those that run out of memory or of their stack.
        let (place, passing) = told.rsplit_once(':').expect("place and passing");
        let last_words = format!("\"dies at {place}, passing {passing}\"");
        let said = self.world.has_said(role, &last_words);
        assert!(said, "{told}: aborted, and not there");
        self.world.restart(role).await;
        Some(Instant::now())
    }
}

/// To whom a mail is, and its Message-ID.
fn mail(text: &str) -> Option<Mail> {
    let header = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let line = line.trim();
        Some(
            line.rsplit_once('<')
                .map_or(line, |(_, id)| id.trim_end_matches('>')),
        )
    };
    Some(Mail {
        to: header("To:")?.to_owned(),
        message_id: header("Message-ID:")?.to_owned(),
    })
}

/// They come again with what was not answered.
struct Customers {
    shop: Shop,
    judge: Judge,
    provider: Arc<Provider>,
    version: i16,
    /// One of them has his money captured, and nobody hears of it.
    unheard: bool,
}

impl Customers {
    /// An order of each kind, side by side, to its end: each with the state that its saga has to end in.
    async fn round(&self) -> Vec<(OrderId, &'static str)> {
        let (sold, declined, authenticated, gives_up, taken_back, given_back) = join!(
            self.sold(),
            self.declined(),
            self.authenticated(),
            self.gives_up(),
            self.taken_back(),
            self.given_back(),
        );
        let mut orders = vec![
            (sold, "completed"),
            (declined, "compensated"),
            (authenticated, "completed"),
            (gives_up, "compensated"),
            (taken_back, "compensated"),
        ];
        orders.extend(given_back.map(|order| (order, "compensated")));
        orders
    }

    async fn sold(&self) -> OrderId {
        let placed = self.place(&Wish::of(DIVING_A, 1)).await;
        self.ended(&placed, "confirmed", &[""]).await
    }

    async fn declined(&self) -> OrderId {
        let wish = Wish::of(DIVING_A, 1).paid_with("pm_card_visa_chargeDeclined");
        let placed = self.place(&wish).await;
        self.ended(&placed, "cancelled", &["card_declined"]).await
    }

    /// The provider tells of it, and so the payment is asked about.
    async fn authenticated(&self) -> OrderId {
        let (placed, page) = self.challenged().await;
        self.provider.authenticate(&page, "approve").await;
        self.ended(&placed, "confirmed", &[""]).await
    }

    /// The payment is cancelled.
    async fn gives_up(&self) -> OrderId {
        let (placed, _) = self.challenged().await;
        self.cancel(&placed).await;
        self.ended(&placed, "cancelled", &["customer_cancelled"])
            .await
    }

    /// Everything is undone, from the tickets on, and the money is given back.
    async fn taken_back(&self) -> OrderId {
        let placed = self.place(&Wish::of(DIVING_B, 1)).await;
        until("its tickets were tried in vain", async || {
            let saga = self.judge.saga(placed.id).await;
            let tried = times(&saga, &StepName::ISSUE, StepKind::Do, Outcome::Retry);
            (tried > 0).then_some(())
        })
        .await;
        self.cancel(&placed).await;
        self.ended(&placed, "cancelled", &["customer_cancelled"])
            .await
    }

    /// Its money is captured and nobody is told so, and asking is in vain until the time for it is over:
    /// it is given back, and the tickets that were made are revoked. Only where capturing is a step.
    async fn given_back(&self) -> Option<OrderId> {
        if self.version < 2 || !self.unheard {
            return None;
        }
        let wish = Wish::of(DIVING_A, 1);
        let of = json!({ "receipt_email": wish.email() });
        // In vain at first, so that there is time to have nobody hear of it once it is made.
        let in_vain = json!({
            "match": of, "on": "capture", "fault": "timeout_before", "hold_ms": 1_000, "times": 2,
        });
        self.provider.plan_as(&in_vain).await;
        for (fault, times) in [("500_after", 1), ("500", TIMES_MANY)] {
            let fault = json!(fault);
            self.provider.plan_for(&of, "capture", &fault, times).await;
        }
        let placed = self.place(&wish).await;
        until("the capture is begun", async || {
            let effect = self.judge.effect(placed.id, &StepName::CAPTURE).await;
            effect.map(drop)
        })
        .await;
        let fault = json!("500");
        let provider = &self.provider;
        provider.plan_for(&of, "retrieve", &fault, TIMES_MANY).await;
        until("it is captured", async || {
            let balance = self.provider.balance(placed.id.0).await;
            (balance.captures == 1).then_some(())
        })
        .await;
        self.time_is_over(&placed, StepKind::Do).await;
        until("it was asked about in vain", async || {
            let saga = self.judge.saga(placed.id).await;
            let tried = times(&saga, &StepName::CAPTURE, StepKind::Probe, Outcome::Retry);
            (tried > 0).then_some(())
        })
        .await;
        self.time_is_over(&placed, StepKind::Probe).await;
        self.provider.forget_plans().await;
        // What the provider said last, or that the time was over, whichever was heard first.
        let reasons = ["step_failed", "payment_unavailable"];
        let order = self.ended(&placed, "cancelled", &reasons).await;
        let balance = self.provider.balance(placed.id.0).await;
        assert_eq!(balance.captures, 1, "{balance:?}");
        assert_eq!(balance.refunded_minor, balance.captured_minor);
        Some(order)
    }

    /// The time that an order has for a command of this kind is over at once. Its next owner learns of it
    /// from the database; the one that it is taken from may write once more what it remembers, so it
    /// is said until it is heard.
    async fn time_is_over(&self, placed: &Placed, kind: StepKind) {
        let over = format!(
            "{ROB}; UPDATE sagas SET budget_until = now(), wake_at = now() WHERE id = '{}'",
            placed.id
        );
        let heard = async || {
            let cursor = self.judge.saga(placed.id).await.instance.cursor;
            cursor
                .is_none_or(|cursor| cursor.kind != kind)
                .then_some(())
        };
        loop {
            self.judge.execute(&over).await;
            let said = tokio::time::timeout(RELOAD_MAX, until("it is heard", heard));
            if said.await.is_ok() {
                return;
            }
        }
    }

    async fn challenged(&self) -> (Placed, String) {
        let wish = Wish::of(DIVING_A, 1).paid_with("pm_card_authenticationRequired");
        let placed = self.place(&wish).await;
        let order = self.shop.until_status(&placed, "action_required").await;
        let page = order["next_action"]["redirect_url"].as_str();
        (placed, page.expect("the order names the page").to_owned())
    }

    /// With the same key, until it is accepted.
    async fn place(&self, wish: &Wish) -> Placed {
        until("the order is accepted", async || {
            let answer = self.shop.try_place(wish).await?;
            (answer.status != 503).then(|| Shop::accepted(&answer))
        })
        .await
    }

    async fn cancel(&self, placed: &Placed) {
        until("the end is asked for", async || {
            let answer = self.shop.try_cancel(placed).await?;
            (answer.status == 202).then_some(())
        })
        .await;
    }

    async fn ended(&self, placed: &Placed, status: &str, reasons: &[&str]) -> OrderId {
        let ended = tokio::time::timeout(PATIENCE, self.shop.ended(placed)).await;
        let ended = ended.unwrap_or_else(|_| panic!("no end of {}", placed.id));
        assert_eq!(ended.status(), status);
        assert!(reasons.contains(&ended.reason()), "{:?}", ended.reason());
        self.judge.at_rest(placed.id).await;
        placed.id
    }
}
