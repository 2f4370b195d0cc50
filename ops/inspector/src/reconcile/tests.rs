use super::*;
use database::testing::TestDatabase;
use diesel_async::SimpleAsyncConnection;
use proptest::prelude::*;

const NOW_S: i64 = 1_000_000;

/// An order that ended well: sold and paid, or refused and given back.
fn good() -> impl Strategy<Value = (Order, Payment)> {
    (any::<u128>(), 50_i64..100_000, 0..4_u8).prop_map(|(id, total_minor, end)| {
        let id = Uuid::from_u128(id);
        let order = Order {
            id,
            total_minor,
            currency: "EUR".to_owned(),
            live: end == 2,
            with_people: false,
            intent: Some(format!("pi_{}", id.simple())),
            valid_tickets: i64::from(end == 0),
        };
        let captured = if end == 3 { 0 } else { total_minor };
        let payment = Payment {
            id: format!("pi_{}", id.simple()),
            order: Some(id),
            stand: if end == 3 {
                Stand::Canceled
            } else {
                Stand::Captured
            },
            amount_minor: total_minor,
            captured_minor: captured,
            refunded_minor: if end == 1 { total_minor } else { 0 },
            currency: "eur".to_owned(),
            since_s: 0,
        };
        (order, payment)
    })
}

/// Makes one kind of difference out of a good order; `None`: it cannot be made of this one.
fn spoil(kind: Kind, order: &mut Order, payments: &mut Vec<Payment>) -> Option<bool> {
    let sold = order.valid_tickets > 0;
    let payment = &mut payments[0];
    let captured = payment.net_minor() > 0;
    match kind {
        Kind::CapturedWithoutOrder if captured => return Some(false),
        Kind::CapturedButCancelled if sold => order.valid_tickets = 0,
        Kind::CapturedTwice if captured => {
            let mut again = payment.clone();
            again.id.push('b');
            payments.push(again);
        }
        Kind::AmountDiffers if captured => payment.captured_minor -= 1,
        Kind::TicketedWithoutCapture if sold => {
            payment.captured_minor = 0;
            payment.stand = Stand::Canceled;
        }
        Kind::RefundedButTicketed if sold => payment.refunded_minor = 1,
        Kind::AuthorisedAndForgotten if !order.live && !captured => {
            payment.stand = Stand::Authorised;
        }
        Kind::WaitingAndForgotten if !order.live && !captured => payment.stand = Stand::Waiting,
        Kind::UnknownToProvider => payments.clear(),
        _ => return None,
    }
    Some(true)
}

proptest! {
    #[test]
    fn where_all_is_well_nothing_differs(good in prop::collection::vec(good(), 0..20)) {
        let (orders, payments): (Vec<_>, Vec<_>) = good.into_iter().unzip();
        prop_assert_eq!(join(&payments, &orders), Vec::new());
        for (payment, order) in payments.iter().zip(&orders) {
            prop_assert_eq!(remedy(payment, Some(order), NOW_S, SETTLED_AFTER_S), None);
        }
    }

    #[test]
    fn what_was_given_back_is_settled_whatever_it_was((order, mut payment) in good(), more in 1_i64..100) {
        prop_assume!(payment.refunded_minor > 0);
        payment.amount_minor += more;
        payment.captured_minor += more;
        payment.refunded_minor += more;
        prop_assert_eq!(join(&[payment.clone()], std::slice::from_ref(&order)), Vec::new());
        payment.refunded_minor -= 1;
        let found = join(&[payment], &[order]);
        prop_assert!(found.iter().any(|it| it.kind == Kind::AmountDiffers && it.amount_minor == 1));
    }

    #[test]
    fn each_difference_is_found_by_its_name_and_nothing_of_another_order(
        good in prop::collection::vec(good(), 1..10),
        kind in prop::sample::select(&Kind::ALL[..]),
    ) {
        let (mut orders, mut payments): (Vec<_>, Vec<_>) = good.into_iter().unzip();
        let mut order = orders.swap_remove(0);
        let mut spoilt = vec![payments.swap_remove(0)];
        let id = order.id;
        if let Some(kept) = spoil(kind, &mut order, &mut spoilt) {
            payments.extend(spoilt);
            orders.extend(kept.then_some(order));
            let found = join(&payments, &orders);
            prop_assert!(found.iter().any(|it| it.kind == kind), "{found:?}");
            prop_assert!(found.iter().all(|it| it.order == Some(id)), "{found:?}");
        }
    }

    /// Whatever both sides say: never more than was captured, nothing of an order with tickets, a live saga
    /// or people at work on it, and nothing that is young.
    #[test]
    fn a_remedy_never_takes_from_anybody(
        (mut order, mut payment) in good(),
        stand in prop::sample::select(&[
            Stand::Open, Stand::Waiting, Stand::Authorised, Stand::Captured, Stand::Canceled,
        ][..]),
        (live, with_people, tickets) in (any::<bool>(), any::<bool>(), 0_i64..3),
        (refunded, age) in (0_i64..100_000, 0_i64..2 * SETTLED_AFTER_S),
    ) {
        (order.live, order.with_people, order.valid_tickets) = (live, with_people, tickets);
        payment.stand = stand;
        payment.refunded_minor = refunded.min(payment.captured_minor);
        payment.since_s = NOW_S - age;
        let free = !live && !with_people && tickets == 0 && age >= SETTLED_AFTER_S;
        match remedy(&payment, Some(&order), NOW_S, SETTLED_AFTER_S) {
            Some(Remedy::Refund(minor)) => {
                prop_assert!(free && minor > 0);
                prop_assert_eq!(minor, payment.captured_minor - payment.refunded_minor);
            }
            Some(Remedy::Cancel) => prop_assert!(free && stand != Stand::Captured),
            None => {}
        }
        prop_assert_eq!(remedy(&payment, Some(&order), payment.since_s, SETTLED_AFTER_S), None);
        payment.order = None;
        prop_assert_eq!(remedy(&payment, None, NOW_S, SETTLED_AFTER_S), None);
    }
}

#[test]
fn names_are_told_apart_and_the_same_everywhere() {
    for kind in Kind::ALL {
        let json = serde_json::to_value(kind).expect("a name");
        assert_eq!(json, kind.as_str());
    }
}

#[derive(diesel::QueryableByName)]
struct Line {
    #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
    line: String,
}

/// Of a platform that is a year old a look at the last week reads the effects of the last week.
#[tokio::test]
async fn a_page_of_orders_leaves_the_effects_from_before_alone() {
    let database = TestDatabase::create().await;
    let mut connection = database.connection().await;
    let sql = Since::SQL.replace("{after}", "$1").replace("{limit}", "$2");
    let prepare = format!(
        "SELECT make_partitions('2025-01-01', 2);
         SET plan_cache_mode = force_generic_plan;
         PREPARE since (uuid, bigint) AS {sql}"
    );
    connection.batch_execute(&prepare).await.expect("prepared");
    let explain = "EXPLAIN (COSTS OFF) EXECUTE since (uuid7_floor(now()), 1000)";
    let plan = diesel::sql_query(explain).load::<Line>(&mut connection);
    let plan = plan.await.expect("a plan").into_iter();
    let plan: String = plan.map(|one| one.line + "\n").collect();
    let effects = |month: &str| plan.contains(&format!(" on effects_{month}"));
    assert!(effects("default"), "{plan}");
    assert!(!effects("202501") && !effects("202502"), "{plan}");
}
