//! `kill -9` of each role in mid-order. Each test proves from the books that the boundary it names was
//! open when the role died, and that the order ends right once the role is back.

use contract::{Outcome, StepKind, StepName};
use database::Connection;
use diesel_async::SimpleAsyncConnection;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::{
    provider::Balance,
    smtp_sink::{Mood, SmtpSink},
    world::{
        Processes, Shop, Stands, Wish,
        catalogue::{DIVING, DIVING_A, SWIMMING_A},
        judge::{Effect, times},
        processes::Name,
        shop::Placed,
        tcp::{Line, TcpProxy},
        until,
    },
};
use tokio_util::sync::CancellationToken;

const TOTAL_MINOR: i64 = 2 * 12_500;

const CAPTURED: Balance = Balance {
    captures: 1,
    captured_minor: TOTAL_MINOR,
    refunded_minor: 0,
};

fn wish() -> Wish {
    Wish::of(DIVING_A, 2)
}

async fn plan_on_confirm(world: &Processes, wish: &Wish, fault: &Value) {
    let of = json!({ "receipt_email": wish.email() });
    world.provider.plan_for(&of, "confirm", fault, 1).await;
}

/// Waits until the payment is claimed and its intent stored.
async fn paying(world: &Processes, placed: &Placed) -> Effect {
    until("the payment is under way", async || {
        let pay = world.judge.effect(placed.id, &StepName::PAY).await?;
        (pay.stands == Stands::Claimed && pay.outside_id.is_some()).then_some(pay)
    })
    .await
}

/// No answer of this step's `do` was applied yet, and its `do` is what the saga is at.
async fn assert_outstanding(world: &Processes, placed: &Placed, step: &StepName) {
    let saga = world.judge.saga(placed.id).await;
    for outcome in [Outcome::Done, Outcome::Retry, Outcome::Unknown] {
        assert_eq!(times(&saga, step, StepKind::Do, outcome), 0);
    }
    let next = saga.timeline.last().and_then(|last| last.next.as_ref());
    assert_eq!(next.map(|next| &next.step), Some(step));
}

/// The order ends as if nothing had happened.
async fn assert_sold_once(world: &Processes, placed: &Placed) {
    let ended = world.shop.ended(placed).await;
    assert_eq!(ended.told, ["pending", "confirmed"]);
    world.judge.at_rest(placed.id).await;
    assert_eq!(world.provider.balance(placed.id.0).await, CAPTURED);
    assert_eq!(world.judge.tickets(placed.id).await.len(), 2);
    assert_eq!(world.judge.taken(DIVING_A).await, 2);
    assert_eq!(world.judge.numbers(DIVING).await, [1, 2]);
    assert_eq!(world.mails().len(), 1);
}

/// A lock in a transaction of the test's own.
async fn lock(world: &Processes, sql: &str) -> Connection {
    let mut connection = world.ground.database.connection().await;
    let locked = connection.batch_execute(&format!("BEGIN; {sql}")).await;
    locked.expect("the rows are there");
    connection
}

async fn release(mut connection: Connection) {
    connection
        .batch_execute("ROLLBACK")
        .await
        .expect("it is ours");
}

#[tokio::test]
async fn a_worker_dies_with_the_intent_stored_and_not_confirmed() {
    let mut world = Processes::start().await;
    let wish = wish();
    plan_on_confirm(&world, &wish, &json!("timeout_before")).await;
    let placed = world.shop.place(&wish).await;
    let pay = paying(&world, &placed).await;
    until("the confirmation has left", async || {
        (world.provider.plans_left().await == 0).then_some(())
    })
    .await;
    world.kill(Name::Worker);
    let still = world.judge.effect(placed.id, &StepName::PAY).await;
    assert_eq!(still.as_ref(), Some(&pay));
    assert_outstanding(&world, &placed, &StepName::PAY).await;
    assert_eq!(world.provider.balance(placed.id.0).await.captures, 0);
    world.restart(Name::Worker).await;
    assert_sold_once(&world, &placed).await;
    // With the very intent that the dead worker had stored.
    let entries = world.provider.entries(placed.id.0).await;
    let intents: Vec<_> = entries
        .iter()
        .map(|e| Some(e.payment_intent.clone()))
        .collect();
    assert!(
        intents.iter().all(|intent| *intent == pay.outside_id),
        "{entries:?}"
    );
    world.close().await;
}

