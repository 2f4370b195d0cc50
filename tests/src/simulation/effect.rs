//! Effects outside, under way in a worker: the real flows of `pay` and `capture`, polled one answer at a time. When
//! its worker dies it is dropped where it stands; what it asked for still reaches the provider.

use super::{
    customer::{Card, Stand},
    database::number_of,
    fault::Fault,
    orchestrator::{CAPTURE, Fate},
    provider::{Lapse, MOVED, NOBODYS, Port, Request, Response, place, receive},
    race::Racer,
    worker::Work,
    world::{Event, World, tell},
};
use contract::{Refusal, StepKind};
use engine::Cause;
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};
use workers::{
    Error,
    capture::{self, flow::Payment},
    kit::{Claim, Verdict},
    ledger::plan::{Action, LedgerRow, corrected_since, decide, may_be_called, record},
    pay::{
        flow::Flow,
        stripe::{Classified, IntentId},
    },
};

/// The worker's patience with an effect.
const EFFECT_TIMEOUT_MS: i64 = 30_000;
/// Its patience with one request.
const REQUEST_TIMEOUT_MS: i64 = 10_000;

type Running = Pin<Box<dyn Future<Output = Result<Verdict, Error>>>>;

/// An effect under way.
pub(super) struct Task {
    id: u64,
    key: (usize, usize, StepKind),
    /// The number of the command that began it.
    seq: i32,
    /// The ledger's row as that found it.
    found: Option<LedgerRow>,
    /// `None` once there is a verdict.
    running: Option<Running>,
    port: Port,
    /// How much of the payment is not given back, by what it was told last.
    left_minor: i64,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Task({}, {:?})", self.id, self.key)
    }
}

impl World {
    pub(super) fn begin_effect(&mut self, w: usize, step: usize, claim: Claim) {
        let number = number_of(claim.saga_id());
        let (id, port, kind) = (
            self.workers[w].number(),
            Port::default(),
            claim.command.kind,
        );
        let asks = port.clone();
        let (seq, found) = (claim.command.seq, claim.row.clone());
        let running: Running = if step == 2 {
            let order = Arc::clone(&self.orders[number].view);
            let corrected = self.corrected_id(number, &claim);
            Box::pin(async move {
                let flow = Flow {
                    provider: &asks,
                    limits: &asks,
                    claim: &claim,
                    order: &order,
                    return_url: "",
                    corrected: corrected.as_ref(),
                };
                match kind {
                    StepKind::Do => flow.act(&asks).await,
                    StepKind::Undo => flow.undo().await,
                    StepKind::Probe => flow.probe().await,
                }
            })
        } else if step == CAPTURE {
            let payment = Payment {
                intent: self.db.orders[number].effects[2]
                    .as_ref()
                    .and_then(|row| row.outside_id.clone()),
                total: self.orders[number].view.total,
            };
            Box::pin(async move {
                let flow = capture::flow::Flow {
                    provider: &asks,
                    claim: &claim,
                    payment: &payment,
                };
                match kind {
                    StepKind::Do => flow.act(&asks).await,
                    StepKind::Undo => flow.undo().await,
                    StepKind::Probe => flow.probe().await,
                }
            })
        } else {
            let corrected = self.db.orders[number].corrected(step).map(|row| row.good);
            let good = corrected.unwrap_or(!self.orders[number].mail_refused);
            Box::pin(async move {
                match asks.ask(Request::Mail(good)).await {
                    Response::Mail(verdict) => Ok(verdict),
                    _ => Err(Error::Ledger),
                }
            })
        };
        let key = (number, step, kind);
        self.workers[w].tasks.push(Task {
            id,
            key,
            seq,
            found,
            running: Some(running),
            port,
            left_minor: 0,
        });
        self.work(w, EFFECT_TIMEOUT_MS, Work::TimeOut(id));
        self.go_on(w, id);
    }

    /// What a person says that the provider calls the payment: what it does call it, or nobody's.
    fn corrected_id(&self, order: usize, claim: &Claim) -> Option<IntentId> {
        let row = self.db.orders[order].corrected(2)?;
        let is_undo = claim.command.kind == StepKind::Undo;
        let own = place(&IntentId::new(claim.outside_id()?)?);
        let named = if row.good { own + MOVED } else { NOBODYS };
        IntentId::new(&format!("pi_{named}")).filter(|_| is_undo)
    }

    fn task(&mut self, w: usize, id: u64) -> Option<&mut Task> {
        self.workers[w].tasks.iter_mut().find(|task| task.id == id)
    }

    fn go_on(&mut self, w: usize, id: u64) {
        let Some(task) = self.task(w, id) else {
            return;
        };
        let Some(running) = &mut task.running else {
            return;
        };
        let poll = running
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        match poll {
            Poll::Ready(result) => {
                task.running = None;
                let failed =
                    |error: Error| Verdict::retry(error.code(), "The step could not be finished.");
                self.work_soon(w, Work::Record(id, result.unwrap_or_else(failed)));
            }
            Poll::Pending => {
                let (asked, key, left) = (task.port.asked(), task.key, task.left_minor);
                if let Some(request) = asked {
                    if let Request::Refund(_, minor) = request {
                        self.judge.asked_back(key.0, minor, left);
                    }
                    self.ask(w, id, key.0, request);
                }
            }
        }
    }

