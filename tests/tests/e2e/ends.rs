//! Each way an order can end.

use contract::{OrderId, StepKind, StepName};
use inspector::review;
use serde_json::json;
use tests::{
    provider::Balance,
    world::{
        Judge, Stands, Wish, World,
        catalogue::{
            DIVING, DIVING_A, DIVING_B, DIVING_FEW, DIVING_WHEELCHAIR, SWIMMING, SWIMMING_A,
        },
        until,
    },
};

/// Nothing is taken of anything, and nothing is left of the order's effects.
async fn assert_all_given_back(world: &World, order: OrderId) {
    let saga = world.judge.at_rest(order).await;
    assert!(saga.instance.maybe_in_force.is_empty());
    for (step, effect) in world.judge.effects(order).await {
        let over = [Stands::Undone, Stands::Rejected].contains(&effect.stands);
        assert!(over, "{step}: {effect:?}");
    }
    for offer in [DIVING_A, DIVING_B, SWIMMING_A] {
        assert_eq!(world.judge.taken(offer).await, 0, "{offer:?}");
    }
    assert_eq!(world.judge.quotas().await, 0);
    assert_eq!(world.judge.tickets(order).await, []);
    assert_eq!(world.ground.mail.mails(), []);
}

async fn stands(judge: &Judge, order: OrderId, step: StepName) -> Option<Stands> {
    judge.effect(order, &step).await.map(|effect| effect.stands)
}

/// An order that a person has to look at.
fn suspicious() -> Wish {
    Wish::of(SWIMMING_A, 2)
        .attended_by(&["Bo Guest", "Cy Guest"])
        .with("email", "ada@mailinator.com")
        .with("name", "Zed Quux")
}

#[tokio::test]
async fn an_order_is_confirmed_with_signed_tickets_and_a_mail_in_its_language() {
    let world = World::start().await;
    for (locale, language) in [("fr-CA", "fr"), ("en", "en")] {
        let wish = Wish::of(DIVING_A, 2).with("locale", locale);
        let (placed, ended) = world.shop.buy(&wish).await;
        assert_eq!(ended.told, ["pending", "confirmed"]);
        let shown = ended.order["tickets"].as_array().expect("tickets");
        assert_eq!(shown.len(), 2, "{}", ended.order);
        world.judge.at_rest(placed.id).await;
        // The provider told of its payment, and nobody waited for that.
        assert_eq!(world.judge.signals(placed.id).await, (0, 0));
        let tickets = world.judge.tickets(placed.id).await;
        assert_eq!(tickets.len(), 2);
        for ticket in &tickets {
            assert!(ticket.verifies(&world.ground.signatory()));
            assert_eq!(ticket.holder_name, "Ada Buyer");
        }
        let mails = world.ground.mail.mails();
        let to = [wish.email().to_owned()];
        let mails: Vec<_> = mails.iter().filter(|mail| mail.to == to).collect();
        let [mail] = mails[..] else {
            panic!("one mail: {mails:?}");
        };
        assert_eq!(mail.header("Content-Language").as_deref(), Some(language));
    }
    assert_eq!(world.judge.taken(DIVING_A).await, 4);
    assert_eq!(world.judge.numbers(DIVING).await, [1, 2, 3, 4]);
    world.close().await;
}

#[tokio::test]
async fn several_lines_are_sold_together_and_a_wheelchair_place_brings_a_companion() {
    let world = World::start().await;
    let wish = Wish::of(DIVING_A, 1)
        .attended_by(&["Bo Guest"])
        .and(SWIMMING_A, 2)
        .and(DIVING_A, 2)
        .and(DIVING_WHEELCHAIR, 1)
        .attended_by(&["Cy Guest"]);
    let (placed, ended) = world.shop.buy(&wish).await;
    assert_eq!(ended.status(), "confirmed");
    assert_eq!(
        ended.order["total"]["amount"],
        3 * 12_500 + 2 * 8_000 + 5_000
    );
    assert_eq!(world.judge.taken(DIVING_A).await, 3);
    assert_eq!(world.judge.taken(SWIMMING_A).await, 2);
    assert_eq!(world.judge.taken(DIVING_WHEELCHAIR).await, 1);
    let tickets = world.judge.tickets(placed.id).await;
    let mut names: Vec<_> = tickets
        .iter()
        .map(|ticket| (ticket.holder_name.as_str(), ticket.companion))
        .collect();
    names.sort_unstable();
    let ada = ("Ada Buyer", false);
    let (cy, companion) = (("Cy Guest", false), ("Cy Guest", true));
    assert_eq!(
        names,
        [ada, ada, ada, ada, ("Bo Guest", false), cy, companion]
    );
    assert_eq!(world.judge.numbers(DIVING).await, [1, 2, 3, 4, 5]);
    assert_eq!(world.judge.numbers(SWIMMING).await, [1, 2]);
    // The limit counts the wheelchair place once: 6 of one event are allowed, and 4 are taken.
    let more = Wish::of(DIVING_B, 3).with("email", wish.email());
    let (_, refused) = world.shop.buy(&more).await;
    assert_eq!(
        (refused.status(), refused.reason()),
        ("cancelled", "limit_exceeded")
    );
    let exactly = Wish::of(DIVING_B, 2).with("email", wish.email());
    let (_, taken) = world.shop.buy(&exactly).await;
    assert_eq!(taken.status(), "confirmed");
    world.close().await;
}

