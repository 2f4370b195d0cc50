//! What people and the provider say while the broker is away, and a commit whose answer nobody hears.

use contract::StepName;
use engine::definitions::Definitions;
use inspector::{
    interventions::{Intervention, intervene},
    review,
};
use serde_json::json;
use tests::world::{
    Placed, Processes, Shop, Stands, Wish,
    catalogue::{DIVING_A, SWIMMING_A},
    processes::Name,
    tcp::{Line, TcpProxy},
    until,
};

const ROLES: [Name; 3] = [Name::Gateway, Name::Worker, Name::Orchestrator];

/// An order that waits for a reviewer.
async fn in_review(world: &Processes, email: &str) -> Placed {
    let wish = Wish::of(SWIMMING_A, 2)
        .attended_by(&["Bo Guest", "Cy Guest"])
        .with("email", email)
        .with("name", "Zed Quux");
    let placed = world.shop.place(&wish).await;
    world.shop.until_status(&placed, "in_review").await;
    placed
}

/// Whether the saga was told something that is a row now.
async fn was_told(world: &Processes, placed: &Placed) {
    until("it is a row", async || {
        (world.judge.signals(placed.id).await.0 > 0).then_some(())
    })
    .await;
}

/// The provider's event, the reviewer's decision, the customer's cancellation and the operator's command
/// come while nobody has a session with the broker; a customer follows his order all the while.
#[tokio::test]
async fn nothing_that_is_told_while_the_broker_is_away_is_lost() {
    let amqp = std::env::var("GUICHET_AMQP_URL").expect("GUICHET_AMQP_URL is set");
    let broker = TcpProxy::to(&amqp).await;
    let special = ROLES.map(|role| (role, "GUICHET_AMQP_URL", broker.through(&amqp)));
    let world = Processes::start_with(&special).await;
    let secure = Wish::of(DIVING_A, 1).paid_with("pm_card_threeDSecure2Required");
    let paid = world.shop.place(&secure).await;
    let asked = world.shop.until_status(&paid, "action_required").await;
    let url = asked["next_action"]["redirect_url"].as_str();
    let url = url.expect("where he has to go");
    let (reviewed, cancelled, ended) = (
        in_review(&world, "ada@mailinator.com").await,
        in_review(&world, "bea@mailinator.com").await,
        in_review(&world, "cleo@mailinator.com").await,
    );
    let told = async {
        broker.set(Line::Down);
        until("the gateway has no session", async || {
            let (_, report) = world.readyz(Name::Gateway).await?;
            (report["checks"]["bus"]["ready"] == false).then_some(())
        })
        .await;
        world.provider.authenticate(url, "approve").await;
        was_told(&world, &paid).await;
        let mut connection = world.ground.database.connection().await;
        review::approve(&mut connection, reviewed.id, "rita", "known customer")
            .await
            .expect("it is open");
        was_told(&world, &reviewed).await;
        assert_eq!(world.shop.cancel(&cancelled).await.status, 202);
        was_told(&world, &cancelled).await;
        let definitions = Definitions::ours();
        let done = intervene(
            &mut connection,
            &definitions,
            ended.id.into(),
            &Intervention::Compensate,
            "ann",
            "case 12",
        );
        done.await.expect("it may be ended");
        was_told(&world, &ended).await;
        broker.set(Line::Up);
    };
    let (followed, ()) = tokio::join!(world.shop.ended(&paid), told);
    assert_eq!(followed.status(), "confirmed");
    assert_eq!(world.shop.ended(&reviewed).await.status(), "confirmed");
    for (placed, reason) in [(cancelled, "customer_cancelled"), (ended, "operator_ended")] {
        let end = world.shop.ended(&placed).await;
        assert_eq!((end.status(), end.reason()), ("cancelled", reason));
    }
    world.close().await;
}

/// How a connection that has fallen silent ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is closed.
    Closed,
    /// Not at all: whoever waits for an answer has to give it up.
    Never,
}

