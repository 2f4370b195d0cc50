use super::*;

fn plan(json: &str) -> Plan {
    serde_json::from_str(json).expect("a plan")
}

fn subject(operations: &[Operation]) -> Subject<'_> {
    Subject {
        operations,
        path: "/v1/payment_intents/pi_1/confirm",
        receipt_email: Some("a@example.com"),
        order_id: Some("o-1"),
        method_id: Some("pm_1"),
        card: Card::of_test_id("pm_card_visa"),
        identity: 7,
    }
}

#[test]
fn a_plan_hits_what_it_names_and_no_more_often_than_it_says() {
    let confirm = [Operation::Confirm];
    let mut faults = Faults::new(0, 0.0);
    let two = plan(r#"{"match":{"order_id":"o-1"},"on":"confirm","fault":"500","times":2}"#);
    faults.plan(two).expect("valid");
    assert_eq!(faults.draw(&subject(&[Operation::Create])), None);
    let other = Subject {
        order_id: Some("o-2"),
        ..subject(&confirm)
    };
    assert_eq!(faults.draw(&other), None);
    for _ in 0..2 {
        let drawn = faults.draw(&subject(&confirm)).expect("planned");
        assert_eq!(drawn.fault, Fault::ServerError);
    }
    assert_eq!(faults.draw(&subject(&confirm)), None);
    assert!(!faults.any());
}

#[test]
fn every_way_to_name_a_request_works() {
    for (matching, expected) in [
        (r#"{"receipt_email":"a@example.com"}"#, true),
        (r#"{"receipt_email":"b@example.com"}"#, false),
        (r#"{"payment_method":"pm_card_visa"}"#, true),
        (r#"{"payment_method":"pm_1"}"#, true),
        (r#"{"payment_method":"pm_card_mastercard"}"#, false),
        (r#"{"path":"/v1/payment_intents/*"}"#, true),
        (r#"{"path":"/v1/payment_intents"}"#, false),
        (
            r#"{"order_id":"o-1","receipt_email":"b@example.com"}"#,
            false,
        ),
        ("{}", true),
    ] {
        let json = format!(r#"{{"match":{matching},"on":"confirm","fault":"429"}}"#);
        let hit = plan(&json).is_for(&subject(&[Operation::Confirm]));
        assert_eq!(hit, expected, "{matching}");
    }
}

#[test]
fn wrong_plans_are_refused() {
    let mut faults = Faults::new(0, 0.0);
    for json in [
        r#"{"on":"confirm","fault":"500","times":0}"#,
        r#"{"on":"confirm","fault":"missing"}"#,
        r#"{"on":"webhook","fault":"500"}"#,
        r#"{"on":"confirm","fault":"stale"}"#,
        r#"{"on":"confirm","fault":{"refund_pending":{"ms":1}}}"#,
        r#"{"on":"refund","fault":{"refund_fails":{"ms":600001}}}"#,
        r#"{"on":"confirm","fault":{"slow":{"ms":600001}}}"#,
        r#"{"on":"confirm","fault":"timeout_after","hold_ms":600001}"#,
        r#"{"on":"confirm","fault":"500","match":{"path":"v1"}}"#,
    ] {
        assert!(faults.plan(plan(json)).is_err(), "{json}");
    }
    for json in [
        r#"{"on":"confirm"}"#,
        r#"{"on":"confirm","fault":"501"}"#,
        r#"{"on":"pay","fault":"500"}"#,
        r#"{"on":"confirm","fault":"500","match":{"mail":"x"}}"#,
    ] {
        assert!(serde_json::from_str::<Plan>(json).is_err(), "{json}");
    }
}

#[test]
fn a_seed_is_a_script() {
    let confirm = [Operation::Confirm];
    let run = |seed| {
        let mut faults = Faults::new(seed, 0.3);
        let draws = (0..2_000_u128).map(|identity| {
            faults.draw(&Subject {
                identity,
                ..subject(&confirm)
            })
        });
        draws.collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    let hit = run(1).iter().flatten().count();
    assert!((500..700).contains(&hit), "about 0.3 of 2000: {hit}");
}

#[test]
fn a_seed_lets_a_request_through_in_the_end() {
    let confirm = [Operation::Confirm];
    let mut faults = Faults::new(3, 0.5);
    for identity in 0..100 {
        let again = Subject {
            identity,
            ..subject(&confirm)
        };
        let passed = (0..64).any(|_| faults.draw(&again).is_none());
        assert!(passed, "a repeated request draws anew each time");
    }
}
