//! Many at once.

use contract::OrderId;
use futures_util::future::join_all;
use tests::world::{
    Wish, World,
    catalogue::{DIVING, DIVING_A, DIVING_FEW},
};

#[tokio::test]
async fn fifty_buyers_at_once_get_exactly_the_ten_places_there_are() {
    let world = World::start().await;
    let ended = join_all((0..50).map(async |_| {
        let (placed, ended) = world.shop.buy(&Wish::of(DIVING_FEW, 1)).await;
        (
            placed.id,
            ended.status().to_owned(),
            ended.reason().to_owned(),
        )
    }))
    .await;
    let with = |status: &str, reason: &str| -> Vec<OrderId> {
        let fits = ended.iter().filter(|(_, s, r)| s == status && r == reason);
        fits.map(|(id, ..)| *id).collect()
    };
    let (sold, refused) = (with("confirmed", ""), with("cancelled", "sold_out"));
    assert_eq!((sold.len(), refused.len()), (10, 40), "{ended:?}");
    assert_eq!(world.judge.taken(DIVING_FEW).await, 10);
    assert_eq!(
        world.judge.numbers(DIVING).await,
        (1..=10).collect::<Vec<_>>()
    );
    for id in refused {
        assert!(
            world.provider.entries(id.0).await.is_empty(),
            "never charged"
        );
    }
    world.close().await;
}

#[tokio::test]
async fn ten_orders_of_one_buyer_at_once_stay_within_his_limit() {
    let world = World::start().await;
    let email = "ada.greedy@example.org";
    let ended = join_all((0..10).map(async |_| {
        let wish = Wish::of(DIVING_A, 2).with("email", email);
        world.shop.buy(&wish).await.1
    }))
    .await;
    let confirmed = ended.iter().filter(|ended| ended.status() == "confirmed");
    assert_eq!(confirmed.count(), 3, "6 tickets of one event are allowed");
    let limited = ended
        .iter()
        .filter(|ended| ended.reason() == "limit_exceeded");
    assert_eq!(limited.count(), 7);
    assert_eq!(world.judge.taken(DIVING_A).await, 6);
    world.close().await;
}