#[tokio::test]
async fn a_worker_dies_with_the_payment_captured_and_not_recorded() {
    let mut world = Processes::start().await;
    let wish = wish();
    plan_on_confirm(&world, &wish, &json!("timeout_after")).await;
    let placed = world.shop.place(&wish).await;
    until("the payment is captured", async || {
        (world.provider.balance(placed.id.0).await.captures == 1).then_some(())
    })
    .await;
    world.kill(Name::Worker);
    let pay = world.judge.effect(placed.id, &StepName::PAY).await;
    assert_eq!(pay.map(|pay| pay.stands), Some(Stands::Claimed));
    assert_outstanding(&world, &placed, &StepName::PAY).await;
    world.restart(Name::Worker).await;
    assert_sold_once(&world, &placed).await;
    world.close().await;
}

#[tokio::test]
async fn a_worker_dies_inside_the_transaction_that_takes_stock() {
    let mut world = Processes::start().await;
    let held = lock(&world, "SELECT FROM stock FOR UPDATE").await;
    let placed = world.shop.place(&wish()).await;
    until("the worker waits for the stock", async || {
        world.judge.is_blocked("worker").await.then_some(())
    })
    .await;
    world.kill(Name::Worker);
    release(held).await;
    until("its transaction is gone", async || {
        (!world.judge.is_blocked("worker").await).then_some(())
    })
    .await;
    // The claim was in the same transaction.
    assert_eq!(
        world.judge.effect(placed.id, &StepName::RESERVE).await,
        None
    );
    assert_eq!(world.judge.taken(DIVING_A).await, 0);
    assert_outstanding(&world, &placed, &StepName::RESERVE).await;
    world.restart(Name::Worker).await;
    assert_sold_once(&world, &placed).await;
    world.close().await;
}

#[tokio::test]
async fn a_worker_dies_inside_the_transaction_that_numbers_tickets() {
    let mut world = Processes::start().await;
    let (first, ended) = world.shop.buy(&Wish::of(DIVING_A, 1)).await;
    assert_eq!(ended.status(), "confirmed");
    world.judge.at_rest(first.id).await;
    let held = lock(&world, "SELECT FROM ticket_counters FOR UPDATE").await;
    let placed = world.shop.place(&wish()).await;
    until("the worker waits for the counter", async || {
        let paid = world.judge.effect(placed.id, &StepName::PAY).await?;
        let blocked = world.judge.is_blocked("worker").await;
        (paid.stands == Stands::Done && blocked).then_some(())
    })
    .await;
    world.kill(Name::Worker);
    release(held).await;
    until("its transaction is gone", async || {
        (!world.judge.is_blocked("worker").await).then_some(())
    })
    .await;
    // The claim was in the same transaction.
    assert_eq!(world.judge.effect(placed.id, &StepName::ISSUE).await, None);
    assert_outstanding(&world, &placed, &StepName::ISSUE).await;
    assert_eq!(world.judge.tickets(placed.id).await, []);
    world.restart(Name::Worker).await;
    let ended = world.shop.ended(&placed).await;
    assert_eq!(ended.status(), "confirmed");
    assert_eq!(world.judge.numbers(DIVING).await, [1, 2, 3]);
    assert_eq!(world.provider.balance(placed.id.0).await, CAPTURED);
    world.close().await;
}

#[tokio::test]
async fn a_worker_dies_with_the_mail_sent_and_not_recorded() {
    let mail = SmtpSink::start().await;
    mail.set_mood(Mood::TakesInSilence);
    let by_smtp = [
        ("GUICHET_MAIL_TRANSPORT", "smtp".to_owned()),
        ("GUICHET_MAIL_SMTP_URL", mail.url()),
    ];
    let of_worker = by_smtp
        .clone()
        .map(|(key, value)| (Name::Worker, key, value));
    let mut world = Processes::start_with(&of_worker).await;
    let placed = world.shop.place(&wish()).await;
    until("the mail has left", async || {
        (mail.mails().len() == 1).then_some(())
    })
    .await;
    world.kill(Name::Worker);
    let notify = world.judge.effect(placed.id, &StepName::NOTIFY).await;
    assert_eq!(notify.map(|notify| notify.stands), Some(Stands::Claimed));
    assert_outstanding(&world, &placed, &StepName::NOTIFY).await;
    mail.set_mood(Mood::Takes);
    world.restart_with(Name::Worker, &by_smtp).await;
    assert_eq!(world.shop.ended(&placed).await.status(), "confirmed");
    let saga = world.judge.at_rest(placed.id).await;
    let sent = times(&saga, &StepName::NOTIFY, StepKind::Do, Outcome::Done);
    assert_eq!(sent, 1);
    // Nobody could say whether it had left, so it was sent once more, as the same mail.
    let ids: Vec<_> = mail
        .mails()
        .iter()
        .map(|mail| mail.header("Message-ID"))
        .collect();
    assert_eq!(ids.len(), 2, "{ids:?}");
    assert!(ids[0].is_some() && ids[0] == ids[1], "{ids:?}");
    let effects = world.judge.effects(placed.id).await;
    assert_eq!(effects.len(), saga::order::v1().steps.len());
    assert!(effects.values().all(|row| row.stands == Stands::Done));
    assert_eq!(world.judge.tickets(placed.id).await.len(), 2);
    assert_eq!(world.provider.balance(placed.id.0).await, CAPTURED);
    world.close().await;
}

