//! Orders in flight are moved to the second version by the operator's command, or are left where they are.

use contract::{Outcome, StepKind, StepName};
use inspector::review;
use saga::State;
use serde_json::{Value, json};
use tests::world::{
    Placed, Shop, Wish, World,
    catalogue::{DIVING_A, DIVING_B, SWIMMING_A},
    judge::times,
    until,
};

const TO_SECOND: [&str; 6] = ["saga", "migrate", "--to", "order@2", "-o", "json"];

async fn in_review(shop: &Shop, email: &str) -> Placed {
    let wish = Wish::of(SWIMMING_A, 2)
        .attended_by(&["Bo Guest", "Cy Guest"])
        .with("email", email)
        .with("name", "Zed Quux");
    let placed = shop.place(&wish).await;
    shop.until_status(&placed, "in_review").await;
    placed
}

async fn says(world: &World, more: &[&str]) -> Value {
    let (code, out) = world.operator(&[&TO_SECOND, more].concat()).await;
    assert_eq!(code, Some(0), "{out}");
    serde_json::from_str(&out).expect("JSON")
}

/// What the provider's books say of an order.
async fn books(world: &World, placed: &Placed) -> Vec<String> {
    let entries = world.provider.entries(placed.id.0).await;
    entries.into_iter().map(|entry| entry.kind).collect()
}

#[tokio::test]
async fn what_has_not_come_to_its_payment_goes_on_by_the_other_version_and_the_rest_stays() {
    let world = World::start().await;
    let shop = &world.shop;
    let secure = Wish::of(DIVING_A, 1).paid_with("pm_card_threeDSecure2Required");
    let (bought, cancelled, paying) = tokio::join!(
        in_review(shop, "ada@mailinator.com"),
        in_review(shop, "bea@mailinator.com"),
        shop.place(&secure),
    );
    let asked = shop.until_status(&paying, "action_required").await;
    // Its money is taken, and its tickets cannot be made for now.
    let refuse = format!(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
           'BEGIN RAISE EXCEPTION ''refused''; END';
         CREATE TRIGGER refuse BEFORE INSERT ON tickets FOR EACH ROW
           WHEN (new.offer_id = '{}') EXECUTE FUNCTION refuse()",
        DIVING_B.id
    );
    world.judge.execute(&refuse).await;
    let paid = shop.place(&Wish::of(DIVING_B, 1)).await;
    until("it is at its tickets", async || {
        let issue = StepName::ISSUE;
        let saga = world.judge.saga(paid.id).await;
        (times(&saga, &issue, StepKind::Do, Outcome::Retry) > 0).then_some(())
    })
    .await;

    let dry = says(&world, &["--dry-run", "--ids"]).await;
    let (mut safe, stays) = (vec![bought.id, cancelled.id], paying.id);
    safe.sort_unstable();
    let sorted = json!([
        { "from": "order@1", "sorted": "safe", "reason": null, "sagas": 2, "ids": safe },
        {
            "from": "order@1", "sorted": "needs_mapping", "sagas": 1, "ids": [paid.id],
            "reason": "pay was done, and otherwise than by the other version",
        },
        {
            "from": "order@1", "sorted": "blocked", "sagas": 1, "ids": [stays],
            "reason": "pay has begun, and is done otherwise by the other version",
        },
    ]);
    let expected = json!({ "to": "order@2", "dry_run": true, "sorted": sorted, "more": false });
    assert_eq!(dry, expected);
    assert_eq!(
        world.judge.signals(bought.id).await.0,
        0,
        "nothing was done"
    );

    let because = ["--as", "ann", "--reason", "nobody is to see a refund"];
    let done = says(&world, &because).await;
    let came = (&done["moved"], &done["too_late"], &done["pending"]);
    assert_eq!(came, (&json!(2), &json!(0), &json!(0)), "{done}");
    for placed in [&bought, &cancelled] {
        let saga = world.judge.saga(placed.id).await;
        assert_eq!(saga.definition, "order@2");
        let last = saga.timeline.last().expect("a timeline");
        let told = last.detail.as_ref().expect("who and why");
        assert_eq!(
            (last.input, last.code.as_deref()),
            ("operator", Some("migrate"))
        );
        let by = (&told["by"], &told["reason"], &told["from"], &told["to"]);
        let ann = (
            &json!("ann"),
            &json!(because[3]),
            &json!("order@1"),
            &json!("order@2"),
        );
        assert_eq!(by, ann, "{told}");
        let (code, shown) = world
            .operator(&["saga", "show", &placed.id.to_string()])
            .await;
        let person = format!("ann: {}", because[3]);
        assert!(code == Some(0) && shown.contains(&person), "{shown}");
    }

    world.judge.execute("DROP TRIGGER refuse ON tickets").await;
    assert_eq!(shop.cancel(&cancelled).await.status, 202);
    assert_eq!(shop.ended(&cancelled).await.reason(), "customer_cancelled");
    assert!(books(&world, &cancelled).await.is_empty());
    let mut connection = world.ground.database.connection().await;
    let approved = review::approve(&mut connection, bought.id, "rita", "known customer").await;
    approved.expect("it is open");
    let url = asked["next_action"]["redirect_url"]
        .as_str()
        .expect("a page");
    world.provider.authenticate(url, "approve").await;
    for (placed, version, captured_by) in [
        (&bought, "order@2", Some(StepName::CAPTURE)),
        (&paying, "order@1", None),
        (&paid, "order@1", None),
    ] {
        let ended = shop.ended(placed).await;
        assert_eq!(ended.status(), "confirmed");
        let saga = world.judge.at_rest(placed.id).await;
        assert_eq!(
            (saga.definition.as_str(), saga.instance.state),
            (version, State::Completed)
        );
        let mut steps = saga
            .timeline
            .iter()
            .filter_map(|moment| moment.step.clone());
        assert_eq!(steps.find(|step| *step == StepName::CAPTURE), captured_by);
        assert_eq!(books(&world, placed).await, ["authorised", "captured"]);
    }
    let nothing = says(&world, &because).await;
    assert_eq!(
        (&nothing["sorted"], &nothing["moved"]),
        (&json!([]), &json!(0))
    );
    let (code, _) = world
        .operator(&["saga", "migrate", "--to", "order@9", "--dry-run"])
        .await;
    assert_eq!(code, Some(2), "there is no such version");
    let (code, out) = world.operator(&["audit", "verify"]).await;
    assert_eq!(code, Some(0), "{out}");
    world.close().await;
}
