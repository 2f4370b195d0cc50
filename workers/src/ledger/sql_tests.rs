//! What the statements cost, by the rows they read.

use super::*;
use crate::{fixture::Shop, kit::Verdict, ledger::plan::record};
use contract::StepKind;
use database::testing::rows_read;

/// Planned on an empty table, a statement would read every effect between the first and the last of its
/// batch, and there are all those that are under way.
#[tokio::test]
async fn what_is_between_the_effects_of_a_batch_is_not_read() {
    let shop = Shop::open().await;
    let step = StepName::PAY;
    let (first, now) = (SagaId::new(), Utc::now());
    let mut connection = shop.pool.get().await.expect("a connection");
    let claim = |saga| vec![(saga, 1)];
    // Every statement is planned now.
    let (begun, _) = begin(&mut connection, &step, claim(first), State::Claimed, now)
        .await
        .expect("begun");
    assert!(begun.contains(&first));
    all(&mut connection, &step, &[first], now).await;

    let between = (0..2_000).map(|_| (SagaId::new(), 1)).collect();
    begin(&mut connection, &step, between, State::Claimed, now)
        .await
        .expect("begun");
    let last = SagaId::new();
    begin(&mut connection, &step, claim(last), State::Claimed, now)
        .await
        .expect("begun");
    let before = rows_read(&mut connection, "effects").await;
    all(&mut connection, &step, &[first, last], now).await;
    let read = rows_read(&mut connection, "effects").await - before;
    assert!(
        (1..=40).contains(&read),
        "{read} rows were read for two effects"
    );
}

/// Every statement over some effects.
async fn all(connection: &mut Connection, step: &StepName, sagas: &[SagaId], now: DateTime<Utc>) {
    lock(connection, step, sagas.iter().copied())
        .await
        .expect("locked");
    let named = sagas
        .iter()
        .map(|saga| (*saga, format!("pi_{saga}")))
        .collect();
    store_outside_ids(connection, step, named)
        .await
        .expect("stored");
    outside_ids(connection, step, sagas.iter().copied())
        .await
        .expect("read");
    let done = record(StepKind::Do, &Verdict::done(), None).expect("recorded");
    let changes = sagas.iter().map(|saga| (*saga, done.clone())).collect();
    change(connection, step, changes, now)
        .await
        .expect("changed");
}
