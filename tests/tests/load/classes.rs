//! Undo and probe have queues and permits of their own: what is begun is ended while new work waits, and
//! how long that takes does not depend on how much new work there is.

use crate::{alone, place};
use contract::{Outcome, StepKind, StepName};
use futures_util::future::join_all;
use serde_json::json;
use std::time::{Duration, Instant};
use tests::world::{
    Placed, Settings, Wish, World,
    catalogue::{DIVING_A, DIVING_B},
    judge::times,
    until,
};

/// Payments under way at once, each so long: far longer than the undos take on any machine, so whatever
/// waits for one of them is seen to.
const PERMITS: usize = 4;
const SLOW_MS: u64 = 10_000;
/// New orders; and four times as many.
const FLOOD: i64 = 60;
/// Orders to be undone, of each kind.
const UNDONE: usize = 6;

/// What happened while the undos ran.
#[derive(Debug)]
struct Meanwhile {
    /// Payments of the flood that ended.
    paid: i64,
    /// From the customers' cancels to the last undo.
    took: Duration,
}

/// Orders whose customers are asked to authenticate: an undo cancels the payment.
async fn challenged(world: &World) -> Placed {
    let wish = Wish::of(DIVING_A, 1).paid_with("pm_card_authenticationRequired");
    let placed = world.shop.place(&wish).await;
    world.shop.until_status(&placed, "action_required").await;
    placed
}

/// Orders that are paid and cannot get their tickets: an undo gives the money back.
async fn paid_in_vain(world: &World) -> Placed {
    let placed = world.shop.place(&Wish::of(DIVING_B, 1)).await;
    until("its tickets were tried in vain", async || {
        let saga = world.judge.saga(placed.id).await;
        let tried = times(&saga, &StepName::ISSUE, StepKind::Do, Outcome::Retry);
        (tried > 0).then_some(())
    })
    .await;
    placed
}

/// Has so many new orders wait for a slow provider, and others undone meanwhile.
async fn undo_in_a_flood_of(new: i64) -> Meanwhile {
    let world = World::with(Settings {
        pay_timeout_ms: 2 * SLOW_MS,
        worker: workers::Config {
            permits: PERMITS,
            undo_permits: PERMITS,
            ..workers::Config::default()
        },
        ..Settings::default()
    })
    .await;
    let prepare = format!(
        "UPDATE stock SET capacity = 100000;
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
           'BEGIN RAISE EXCEPTION ''refused''; END';
         CREATE TRIGGER refuse BEFORE INSERT ON tickets FOR EACH ROW
           WHEN (new.offer_id = '{}') EXECUTE FUNCTION refuse()",
        DIVING_B.id
    );
    world.judge.execute(&prepare).await;
    let begun = async {
        let (challenged, paid) = tokio::join!(
            join_all((0..UNDONE).map(|_| challenged(&world))),
            join_all((0..UNDONE).map(|_| paid_in_vain(&world))),
        );
        [challenged, paid].concat()
    };
    let begun: Vec<Placed> = begun.await;
    let slow = json!({"slow": {"ms": SLOW_MS}});
    let flood = u32::try_from(new).expect("few");
    world
        .provider
        .plan_for(&json!({}), "confirm", &slow, flood)
        .await;
    let wishes: Vec<Wish> = (0..new).map(|_| Wish::of(DIVING_A, 1)).collect();
    join_all(wishes.iter().map(|wish| place(&world.shop, wish))).await;
    let checked = i64::try_from(2 * UNDONE).expect("few") + new;
    until("the flood waits for its payments", async || {
        (world.judge.done(&StepName::FRAUD_CHECK).await == checked).then_some(())
    })
    .await;
    let (before, asked) = (world.judge.done(&StepName::PAY).await, Instant::now());
    let undone = begun.iter().map(async |placed| {
        assert_eq!(world.shop.cancel(placed).await.status, 202);
        let ended = world.shop.ended(placed).await;
        assert_eq!(ended.status(), "cancelled");
    });
    join_all(undone).await;
    // Those that were paid are so no more.
    let given_back = i64::try_from(UNDONE).expect("few");
    let meanwhile = Meanwhile {
        paid: world.judge.done(&StepName::PAY).await - before + given_back,
        took: asked.elapsed(),
    };
    world.provider.forget_plans().await;
    world.close().await;
    meanwhile
}

#[tokio::test(flavor = "multi_thread")]
async fn undos_do_not_wait_for_new_work_however_much_there_is() {
    let _alone = alone().await;
    let few = undo_in_a_flood_of(FLOOD).await;
    let many = undo_in_a_flood_of(4 * FLOOD).await;
    // Every payment that could be begun was under way all the time.
    assert_eq!((few.paid, many.paid), (0, 0), "{few:?} {many:?}");
    assert!(
        many.took < 2 * few.took + Duration::from_secs(2),
        "{few:?} {many:?}"
    );
}
