//! Carries out a call against the books: looks up, lets [`step`](crate::step::step) decide, shows the result.

use std::sync::Arc;

use serde::Serialize;

use crate::call::{
    Call, ConfirmIntent, CreateIntent, CreateRefund, MethodParam, NewMethod, UpdateIntent,
};
use crate::cards::Card;
use crate::error::StripeError;
use crate::id;
use crate::intent::{
    CaptureMethod, Intent, Method, MethodChoice, Refund, fingerprint_of_number,
    fingerprint_of_payer,
};
use crate::keys::Key;
use crate::refund::{Course, NewRefund};
use crate::step::{Command, Confirm, NewIntent, Transition, Update, open, step};
use crate::store::{Answer, Books, Change, Event, Store};
use crate::view::{Expand, ListView, Viewer, method_view};

/// A request whose parameters are in order.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) call: Call,
    pub(crate) expand: Expand,
    pub(crate) key: Option<Key>,
    pub(crate) id: String,
}

/// How a fault bends what a request would do.
#[derive(Debug, Default)]
pub(crate) struct Twist {
    /// The answer, although the request takes effect.
    pub(crate) instead: Option<StripeError>,
    /// How the refund goes on.
    pub(crate) course: Option<Course>,
    /// The intent is shown as it was before.
    pub(crate) stale: bool,
}

/// A refusal, with the intent it is about.
struct Refused {
    error: StripeError,
    intent: Option<Arc<Intent>>,
}

impl From<StripeError> for Refused {
    fn from(error: StripeError) -> Self {
        Self {
            error,
            intent: None,
        }
    }
}

/// What a call changes, before it is written.
enum Outcome {
    Moved(Box<Transition>, Option<Method>),
    Made(Method),
}

impl Store {
    /// Executes the request at `clock_ms`; returns the answer and the events that followed.
    pub(crate) fn execute(
        &mut self,
        request: &Request,
        clock_ms: i64,
        viewer: Viewer<'_>,
        twist: Twist,
    ) -> (Answer, Vec<Event>) {
        let now_ms = self.now_ms(clock_ms);
        if let Some(read) = read(self.books(), request, viewer, twist.stale) {
            let read = twist.instead.map_or(read, Err);
            let answer = read.unwrap_or_else(|error| refuse(&error, None, viewer));
            return (answer, Vec::new());
        }
        if self.is_full() {
            tracing::error!("the ledger is full: nothing more is taken until it is started anew");
            let error = StripeError::full(
                "The simulator's ledger is full. Start it with a new ledger file, or raise \
                 ledger_records_max.",
            );
            return (refuse(&error, None, viewer), Vec::new());
        }
        let decided = decide(self.books(), &request.call, now_ms, twist.course);
        let mut change = Change::new(now_ms, request.id.clone());
        let answer = match decided {
            Ok(outcome) => show(outcome, request, viewer, &mut change),
            Err(refused) => refuse(&refused.error, refused.intent.as_deref(), viewer),
        };
        let answer = twist
            .instead
            .map_or(answer, |error| refuse(&error, None, viewer));
        if change.is_empty() && request.key.is_none() {
            return (answer, Vec::new());
        }
        self.keep(change, request.key.as_ref(), answer, viewer)
    }

    /// Stores an answer of the simulator's own making under the request's key, as if it were the endpoint's.
    pub(crate) fn answer_with(
        &mut self,
        error: &StripeError,
        request: &Request,
        clock_ms: i64,
        viewer: Viewer<'_>,
    ) -> Answer {
        let answer = refuse(error, None, viewer);
        if request.key.is_none() || self.is_full() {
            return answer;
        }
        let change = Change::new(self.now_ms(clock_ms), request.id.clone());
        self.keep(change, request.key.as_ref(), answer, viewer).0
    }

