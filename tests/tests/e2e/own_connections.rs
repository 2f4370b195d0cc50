//! Undos and probes have connections to the database of their own: new work may hold all of its own.

use contract::StepName;
use futures_util::future::join_all;
use serde_json::json;
use tests::world::{Settings, Stands, Wish, World, catalogue::DIVING_A, until};
use workers::Pools;

/// How long the provider takes to answer to a payment.
const SLOW_MS: u64 = 15_000;

#[tokio::test]
async fn undos_go_on_while_every_connection_of_new_work_is_held() {
    // The provider's answer is far longer away than the undos take on any machine.
    let settings = Settings {
        pay_timeout_ms: 2 * SLOW_MS,
        ..Settings::default()
    };
    let mut world = World::without_workers(settings).await;
    let pools = Pools {
        acts: world.ground.database.pool(),
        undos: world.ground.database.pool(),
    };
    world.work_with(&StepName::OF_AN_ORDER, pools.clone()).await;
    // One waits for its customer; one is being paid, so that its money has to be given back.
    let wish = Wish::of(DIVING_A, 1).paid_with("pm_card_authenticationRequired");
    let waiting = world.shop.place(&wish).await;
    world.shop.until_status(&waiting, "action_required").await;
    let wish = Wish::of(DIVING_A, 1);
    let buyer = json!({ "receipt_email": wish.email() });
    let slow = json!({"slow": {"ms": SLOW_MS}});
    world.provider.plan_for(&buyer, "confirm", &slow, 1).await;
    let paying = world.shop.place(&wish).await;
    until("it is being paid", async || {
        let pay = world.judge.effect(paying.id, &StepName::PAY).await?;
        (pay.stands == Stands::Claimed && pay.outside_id.is_some()).then_some(())
    })
    .await;
    let all = (0..pools.acts.status().max_size).map(|_| pools.acts.get());
    let held = join_all(all).await;
    assert!(held.iter().all(Result::is_ok), "every one is ours");

    for placed in [&paying, &waiting] {
        assert_eq!(world.shop.cancel(placed).await.status, 202);
    }
    for placed in [&paying, &waiting] {
        let ended = world.shop.ended(placed).await;
        assert_eq!(
            (ended.status(), ended.reason()),
            ("cancelled", "customer_cancelled")
        );
        let balance = world.provider.balance(placed.id.0).await;
        assert_eq!(balance.captured_minor, balance.refunded_minor);
    }
    assert_eq!(world.judge.taken(DIVING_A).await, 0);
    assert_eq!(world.judge.quotas().await, 0);
    let free = pools.acts.status().available;
    assert_eq!(free, 0, "they were held all the while");

    drop(held);
    let (_, ended) = world.shop.buy(&Wish::of(DIVING_A, 1)).await;
    assert_eq!(ended.status(), "confirmed");
    world.close().await;
}
