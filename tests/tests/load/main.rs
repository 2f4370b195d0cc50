//! Many orders at once, on real servers: races that only numbers show, and what must not depend on how
//! many there are. A program of its own, so that nothing else waits behind it.

mod classes;
mod deadline;

use contract::OrderId;
use tests::world::{Shop, Wish};

/// One test at a time: each loads the machine as much as it should be, and what one demands would be taken from
/// it by another.
async fn alone() -> tokio::sync::MutexGuard<'static, ()> {
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    ALONE.lock().await
}

/// Sends an order until it is accepted: a gateway that has too much to do says so.
async fn place(shop: &Shop, wish: &Wish) -> OrderId {
    loop {
        let answer = shop.try_place(wish).await.expect("the gateway answers");
        if answer.status != 503 {
            return Shop::accepted(&answer).id;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
