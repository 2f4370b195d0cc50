use super::*;
use crate::kit::testing::command;
use contract::{Currency, Money, SagaId, StepKind, StepName};
use serde_json::json;
use std::sync::{
    Mutex,
    atomic::{AtomicI64, Ordering},
};

/// A provider whose payment has succeeded, and who shows it as it was before to whoever looks again.
#[derive(Default)]
struct Forgetful {
    looks: Mutex<u32>,
    refunded: AtomicI64,
}

fn intent(status: &str, received: i64) -> Intent {
    serde_json::from_value(json!({
        "id": "pi_1", "status": status, "amount": 500, "amount_received": received, "currency": "eur",
        "latest_charge": {"id": "ch_1", "amount_refunded": 0},
    }))
    .expect("reads")
}

impl Provider for Forgetful {
    async fn create(&self, _: &str, _: &NewIntent<'_>) -> Result<Intent, Classified> {
        Err(Classified::NotSent)
    }

    async fn confirm(&self, _: &str, _: &IntentId, _: &str) -> Result<Intent, Classified> {
        Err(Classified::NotSent)
    }

    async fn capture(&self, _: &str, _: &IntentId, _: i64) -> Result<Intent, Classified> {
        Err(Classified::NotSent)
    }

    async fn cancel(&self, _: &str, _: &IntentId) -> Result<Intent, Classified> {
        Err(Classified::OtherState(None))
    }

    async fn retrieve(&self, _: &IntentId) -> Result<Intent, Classified> {
        let mut looks = self.looks.lock().expect("nobody panics");
        *looks += 1;
        Ok(match *looks {
            1 => intent("succeeded", 500),
            _ => intent("requires_action", 0),
        })
    }

    async fn refunds(&self, _: &IntentId) -> Result<Vec<Refund>, Classified> {
        Ok(Vec::new())
    }

    async fn refund(&self, _: &str, _: &IntentId, minor: i64) -> Result<Refund, Classified> {
        self.refunded.fetch_add(minor, Ordering::Relaxed);
        Ok(Refund {
            id: "re_1".to_owned(),
            status: "succeeded".to_owned(),
            amount: minor,
        })
    }
}

struct NoLimits;

impl Limits for NoLimits {
    async fn take(&self, _: OrderId, _: &str, _: i32) -> Result<Answer, Error> {
        Ok(Ok(()))
    }

    async fn give_back(&self, _: OrderId) -> Result<Option<Refusal>, Error> {
        Ok(None)
    }
}

/// Found by the simulation: the undo saw the payment captured, looked once more, was shown nothing to
/// give back, and was done.
#[tokio::test]
async fn an_undo_gives_back_what_it_saw_captured() {
    let saga = SagaId::new();
    let mut row = crate::ledger::LedgerRow::claimed(1);
    row.outside_id = Some("pi_1".to_owned());
    let claim = Claim {
        command: command(&StepName::PAY, saga, StepKind::Undo),
        row: Some(row),
    };
    let order = order(saga);
    let provider = Forgetful::default();
    let flow = Flow {
        provider: &provider,
        limits: &NoLimits,
        claim: &claim,
        order: &order,
        return_url: "",
        corrected: None,
    };
    let verdict = flow.undo().await.expect("nothing fails");
    assert_eq!(verdict, Verdict::done());
    assert_eq!(provider.refunded.load(Ordering::Relaxed), 500);
}

fn order(saga: SagaId) -> OrderView {
    OrderView {
        id: saga.into(),
        account_id: None,
        total: Money {
            amount_minor: 500,
            currency: Currency::EUR,
        },
        email: String::new(),
        name: String::new(),
        locale: String::new(),
        payment_method: String::new(),
        client_addr: None,
        items: Vec::new(),
    }
}
