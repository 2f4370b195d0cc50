//! Waits that are nearly over: the history says so, and a provider that has told nothing is asked.

use contract::{StepKind, StepName};
use engine::{definitions::Definitions, view::SagaView};
use serde_json::json;
use tests::world::{
    Placed, Settings, Wish, World,
    catalogue::{DIVING_A, SWIMMING_A},
};

/// What customers and reviewers have here.
const WAIT_MS: u32 = 10_000;

fn impatient() -> Settings {
    let versions = saga::order::versions().into_iter().map(|mut version| {
        for waiting in version
            .steps
            .iter_mut()
            .filter_map(|step| step.waiting.as_mut())
        {
            waiting.deadline_ms = WAIT_MS;
        }
        version
    });
    Settings {
        definitions: Definitions::of(versions),
        ..Settings::default()
    }
}

/// What was asked at the moments of which its history says that a deadline is near.
fn warnings(saga: &SagaView) -> Vec<Option<(StepName, StepKind)>> {
    let near = |code: &Option<String>| code.as_deref() == Some(saga::DEADLINE_NEAR);
    let told = saga.timeline.iter().filter(|moment| near(&moment.code));
    told.map(|moment| {
        moment
            .next
            .as_ref()
            .map(|next| (next.step.clone(), next.kind))
    })
    .collect()
}

#[tokio::test]
async fn a_wait_that_is_nearly_over_is_told_and_who_has_paid_unheard_has_his_ticket() {
    let world = World::with(impatient()).await;
    let secure = || Wish::of(DIVING_A, 1).paid_with("pm_card_threeDSecure2Required");
    let (unheard, idle) = (secure(), secure());
    let of = json!({ "receipt_email": unheard.email() });
    let never = json!("missing");
    world.provider.plan_for(&of, "webhook", &never, 20).await;
    let held = Wish::of(SWIMMING_A, 2)
        .attended_by(&["Bo Guest", "Cy Guest"])
        .with("email", "ada@mailinator.com")
        .with("name", "Zed Quux");
    let shop = &world.shop;
    let (unheard, idle, held): (Placed, Placed, Placed) =
        tokio::join!(shop.place(&unheard), shop.place(&idle), shop.place(&held));
    let asked = shop.until_status(&unheard, "action_required").await;
    let url = asked["next_action"]["redirect_url"]
        .as_str()
        .expect("a page");
    world.provider.authenticate(url, "approve").await;

    let probe = || Some((StepName::PAY, StepKind::Probe));
    for (placed, end, warned) in [
        (&unheard, None, probe()),
        (&idle, Some("authentication_failed"), probe()),
        (&held, Some("review_expired"), None),
    ] {
        let ended = shop.ended(placed).await;
        match end {
            None => assert_eq!(ended.status(), "confirmed"),
            Some(reason) => assert_eq!(ended.reason(), reason),
        }
        let saga = world.judge.at_rest(placed.id).await;
        assert_eq!(warnings(&saga), [warned], "{end:?}");
    }
    let (_, shown) = world
        .operator(&["saga", "show", &unheard.id.to_string()])
        .await;
    assert!(shown.contains("deadline_near"), "{shown}");
    world.close().await;
}
