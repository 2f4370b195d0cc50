use super::*;
use crate::kit::testing::OutsideBench;
use contract::Outcome::{Done, Rejected, Retry, Unknown};
use contract::StepKind::{Do, Probe, Undo};

fn bench(shop: &Shop, maker: &Maker) -> OutsideBench<Maker> {
    OutsideBench::new(maker.clone(), shop.pool.clone(), 16)
}

#[tokio::test]
async fn a_batch_is_done_outside_and_repeated_from_the_ledger() {
    let shop = Shop::open().await;
    let maker = Maker::new();
    let worker = bench(&shop, &maker);
    let sagas: Vec<SagaId> = (0..40).map(|_| SagaId::new()).collect();
    for _ in 0..2 {
        let replies = worker
            .process(sagas.iter().map(|saga| ask(*saga, Do)).collect())
            .await;
        assert!(replies.iter().flatten().all(|reply| reply.outcome == Done));
        assert_eq!(maker.world.confirms(), 40, "each once");
    }
    let undone = worker
        .process(sagas.iter().map(|saga| ask(*saga, Undo)).collect())
        .await;
    assert!(undone.iter().flatten().all(|reply| reply.outcome == Done));
    assert!(
        sagas
            .iter()
            .all(|saga| maker.world.thing(*saga) == Some(Thing::Cancelled))
    );
    let late = worker.one(ask(sagas[0], Do)).await;
    assert_eq!((late.outcome, code(&late)), (Rejected, "undone"));
}

/// Whatever one effect does, the others are answered.
#[tokio::test]
async fn failures_are_answers_too() {
    let shop = Shop::open().await;
    let maker = Maker::new();
    let worker = bench(&shop, &maker);
    let inputs = ["panic", "fail", "refuse", "no input", ""];
    let batch = inputs.map(|input| told(SagaId::new(), Do, input)).to_vec();
    let sagas: Vec<SagaId> = batch.iter().map(|command| command.saga_id).collect();
    let replies = worker.process(batch).await;
    let brief: Vec<_> = replies
        .iter()
        .flatten()
        .map(|reply| (reply.outcome, code(reply)))
        .collect();
    let expected = [
        (Retry, "panicked"),
        (Retry, "outside_failed"),
        (Rejected, "declined"),
        (Retry, "order_missing"),
        (Done, ""),
    ];
    assert_eq!(brief, expected);
    // The refusal is recorded; the others go on where they stood.
    let again = worker
        .process(sagas.iter().map(|saga| ask(*saga, Do)).collect())
        .await;
    let brief: Vec<_> = again
        .iter()
        .flatten()
        .map(|reply| (reply.outcome, code(reply)))
        .collect();
    let (done, declined) = ((Done, ""), (Rejected, "declined"));
    assert_eq!(brief, [done, done, declined, done, done]);
}

/// The undo comes when the do has claimed but made nothing: the do must not go on.
#[tokio::test]
async fn an_undo_before_the_outside_id_stops_the_do() {
    let shop = Shop::open().await;
    let maker = Maker::new();
    let (one, two) = (bench(&shop, &maker), bench(&shop, &maker));
    let saga = SagaId::new();
    let doing = one.one(told(saga, Do, "before"));
    let undoing = async {
        maker.reached(1).await;
        let probe = two.one(ask(saga, Probe)).await;
        assert_eq!(probe.outcome, Unknown);
        assert_eq!(two.one(ask(saga, Undo)).await.outcome, Done);
        maker.go.add_permits(1);
    };
    let (late, ()) = tokio::join!(doing, undoing);
    // Its verdict finds the row undone, and that is the answer.
    assert_eq!((late.outcome, code(&late)), (Rejected, "undone"));
    assert_eq!(maker.world.thing(saga), Some(Thing::Cancelled));
    assert_eq!(maker.world.confirms(), 0);
}