    pub(super) fn hear(&mut self, w: usize, id: u64, response: Response) {
        let total = |order: usize| self.orders[order].view.total.amount_minor;
        let task = self.workers[w].tasks.iter_mut().find(|task| task.id == id);
        if let Some(task) = task {
            if let Response::Refunds(Ok(refunds)) = &response {
                let back: i64 = refunds.iter().map(|refund| refund.amount).sum();
                task.left_minor = total(task.key.0) - back;
            }
            if let Response::Refund(Ok(refund)) = &response {
                task.left_minor -= refund.amount;
            }
            task.port.answer(response);
            self.go_on(w, id);
        }
    }

    pub(super) fn time_out(&mut self, w: usize, id: u64) {
        if let Some(task) = self.task(w, id)
            && task.running.take().is_some()
        {
            self.work_soon(
                w,
                Work::Record(id, Verdict::retry("timed_out", "The step took too long.")),
            );
        }
    }

    fn ask(&mut self, w: usize, id: u64, order: usize, request: Request) {
        let response = match &request {
            Request::Store(outside_id) => {
                return self.work_soon(w, Work::Store(id, outside_id.clone()));
            }
            Request::Take if self.orders[order].card == Card::OverLimit => {
                Response::Taken(Err((Refusal::LimitExceeded, "Too many.".to_owned())))
            }
            Request::Take => Response::Taken(Ok(())),
            Request::GiveBack => Response::Given,
            Request::Mail(_) if self.mail_is_away(order) => {
                Response::Mail(Verdict::retry("mail_unavailable", "Later."))
            }
            Request::Mail(false) => {
                self.coverage.fault(Fault::AddressWrong);
                Response::Mail(Verdict::rejected("recipient_invalid", "No."))
            }
            Request::Mail(true) => Response::Mail(Verdict::done()),
            _ => return self.ask_provider(w, id, order, request),
        };
        self.work_soon(w, Work::Hear(id, response));
    }

    /// Whether a buyer's mail server takes nothing: mostly for a moment, now and then for so long that a person
    /// is asked.
    fn mail_is_away(&mut self, order: usize) -> bool {
        if self.now < self.orders[order].mail_back_at {
            return true;
        }
        let strikes = self.strikes(Fault::MailAway);
        if strikes && self.rng.chance(3_000) {
            let ms = self.rng.range(900_000, 1_800_000);
            tell!(
                self,
                Some(order),
                "its buyer's mail server is away for {ms} ms"
            );
            self.orders[order].mail_back_at = self.now + ms;
        }
        strikes
    }

    fn ask_provider(&mut self, w: usize, id: u64, order: usize, request: Request) {
        tell!(
            self,
            Some(order),
            "worker {w} asks the provider: {request:?}"
        );
        let captures = matches!(request, Request::Capture(_));
        let away = self.now < self.provider_back_at && (captures || !self.captures_only);
        if away || self.strikes(Fault::ProviderAway) {
            return self.work(w, 5, Work::Hear(id, refused(&request, Classified::NotSent)));
        }
        if self.strikes(Fault::ProviderBusy) {
            let busy = Classified::Busy {
                retry_after_ms: Some(1_000),
            };
            return self.work(w, 5, Work::Hear(id, refused(&request, busy)));
        }
        let late = self.strikes(Fault::RequestLate);
        let way = match self.race_of(order, &request) {
            Some(ms) => ms,
            None if late => self.rng.range(100, 90_000),
            None => self.rng.range(1, 8),
        };
        let lost = self.strikes(Fault::AnswerLost) || way >= REQUEST_TIMEOUT_MS;
        if lost {
            self.work(
                w,
                REQUEST_TIMEOUT_MS,
                Work::Hear(id, refused(&request, Classified::Ambiguous)),
            );
        }
        let asker = (!lost).then_some((w, self.workers[w].life, id));
        self.after(way, Event::Request(order, request, asker));
    }

    /// A card that pays at once races on the way to the provider, and a slow one at its bank; a capture has
    /// only the way.
    fn race_of(&mut self, order: usize, request: &Request) -> Option<i64> {
        let races = match (self.race?.of, request) {
            (Racer::Pay, Request::Confirm(_)) => self.orders[order].card == Card::Good,
            (Racer::Capture, Request::Capture(_)) => true,
            _ => false,
        };
        if races { self.race_ms(order) } else { None }
    }