    fn keep(
        &mut self,
        change: Change,
        key: Option<&Key>,
        answer: Answer,
        viewer: Viewer<'_>,
    ) -> (Answer, Vec<Event>) {
        match self.commit(change, key, &answer) {
            Ok(events) => (answer, events),
            Err(error) => {
                tracing::error!(%error, "the ledger could not be written; the request had no effect");
                let error = StripeError::api("The simulator's ledger cannot be written.");
                (refuse(&error, None, viewer), Vec::new())
            }
        }
    }
}

/// The JSON of a view. (Its maps have text keys and its types cannot fail.)
fn json(view: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(view).unwrap_or_default()
}

pub(crate) fn refuse(error: &StripeError, intent: Option<&Intent>, viewer: Viewer<'_>) -> Answer {
    Answer::new(error.status, json(&viewer.error(error, intent)))
}

/// The answer to a call that changes nothing; `None` if it may change something.
fn read(
    books: &Books,
    request: &Request,
    viewer: Viewer<'_>,
    stale: bool,
) -> Option<Result<Answer, StripeError>> {
    let expand = request.expand;
    let ok = |body| Ok(Answer::new(200, body));
    Some(match &request.call {
        Call::RetrieveIntent(id) => intent(books, id)
            .map(|now| books.intent_before(id).filter(|_| stale).unwrap_or(now))
            .map(|intent| json(&viewer.intent(intent, expand)))
            .and_then(ok),
        Call::RetrieveRefund(id) => match refund_and_intent(books, id) {
            Some((refund, intent)) => ok(json(&viewer.refund(refund, intent, expand))),
            None => Err(StripeError::missing("refund", id, "refund")),
        },
        Call::RetrieveCharge(id) => {
            let intent = books.intent_behind(id);
            let charge = intent.and_then(|intent| Some((intent, intent.charge.as_deref()?)));
            match charge.filter(|(intent, _)| intent.charge_id().as_ref() == Some(id)) {
                Some((intent, charge)) => ok(json(&viewer.charge(intent, charge, expand))),
                None => Err(StripeError::missing("charge", id, "id")),
            }
        }
        Call::RetrieveMethod(id) => books
            .method(id)
            .ok_or_else(|| StripeError::missing("PaymentMethod", id, "payment_method"))
            .and_then(|method| ok(json(&method_view(&method)))),
        Call::RetrieveEvent(id) => match books.events.iter().find(|event| event.id == *id) {
            Some(event) => ok(json(&viewer.event(event))),
            None => Err(StripeError::missing("event", id, "id")),
        },
        Call::ListIntents(page) => page
            .of(
                &books.intents,
                |id| books.intent_position(id),
                |intent| intent.created,
                |_| true,
            )
            .map(|(found, has_more)| {
                let data = found
                    .into_iter()
                    .map(|intent| viewer.intent(intent, expand));
                json(&list("/v1/payment_intents", data, has_more))
            })
            .and_then(ok),
        Call::ListRefunds(page, of) => page
            .of(
                &books.refunds,
                |id| books.refund_position(id),
                |refund| refund.created,
                |refund| {
                    let of = of.as_deref();
                    of.is_none_or(|of| *refund.intent == *of || *refund.charge == *of)
                },
            )
            .map(|(found, has_more)| {
                let data = found.into_iter().filter_map(|refund| {
                    let intent = books.intent(&refund.intent)?;
                    Some(viewer.refund(refund, intent, expand))
                });
                json(&list("/v1/refunds", data, has_more))
            })
            .and_then(ok),
        Call::ListEvents(page) => {
            let events: Vec<&Event> = books.events.iter().collect();
            page.of(
                &events,
                |id| events.iter().position(|event| event.id == id),
                |event| event.created,
                |_| true,
            )
            .map(|(found, has_more)| {
                let data = found.into_iter().map(|event| viewer.event(event));
                json(&list("/v1/events", data, has_more))
            })
            .and_then(ok)
        }
        Call::CreateIntent(_)
        | Call::ConfirmIntent(..)
        | Call::CaptureIntent(..)
        | Call::CancelIntent(..)
        | Call::UpdateIntent(..)
        | Call::CreateRefund(_)
        | Call::CreateMethod(_) => return None,
    })
}