#[tokio::test]
async fn an_orchestrator_dies_while_a_payment_is_outstanding() {
    let mut world = Processes::start().await;
    let wish = wish();
    plan_on_confirm(&world, &wish, &json!({"slow": {"ms": 1_500}})).await;
    let placed = world.shop.place(&wish).await;
    paying(&world, &placed).await;
    world.kill(Name::Orchestrator);
    until("the worker is done without it", async || {
        let pay = world.judge.effect(placed.id, &StepName::PAY).await?;
        (pay.stands == Stands::Done).then_some(())
    })
    .await;
    // The worker's answer found nobody.
    assert_outstanding(&world, &placed, &StepName::PAY).await;
    world.restart(Name::Orchestrator).await;
    assert_sold_once(&world, &placed).await;
    let saga = world.judge.saga(placed.id).await;
    assert_eq!(times(&saga, &StepName::PAY, StepKind::Do, Outcome::Done), 1);
    world.close().await;
}

#[tokio::test]
async fn an_orchestrator_dies_inside_its_commit() {
    let mut world = Processes::start().await;
    let stock = lock(&world, "SELECT FROM stock FOR UPDATE").await;
    let placed = world.shop.place(&wish()).await;
    // Not the row: whose that is locked is left alone.
    let saga = lock(&world, "LOCK TABLE sagas IN SHARE MODE").await;
    release(stock).await;
    until("the orchestrator is committing", async || {
        world.judge.is_blocked("orchestrator").await.then_some(())
    })
    .await;
    let reserved = world.judge.effect(placed.id, &StepName::RESERVE).await;
    assert_eq!(reserved.map(|effect| effect.stands), Some(Stands::Done));
    world.kill(Name::Orchestrator);
    assert_outstanding(&world, &placed, &StepName::RESERVE).await;
    // Its statement may still succeed now: a commit whose answer nobody hears.
    release(saga).await;
    world.restart(Name::Orchestrator).await;
    assert_sold_once(&world, &placed).await;
    world.close().await;
}

/// What it decided is committed, and nobody was told.
#[tokio::test]
async fn an_orchestrator_dies_between_its_commit_and_the_next_command() {
    let amqp = std::env::var("GUICHET_AMQP_URL").expect("GUICHET_AMQP_URL is set");
    let broker = TcpProxy::to(&amqp).await;
    let through = broker.through(&amqp);
    let special = [(Name::Orchestrator, "GUICHET_AMQP_URL", through)];
    let mut world = Processes::start_with(&special).await;
    let stock = lock(&world, "SELECT FROM stock FOR UPDATE").await;
    let placed = world.shop.place(&wish()).await;
    until("the worker waits for the stock", async || {
        world.judge.is_blocked("worker").await.then_some(())
    })
    .await;
    // From here on it hears the broker, and the broker does not hear it.
    broker.set(Line::Mute);
    release(stock).await;
    until("the worker's answer is applied", async || {
        let saga = world.judge.saga(placed.id).await;
        let done = times(&saga, &StepName::RESERVE, StepKind::Do, Outcome::Done);
        (done == 1).then_some(())
    })
    .await;
    world.kill(Name::Orchestrator);
    drop(broker); // and what it held back
    assert_outstanding(&world, &placed, &StepName::FRAUD_CHECK).await;
    let checked = world.judge.effect(placed.id, &StepName::FRAUD_CHECK).await;
    assert_eq!(checked, None);
    // No timer helps: whoever loads the saga sends the command that it is at.
    let later = "UPDATE sagas SET wake_at = wake_at + interval '1 hour'";
    world.judge.execute(later).await;
    world.restart(Name::Orchestrator).await;
    assert_sold_once(&world, &placed).await;
    world.close().await;
}

