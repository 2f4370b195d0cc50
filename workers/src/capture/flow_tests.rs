use super::*;
use crate::{
    kit::testing::command,
    pay::stripe::{NewIntent, Refund},
};
use contract::{Currency, SagaId, StepKind, StepName};
use std::sync::Mutex;

/// A provider with one intent.
struct OneIntent {
    status: Mutex<&'static str>,
    /// The answer to the next capture is lost, after it was made or before.
    loses: Mutex<Option<bool>>,
    asked: Mutex<Vec<String>>,
}

fn total() -> Money {
    Money {
        amount_minor: 500,
        currency: Currency::EUR,
    }
}

impl OneIntent {
    fn that_is(status: &'static str) -> Self {
        Self {
            status: Mutex::new(status),
            loses: Mutex::new(None),
            asked: Mutex::default(),
        }
    }

    fn loses_an_answer(self, made: bool) -> Self {
        *self.loses.lock().expect("nobody panics") = Some(made);
        self
    }

    fn show(&self) -> Intent {
        let status = *self.status.lock().expect("nobody panics");
        let received = if status == "succeeded" { 500 } else { 0 };
        serde_json::from_value(json!({
            "id": "pi_1", "status": status, "amount": 500, "amount_received": received,
            "currency": "eur", "latest_charge": {"id": "ch_1", "amount_refunded": 0},
        }))
        .expect("reads")
    }

    fn note(&self, what: &str) {
        self.asked
            .lock()
            .expect("nobody panics")
            .push(what.to_owned());
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panics").clone()
    }
}

impl Provider for OneIntent {
    async fn create(&self, _: &str, _: &NewIntent<'_>) -> Result<Intent, Classified> {
        Err(Classified::NotSent)
    }

    async fn confirm(&self, _: &str, _: &IntentId, _: &str) -> Result<Intent, Classified> {
        Err(Classified::NotSent)
    }

    async fn capture(&self, _: &str, _: &IntentId, minor: i64) -> Result<Intent, Classified> {
        assert_eq!(minor, 500);
        self.note("capture");
        let lost = self.loses.lock().expect("nobody panics").take();
        if lost == Some(false) {
            return Err(Classified::Ambiguous);
        }
        let mut status = self.status.lock().expect("nobody panics");
        let authorised = *status == "requires_capture";
        if authorised {
            *status = "succeeded";
        }
        drop(status);
        match (lost, authorised) {
            (Some(_), _) => Err(Classified::Ambiguous),
            (None, true) => Ok(self.show()),
            (None, false) => Err(Classified::OtherState(Some(Box::new(self.show())))),
        }
    }

    async fn cancel(&self, _: &str, _: &IntentId) -> Result<Intent, Classified> {
        Err(Classified::NotSent)
    }

    async fn retrieve(&self, _: &IntentId) -> Result<Intent, Classified> {
        self.note("retrieve");
        Ok(self.show())
    }

    async fn refunds(&self, _: &IntentId) -> Result<Vec<Refund>, Classified> {
        Ok(Vec::new())
    }

    async fn refund(&self, _: &str, _: &IntentId, minor: i64) -> Result<Refund, Classified> {
        self.note(&format!("refund {minor}"));
        Ok(Refund {
            id: "re_1".to_owned(),
            status: "succeeded".to_owned(),
            amount: minor,
        })
    }
}

/// The ledger says so.
struct Says(bool);

impl OutsideIds for Says {
    async fn store(&self, _: &Claim, _: &str) -> Result<bool, Error> {
        Ok(self.0)
    }
}

async fn run(provider: &OneIntent, kind: StepKind, stored: bool) -> Verdict {
    let claim = Claim {
        command: command(&StepName::CAPTURE, SagaId::new(), kind),
        row: None,
    };
    let payment = Payment {
        intent: Some("pi_1".to_owned()),
        total: total(),
    };
    let flow = Flow {
        provider,
        claim: &claim,
        payment: &payment,
    };
    let verdict = match kind {
        StepKind::Do => flow.act(&Says(stored)).await,
        StepKind::Undo => flow.undo().await,
        StepKind::Probe => flow.probe().await,
    };
    verdict.expect("nothing fails")
}

fn captured() -> Verdict {
    Verdict::Done(Some(json!({
        "payment_intent": "pi_1", "captured_minor": 500, "currency": "EUR",
    })))
}

#[tokio::test]
async fn what_is_said_of_each_state() {
    use contract::Outcome::{Done, Rejected, Retry, Unknown};
    for (status, act, undo, probe) in [
        ("requires_capture", Done, Done, Unknown),
        ("succeeded", Done, Done, Done),
        ("canceled", Rejected, Done, Rejected),
        ("processing", Retry, Retry, Retry),
        ("requires_confirmation", Unknown, Done, Unknown),
        ("a_new_one", Unknown, Done, Unknown),
    ] {
        for (kind, expected) in [
            (StepKind::Do, act),
            (StepKind::Undo, undo),
            (StepKind::Probe, probe),
        ] {
            let verdict = run(&OneIntent::that_is(status), kind, true).await;
            assert_eq!(verdict.outcome(), expected, "{status} {kind:?}");
        }
    }
}

#[tokio::test]
async fn a_lost_answer_is_read_and_never_guessed() {
    let made = OneIntent::that_is("requires_capture").loses_an_answer(true);
    assert_eq!(run(&made, StepKind::Do, true).await, captured());
    assert_eq!(made.asked(), ["capture", "retrieve"]);

    let lost = OneIntent::that_is("requires_capture").loses_an_answer(false);
    let first = run(&lost, StepKind::Do, true).await;
    assert_eq!(first.outcome(), contract::Outcome::Retry);
    assert_eq!(run(&lost, StepKind::Do, true).await, captured());
}

#[tokio::test]
async fn whoever_comes_second_in_the_ledger_captures_nothing() {
    let provider = OneIntent::that_is("requires_capture");
    let verdict = run(&provider, StepKind::Do, false).await;
    assert_eq!(verdict.code(), Some("overtaken"));
    assert_eq!(provider.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn an_undo_gives_back_what_was_captured_and_nothing_else() {
    let captured = OneIntent::that_is("succeeded");
    assert_eq!(run(&captured, StepKind::Undo, true).await, Verdict::done());
    assert_eq!(captured.asked(), ["retrieve", "refund 500"]);
    let authorised = OneIntent::that_is("requires_capture");
    assert_eq!(
        run(&authorised, StepKind::Undo, true).await,
        Verdict::done()
    );
    assert_eq!(authorised.asked(), ["retrieve"]);
}
