//! Waiting for something to become true, with a deadline and never blindly.

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// Asks until the answer is yes; asks again after 5 ms.
///
/// # Panics
/// When 20 s are over.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !ask().await {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
