//! `guichet up`: everything one checkout needs, in one process group of groups.

mod exec;
mod home;
mod leftover;
mod log;
mod narrator;
mod place;
mod ports;
mod probe;
mod process;
mod restart;
mod roles;
mod servers;
mod signals;
mod supervisor;

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tokio::select;

pub(crate) use self::narrator::Narrator;
use self::{
    home::{Home, write_private},
    process::Files,
    servers::{AMQP_URL, DATABASE_URL, Urls},
    signals::Stop,
    supervisor::Supervisor,
};
use crate::{demo, failure::Failure};

const EXAMPLES: &str = "\
Examples:
  guichet up                            servers, roles, demo orders; then on until Ctrl-C
  guichet up --once                     the same, but stop after the demo orders
  guichet up --orders 1000              sell a thousand more
  guichet up --servers-only             PostgreSQL and RabbitMQ until Ctrl-C
  guichet up --exec -- cargo test       the same for the time of one command
  guichet up --dir /tmp/other …         a second, separate set of everything

With GUICHET_DATABASE_URL and GUICHET_AMQP_URL set, those servers are used and none is started.
Other GUICHET_… variables reach the roles and go before what `up` would choose for them.";

/// The arguments of `guichet up`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Up {
    /// Where data, logs, secrets and the chosen ports are kept
    #[arg(long, value_name = "DIR", default_value = ".guichet")]
    dir: PathBuf,

    /// Sell the demo orders, one for each way an order can end, and stop; fails unless each ended so
    #[arg(long, conflicts_with_all = ["servers_only", "exec"])]
    once: bool,

    /// Sell so many more orders once everything is up
    #[arg(long, value_name = "N", conflicts_with_all = ["servers_only", "exec"],
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    orders: Option<u32>,

    /// Start everything, but sell no demo orders
    #[arg(long, conflicts_with_all = ["once", "servers_only", "exec"])]
    no_demo: bool,

    /// Start PostgreSQL and RabbitMQ only
    #[arg(long, conflicts_with = "exec")]
    servers_only: bool,

    /// Start the servers, run a command with their addresses in its environment, stop them, and exit
    /// with the command's exit code
    #[arg(long, requires = "command")]
    exec: bool,

    /// The command of --exec
    #[arg(last = true, requires = "exec", value_name = "CMD")]
    command: Vec<OsString>,
}

/// Runs the command. On the main thread alone: see [`process`] for why.
pub(crate) async fn run(up: Up, config: Option<&Path>) -> Result<ExitCode, Failure> {
    let narrator = Narrator::new();
    // Asked for now: later a new build may have replaced the file, and the name would lead nowhere.
    let program = env::current_exe().context("cannot find this program's own file")?;
    let existing = servers::existing()?;
    let mut stop = Stop::listen()?;
    let mut home = Home::open(&up.dir)?;
    let mut supervisor = Supervisor::new(Files::of(&home), narrator);
    let parts = Parts {
        up: &up,
        program: &program,
        config,
        narrator,
    };
    let result = work(parts, existing, &mut home, &mut supervisor, &mut stop).await;
    supervisor.stop_all().await;
    Ok(result?)
}

/// What `up` was asked for, and by which means it speaks.
#[derive(Clone, Copy)]
struct Parts<'a> {
    up: &'a Up,
    program: &'a Path,
    config: Option<&'a Path>,
    narrator: Narrator,
}

async fn work(
    parts: Parts<'_>,
    existing: Option<Urls>,
    home: &mut Home,
    supervisor: &mut Supervisor,
    stop: &mut Stop,
) -> Result<ExitCode> {
    let Parts {
        up,
        program,
        config,
        narrator,
    } = parts;
    let urls = match existing {
        Some(urls) => {
            narrator.say("servers", "using the existing ones of the environment");
            urls
        }
        None => select! {
            started = servers::start(home, supervisor, narrator) => started?,
            signal = stop.asked() => {
                stopping(signal, narrator);
                return Ok(ExitCode::from(signals::exit_code(signal)));
            }
        },
    };
    let file = write_env(home, &urls, None)?;
    if up.exec {
        return exec::run(&up.command, &urls, stop).await;
    }
    if !up.servers_only {
        let selling = async {
            let command = roles::Command { program, config };
            let places = roles::start(home, supervisor, narrator, &urls, command).await?;
            write_env(home, &urls, Some(&places.psp))?;
            sell(up, places, narrator).await
        };
        let good = select! {
            sold = selling => sold?,
            signal = stop.asked() => {
                stopping(signal, narrator);
                return Ok(ExitCode::from(signals::exit_code(signal)));
            }
        };
        if up.once {
            narrator.say("up", "stopping");
            return Ok(if good {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
    }
    narrator.say(
        "up",
        &format!(
            "`. {}` sets {DATABASE_URL} and {AMQP_URL}; Ctrl-C stops everything",
            file.display()
        ),
    );
    let signal = stop.asked().await;
    stopping(signal, narrator);
    Ok(ExitCode::SUCCESS)
}

/// The demo orders, and as many more as were asked for. Whether all ended as they should.
async fn sell(up: &Up, places: demo::Places, narrator: Narrator) -> Result<bool> {
    let ends = up.no_demo || demo::every_end(places.clone(), narrator).await?;
    match up.orders {
        Some(count) => Ok(demo::many(places, count, narrator).await? && ends),
        None => Ok(ends),
    }
}

fn stopping(signal: Signal, narrator: Narrator) {
    narrator.say("up", &format!("{signal}: stopping"));
}

/// A file for shells that want to reach the servers, and the payment provider if there is one. It holds passwords
/// and is private.
fn write_env(home: &Home, urls: &Urls, provider: Option<&str>) -> Result<PathBuf> {
    let path = home.path("env");
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let mut text = format!(
        "export {DATABASE_URL}={}\nexport {AMQP_URL}={}\n",
        quoted(&urls.database),
        quoted(&urls.amqp)
    );
    for (name, value) in provider.iter().flat_map(|url| roles::provider(home, url)) {
        text.push_str(&format!("export {name}={}\n", quoted(&value)));
    }
    write_private(&path, &text).context("cannot write the servers' addresses")?;
    Ok(path)
}