    /// A request reaches the provider, whatever became of who sent it.
    pub(super) fn request_arrives(
        &mut self,
        order: usize,
        request: &Request,
        asker: Option<(usize, u32, u64)>,
    ) {
        let lapse = match request {
            Request::Retrieve(_) if self.strikes(Fault::ProviderLies) => match self.rng.below(2) {
                0 => Some(Lapse::ShowsBefore),
                _ => Some(Lapse::ShowsNothing),
            },
            Request::Capture(_) if self.strikes(Fault::AuthorisationEnds) => Some(Lapse::EndsFirst),
            Request::Create(_) if self.strikes(Fault::KeyForgotten) => Some(Lapse::ForgetsKey),
            _ => None,
        };
        if matches!(request, Request::Cancel(_)) && self.orders[order].moves_now() {
            self.coverage.fault(Fault::PaymentMoved);
        }
        let stood = self.stands(order, request);
        let response = receive(&mut self.orders[order], request, lapse);
        // Of what a request did to a payment the provider tells, too.
        if matches!(request, Request::Confirm(_))
            && self.stands(order, request) != stood
            && !self.strikes(Fault::WebhookLost)
        {
            let after = self.rng.range(1, 2_000);
            self.after(after, Event::Webhook(order, Cause::OwnRequest));
        }
        if matches!(
            &response,
            Response::Refund(Err(Classified::NotRefundable(_)))
        ) {
            self.coverage.fault(Fault::RefundRefused);
        }
        if matches!(&response, Response::Refund(Ok(refund)) if refund.status == "pending") {
            self.coverage.fault(Fault::RefundPends);
        }
        tell!(
            self,
            Some(order),
            "the provider has {request:?}: {:?}",
            self.orders[order]
                .payments
                .iter()
                .map(|p| (p.stand, p.refunded_minor))
                .collect::<Vec<_>>()
        );
        if let Request::Confirm(at) = *request
            && let Some(Stand::Thinking | Stand::Challenged) =
                self.orders[order].payments.get(at).map(|p| p.stand)
        {
            let after = self.race_ms(order);
            let after = after.unwrap_or_else(|| self.rng.range(100, 40_000));
            self.after(after, Event::Bank(order, at));
        }
        self.effect(order, 2);
        if let Some((w, life, id)) = asker {
            let way = self.rng.range(1, 8);
            self.after(way, Event::Worker(w, life, Work::Hear(id, response)));
        }
    }

    fn stands(&self, order: usize, request: &Request) -> Option<Stand> {
        let Request::Confirm(at) = *request else {
            return None;
        };
        let payment = self.orders[order].payments.get(at);
        payment.map(|payment| payment.stand)
    }

    /// The outside id goes into the ledger, on its condition.
    pub(super) fn store(&mut self, w: usize, id: u64, outside_id: &str) {
        let Some((order, step, _)) = self.task(w, id).map(|task| task.key) else {
            return;
        };
        let fate = self.fate();
        if fate == Fate::Failed {
            return self.work(w, 250, Work::Store(id, outside_id.to_owned()));
        }
        let row = &mut self.db.orders[order].effects[step];
        let stored = match row {
            Some(row) if may_be_called(row, outside_id) => {
                row.outside_id = Some(outside_id.to_owned());
                true
            }
            _ => false,
        };
        if fate == Fate::Unheard {
            return self.work(w, 250, Work::Store(id, outside_id.to_owned()));
        }
        tell!(self, Some(order), "the ledger has {outside_id}: {stored}");
        self.hear(w, id, Response::Stored(Some(stored)));
    }

    /// Records a verdict; what the row says is the answer if somebody else was quicker.
    pub(super) fn record(&mut self, w: usize, id: u64, verdict: Verdict) {
        let Some(task) = self.task(w, id) else {
            return;
        };
        let ((order, step, kind), seq) = (task.key, task.seq);
        let answer = match record(kind, &verdict, task.found.as_ref()) {
            None => verdict,
            Some(change) => {
                let fate = self.fate();
                if fate == Fate::Failed {
                    return self.work(w, 250, Work::Record(id, verdict));
                }
                let changed = self.change(order, step, Some(&change));
                if fate == Fate::Unheard {
                    return self.work(w, 250, Work::Record(id, verdict));
                }
                let row = self.db.orders[order].effects[step].as_ref();
                match decide(row, kind) {
                    _ if changed => verdict,
                    Action::Answer(found) => found,
                    _ if row.is_some_and(|row| change.is_outdated(row)) => corrected_since(),
                    _ => Verdict::retry("ledger_unavailable", "The outcome could not be recorded."),
                }
            }
        };
        let worker = &mut self.workers[w];
        worker.tasks.retain(|task| task.id != id);
        let letters = worker.leave((order, step, kind), seq);
        let answers = letters.into_iter().map(|letter| (letter, answer.clone()));
        let answers = answers.collect();
        self.work_soon(w, Work::Answer(answers));
    }
}

fn refused(request: &Request, why: Classified) -> Response {
    match request {
        Request::Refund(..) => Response::Refund(Err(why)),
        Request::Refunds(_) => Response::Refunds(Err(why)),
        _ => Response::Intent(Err(why)),
    }
}
