//! A command whose input a person has corrected, beside one from before that has come twice.

use super::*;
use crate::kit::testing::OutsideBench;
use contract::Outcome::{Done, Rejected, Retry};
use contract::StepKind::Do;

/// The command from before the correction, and the one after it.
const OLD: i32 = 1;
const NEW: i32 = 2;

fn bench(shop: &Shop, maker: &Maker) -> OutsideBench<Maker> {
    OutsideBench::new(maker.clone(), shop.pool.clone(), 16)
}

fn numbered(saga: SagaId, seq: i32, input: &str) -> Command {
    Command {
        seq,
        ..told(saga, Do, input)
    }
}

impl Shop {
    async fn correct(&self, saga: SagaId) {
        self.run(&format!(
            "INSERT INTO corrections (saga_id, audit, after_seq, kind, step, made_by, reason, fields)
             VALUES ('{saga}', 1, {OLD}, 1, 'toy', 'ada', 'a test', '{{}}')"
        ))
        .await;
    }

    /// One of two twins is refused, and that is corrected.
    async fn refused_and_corrected(&self, worker: &OutsideBench<Maker>, saga: SagaId) {
        let refused = worker.one(numbered(saga, OLD, "refuse")).await;
        assert_eq!((refused.outcome, code(&refused)), (Rejected, "declined"));
        self.correct(saga).await;
    }
}

#[tokio::test]
async fn what_was_corrected_does_not_wait_for_the_answer_of_what_was_not() {
    let shop = Shop::open().await;
    let maker = Maker::new();
    let (one, two) = (bench(&shop, &maker), bench(&shop, &maker));
    let saga = SagaId::new();
    let twin = one.one(numbered(saga, OLD, "refuse late"));
    let beside = async {
        maker.reached(1).await;
        shop.refused_and_corrected(&two, saga).await;
        let corrected = one.one(numbered(saga, NEW, ""));
        let corrected = tokio::time::timeout(Duration::from_secs(20), corrected).await;
        maker.go.add_permits(1);
        corrected.expect("it is worked on while the twin is under way")
    };
    let (late, corrected) = tokio::join!(twin, beside);
    assert_eq!(corrected.outcome, Done, "{}", code(&corrected));
    assert_eq!(late.outcome, Done, "the row says so by then");
    assert_eq!(maker.world.thing(saga), Some(Thing::Confirmed));
}

#[tokio::test]
async fn a_late_verdict_does_not_close_what_a_correction_has_opened() {
    let shop = Shop::open().await;
    let maker = Maker::new();
    let (one, two) = (bench(&shop, &maker), bench(&shop, &maker));
    let saga = SagaId::new();
    let twin = async {
        let late = one.one(numbered(saga, OLD, "refuse late")).await;
        maker.go.add_permits(1); // for the corrected one
        late
    };
    let beside = async {
        maker.reached(1).await;
        shop.refused_and_corrected(&two, saga).await;
        let opens = async {
            maker.reached(1).await;
            maker.go.add_permits(1); // for the twin, who has waited for longer
        };
        tokio::join!(two.one(numbered(saga, NEW, "before")), opens).0
    };
    let (late, corrected) = tokio::join!(twin, beside);
    assert_eq!((late.outcome, code(&late)), (Retry, "corrected"));
    assert_eq!(corrected.outcome, Done, "{}", code(&corrected));
    assert_eq!(shop.number("SELECT state FROM effects").await, 2);
}

#[tokio::test]
async fn both_in_one_batch_have_the_answer_of_the_corrected_one() {
    let shop = Shop::open().await;
    let worker = bench(&shop, &Maker::new());
    for order in [[OLD, NEW], [NEW, OLD]] {
        let saga = SagaId::new();
        shop.refused_and_corrected(&worker, saga).await;
        let neighbour = ask(SagaId::new(), Do);
        let [first, last] = order.map(|seq| numbered(saga, seq, ""));
        let replies = worker.process(vec![first, neighbour, last]).await;
        let outcomes: Vec<_> = replies
            .iter()
            .flatten()
            .map(|reply| reply.outcome)
            .collect();
        assert_eq!(outcomes, [Done; 3], "{order:?}");
    }
}
