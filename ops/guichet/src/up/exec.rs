//! `up --exec -- CMD…`: one command with the servers' addresses in its environment.

use std::{ffi::OsString, os::unix::process::ExitStatusExt, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{select, time::sleep};

use super::{
    process::bound_to_us,
    servers::{AMQP_URL, DATABASE_URL, Urls},
    signals::{self, Stop},
};

/// How long a command may take to stop after Ctrl-C before it is told again.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the command to its end and answers with its exit code.
///
/// It stays in our process group, so that it has the terminal and hears Ctrl-C itself.
pub(crate) async fn run(command: &[OsString], urls: &Urls, stop: &mut Stop) -> Result<ExitCode> {
    let mut command: tokio::process::Command = bound_to_us(None, Signal::SIGTERM, command);
    command
        .env(DATABASE_URL, &urls.database)
        .env(AMQP_URL, &urls.amqp)
        .kill_on_drop(true);
    let mut child = command
        .spawn()
        .context("cannot run setpriv (Debian package util-linux)")?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    let status = select! {
        status = child.wait() => status,
        signal = stop.asked() => {
            // After Ctrl-C the command has heard it too; anything else was meant for us alone.
            if signal == Signal::SIGINT {
                select! {
                    _ = child.wait() => {}
                    () = sleep(PATIENCE) => {}
                }
            }
            if let (Some(pid), Ok(None)) = (pid, child.try_wait()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
            child.wait().await
        }
    }
    .context("cannot wait for the command")?;
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(1),
        (None, Some(signal)) => Signal::try_from(signal).map_or(1, signals::exit_code),
        (None, None) => 1,
    };
    Ok(ExitCode::from(code))
}
