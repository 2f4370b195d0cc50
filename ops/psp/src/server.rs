//! The simulator at work: its shared state, the faults around a request, and the accept loop.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runtime::http::{Limits, serve};
use runtime::metrics::{self, IntCounter, IntCounterVec};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::call::{Call, MethodParam};
use crate::cards::Card;
use crate::error::StripeError;
use crate::execute::{Request, Twist, refuse};
use crate::faults::{Drawn, Fault, Faults, Operation, Subject};
use crate::intent::Intent;
use crate::keys::Lookup;
use crate::store::{Answer, Event, Store};
use crate::view::Viewer;
use crate::webhooks::{self, Delivery, Endpoint, Webhooks};
use crate::{Config, Error, http_api, id};

/// How many requests may wait for their latency or slowness at a time; further ones are refused (429).
const WAITING_MAX: usize = 10_000;

/// The pause when a refund whose time has come cannot be ended (the disk is full), or its time, by a clock
/// that was set, has not come yet.
const SETTLE_PAUSE: Duration = Duration::from_millis(20);

static FAULTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counters(
        "guichet_psp_faults_total",
        "Faults that the simulator made",
        &["fault"],
    )
});
static REPLAYS: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter(
        "guichet_psp_replays_total",
        "Requests answered from the idempotency store",
    )
});

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Simulator {
    pub(crate) config: Config,
    pages_url: String,
    state: Mutex<State>,
    webhooks: Option<Webhooks>,
    waiting: Arc<Semaphore>,
    /// A refund was made, which may have to be ended.
    refunded: Notify,
    shutdown: CancellationToken,
}

/// What is behind the lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) faults: Faults,
    /// Keys of requests that wait to be executed.
    in_flight: HashSet<u128>,
}

/// What a client gets to see.
#[derive(Debug)]
pub(crate) enum Outcome {
    Answer(Answer),
    /// Nothing, after the connection was held open for so long.
    Silence(Duration),
}

/// Runs the simulator on `listener` until `shutdown`; what is under way may finish.
///
/// # Errors
/// If the configuration is wrong or the ledger's file cannot be used; nothing was served then.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let problems = config.problems();
    if !problems.is_empty() {
        return Err(Error::Config(problems));
    }
    let addr = listener.local_addr().map_err(Error::Listener)?;
    let pages_url = config
        .pages_url
        .clone()
        .unwrap_or_else(|| format!("http://{addr}"));
    let store = Store::open(&config.ledger_path, config.ledger_records_max)?;
    tracing::info!(
        %addr,
        ledger = %config.ledger_path.display(),
        intents = store.books().intents.len(),
        entries = store.books().entry_count(),
        "payment simulator ready"
    );
    let endpoint = config
        .webhook_url
        .clone()
        .filter(|url| !url.is_empty())
        .zip(config.webhook_secret.clone())
        .map(|(url, secret)| Endpoint { url, secret });
    let (webhooks, delivering) = match endpoint {
        Some(endpoint) => {
            let client = webhooks::client().map_err(Error::WebhookClient)?;
            let (webhooks, delivering) = Webhooks::new(endpoint, client, shutdown.clone());
            (Some(webhooks), Some(delivering))
        }
        None => (None, None),
    };
    let simulator = Arc::new(Simulator {
        state: Mutex::new(State {
            store,
            faults: Faults::new(config.fault_seed, config.fault_rate),
            in_flight: HashSet::new(),
        }),
        pages_url,
        webhooks,
        waiting: Arc::new(Semaphore::new(WAITING_MAX)),
        refunded: Notify::new(),
        shutdown: shutdown.clone(),
        config,
    });
    let limits = Limits {
        max_body_bytes: http_api::BODY_MAX_BYTES,
        ..Limits::default()
    };
    let settling = Arc::clone(&simulator).settle_refunds();
    let serving = serve(listener, http_api::routes(simulator), limits, shutdown);
    // Both end with the serving, whatever they wait for.
    let beside = async {
        match delivering {
            Some(delivering) => {
                tokio::join!(delivering, settling);
            }
            None => settling.await,
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = serving => {}
        () = beside => {}
    }
    Ok(())
}

