use super::{
    Issue,
    code::{Content, KeyId, Signatory, verify},
};
use crate::{
    fixture::Shop,
    kit::testing::{Bench, command},
};
use contract::{Command, EventId, Outcome, SagaId, StepKind, StepName, TicketId};
use diesel::sql_types::{Binary, Integer, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use futures_util::future::join_all;
use uuid::Uuid;

fn ask(saga: SagaId, kind: StepKind) -> Command {
    command(&StepName::ISSUE, saga, kind)
}

fn signatory() -> Signatory {
    Signatory::read(&"5a".repeat(32)).expect("a seed")
}

fn worker(shop: &Shop) -> Bench<Issue> {
    Bench::new(Issue::new(signatory()), shop.pool.clone())
}

#[derive(diesel::QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    event_id: Uuid,
    #[diesel(sql_type = Integer)]
    number: i32,
    #[diesel(sql_type = Binary)]
    key_id: Vec<u8>,
    #[diesel(sql_type = Binary)]
    signature: Vec<u8>,
}

async fn tickets(shop: &Shop, event: EventId) -> Vec<Row> {
    diesel::sql_query("SELECT * FROM tickets WHERE event_id = $1 ORDER BY number")
        .bind::<SqlUuid, _>(event.0)
        .load(&mut shop.connection().await)
        .await
        .expect("the tickets can be read")
}

/// Twenty batches at once over two events, a third of the orders refused, duplicates in between,
/// and half of the tickets revoked while others are still issued: no number is missing.
#[tokio::test]
async fn numbers_have_no_gap_whatever_happens() {
    let shop = Shop::open().await;
    let (one, two, gone) = (shop.event().await, shop.event().await, shop.event().await);
    let (a, b) = (
        shop.offer(one, 999, false).await,
        shop.offer(two, 999, true).await,
    );
    let c = shop.offer(gone, 999, false).await;
    shop.run(&format!(
        "UPDATE events SET status = 'cancelled' WHERE id = '{gone}'"
    ))
    .await;
    let good = shop.orders(60, &[(one, a, 2), (two, b, 1)]).await;
    let only = shop.orders(60, &[(two, b, 1)]).await;
    let bad = shop.orders(60, &[(one, a, 1), (gone, c, 1)]).await;
    let workers: Vec<_> = (0..20).map(|_| worker(&shop)).collect();
    let batches = workers.iter().enumerate().map(|(n, worker)| {
        let (good, only, bad) = (&good, &only, &bad);
        async move {
            let part = n * 3..n * 3 + 3;
            let sagas = good[part.clone()]
                .iter()
                .chain(&bad[part.clone()])
                .chain(&only[part]);
            let mut commands: Vec<Command> = sagas
                .flat_map(|saga| [ask(*saga, StepKind::Do), ask(*saga, StepKind::Do)])
                .collect();
            if n % 2 == 1 {
                commands.reverse(); // other batches lock in another order
            }
            let replies = worker.process(commands.clone()).await;
            let again = worker.process(commands).await;
            if n % 2 == 0 {
                let undos = good[n * 3..n * 3 + 3]
                    .iter()
                    .map(|saga| ask(*saga, StepKind::Undo));
                worker.process(undos.collect()).await;
            }
            [replies, again]
        }
    });
    let replies = join_all(batches).await;
    for reply in replies.into_iter().flatten().flatten().flatten() {
        let refused = bad.contains(&reply.saga_id);
        let expected = if refused {
            Outcome::Rejected
        } else {
            Outcome::Done
        };
        assert_eq!(reply.outcome, expected, "{reply:?}");
        let code = reply.error.map(|error| error.code);
        assert_eq!(code.as_deref(), refused.then_some("event_cancelled"));
    }
    for (event, count) in [(one, 120), (two, 240), (gone, 0)] {
        let numbers: Vec<i32> = tickets(&shop, event)
            .await
            .iter()
            .map(|row| row.number)
            .collect();
        assert_eq!(numbers, (1..=count).collect::<Vec<i32>>());
    }
    let revoked = shop
        .number("SELECT count(*) FROM tickets WHERE revoked_at IS NOT NULL")
        .await;
    assert_eq!(revoked, 30 * 4);
}

#[tokio::test]
async fn a_ticket_is_signed_and_bears_a_name() {
    let shop = Shop::open().await;
    let event = shop.event().await;
    let offer = shop.offer(event, 9, true).await;
    let saga = shop.orders(1, &[(event, offer, 2)]).await[0];
    shop.run(r#"UPDATE order_items SET attendees = '[{"name": "Bo"}]'"#)
        .await;
    let reply = worker(&shop).one(ask(saga, StepKind::Do)).await;
    assert_eq!(reply.output, Some(serde_json::json!({"tickets": 4})));
    for row in tickets(&shop, event).await {
        let content = Content {
            ticket_id: TicketId(row.id),
            event_id: EventId(row.event_id),
            number: u32::try_from(row.number).expect("positive"),
        };
        let key = KeyId(row.key_id.try_into().expect("4 bytes"));
        let code = content.code(key, &row.signature.try_into().expect("64 bytes"));
        assert_eq!(verify(&code, &[signatory().public_key()]), Ok(content));
    }
    let named = "SELECT count(*) FROM tickets WHERE holder_name = \
                 CASE position WHEN 1 THEN 'Bo' ELSE 'Ada Buyer' END";
    assert_eq!(shop.number(named).await, 4);
    assert_eq!(
        shop.number("SELECT count(*) FROM tickets WHERE companion")
            .await,
        2
    );
}

#[tokio::test]
async fn a_revoked_ticket_keeps_its_number_and_is_not_made_again() {
    let shop = Shop::open().await;
    let event = shop.event().await;
    let offer = shop.offer(event, 9, false).await;
    let sagas = shop.orders(2, &[(event, offer, 2)]).await;
    let worker = worker(&shop);
    for (saga, kind, outcome) in [
        (sagas[0], StepKind::Do, Outcome::Done),
        (sagas[0], StepKind::Undo, Outcome::Done),
        (sagas[0], StepKind::Undo, Outcome::Done),
        (sagas[0], StepKind::Do, Outcome::Rejected),
        (sagas[1], StepKind::Do, Outcome::Done),
    ] {
        assert_eq!(worker.one(ask(saga, kind)).await.outcome, outcome);
    }
    let numbers: Vec<i32> = tickets(&shop, event)
        .await
        .iter()
        .map(|row| row.number)
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    let valid = format!(
        "SELECT count(*) FROM tickets WHERE revoked_at IS NULL AND order_id = '{}' AND number > 2",
        sagas[1]
    );
    assert_eq!(shop.number(&valid).await, 2);
}