fn list<T>(url: &'static str, data: impl Iterator<Item = T>, has_more: bool) -> ListView<T> {
    ListView {
        object: "list",
        data: data.collect(),
        has_more,
        url,
    }
}

fn refund_and_intent<'a>(books: &'a Books, id: &str) -> Option<(&'a Arc<Refund>, &'a Arc<Intent>)> {
    let refund = books.refund(id)?;
    Some((refund, books.intent(&refund.intent)?))
}

fn intent<'a>(books: &'a Books, id: &str) -> Result<&'a Arc<Intent>, StripeError> {
    books
        .intent(id)
        .ok_or_else(|| StripeError::missing("payment_intent", id, "intent"))
}

/// What the call does, decided and not yet done.
fn decide(
    books: &Books,
    call: &Call,
    now_ms: i64,
    course: Option<Course>,
) -> Result<Outcome, Refused> {
    let now = now_ms / 1000;
    match call {
        Call::CreateIntent(create) => created(books, create, now),
        Call::ConfirmIntent(id, confirm) => {
            let intent = intent(books, id)?;
            let (confirm, made) = confirmation(books, confirm, now)?;
            stepped(intent, Command::Confirm(confirm), now, made)
        }
        Call::CaptureIntent(id, amount) => {
            let command = Command::Capture { amount: *amount };
            stepped(intent(books, id)?, command, now, None)
        }
        Call::CancelIntent(id, reason) => {
            let reason = reason.clone();
            stepped(intent(books, id)?, Command::Cancel { reason }, now, None)
        }
        Call::UpdateIntent(id, update) => {
            let intent = intent(books, id)?;
            let (update, made) = changes(books, update, now)?;
            stepped(intent, Command::Update(update), now, made)
        }
        Call::CreateRefund(refund) => refunded(books, refund, now_ms, course),
        Call::CreateMethod(new) => Ok(Outcome::Made(made(new, now))),
        Call::RetrieveIntent(_)
        | Call::RetrieveRefund(_)
        | Call::RetrieveCharge(_)
        | Call::RetrieveMethod(_)
        | Call::RetrieveEvent(_)
        | Call::ListIntents(_)
        | Call::ListRefunds(..)
        | Call::ListEvents(_) => Err(StripeError::api("A read changes nothing.").into()),
    }
}

fn stepped(
    intent: &Arc<Intent>,
    command: Command,
    now: i64,
    made: Option<Method>,
) -> Result<Outcome, Refused> {
    match step(intent, command, now) {
        Ok(transition) => Ok(Outcome::Moved(Box::new(transition), made)),
        Err(error) => Err(Refused {
            error,
            intent: Some(Arc::clone(intent)),
        }),
    }
}

fn created(books: &Books, create: &CreateIntent, now: i64) -> Result<Outcome, Refused> {
    let (confirm, made) = confirmation(books, &create.payment, now)?;
    let id = id::fresh("pi", rand::random());
    let secret = id::base62(rand::random(), 21);
    let opened = open(
        NewIntent {
            client_secret: format!("{id}_secret_{secret}").into(),
            id: id.into(),
            amount: create.amount,
            currency: create.currency.clone(),
            capture_method: create.capture_method.unwrap_or(CaptureMethod::Automatic),
            metadata: create.metadata.clone(),
            receipt_email: confirm.receipt_email.clone(),
            description: create.description.clone(),
            method: confirm.method.clone(),
        },
        now,
    );
    if !create.confirm {
        return Ok(Outcome::Moved(Box::new(opened), made));
    }
    // The method is attached already; naming it again would make a second one of it.
    let confirm = Confirm {
        method: None,
        ..confirm
    };
    let confirmed = step(&opened.intent, Command::Confirm(confirm), now)?;
    Ok(Outcome::Moved(Box::new(opened.then(confirmed)), made))
}

