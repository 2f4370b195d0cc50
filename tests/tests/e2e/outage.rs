//! A gateway whose database goes away, and one that is replaced.

use tests::world::{
    Shop, Wish, World,
    catalogue::DIVING_A,
    listener, roles,
    tcp::{Line, TcpProxy},
    until,
};

#[tokio::test]
async fn without_its_database_the_gateway_says_so_and_recovers_by_itself() {
    let world = World::start().await;
    let url = world.ground.database.url();
    let proxy = TcpProxy::to(&url).await;
    let config = database::Config::new(proxy.through(&url), "cut off");
    let pool = database::pool(&config).expect("a pool");
    let (listener, url) = listener().await;
    let gateway = roles::gateway(&world.ground, pool, listener).await;
    let shop = Shop::at(&url);
    let (_, ended) = shop.buy(&Wish::of(DIVING_A, 1)).await;
    assert_eq!(ended.status(), "confirmed");
    proxy.set(Line::Down);
    let wish = Wish::of(DIVING_A, 1);
    let refused = shop.try_place(&wish).await.expect("it answers");
    assert_eq!(
        (refused.status, refused.json()["code"].as_str()),
        (503, Some("unavailable"))
    );
    proxy.set(Line::Up);
    // Nobody restarts anything, and the same key is still free.
    let answer = until("orders are taken again", async || {
        let answer = shop.try_place(&wish).await?;
        (answer.status == 202).then_some(answer)
    })
    .await;
    let placed = Shop::accepted(&answer);
    assert_eq!(shop.ended(&placed).await.status(), "confirmed");
    assert_eq!(world.judge.orders().await.len(), 2);
    gateway.stop().await;
    world.close().await;
}

#[tokio::test]
async fn an_order_is_repeated_at_another_gateway_and_answered_the_same() {
    let world = World::start().await;
    let wish = Wish::of(DIVING_A, 1);
    let first = world.shop.try_place(&wish).await.expect("it answers");
    let placed = Shop::accepted(&first);
    let pool = world.ground.database.pool();
    let (listener, url) = listener().await;
    let other = roles::gateway(&world.ground, pool, listener).await;
    let shop = Shop::at(&url);
    assert_eq!(shop.try_place(&wish).await, Some(first));
    // Its token opens the order there as well.
    assert_eq!(shop.ended(&placed).await.status(), "confirmed");
    assert_eq!(world.judge.orders().await, [placed.id]);
    other.stop().await;
    world.close().await;
}