#[tokio::test]
async fn what_is_sold_out_is_refused_as_a_whole() {
    let world = World::start().await;
    world
        .judge
        .execute("UPDATE stock SET capacity = 1 WHERE capacity = 10")
        .await;
    let wish = Wish::of(SWIMMING_A, 2)
        .and(DIVING_FEW, 1)
        .and(DIVING_FEW, 1);
    let (placed, ended) = world.shop.buy(&wish).await;
    assert_eq!((ended.status(), ended.reason()), ("cancelled", "sold_out"));
    assert_all_given_back(&world, placed.id).await;
    assert_eq!(world.judge.taken(DIVING_FEW).await, 0);
    let after = stands(&world.judge, placed.id, StepName::FRAUD_CHECK).await;
    assert_eq!(after, None, "nothing else was begun");
    assert!(world.provider.entries(placed.id.0).await.is_empty());
    // The last place is still there.
    let (_, ended) = world.shop.buy(&Wish::of(DIVING_FEW, 1)).await;
    assert_eq!(ended.status(), "confirmed");
    world.close().await;
}

#[tokio::test]
async fn fraud_is_refused_before_any_payment() {
    let world = World::start().await;
    world
        .judge
        .execute(
            "INSERT INTO blocklist (kind, value, reason, added_by)
             VALUES ('domain', 'bad.example', 'chargebacks', 'test')",
        )
        .await;
    let wish = Wish::of(DIVING_A, 1).with("email", "ada@mail.bad.example");
    let (placed, ended) = world.shop.buy(&wish).await;
    assert_eq!(
        (ended.status(), ended.reason()),
        ("cancelled", "fraud_refused")
    );
    assert_all_given_back(&world, placed.id).await;
    assert_eq!(stands(&world.judge, placed.id, StepName::PAY).await, None);
    assert!(world.provider.entries(placed.id.0).await.is_empty());
    world.close().await;
}

#[tokio::test]
async fn a_held_order_goes_on_when_it_is_approved() {
    let world = World::start().await;
    let placed = world.shop.place(&suspicious()).await;
    world.shop.until_status(&placed, "in_review").await;
    // It holds its places and its share of the limits, and nothing is charged.
    assert_eq!(world.judge.taken(SWIMMING_A).await, 2);
    assert!(world.judge.quotas().await > 0);
    assert!(world.provider.entries(placed.id.0).await.is_empty());
    let mut connection = world.ground.database.connection().await;
    review::approve(&mut connection, placed.id, "rita", "known customer")
        .await
        .expect("it is open");
    let ended = world.shop.ended(&placed).await;
    assert_eq!(ended.told, ["pending", "in_review", "pending", "confirmed"]);
    let again = review::reject(&mut connection, placed.id, "rene", "too late").await;
    assert!(again.is_err(), "it was decided");
    assert_eq!(world.judge.tickets(placed.id).await.len(), 2);
    world.close().await;
}

#[tokio::test]
async fn a_held_order_ends_when_it_is_rejected() {
    let world = World::start().await;
    let placed = world.shop.place(&suspicious()).await;
    world.shop.until_status(&placed, "in_review").await;
    let mut connection = world.ground.database.connection().await;
    review::reject(&mut connection, placed.id, "rita", "invented names")
        .await
        .expect("it is open");
    let ended = world.shop.ended(&placed).await;
    assert_eq!(
        (ended.status(), ended.reason()),
        ("cancelled", "review_rejected")
    );
    assert_all_given_back(&world, placed.id).await;
    assert!(world.provider.entries(placed.id.0).await.is_empty());
    world.close().await;
}

