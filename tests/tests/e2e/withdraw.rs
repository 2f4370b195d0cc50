//! A version of the orders is withdrawn by two operators' commands: what is not confirmed is ended, undone
//! in reverse by that version, and told why; what is confirmed goes on; others are not concerned.

use contract::{StepKind, StepName};
use saga::State;
use serde_json::{Value, json};
use tests::world::{
    Settings, Wish, World,
    catalogue::{DIVING_A, SWIMMING_A},
    until,
};

async fn withdraw(world: &World, code: i32, more: &[&str]) -> Value {
    let command = ["saga", "withdraw", "--definition", "order@1", "-o", "json"];
    let because = ["--reason", "it charges too early"];
    let (exit, out) = world
        .operator(&[&command[..], &because, more].concat())
        .await;
    assert_eq!(exit, Some(code), "{out}");
    serde_json::from_str(&out).unwrap_or_default()
}

#[tokio::test]
async fn a_version_that_is_withdrawn_ends_what_is_not_confirmed_and_no_order_begins_by_it() {
    let mut world = World::without_workers(Settings::default()).await;
    let mut steps = StepName::OF_AN_ORDER.to_vec();
    steps.retain(|step| *step != StepName::NOTIFY);
    world.work_on(&steps).await;
    let second = world.sell_by(2).await;
    let secure = || Wish::of(DIVING_A, 1).paid_with("pm_card_threeDSecure2Required");
    let held = Wish::of(SWIMMING_A, 2)
        .attended_by(&["Bo Guest", "Cy Guest"])
        .with("email", "ada@mailinator.com")
        .with("name", "Zed Quux");
    let (paying, reviewed) = (
        world.shop.place(&secure()).await,
        world.shop.place(&held).await,
    );
    world.shop.until_status(&paying, "action_required").await;
    world.shop.until_status(&reviewed, "in_review").await;
    // Its tickets are made, and nobody has mailed them.
    let (confirmed, ended) = world.shop.buy(&Wish::of(DIVING_A, 1)).await;
    assert_eq!(ended.status(), "confirmed");
    let other = second.place(&secure()).await;
    second.until_status(&other, "action_required").await;

    let asked = withdraw(&world, 0, &["--as", "ann"]).await;
    assert_eq!(
        (&asked["outcome"], &asked["running"]),
        (&json!("asked_for"), &json!(2))
    );
    withdraw(&world, 4, &["--as", "ann", "--approve"]).await;
    assert_eq!(world.judge.saga(paying.id).await.instance.reason, None);
    let done = withdraw(&world, 0, &["--as", "bob", "--approve"]).await;
    let counts = (&done["running"], &done["past_pivot"], &done["left"]);
    assert_eq!(done["outcome"], "withdrawn", "{done}");
    assert_eq!(counts, (&json!(2), &json!(1), &json!(0)), "{done}");

    for placed in [&paying, &reviewed] {
        let ended = world.shop.ended(placed).await;
        let end = (ended.status(), ended.reason());
        assert_eq!(end, ("cancelled", "definition_withdrawn"));
    }
    let saga = world.judge.at_rest(paying.id).await;
    assert_eq!(
        (saga.definition.as_str(), saga.instance.state),
        ("order@1", State::Compensated)
    );
    let undone = saga
        .timeline
        .iter()
        .filter(|moment| moment.kind == Some(StepKind::Undo));
    let undone: Vec<_> = undone.filter_map(|moment| moment.step.clone()).collect();
    assert_eq!(
        undone,
        [StepName::PAY, StepName::FRAUD_CHECK, StepName::RESERVE]
    );
    let id = paying.id.to_string();
    let (_, shown) = world.operator(&["saga", "show", &id]).await;
    assert!(shown.contains("bob: it charges too early"), "{shown}");
    let entries = world.provider.entries(paying.id.0).await;
    assert!(entries.iter().all(|entry| entry.kind != "captured"));

    let refused = until("no order begins by it", async || {
        let answer = world.shop.try_place(&Wish::of(DIVING_A, 1)).await?;
        (answer.status != 202).then_some(answer)
    })
    .await;
    let code = refused.json()["code"].clone();
    assert_eq!((refused.status, code.as_str()), (503, Some("unavailable")));
    let (_, bought) = second.buy(&Wish::of(DIVING_A, 1)).await;
    assert_eq!(bought.status(), "confirmed");
    let waits = world.judge.saga(other.id).await.instance;
    assert_eq!((waits.state, waits.reason), (State::Waiting, None));
    assert_eq!(second.cancel(&other).await.status, 202);

    world.work_on(&[StepName::NOTIFY]).await;
    let saga = world.judge.at_rest(confirmed.id).await;
    assert_eq!(saga.instance.state, State::Completed);
    let to_it = ["saga", "migrate", "--to", "order@1", "--dry-run"];
    assert_eq!(world.operator(&to_it).await.0, Some(4), "it is withdrawn");
    world.close().await;
}
