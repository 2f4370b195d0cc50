//! Planned faults: what goes wrong with which request, decided purely.
//!
//! A plan names requests by what they are about and is used up after so many of them. Besides, a seed can
//! make faults at a given rate: whether a request is hit follows from the seed, the request and how often it
//! was hit before, so the same requests meet the same faults in every run.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::cards::Card;
use crate::error::StripeError;
use crate::id;
use crate::refund::Course;

/// How many plans there may be at a time.
const PLANS_MAX: usize = 1_000;

/// How many requests are remembered as hit by the seed.
const HITS_MAX: usize = 100_000;

/// The longest that a fault may make anyone wait, in milliseconds.
pub(crate) const WAIT_MAX_MS: u64 = 600_000;

/// What a request does, as plans name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operation {
    Create,
    /// Also a creation that confirms at once.
    Confirm,
    Capture,
    Cancel,
    Update,
    Refund,
    /// Every read.
    Retrieve,
    /// The sending of an event.
    Webhook,
}

impl Operation {
    /// The name plans have for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Confirm => "confirm",
            Self::Capture => "capture",
            Self::Cancel => "cancel",
            Self::Update => "update",
            Self::Refund => "refund",
            Self::Retrieve => "retrieve",
            Self::Webhook => "webhook",
        }
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// The request takes effect and is answered after so many milliseconds, even if its client left.
    Slow { ms: u64 },
    /// Refused by a rate limit: no effect, nothing stored under the key.
    #[serde(rename = "429")]
    RateLimit,
    /// An error without effect, which is stored under the key and repeated.
    #[serde(rename = "500")]
    ServerError,
    /// An error although the request took effect; it is stored under the key and repeated.
    #[serde(rename = "500_after")]
    ServerErrorAfter,
    /// No effect and no answer; the connection breaks after a while.
    TimeoutBefore,
    /// The request takes effect, but no answer comes; the connection breaks after a while.
    TimeoutAfter,
    /// The request takes effect and the connection breaks at once.
    ResetAfter,
    /// A PaymentIntent is shown as it was before its last change.
    Stale,
    /// The refund is pending for so many milliseconds, then succeeds.
    RefundPending { ms: u64 },
    /// The refund is pending for so many milliseconds, then fails.
    RefundFails { ms: u64 },
    /// The refund succeeds, and fails after all so many milliseconds later.
    RefundFailsLater { ms: u64 },
    /// The event is sent twice.
    Duplicate,
    /// The event is sent so many milliseconds later.
    Late { ms: u64 },
    /// The event is not sent.
    Missing,
    /// The event is sent after the one that follows it, or after five seconds.
    Reordered,
}

impl Fault {
    /// The name plans have for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Slow { .. } => "slow",
            Self::RateLimit => "429",
            Self::ServerError => "500",
            Self::ServerErrorAfter => "500_after",
            Self::TimeoutBefore => "timeout_before",
            Self::TimeoutAfter => "timeout_after",
            Self::ResetAfter => "reset_after",
            Self::Stale => "stale",
            Self::RefundPending { .. } => "refund_pending",
            Self::RefundFails { .. } => "refund_fails",
            Self::RefundFailsLater { .. } => "refund_fails_later",
            Self::Duplicate => "duplicate",
            Self::Late { .. } => "late",
            Self::Missing => "missing",
            Self::Reordered => "reordered",
        }
    }

    /// How a refund goes on that meets this fault.
    pub(crate) fn course(self) -> Option<Course> {
        match self {
            Self::RefundPending { ms } => Some(Course::Pending { ms }),
            Self::RefundFails { ms } => Some(Course::Fails { ms }),
            Self::RefundFailsLater { ms } => Some(Course::FailsLater { ms }),
            _ => None,
        }
    }

    /// Whether it can happen to a request of this kind.
    fn fits(self, on: Operation) -> bool {
        match self {
            Self::Duplicate | Self::Late { .. } | Self::Missing | Self::Reordered => {
                on == Operation::Webhook
            }
            Self::Stale => on == Operation::Retrieve,
            Self::RefundPending { .. }
            | Self::RefundFails { .. }
            | Self::RefundFailsLater { .. } => on == Operation::Refund,
            Self::Slow { .. }
            | Self::RateLimit
            | Self::ServerError
            | Self::ServerErrorAfter
            | Self::TimeoutBefore
            | Self::TimeoutAfter
            | Self::ResetAfter => on != Operation::Webhook,
        }
    }

    /// What its `ms` says, if it has one.
    fn ms(self) -> Option<u64> {
        match self {
            Self::Slow { ms }
            | Self::Late { ms }
            | Self::RefundPending { ms }
            | Self::RefundFails { ms }
            | Self::RefundFailsLater { ms } => Some(ms),
            _ => None,
        }
    }
}