fn confirmation(
    books: &Books,
    params: &ConfirmIntent,
    now: i64,
) -> Result<(Confirm, Option<Method>), StripeError> {
    let (method, made) = match &params.method {
        None => (None, None),
        Some(MethodParam::Data(new)) => {
            let method = made(new, now);
            (Some(MethodChoice::Saved(method.clone())), Some(method))
        }
        Some(MethodParam::Id(id)) => {
            let test = Card::of_test_id(id).filter(|_| id.starts_with("pm_card_"));
            let choice = match test {
                Some(card) => Some(MethodChoice::Test(card)),
                None => books.method(id).map(MethodChoice::Saved),
            };
            let missing = || StripeError::missing("PaymentMethod", id, "payment_method");
            (Some(choice.ok_or_else(missing)?), None)
        }
    };
    let confirm = Confirm {
        method,
        receipt_email: params.receipt_email.clone(),
        return_url: params.return_url.clone(),
        capture_method: params.capture_method,
        unattended: params.unattended,
    };
    Ok((confirm, made))
}

fn changes(
    books: &Books,
    params: &UpdateIntent,
    now: i64,
) -> Result<(Update, Option<Method>), StripeError> {
    let (confirm, made) = confirmation(books, &params.payment, now)?;
    let update = Update {
        amount: params.amount,
        metadata: params.metadata.clone(),
        description: params.description.clone(),
        receipt_email: confirm.receipt_email,
        method: confirm.method,
    };
    Ok((update, made))
}

fn refunded(
    books: &Books,
    refund: &CreateRefund,
    now_ms: i64,
    course: Option<Course>,
) -> Result<Outcome, Refused> {
    let is_charge = refund.of.starts_with("ch_");
    let intent = books
        .intent_behind(&refund.of)
        .filter(|intent| match is_charge {
            true => intent.charge_id().as_ref() == Some(&refund.of),
            false => *intent.id == *refund.of,
        })
        .ok_or_else(|| match is_charge {
            true => StripeError::missing("charge", &refund.of, "charge"),
            false => StripeError::missing("payment_intent", &refund.of, "payment_intent"),
        })?;
    let command = Command::Refund(NewRefund {
        id: id::fresh("re", rand::random()).into(),
        amount: refund.amount,
        reason: refund.reason.clone(),
        metadata: refund.metadata.clone(),
        course,
        now_ms,
    });
    stepped(intent, command, now_ms / 1000, None)
}

fn made(new: &NewMethod, now: i64) -> Method {
    Method {
        id: id::fresh("pm", rand::random()).into(),
        card: new.card,
        fingerprint: if new.by_number {
            fingerprint_of_number(new.card)
        } else {
            fingerprint_of_payer(new.card, new.email.as_deref())
        },
        exp_month: new.exp_month,
        exp_year: new.exp_year,
        created: now,
        email: new.email.clone(),
    }
}

/// Moves the outcome into the change and renders the answer to it.
fn show(outcome: Outcome, request: &Request, viewer: Viewer<'_>, change: &mut Change) -> Answer {
    let (transition, made) = match outcome {
        Outcome::Made(method) => {
            let answer = Answer::new(200, json(&method_view(&method)));
            change.method = Some(method);
            return answer;
        }
        Outcome::Moved(transition, made) => (transition, made),
    };
    let intent = &transition.intent;
    let answer = match (&transition.refusal, &transition.refund) {
        (Some(error), _) => refuse(error, Some(intent), viewer),
        (None, Some(refund)) => {
            Answer::new(200, json(&viewer.refund(refund, intent, request.expand)))
        }
        (None, None) => Answer::new(200, json(&viewer.intent(intent, request.expand))),
    };
    change.moved(*transition, made);
    answer
}

impl Change {
    pub(crate) fn moved(&mut self, transition: Transition, made: Option<Method>) {
        let event = |kind: &&str| (id::fresh("evt", rand::random()), (*kind).to_owned());
        self.events = transition.events.iter().map(event).collect();
        self.movements = transition.movements;
        self.refund = transition.refund;
        self.intent = Some(transition.intent);
        self.method = made;
    }
}