/// The database has committed, and the role that asked for it never hears so: the connection falls silent
/// with the commit, and ends, if it does, once the others have seen what it did.
async fn unheard(line: &TcpProxy, end: End, committed: impl AsyncFn() -> Option<()>) {
    until("it is committed", committed).await;
    line.lose_no_answer();
    if end == End::Closed {
        line.cut();
    }
}

#[tokio::test]
async fn a_commit_of_which_nothing_is_heard_is_read_back_by_each_role() {
    read_back_by_each_role(End::Closed).await;
}

/// The line takes what is said and passes nothing back, for ever.
#[tokio::test]
async fn a_commit_on_a_line_that_falls_silent_is_read_back_by_each_role() {
    read_back_by_each_role(End::Never).await;
}

async fn read_back_by_each_role(end: End) {
    let server = std::env::var("GUICHET_DATABASE_URL").expect("GUICHET_DATABASE_URL is set");
    let [gateway, worker, orchestrator] = [
        TcpProxy::to(&server).await,
        TcpProxy::to(&server).await,
        TcpProxy::to(&server).await,
    ];
    let lines = [
        (Name::Gateway, &gateway),
        (Name::Worker, &worker),
        (Name::Orchestrator, &orchestrator),
    ];
    // Whoever hears nothing waits for as long as a statement may take, and a little longer.
    let patience = ("GUICHET_DATABASE_STATEMENT_TIMEOUT_MS", "3000".to_owned());
    let world = Processes::start_behind(&lines, &[patience]).await;

    // The gateway's intake: the order is there, and its customer learns of it, now or with the same key.
    let wish = Wish::of(DIVING_A, 1);
    gateway.lose_answer_to(b"COMMIT");
    let intake = unheard(&gateway, end, async || {
        (!world.judge.orders().await.is_empty()).then_some(())
    });
    let (_, ()) = tokio::join!(world.shop.try_place(&wish), intake);
    let answer = until("it is answered", async || {
        let answer = world.shop.try_place(&wish).await?;
        (answer.status == 202).then_some(answer)
    })
    .await;
    let first = Shop::accepted(&answer);
    assert_eq!(world.judge.orders().await, [first.id]);
    assert_eq!(world.shop.ended(&first).await.status(), "confirmed");
    world.judge.at_rest(first.id).await;

    // A worker's batch: what it did is in the ledger, and is not done again.
    worker.lose_answer_to(b"COMMIT");
    let second = world.shop.place(&Wish::of(DIVING_A, 1)).await;
    unheard(&worker, end, async || {
        let reserve = world.judge.effect(second.id, &StepName::RESERVE).await?;
        (reserve.stands == Stands::Done).then_some(())
    })
    .await;
    assert_eq!(world.shop.ended(&second).await.status(), "confirmed");
    assert_eq!(world.judge.taken(DIVING_A).await, 2);
    world.judge.at_rest(second.id).await;

    // The orchestrator's batch, which names the saga: it is read back, and its next command sent.
    let wish = Wish::of(DIVING_A, 1);
    let matching = json!({ "receipt_email": wish.email() });
    let slow = json!({"slow": {"ms": 1_000}});
    world
        .provider
        .plan_for(&matching, "confirm", &slow, 1)
        .await;
    let third = world.shop.place(&wish).await;
    until("the payment is under way", async || {
        let pay = world.judge.effect(third.id, &StepName::PAY).await?;
        (pay.stands == Stands::Claimed && pay.outside_id.is_some()).then_some(())
    })
    .await;
    orchestrator.lose_answer_to(third.id.0.as_bytes());
    unheard(&orchestrator, end, async || {
        let saga = world.judge.saga(third.id).await;
        let paid = |moment: &engine::view::Moment| {
            moment.step == Some(StepName::PAY) && moment.input == "reply"
        };
        saga.timeline.iter().any(paid).then_some(())
    })
    .await;
    assert_eq!(world.shop.ended(&third).await.status(), "confirmed");
    assert_eq!(world.provider.balance(third.id.0).await.captures, 1);
    world.close().await;
}