/// Which requests a plan is for: those of which all that is given here is true.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Matching {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    receipt_email: Option<String>,
    /// `metadata[order_id]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    order_id: Option<String>,
    /// The id the request names, or the test method it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payment_method: Option<String>,
    /// The path of the request; with `*` at its end the beginning of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

/// A plan as it is posted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    #[serde(default, rename = "match")]
    matching: Matching,
    on: Operation,
    fault: Fault,
    /// How many requests it hits.
    #[serde(default = "once")]
    times: u32,
    /// For time-outs: how long the connection stays open, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hold_ms: Option<u64>,
}

fn once() -> u32 {
    1
}

/// A plan as it is listed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Planned {
    id: String,
    #[serde(flatten)]
    plan: Plan,
    /// How often it will still hit.
    remaining: u32,
}

/// What a request is about, as far as plans can name it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Subject<'a> {
    pub(crate) operations: &'a [Operation],
    pub(crate) path: &'a str,
    pub(crate) receipt_email: Option<&'a str>,
    pub(crate) order_id: Option<&'a str>,
    /// The id in the request.
    pub(crate) method_id: Option<&'a str>,
    /// The card of it, or of the intent's.
    pub(crate) card: Option<Card>,
    /// What the same request says each time it is sent.
    pub(crate) identity: u128,
}

/// A fault that was drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Drawn {
    pub(crate) fault: Fault,
    pub(crate) hold_ms: Option<u64>,
}

/// All plans, and the seed.
#[derive(Debug)]
pub(crate) struct Faults {
    plans: Vec<Planned>,
    made: u64,
    seed: u64,
    rate: f64,
    hits: HashMap<u128, u32>,
}

impl Faults {
    pub(crate) fn new(seed: u64, rate: f64) -> Self {
        Self {
            plans: Vec::new(),
            made: 0,
            seed,
            rate,
            hits: HashMap::new(),
        }
    }

    /// Whether any fault can happen at all, which spares finding out what a request is about.
    pub(crate) fn any(&self) -> bool {
        !self.plans.is_empty() || self.rate > 0.0
    }

    /// Takes a plan, or says what is wrong with it.
    pub(crate) fn plan(&mut self, plan: Plan) -> Result<&Planned, StripeError> {
        check(&plan)?;
        if self.plans.len() >= PLANS_MAX {
            return Err(StripeError::invalid(format!(
                "There are {PLANS_MAX} plans already; delete some with DELETE /_sim/faults."
            )));
        }
        self.made += 1;
        let at = self.plans.len();
        self.plans.push(Planned {
            id: format!("fault_{}", self.made),
            remaining: plan.times,
            plan,
        });
        Ok(&self.plans[at])
    }

    pub(crate) fn plans(&self) -> &[Planned] {
        &self.plans
    }

    /// Deletes one plan; says whether there was one.
    pub(crate) fn delete(&mut self, id: &str) -> bool {
        let before = self.plans.len();
        self.plans.retain(|planned| planned.id != id);
        self.plans.len() < before
    }

    pub(crate) fn clear(&mut self) {
        self.plans.clear();
    }

    /// The fault that this request meets. Uses up one time of the plan it follows from.
    pub(crate) fn draw(&mut self, subject: &Subject<'_>) -> Option<Drawn> {
        let found = self
            .plans
            .iter()
            .position(|planned| planned.plan.is_for(subject));
        let Some(at) = found else {
            return self.by_seed(subject);
        };
        let planned = &mut self.plans[at];
        planned.remaining -= 1;
        let drawn = Drawn {
            fault: planned.plan.fault,
            hold_ms: planned.plan.hold_ms,
        };
        if planned.remaining == 0 {
            self.plans.remove(at);
        }
        Some(drawn)
    }

