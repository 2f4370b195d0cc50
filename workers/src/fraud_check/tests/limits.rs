//! Purchase limits: raced, taken once, given back once.

use super::*;

/// Fifty orders at once, made by number; exactly `fit` of them may pass.
async fn race(fit: usize, make: impl Fn(usize) -> Order) {
    for batch in [1, 10] {
        let shop = Shop::open().await;
        let orders: Vec<Order> = (0..50).map(&make).collect();
        shop.place(&orders).await;
        let all = |kind| orders.iter().map(|order| asks(order, kind)).collect();
        let replies = at_once(&shop, &only_limits(), all(StepKind::Do), batch).await;
        assert_eq!(done(&replies), fit, "batches of {batch}");
        let refused = replies
            .iter()
            .filter(|it| code(it) == Some("limit_exceeded"));
        assert_eq!(refused.count(), 50 - fit, "{replies:?}");
        let most = shop.number("SELECT max(taken) FROM quotas").await;
        assert_eq!(most, i64::try_from(fit).expect("small"), "one ticket each");

        // The undos of all, of the refused ones too, twice: given back once.
        for _ in 0..2 {
            let replies = at_once(&shop, &only_limits(), all(StepKind::Undo), batch).await;
            assert_eq!(done(&replies), 50);
            assert_eq!(shop.taken().await, 0);
        }
        let again = make(0);
        shop.place(std::slice::from_ref(&again)).await;
        let reply = shop
            .worker(only_limits())
            .one(asks(&again, StepKind::Do))
            .await;
        assert_eq!(reply.outcome, Outcome::Done, "there is room again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_tickets_of_an_event_per_mailbox() {
    race(6, |n| order(&format!("ann+{n}@example.org"), &[(5, 1)])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_tickets_of_a_most_wanted_event_per_mailbox() {
    race(4, |_| order("ann@example.org", &[(1, 1)])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_tickets_of_a_ceremony_per_mailbox() {
    race(4, |_| order("ann@example.org", &[(0, 1)])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_tickets_in_all_per_mailbox() {
    race(30, |n| order("ann@example.org", &[(10 + n as u128, 1)])).await;
}

fn with_account(n: usize, event: u128) -> Order {
    Order {
        account: Some(Uuid::from_u128(9)),
        ..order(&format!("p{n}@example.org"), &[(event, 1)])
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_tickets_of_an_event_per_account() {
    race(6, |n| with_account(n, 5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_tickets_of_a_ceremony_per_account() {
    race(4, |n| with_account(n, 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_tickets_of_a_most_wanted_event_per_account() {
    race(4, |n| with_account(n, 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_tickets_in_all_per_account() {
    race(30, |n| with_account(n, 10 + n as u128)).await;
}

#[tokio::test]
async fn a_batch_is_decided_in_order_of_arrival() {
    let shop = Shop::open().await;
    let orders = [4, 4, 2, 1].map(|tickets| order("ann@example.org", &[(5, tickets)]));
    shop.place(&orders).await;
    let commands = orders.iter().map(|order| asks(order, StepKind::Do));
    let replies = shop.worker(only_limits()).process(commands.collect()).await;
    let outcomes: Vec<_> = replies
        .iter()
        .flatten()
        .map(|reply| reply.outcome)
        .collect();
    use Outcome::{Done, Rejected};
    assert_eq!(outcomes, [Done, Rejected, Done, Rejected]);
    let message = &replies[1]
        .as_ref()
        .and_then(|it| it.error.clone())
        .expect("why")
        .message;
    assert_eq!(
        message,
        "At most 6 tickets of one event per e-mail address."
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_comes_again_takes_once() {
    let shop = Shop::open().await;
    let orders = [order("ann@example.org", &[(5, 2), (6, 1)])];
    shop.place(&orders).await;
    let commands = vec![asks(&orders[0], StepKind::Do); 20];
    let replies = at_once(&shop, &Config::default(), commands, 4).await;
    assert_eq!(done(&replies), 20);
    assert_eq!(shop.taken().await, 2 + 1 + 3, "two events, and all");
    assert_eq!(
        shop.number("SELECT sum(orders) FROM velocity").await,
        2,
        "mailbox and address"
    );
}

#[tokio::test]
async fn what_was_taken_is_given_back_whatever_the_rules_say_by_then() {
    let shop = Shop::open().await;
    let orders = [order("ann@example.org", &[(5, 6)])];
    shop.place(&orders).await;
    let reply = shop
        .worker(only_limits())
        .one(asks(&orders[0], StepKind::Do))
        .await;
    assert_eq!(reply.outcome, Outcome::Done);
    shop.sql("UPDATE orders SET email = 'bo@example.org'; UPDATE events SET tier = 'ceremony'")
        .await;
    let undo = shop
        .worker(Config::default())
        .one(asks(&orders[0], StepKind::Undo))
        .await;
    assert_eq!((undo.outcome, shop.taken().await), (Outcome::Done, 0));
    let late = shop
        .worker(only_limits())
        .one(asks(&orders[0], StepKind::Do))
        .await;
    assert_eq!((code(&late), shop.taken().await), (Some("undone"), 0));
}

#[tokio::test]
async fn a_poisoned_neighbour_disturbs_nobody() {
    let shop = Shop::open().await;
    let orders: Vec<Order> = (0..8)
        .map(|_| order("ann@example.org", &[(5, 1)]))
        .collect();
    shop.place(&orders[..7]).await;
    let poison = orders[3].id;
    shop.sql(&format!(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN IF NEW.order_id = '{poison}' THEN RAISE 'poison'; END IF; RETURN NEW; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON fraud_assessments
         FOR EACH ROW EXECUTE FUNCTION refuse()"
    ))
    .await;
    let commands = orders
        .iter()
        .map(|order| asks(order, StepKind::Do))
        .collect();
    let replies = shop.worker(only_limits()).process(commands).await;
    let codes: Vec<_> = replies.iter().flatten().map(code).collect();
    let (poisoned, missing) = (Some("database_refused"), Some("order_missing"));
    assert_eq!(
        codes,
        [None, None, None, poisoned, None, None, None, missing]
    );
    assert_eq!(shop.taken().await, 6 + 6);
    assert_eq!(shop.number("SELECT count(*) FROM quota_takes").await, 6);
}
