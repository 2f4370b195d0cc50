//! Being asked to stop.

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// The signal that asked us to stop, as soon as one has.
#[derive(Debug, Clone)]
pub(crate) struct Stop(watch::Receiver<Option<Signal>>);

impl Stop {
    /// Listens for SIGINT, SIGTERM and SIGHUP (a closed terminal).
    ///
    /// The second one ends this process on the spot: somebody is in a hurry. What we started is then
    /// told to stop by the kernel (see [`super::process`]).
    pub(crate) fn listen() -> Result<Self> {
        let hear = |kind| signal(kind).context("cannot listen for signals");
        let mut int = hear(SignalKind::interrupt())?;
        let mut term = hear(SignalKind::terminate())?;
        let mut hup = hear(SignalKind::hangup())?;
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(async move {
            loop {
                let signal = select! {
                    _ = int.recv() => Signal::SIGINT,
                    _ = term.recv() => Signal::SIGTERM,
                    _ = hup.recv() => Signal::SIGHUP,
                };
                if sender.send_replace(Some(signal)).is_some() {
                    std::process::exit(i32::from(exit_code(signal)));
                }
            }
        });
        Ok(Self(receiver))
    }

    /// Waits for the signal.
    pub(crate) async fn asked(&mut self) -> Signal {
        let asked = self.0.wait_for(Option::is_some).await;
        // The sender lives as long as the runtime that polls us.
        asked
            .ok()
            .and_then(|signal| *signal)
            .unwrap_or(Signal::SIGTERM)
    }
}

/// What a shell reports for a process that a signal ended.
pub(crate) fn exit_code(signal: Signal) -> u8 {
    128_u8.saturating_add(u8::try_from(signal as i32).unwrap_or(0))
}