    fn by_seed(&mut self, subject: &Subject<'_>) -> Option<Drawn> {
        if self.rate <= 0.0 || subject.operations.is_empty() {
            return None;
        }
        let hits = self.hits.get(&subject.identity).copied().unwrap_or(0);
        let chance = id::digest(&[
            &self.seed.to_be_bytes(),
            &subject.identity.to_be_bytes(),
            &hits.to_be_bytes(),
        ]);
        // 53 bits are what a double holds exactly.
        let fraction = ((chance >> 75) as u64) as f64 / (1_u64 << 53) as f64;
        if fraction >= self.rate {
            return None;
        }
        if self.hits.len() >= HITS_MAX {
            tracing::warn!(
                hits = HITS_MAX,
                "forgetting which requests the seed has hit: there are too many"
            );
            self.hits.clear();
        }
        self.hits.insert(subject.identity, hits + 1);
        let choice = (chance & 0xff) as usize;
        let ms = 100 + (chance >> 8) as u64 % 1_900;
        // A refund that is pending or fails is left to plans: it takes time, or is work for a person, which no
        // seed should make.
        let all = [
            Fault::Slow { ms },
            Fault::RateLimit,
            Fault::ServerError,
            Fault::ServerErrorAfter,
            Fault::TimeoutBefore,
            Fault::TimeoutAfter,
            Fault::ResetAfter,
            Fault::Stale,
            Fault::Duplicate,
            Fault::Late { ms },
            Fault::Missing,
            Fault::Reordered,
        ];
        let possible = |fault: &Fault| subject.operations.iter().any(|on| fault.fits(*on));
        let count = all.iter().filter(|fault| possible(fault)).count();
        let fault = all
            .into_iter()
            .filter(possible)
            .nth(choice % count.max(1))?;
        Some(Drawn {
            fault,
            hold_ms: None,
        })
    }
}

impl Plan {
    fn is_for(&self, subject: &Subject<'_>) -> bool {
        fn same(wanted: Option<&String>, found: Option<&str>) -> bool {
            wanted.is_none_or(|wanted| found == Some(wanted))
        }
        let Matching {
            receipt_email,
            order_id,
            payment_method,
            path,
        } = &self.matching;
        let path = path
            .as_deref()
            .is_none_or(|path| match path.strip_suffix('*') {
                Some(beginning) => subject.path.starts_with(beginning),
                None => subject.path == path,
            });
        let method = payment_method.as_deref().is_none_or(|wanted| {
            let card = Card::of_test_id(wanted);
            subject.method_id == Some(wanted) || (card.is_some() && card == subject.card)
        });
        subject.operations.contains(&self.on)
            && path
            && method
            && same(receipt_email.as_ref(), subject.receipt_email)
            && same(order_id.as_ref(), subject.order_id)
    }
}

fn check(plan: &Plan) -> Result<(), StripeError> {
    let refuse = |param: &'static str, why: String| Err(StripeError::invalid(why).param(param));
    if plan.times == 0 {
        return refuse("times", "Invalid times: must be at least 1.".to_owned());
    }
    if !plan.fault.fits(plan.on) {
        let why = "Invalid fault: duplicate, late, missing and reordered are the faults on webhook, and \
                   only there; stale is one on retrieve, refund_pending, refund_fails and \
                   refund_fails_later on refund.";
        return refuse("fault", why.to_owned());
    }
    if plan.fault.ms().is_some_and(|ms| ms > WAIT_MAX_MS) {
        return refuse(
            "fault",
            format!("Invalid ms: must be at most {WAIT_MAX_MS}."),
        );
    }
    if plan.hold_ms.is_some_and(|ms| ms > WAIT_MAX_MS) {
        return refuse(
            "hold_ms",
            format!("Invalid hold_ms: must be at most {WAIT_MAX_MS}."),
        );
    }
    let path = plan.matching.path.as_deref();
    if path.is_some_and(|path| !path.starts_with('/')) {
        return refuse("match[path]", "Invalid path: it starts with /.".to_owned());
    }
    Ok(())
}

#[cfg(test)]
#[path = "faults_tests.rs"]
mod tests;
