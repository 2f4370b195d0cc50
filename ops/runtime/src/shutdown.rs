//! From a signal to an orderly stop.

use tokio::signal::unix::{Signal, SignalKind, signal as listen};
use tokio_util::sync::CancellationToken;

/// A token that SIGTERM or SIGINT (Ctrl-C) trips. Everything long-lived watches it, or a child of it.
///
/// Whoever asks a second time does not want to wait: the process then exits at once, with the status a
/// shell gives to a process ended by that signal (130 or 143).
///
/// # Panics
/// Outside of a tokio runtime with its I/O driver enabled.
#[must_use]
pub fn signal() -> CancellationToken {
    let (mut terminate, mut interrupt) = (
        registered(SignalKind::terminate()),
        registered(SignalKind::interrupt()),
    );
    let token = CancellationToken::new();
    let tripped = token.clone();
    tokio::spawn(async move {
        let signal = either(&mut terminate, &mut interrupt).await;
        tracing::info!(signal, "stopping; the same signal again exits at once");
        tripped.cancel();
        let signal = either(&mut terminate, &mut interrupt).await;
        tracing::warn!(signal, "asked twice: exiting without finishing");
        std::process::exit(if signal == "SIGINT" { 130 } else { 143 });
    });
    token
}

fn registered(kind: SignalKind) -> Signal {
    listen(kind).expect("these two signals may always be caught")
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
