use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::*;

/// The batches that were begun.
type Seen = Arc<Mutex<Vec<Vec<u32>>>>;

const LONG: Duration = Duration::from_secs(20);

/// Work that doubles, notes each batch, and begins each only when `gate` lets it.
fn doubler(options: Options) -> (Batcher<u32, u32>, Seen, Arc<Semaphore>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let gate = Arc::new(Semaphore::new(0));
    let batcher = Batcher::start("test", options, {
        let (seen, gate) = (Arc::clone(&seen), Arc::clone(&gate));
        move |items: Vec<u32>| {
            seen.lock().expect("not poisoned").push(items.clone());
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.expect("open").forget();
                items.into_iter().map(|item| item * 2).collect()
            }
        }
    });
    (batcher, seen, gate)
}

/// Submits without waiting for the result; the item is in the queue when this returns.
async fn submit_now(
    batcher: &Batcher<u32, u32>,
    item: u32,
) -> tokio::task::JoinHandle<Result<u32, BatchError>> {
    let task = tokio::spawn({
        let batcher = batcher.clone();
        async move { batcher.submit(item).await }
    });
    settle().await;
    task
}

/// Lets every other task of this single-threaded runtime run until it waits.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_arrives_meanwhile_is_the_next_batch() {
    let options = Options {
        max_items: 3,
        ..Options::default()
    };
    let (batcher, seen, gate) = doubler(options);
    let mut results = Vec::new();
    for item in 0..6 {
        results.push(submit_now(&batcher, item).await);
    }
    assert_eq!(*seen.lock().expect("not poisoned"), [[0].to_vec()]);
    gate.add_permits(3);
    let results = timeout(LONG, join_all(results)).await.expect("answered");
    let results: Vec<_> = results.into_iter().map(|r| r.expect("no panic")).collect();
    assert_eq!(results, [0, 2, 4, 6, 8, 10].map(Ok));
    let expected = [vec![0], vec![1, 2, 3], vec![4, 5]];
    assert_eq!(*seen.lock().expect("not poisoned"), expected);
}

#[tokio::test]
async fn as_many_batches_as_allowed_are_under_way() {
    let options = Options {
        in_flight: 2,
        ..Options::default()
    };
    let (batcher, seen, gate) = doubler(options);
    let mut results = Vec::new();
    for item in 0..4 {
        results.push(submit_now(&batcher, item).await);
    }
    let expected = [vec![0], vec![1]];
    assert_eq!(*seen.lock().expect("not poisoned"), expected);
    gate.add_permits(3);
    timeout(LONG, join_all(results)).await.expect("answered");
    let expected = [vec![0], vec![1], vec![2, 3]];
    assert_eq!(*seen.lock().expect("not poisoned"), expected);
}

#[tokio::test]
async fn a_full_queue_refuses_or_waits() {
    let options = Options {
        queue: 1,
        ..Options::default()
    };
    let (batcher, _seen, gate) = doubler(options);
    let running = submit_now(&batcher, 1).await;
    let queued = submit_now(&batcher, 2).await;
    assert_eq!(batcher.try_submit(3).await, Err(BatchError::Full));
    let waiting = submit_now(&batcher, 4).await;
    assert!(!waiting.is_finished());
    gate.add_permits(3);
    for (task, expected) in [(running, 2), (queued, 4), (waiting, 8)] {
        let result = timeout(LONG, task).await.expect("answered");
        assert_eq!(result.expect("no panic"), Ok(expected));
    }
}

#[tokio::test]
async fn a_panic_reaches_its_batch_only() {
    let batcher = Batcher::start(
        "test_panic",
        Options::default(),
        |items: Vec<u32>| async move {
            assert!(!items.contains(&13), "planted");
            items
        },
    );
    let lost = timeout(LONG, batcher.submit(13)).await.expect("no hang");
    assert_eq!(lost, Err(BatchError::Lost));
    let fine = timeout(LONG, batcher.submit(14)).await.expect("no hang");
    assert_eq!(fine, Ok(14));
    assert_eq!(LOST.with_label_values(&["test_panic"]).get(), 1);
}

#[tokio::test]
async fn a_panic_before_the_first_await_counts_too() {
    let batcher = Batcher::start("test_early", Options::default(), |items: Vec<u32>| {
        assert!(!items.contains(&13), "planted");
        std::future::ready(items)
    });
    let lost = timeout(LONG, batcher.submit(13)).await.expect("no hang");
    assert_eq!(lost, Err(BatchError::Lost));
    assert_eq!(batcher.submit(14).await, Ok(14));
}

#[tokio::test]
async fn a_wrong_number_of_results_is_never_handed_out() {
    let batcher = Batcher::start("test_count", Options::default(), |_: Vec<u32>| async {
        vec![1, 2]
    });
    let lost = timeout(LONG, batcher.submit(1)).await.expect("no hang");
    assert_eq!(lost, Err(BatchError::Lost));
}

#[tokio::test]
async fn items_of_those_who_left_are_not_run() {
    let (batcher, seen, gate) = doubler(Options::default());
    let first = submit_now(&batcher, 1).await;
    let left = submit_now(&batcher, 2).await;
    let stayed = submit_now(&batcher, 3).await;
    left.abort();
    settle().await;
    gate.add_permits(2);
    for task in [first, stayed] {
        let result = timeout(LONG, task).await.expect("answered");
        result.expect("no panic").expect("a result");
    }
    assert_eq!(*seen.lock().expect("not poisoned"), [[1], [3]]);
}

#[test]
fn a_worker_dropped_with_its_runtime_loses_its_submitters() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
    };
    let (theirs, ours) = (runtime(), runtime());
    let batcher = theirs.block_on(async {
        let never = |_: Vec<u32>| std::future::pending::<Vec<u32>>();
        Batcher::start("test_drop", Options::default(), never)
    });
    let mut waiting = Box::pin(batcher.submit(1));
    ours.block_on(async {
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    });
    drop(theirs);
    ours.block_on(async {
        assert_eq!(waiting.await, Err(BatchError::Lost));
        assert_eq!(batcher.submit(2).await, Err(BatchError::Lost));
        assert_eq!(batcher.try_submit(2).await, Err(BatchError::Lost));
    });
}

#[tokio::test]
async fn the_worker_finishes_what_it_has_when_the_handles_are_gone() {
    let (batcher, seen, gate) = doubler(Options::default());
    let first = submit_now(&batcher, 1).await;
    let second = submit_now(&batcher, 2).await;
    drop(batcher);
    gate.add_permits(2);
    for task in [first, second] {
        let result = timeout(LONG, task).await.expect("answered");
        result.expect("no panic").expect("a result");
    }
    assert_eq!(seen.lock().expect("not poisoned").len(), 2);
}

#[tokio::test]
async fn drain_takes_what_is_ready() {
    let (sender, mut receiver) = mpsc::channel(10);
    for item in 0..5 {
        sender.send(item).await.expect("room");
    }
    assert_eq!(drain(&mut receiver, 3).await, [0, 1, 2]);
    assert_eq!(drain(&mut receiver, 3).await, [3, 4]);
    drop(sender);
    assert!(drain(&mut receiver, 3).await.is_empty());
}