/// The undo comes when the thing exists but is not confirmed: the fence outside stands.
#[tokio::test]
async fn an_undo_after_the_outside_id_fences_outside() {
    let shop = Shop::open().await;
    let maker = Maker::new();
    let (one, two) = (bench(&shop, &maker), bench(&shop, &maker));
    for halt in ["between", "after"] {
        let saga = SagaId::new();
        let doing = one.one(told(saga, Do, halt));
        let undoing = async {
            maker.reached(1).await;
            assert_eq!(two.one(ask(saga, Undo)).await.outcome, Done);
            maker.go.add_permits(1);
        };
        let (late, ()) = tokio::join!(doing, undoing);
        assert_eq!((late.outcome, code(&late)), (Rejected, "undone"), "{halt}");
        assert_eq!(maker.world.thing(saga), Some(Thing::Cancelled));
    }
}

/// The worker dies after the outside id is stored: the next one asks, and goes on from there.
#[tokio::test]
async fn the_next_worker_goes_on_from_the_outside_id() {
    let shop = Shop::open().await;
    let maker = Maker::new();
    let (dead, alive) = (bench(&shop, &maker), bench(&shop, &maker));
    for (halt, probed) in [("between", Unknown), ("after", Done)] {
        let saga = SagaId::new();
        let dying = dead.process(vec![told(saga, Do, halt)]);
        tokio::select! {
            _ = dying => panic!("it halts"),
            () = maker.reached(1) => {}
        }
        assert_eq!(alive.one(ask(saga, Probe)).await.outcome, probed, "{halt}");
        let confirms = maker.world.confirms();
        let done = alive.one(ask(saga, Do)).await;
        assert_eq!(done.outcome, Done);
        assert_eq!(done.output, Some(json!({"id": saga.to_string()})));
        assert_eq!(
            maker.world.confirms() - confirms,
            u32::from(halt == "between")
        );
    }
}

/// The same command three times in a batch is one effect with three answers.
#[tokio::test]
async fn duplicates_in_a_batch_share_an_effect() {
    let shop = Shop::open().await;
    let maker = Maker::new();
    let worker = bench(&shop, &maker);
    let saga = SagaId::new();
    let batch = vec![
        ask(saga, Do),
        ask(SagaId::new(), Do),
        ask(saga, Do),
        ask(saga, Do),
    ];
    let ids: Vec<_> = batch.iter().map(|command| command.id).collect();
    let replies = worker.process(batch).await;
    for (reply, id) in replies.iter().flatten().zip(ids) {
        assert_eq!((reply.outcome, reply.in_reply_to), (Done, id));
    }
    assert_eq!(maker.world.confirms(), 2);
}

/// No more effects than permits are under way, and all are done in the end.
#[tokio::test]
async fn permits_bound_what_is_under_way() {
    let shop = Shop::open().await;
    let maker = Maker::new();
    let worker = OutsideBench::new(maker.clone(), shop.pool.clone(), 3);
    let batch = (0..8).map(|_| told(SagaId::new(), Do, "before")).collect();
    let going = async {
        maker.reached(3).await;
        let claimed = "SELECT count(*) FROM effects";
        assert_eq!(
            shop.number(claimed).await,
            3,
            "the others are not even claimed"
        );
        assert_eq!(maker.reached.available_permits(), 0);
        maker.go.add_permits(8);
    };
    let (replies, ()) = tokio::join!(worker.process(batch), going);
    assert!(replies.iter().flatten().all(|reply| reply.outcome == Done));
}

#[tokio::test]
async fn a_bad_outside_id_never_reaches_the_database() {
    let shop = Shop::open().await;
    let ledger = Ledger::start(toy(), shop.pool.clone(), crate::kit::testing::clock());
    let claim = Claim {
        command: ask(SagaId::new(), Do),
        row: None,
    };
    for bad in [String::new(), "a\0b".to_owned(), "x".repeat(256)] {
        let refused = ledger.store_outside_id(&claim, &bad).await;
        assert!(matches!(refused, Err(Error::BadOutsideId)));
    }
    let unclaimed = ledger.store_outside_id(&claim, "pi_1").await;
    assert!(
        matches!(unclaimed, Ok(false)),
        "without a claim nothing may go on"
    );
}