impl Simulator {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock panics; were it otherwise, the file would still be right.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn viewer(&self) -> Viewer<'_> {
        Viewer {
            pages_url: &self.pages_url,
        }
    }

    /// Runs a request with whatever faults are planned for it.
    pub(crate) async fn serve(self: Arc<Self>, request: Request, path: &str) -> Outcome {
        let (fault, hold, wait) = {
            let mut state = self.state();
            if let Some(answer) = self.known(&state, &request) {
                return Outcome::Answer(answer);
            }
            let drawn = state.draw(&request, path);
            let fault = drawn.map(|drawn| drawn.fault);
            let hold_ms = drawn.and_then(|drawn| drawn.hold_ms);
            let hold = Duration::from_millis(hold_ms.unwrap_or(self.config.fault_hold_ms));
            match fault {
                Some(Fault::RateLimit) => {
                    let error = StripeError::rate_limit();
                    return Outcome::Answer(refuse(&error, None, self.viewer()));
                }
                // It never gets as far as the endpoint, so it leaves no trace, not even its key.
                Some(Fault::TimeoutBefore) => return Outcome::Silence(hold),
                _ => {}
            }
            let mut wait_ms = self.config.latency_ms;
            if let Some(Fault::Slow { ms }) = fault {
                wait_ms += ms;
            }
            if wait_ms == 0 {
                let (answer, events) = self.execute(&mut state, &request, fault);
                let deliveries = self.deliveries(&mut state, &events);
                drop(state);
                self.send(deliveries);
                return after(answer, fault, hold);
            }
            if let Some(key) = &request.key {
                state.in_flight.insert(key.name);
            }
            (fault, hold, Duration::from_millis(wait_ms))
        };
        match self.execute_later(request, fault, wait).await {
            Some(answer) => after(answer, fault, hold),
            None => Outcome::Silence(Duration::ZERO),
        }
    }

    /// The answer to a request whose key is known, if it is.
    fn known(&self, state: &State, request: &Request) -> Option<Answer> {
        let key = request.key.as_ref()?;
        let refused = |error: StripeError| Some(refuse(&error, None, self.viewer()));
        if state.in_flight.contains(&key.name) {
            return refused(StripeError::key_in_use(&key.text));
        }
        match state.store.look_up(key, now_ms()) {
            Lookup::Free => None,
            Lookup::Reused => refused(StripeError::key_reused(&key.text)),
            Lookup::Stored(place) => match state.store.stored(place) {
                Ok(answer) => {
                    REPLAYS.inc();
                    Some(answer)
                }
                Err(error) => {
                    tracing::error!(%error, "a stored answer could not be read from the ledger");
                    refused(StripeError::api("The simulator's ledger cannot be read."))
                }
            },
        }
    }

    /// Executes after `wait`, whether or not the client still listens. `None` at shutdown.
    async fn execute_later(
        self: Arc<Self>,
        request: Request,
        fault: Option<Fault>,
        wait: Duration,
    ) -> Option<Answer> {
        let Ok(slot) = Arc::clone(&self.waiting).try_acquire_owned() else {
            tracing::warn!(waiting = WAITING_MAX, "refusing a request: too many wait");
            self.land(&request);
            return Some(refuse(&StripeError::rate_limit(), None, self.viewer()));
        };
        let (sender, receiver) = oneshot::channel();
        tokio::spawn(async move {
            let _slot = slot;
            let arrived = tokio::select! {
                () = self.shutdown.cancelled() => false,
                () = sleep(wait) => true,
            };
            if !arrived {
                self.land(&request);
                return;
            }
            let (answer, deliveries) = {
                let mut state = self.state();
                let (answer, events) = self.execute(&mut state, &request, fault);
                if let Some(key) = &request.key {
                    state.in_flight.remove(&key.name);
                }
                let deliveries = self.deliveries(&mut state, &events);
                (answer, deliveries)
            };
            self.send(deliveries);
            // The client may have left, which changes nothing.
            let _ = sender.send(answer);
        });
        receiver.await.ok()
    }

    fn land(&self, request: &Request) {
        if let Some(key) = &request.key {
            self.state().in_flight.remove(&key.name);
        }
    }

    fn execute(
        &self,
        state: &mut State,
        request: &Request,
        fault: Option<Fault>,
    ) -> (Answer, Vec<Event>) {
        let broken = || StripeError::api("An unknown error occurred");
        let store = &mut state.store;
        if fault == Some(Fault::ServerError) {
            let answer = store.answer_with(&broken(), request, now_ms(), self.viewer());
            return (answer, Vec::new());
        }
        let twist = Twist {
            instead: (fault == Some(Fault::ServerErrorAfter)).then(broken),
            course: fault.and_then(Fault::course),
            stale: fault == Some(Fault::Stale),
        };
        let done = store.execute(request, now_ms(), self.viewer(), twist);
        if matches!(request.call, Call::CreateRefund(_)) {
            self.refunded.notify_one();
        }
        done
    }

    /// Ends refunds when their time has come, those of an earlier life of the process too.
    async fn settle_refunds(self: Arc<Self>) {
        loop {
            let next_ms = self.state().store.books().next_settlement_ms();
            let wait_ms = next_ms.map_or(0, |at_ms| at_ms.saturating_sub(now_ms()).max(0));
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = self.refunded.notified() => continue,
                () = sleep(Duration::from_millis(wait_ms.unsigned_abs())), if next_ms.is_some() => {}
            }
            if !self.settle_refund() {
                sleep(SETTLE_PAUSE).await;
            }
        }
    }

    fn settle_refund(&self) -> bool {
        let deliveries = {
            let mut state = self.state();
            let Some(events) = state.store.settle_refund(now_ms()) else {
                return false;
            };
            self.deliveries(&mut state, &events)
        };
        self.send(deliveries);
        true
    }

    /// Settles the payer's answer on the bank's page.
    pub(crate) fn authenticate(&self, intent: &Intent, approved: bool) -> Result<(), StripeError> {
        let request_id = id::fresh("req", rand::random());
        let deliveries = {
            let mut state = self.state();
            let store = &mut state.store;
            let events = store.authenticate(intent, approved, request_id, now_ms())?;
            self.deliveries(&mut state, &events)
        };
        self.send(deliveries);
        Ok(())
    }

    fn deliveries(&self, state: &mut State, events: &[Event]) -> Vec<Delivery> {
        if self.webhooks.is_none() {
            return Vec::new();
        }
        let deliver = |event: &Event| Delivery {
            event_id: event.id.clone(),
            body: serde_json::to_vec(&self.viewer().event(event))
                .unwrap_or_default()
                .into(),
            fault: state.draw_for(event),
        };
        events.iter().map(deliver).collect()
    }

    fn send(&self, deliveries: Vec<Delivery>) {
        if let Some(webhooks) = &self.webhooks {
            for delivery in deliveries {
                webhooks.send(delivery);
            }
        }
    }
}

