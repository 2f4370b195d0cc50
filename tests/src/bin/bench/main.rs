//! The benchmarks: `./ops/bench [NAME…] [--json FILE]`.
//!
//! Everything runs on this one machine: PostgreSQL, RabbitMQ, every role as a process of its own,
//! started by `guichet up` like anywhere else, the payment simulator, and the load generator. What
//! is measured is told in full: no part of the window is left out, latencies count from the time a
//! request was to be sent ([`load`]), what is never confirmed counts ([`orders`]), and the promises
//! are checked after each run.

mod catalogue;
mod latency;
mod load;
mod machine;
mod meter;
mod observer;
mod orders;
mod postgres;
mod processes;
mod report;
mod scrape;
mod world;

use std::{collections::BTreeMap, env, fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{select, signal::ctrl_c};

use crate::{load::Load, machine::Machine, report::print, world::World};

/// Before the first run, at a tenth of its rate.
const WARM_UP_S: u32 = 5;
const CATALOGUE_RATE_PER_S: u32 = 100;

/// What confirmed means and what works along; told with every result.
const SWITCHED_ON: [(&str, &str); 5] = [
    (
        "confirmed",
        "the event order.confirmed, published after the commit of the pivot, as it reaches one exclusive \
         queue of the load generator; counted again from committed rows",
    ),
    (
        "load",
        "one ticket an order, every buyer another, evenly spaced over all offers that have enough; \
         keep-alive connections over loopback",
    ),
    (
        "provider",
        "the simulator over HTTP, without added latency or faults; its webhooks are off",
    ),
    ("mail", "one file an order"),
    (
        "limits",
        "on, except what guichet up exempts loopback from: rate limits and the address rules",
    ),
];

/// Measures what orders and searches cost on this machine
#[derive(Debug, Parser)]
#[command(name = "bench", max_term_width = 100)]
struct Arguments {
    /// Which ones; all of them if none is named
    #[arg(value_name = "NAME")]
    names: Vec<Name>,

    /// Write the results to this file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Orders per second of `orders`; `half` runs at half of it
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(2..=20_000))]
    rate: u32,

    /// How long each one runs, in seconds
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,

    /// Connections to the gateway
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..=5_000))]
    connections: u16,

    /// Where the roles keep their files
    #[arg(long, value_name = "DIR", default_value = ".guichet/bench")]
    dir: PathBuf,
}

/// A benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Orders until confirmed
    Orders,
    /// The same at half the rate; aim: p99 below 1 s
    Half,
    /// Searches of events, 100 requests/s; aim: p99 of 50 ms at most
    Catalogue,
}

#[derive(Serialize)]
struct Report {
    commit: String,
    machine: Machine,
    /// What is measured and what works along.
    setup: BTreeMap<&'static str, String>,
    /// The database's settings, as it says itself.
    postgres: BTreeMap<String, String>,
    results: Vec<Value>,
}

/// A run, for people and for programs.
struct Done {
    text: String,
    value: Value,
    aim: String,
    met: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match all(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; the exit code says it as well.
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("error: {error:#}\n").as_bytes(),
            );
            ExitCode::FAILURE
        }
    }
}

async fn all(arguments: &Arguments) -> Result<()> {
    let mut world = World::start(&arguments.dir).await?;
    let done = select! {
        done = measure(arguments, &mut world) => done,
        _ = ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    // The logs of what failed stay until the next run.
    world.stop(done.is_ok()).await?;
    done
}

async fn measure(arguments: &Arguments, world: &mut World) -> Result<()> {
    let mut report = Report {
        commit: machine::commit(),
        machine: Machine::here(),
        setup: setup(),
        postgres: postgres::settings(&mut world.connection).await?,
        results: Vec::new(),
    };
    print(&heading(&report))?;
    let warm_up = Load {
        rate_per_s: (arguments.rate / 10).max(1),
        seconds: WARM_UP_S,
        connections: usize::from(arguments.connections),
    };
    orders::warm_up(world, warm_up).await?;
    meter::settle().await;
    let names = match arguments.names.as_slice() {
        [] => Name::value_variants(),
        named => named,
    };
    let mut broken = Vec::new();
    for name in names {
        let label = name.to_possible_value().expect("none is hidden");
        let label = label.get_name();
        let mut done = one(*name, label, arguments, world).await?;
        let sign = if done.met { "met" } else { "MISSED" };
        print(&format!("{}  aim: {}: {sign}\n", done.text, done.aim))?;
        let check = world.check().await?;
        match &check {
            Ok(()) => print("  promises: every query of `guichet check` holds\n")?,
            Err(rows) => {
                print(&format!("  promises: BROKEN\n{rows}\n"))?;
                broken.push(label.to_owned());
            }
        }
        done.value["name"] = json!(label);
        done.value["aim"] = json!({ "what": done.aim, "met": done.met });
        done.value["promises_hold"] = json!(check.is_ok());
        report.results.push(done.value);
    }
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if !broken.is_empty() {
        bail!("a promise was broken: {}", broken.join(", "));
    }
    Ok(())
}

async fn one(name: Name, label: &str, arguments: &Arguments, world: &mut World) -> Result<Done> {
    let load = |rate_per_s| Load {
        rate_per_s,
        seconds: arguments.seconds,
        connections: usize::from(arguments.connections),
    };
    let p99 = |latency: Option<latency::Latency>| latency.map_or(f64::INFINITY, |it| it.p99_ms);
    match name {
        Name::Orders => {
            let run = orders::run(world, load(arguments.rate)).await?;
            Ok(Done {
                text: report::orders(label, &run),
                aim: format!(
                    "{} orders/s sustained for {} s",
                    run.offered_per_s, run.seconds
                ),
                met: run.sustained,
                value: serde_json::to_value(run)?,
            })
        }
        Name::Half => {
            let run = orders::run(world, load(arguments.rate / 2)).await?;
            Ok(Done {
                text: report::orders(label, &run),
                aim: format!(
                    "p99 to confirmed below 1 s at {} orders/s",
                    run.offered_per_s
                ),
                met: run.orders.accepted == run.orders.sent && p99(run.confirmed_after) < 1_000.0,
                value: serde_json::to_value(run)?,
            })
        }
        Name::Catalogue => {
            let run = catalogue::run(world, load(CATALOGUE_RATE_PER_S)).await?;
            Ok(Done {
                text: report::catalogue(label, &run),
                aim: format!("p99 of at most 50 ms at {} requests/s", run.offered_per_s),
                met: run.failed == 0 && p99(run.answered_after) <= 50.0,
                value: serde_json::to_value(run)?,
            })
        }
    }
}

/// What is said about every run, and which settings of the caller's reach the roles. Their values may
/// be secret.
fn setup() -> BTreeMap<&'static str, String> {
    let mut setup: BTreeMap<_, _> = SWITCHED_ON
        .iter()
        .map(|(what, text)| (*what, (*text).to_owned()))
        .collect();
    let ours = ["GUICHET_DATABASE_URL", "GUICHET_AMQP_URL"];
    let others: Vec<String> = env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("GUICHET_") && !ours.contains(&name.as_str()))
        .collect();
    if !others.is_empty() {
        setup.insert("set by the environment", others.join(" "));
    }
    setup
}

fn heading(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "commit {}\n{} x {}, {} MB, Linux {}\n",
        report.commit, machine.cpus, machine.cpu, machine.memory_mb, machine.kernel
    );
    for (what, value) in &report.setup {
        text += &format!("{what}: {value}\n");
    }
    let settings: Vec<String> = report
        .postgres
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    text + "PostgreSQL: " + &settings.join(" ") + "\n"
}