#[tokio::test]
async fn a_declined_card_gives_everything_back() {
    let world = World::start().await;
    for (method, reason) in [
        ("pm_card_visa_chargeDeclined", "card_declined"),
        (
            "pm_card_visa_chargeDeclinedInsufficientFunds",
            "insufficient_funds",
        ),
    ] {
        let wish = Wish::of(DIVING_A, 2).and(SWIMMING_A, 1).paid_with(method);
        let (placed, ended) = world.shop.buy(&wish).await;
        assert_eq!((ended.status(), ended.reason()), ("cancelled", reason));
        assert_all_given_back(&world, placed.id).await;
        // The provider's own books: declined, cancelled, and never captured.
        let entries = world.provider.entries(placed.id.0).await;
        let kinds: Vec<_> = entries.iter().map(|entry| entry.kind.as_str()).collect();
        assert_eq!(kinds, ["declined", "canceled"]);
    }
    world.close().await;
}

#[tokio::test]
async fn an_event_that_is_cancelled_while_the_provider_is_slow_is_refunded() {
    let world = World::start().await;
    let wish = Wish::of(DIVING_A, 2).and(SWIMMING_A, 1);
    let of = json!({ "receipt_email": wish.email() });
    world
        .provider
        .plan_for(&of, "confirm", &json!({"slow": {"ms": 1_000}}), 1)
        .await;
    let placed = world.shop.place(&wish).await;
    until("the payment is under way", async || {
        let pay = world.judge.effect(placed.id, &StepName::PAY).await?;
        (pay.stands == Stands::Claimed && pay.outside_id.is_some()).then_some(())
    })
    .await;
    world
        .judge
        .execute(&format!(
            "UPDATE events SET status = 'cancelled' WHERE id = '{DIVING}'"
        ))
        .await;
    let balance = world.provider.balance(placed.id.0).await;
    assert_eq!(balance.captures, 0, "it was cancelled before the capture");
    let ended = world.shop.ended(&placed).await;
    assert_eq!(
        (ended.status(), ended.reason()),
        ("cancelled", "event_cancelled")
    );
    assert_eq!(ended.told, ["pending", "cancelling", "cancelled"]);
    assert_all_given_back(&world, placed.id).await;
    let total = 2 * 12_500 + 8_000;
    let refunded = Balance {
        captures: 1,
        captured_minor: total,
        refunded_minor: total,
    };
    assert_eq!(world.provider.balance(placed.id.0).await, refunded);
    // Undone in reverse order.
    let saga = world.judge.saga(placed.id).await;
    let undone: Vec<_> = saga
        .timeline
        .iter()
        .filter(|moment| moment.kind == Some(StepKind::Undo))
        .filter_map(|moment| moment.step.clone())
        .collect();
    let reverse = [StepName::PAY, StepName::FRAUD_CHECK, StepName::RESERVE];
    assert_eq!(undone, reverse);
    world.close().await;
}

#[tokio::test]
async fn a_mail_server_that_is_down_costs_nobody_his_ticket() {
    let mut world = World::start().await;
    world.ground.mail.stop().await;
    let wish = Wish::of(DIVING_A, 1);
    let (placed, ended) = world.shop.buy(&wish).await;
    assert_eq!(ended.status(), "confirmed");
    until("a mail was tried in vain", async || {
        let saga = world.judge.saga(placed.id).await;
        saga.timeline
            .iter()
            .any(|moment| moment.code.as_deref() == Some("mail_unavailable"))
            .then_some(())
    })
    .await;
    let saga = world.judge.saga(placed.id).await;
    assert!(!saga.instance.state.is_end(), "it is not given up");
    assert_eq!(world.ground.mail.mails(), []);
    world.ground.mail.resume().await;
    world.judge.at_rest(placed.id).await;
    let mails = world.ground.mail.mails();
    assert_eq!(mails.len(), 1, "{mails:?}");
    assert_eq!(mails[0].to, [wish.email()]);
    assert_eq!(world.provider.balance(placed.id.0).await.refunded_minor, 0);
    world.close().await;
}