/// What becomes of an answer on its way out.
fn after(answer: Answer, fault: Option<Fault>, hold: Duration) -> Outcome {
    match fault {
        Some(Fault::TimeoutAfter) => Outcome::Silence(hold),
        Some(Fault::ResetAfter) => Outcome::Silence(Duration::ZERO),
        _ => Outcome::Answer(answer),
    }
}

pub(crate) fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

impl State {
    /// The fault planned for a request, if there is one.
    fn draw(&mut self, request: &Request, path: &str) -> Option<Drawn> {
        if !self.faults.any() {
            return None;
        }
        let operations = request.call.operations();
        let books = self.store.books();
        let intent = match &request.call {
            Call::ConfirmIntent(id, _)
            | Call::CaptureIntent(id, _)
            | Call::CancelIntent(id, _)
            | Call::UpdateIntent(id, _)
            | Call::RetrieveIntent(id)
            | Call::RetrieveCharge(id)
            | Call::RetrieveMethod(id) => books.intent_behind(id),
            Call::CreateRefund(refund) => books.intent_behind(&refund.of),
            Call::RetrieveRefund(id) => books
                .refund(id)
                .and_then(|refund| books.intent(&refund.intent)),
            _ => None,
        };
        let mut subject = Subject {
            operations,
            path,
            ..intent.map_or_else(Subject::default, |intent| about(intent))
        };
        let named = match &request.call {
            Call::CreateIntent(create) => {
                let mut metadata = create.metadata.iter();
                let order = metadata.find(|(key, _)| &**key == "order_id");
                subject.order_id = order.map(|(_, value)| &**value);
                Some(&create.payment)
            }
            Call::ConfirmIntent(_, confirm) => Some(confirm),
            _ => None,
        };
        if let Some(named) = named {
            subject.receipt_email = named.receipt_email.as_deref().or(subject.receipt_email);
            match &named.method {
                Some(MethodParam::Id(id)) => {
                    subject.method_id = Some(id);
                    let saved = || books.method(id).map(|method| method.card);
                    subject.card = Card::of_test_id(id).or_else(saved);
                }
                Some(MethodParam::Data(new)) => subject.card = Some(new.card),
                None => {}
            }
        }
        // A key names a request across its repetitions; without one, what it asks has to do.
        subject.identity = match &request.key {
            Some(key) => id::digest(&[path.as_bytes(), &key.name.to_be_bytes()]),
            None => id::digest(&[path.as_bytes(), subject.order_id.unwrap_or("").as_bytes()]),
        };
        let drawn = self.faults.draw(&subject);
        count(drawn)
    }

    /// The fault planned for the sending of an event.
    fn draw_for(&mut self, event: &Event) -> Option<Fault> {
        if !self.faults.any() {
            return None;
        }
        let reference = event.intent.reference().unwrap_or(&event.intent.id);
        let subject = Subject {
            operations: &[Operation::Webhook],
            identity: id::digest(&[event.kind.as_bytes(), reference.as_bytes()]),
            ..about(&event.intent)
        };
        let drawn = self.faults.draw(&subject);
        count(drawn).map(|drawn| drawn.fault)
    }
}

fn about(intent: &Intent) -> Subject<'_> {
    let charged = intent.charge.as_ref().map(|charge| &charge.method);
    let method = intent.method.as_ref().or(charged);
    Subject {
        receipt_email: intent.receipt_email.as_deref(),
        order_id: intent.reference(),
        method_id: method.map(|method| &*method.id),
        card: method.map(|method| method.card),
        ..Subject::default()
    }
}

fn count(drawn: Option<Drawn>) -> Option<Drawn> {
    if let Some(drawn) = drawn {
        FAULTS.with_label_values(&[drawn.fault.name()]).inc();
        tracing::debug!(fault = drawn.fault.name(), "making a fault");
    }
    drawn
}