#[tokio::test]
async fn a_gateway_dies_after_its_answer_and_before_the_first_command() {
    let amqp = std::env::var("GUICHET_AMQP_URL").expect("GUICHET_AMQP_URL is set");
    let broker = TcpProxy::to(&amqp).await;
    let through = broker.through(&amqp);
    let mut world = Processes::start_with(&[(Name::Gateway, "GUICHET_AMQP_URL", through)]).await;
    broker.set(Line::Held);
    let wish = wish();
    let answer = world.shop.try_place(&wish).await.expect("an answer");
    let placed = Shop::accepted(&answer);
    world.kill(Name::Gateway);
    drop(broker);
    // The order is in the database and nowhere else.
    assert_outstanding(&world, &placed, &StepName::RESERVE).await;
    assert!(world.judge.effects(placed.id).await.is_empty());
    world.restart(Name::Gateway).await;
    // A customer who did not hear the answer asks again, and gets the same.
    assert_eq!(world.shop.try_place(&wish).await, Some(answer));
    assert_sold_once(&world, &placed).await;
    world.close().await;
}

#[tokio::test]
async fn the_provider_dies_before_and_after_the_capture() {
    let mut world = Processes::start().await;
    for (fault, captures) in [("timeout_before", 0), ("timeout_after", 1)] {
        let wish = Wish::of(SWIMMING_A, 1);
        plan_on_confirm(&world, &wish, &json!(fault)).await;
        let placed = world.shop.place(&wish).await;
        paying(&world, &placed).await;
        until("the confirmation has arrived", async || {
            (world.provider.plans_left().await == 0).then_some(())
        })
        .await;
        let before = world.provider.balance(placed.id.0).await;
        assert_eq!(before.captures, captures, "{fault}");
        assert_outstanding(&world, &placed, &StepName::PAY).await;
        world.kill(Name::Psp);
        until("the worker has noticed", async || {
            let saga = world.judge.saga(placed.id).await;
            let heard = [Outcome::Retry, Outcome::Unknown];
            let heard = heard.map(|outcome| times(&saga, &StepName::PAY, StepKind::Do, outcome));
            (heard.iter().sum::<usize>() > 0).then_some(())
        })
        .await;
        world.restart(Name::Psp).await;
        // Its own books survive it.
        let after = world.provider.balance(placed.id.0).await;
        assert!(after.captures >= captures, "{fault}: {after:?}");
        let ended = world.shop.ended(&placed).await;
        assert_eq!(ended.status(), "confirmed", "{fault}");
        let balance = world.provider.balance(placed.id.0).await;
        assert_eq!(
            (balance.captures, balance.refunded_minor),
            (1, 0),
            "{fault}"
        );
    }
    world.close().await;
}

/// Buys until it is told to stop, at least once; the ends by what they should be.
async fn buy_on(shop: &Shop, number: usize, stop: &CancellationToken) -> usize {
    let methods = ["pm_card_visa", "pm_card_visa", "pm_card_chargeDeclined"];
    let method = methods[number % methods.len()];
    let mut bought = 0;
    while bought == 0 || !stop.is_cancelled() {
        let wish = Wish::of(DIVING_A, 1).paid_with(method);
        // Whoever hears nothing asks again with the same key.
        let answer = until("the order is accepted", async || {
            let answer = shop.try_place(&wish).await?;
            (answer.status == 202).then_some(answer)
        })
        .await;
        let ended = shop.ended(&Shop::accepted(&answer)).await;
        let end = (ended.status(), ended.reason());
        if method == "pm_card_visa" {
            assert_eq!(end, ("confirmed", ""), "{}", ended.order);
        } else {
            assert_eq!(end, ("cancelled", "card_declined"), "{}", ended.order);
        }
        bought += 1;
    }
    bought
}

#[tokio::test]
async fn any_role_dies_again_and_again_and_every_order_ends_as_it_should() {
    let mut world = Processes::start().await;
    world
        .judge
        .execute("UPDATE stock SET capacity = 100000")
        .await;
    let stop = CancellationToken::new();
    let shop = world.shop.clone();
    let buying = join_all((0..6).map(|number| buy_on(&shop, number, &stop)));
    let killing = async {
        for name in [
            Name::Worker,
            Name::Orchestrator,
            Name::Gateway,
            Name::Psp,
            Name::Orchestrator,
            Name::Worker,
        ] {
            world.kill(name);
            world.restart(name).await;
        }
        stop.cancel();
    };
    let (bought, ()) = tokio::join!(buying, killing);
    let orders: usize = bought.iter().sum();
    assert_eq!(world.judge.orders().await.len(), orders, "none is doubled");
    let numbers = world.judge.numbers(DIVING).await;
    assert_eq!(
        world.judge.taken(DIVING_A).await,
        i32::try_from(numbers.len()).expect("few")
    );
    assert!((1..).zip(&numbers).all(|(n, number)| n == *number));
    world.close().await;
}
