//! The benchmarks of one call, one after the other, each with a world of its own.

use std::{collections::BTreeMap, env, fs};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    arguments::{Arguments, Name},
    benchmarks,
    compare::{Earlier, Sides},
    entry::Entry,
    load::Load,
    machine::{self, Machine},
    maximum::{self, Trial},
    meter, postgres,
    report::print,
    run,
    setup::{Cast, Setup, Side},
    shop::Orders,
    world::{World, say},
};

/// Before the first measurement.
const WARM_UP_S: u32 = 5;
const WARM_UP_PER_S: u32 = 50;
/// A rate is kept up when at its end no more than the orders of so many seconds are on their way.
pub(crate) const ALLOWANCE_S: f64 = 0.5;
/// A trial's length: a sixth of a window, within these bounds.
const TRIAL_S: (u32, u32) = (3, 10);

/// What is said about every run.
const SAID: [(&str, &str); 3] = [
    (
        "confirmed",
        "the event that says so, published after the commit of the pivot, as it reaches one exclusive queue \
         of the load generator; counted again from committed rows",
    ),
    (
        "load",
        "open loop unless a concurrency is named; one ticket an order, every buyer another, evenly spread; \
         kept connections over loopback; latencies from the intended time",
    ),
    (
        "limits",
        "on, except that loopback is exempt from rate limits and address rules",
    ),
];

#[derive(Serialize)]
struct Report {
    commit: String,
    machine: Machine,
    setup: BTreeMap<&'static str, String>,
    /// The database's settings, as it says itself.
    postgres: BTreeMap<String, String>,
    results: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pair: Option<Value>,
}

/// What a benchmark has to work with.
pub(crate) struct Bench<'a> {
    pub(crate) arguments: &'a Arguments,
    pub(crate) side: Side,
    name: Name,
    maximum: Option<u32>,
    entries: Vec<Entry>,
    earlier: Option<&'a Earlier>,
    heading: &'a mut Option<Heading>,
}

/// What comes before the first result.
struct Heading {
    postgres: BTreeMap<String, String>,
}

/// Runs all that is asked for. Whether every promise held.
pub(crate) async fn all(arguments: &Arguments) -> Result<()> {
    let earlier = arguments
        .compare
        .as_deref()
        .map(Earlier::read)
        .transpose()?;
    let mut heading = None;
    let mut report = Report {
        commit: machine::commit(),
        machine: Machine::here(),
        setup: setup(),
        postgres: BTreeMap::new(),
        results: Vec::new(),
        pair: None,
    };
    print(&introduction(&report))?;
    let mut broken = Vec::new();
    let mut keep = |entries: Vec<Entry>, results: &mut Vec<Value>| {
        for entry in entries {
            results.push(entry.value());
            if !entry.broken.is_empty() {
                broken.push(entry.title());
            }
        }
    };
    if let [a, b] = arguments.pair.as_slice() {
        let sides = [Side::read(a)?, Side::read(b)?];
        let mut compared = Sides::default();
        for round in 0..arguments.runs {
            // Whoever comes second meets what the first has left behind, so they take turns.
            let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
            for which in order {
                let side = &sides[which];
                say(&format!(
                    "round {} of {}: {}",
                    round + 1,
                    arguments.runs,
                    side.label
                ));
                let entries = names(arguments, side, None, &mut heading).await?;
                entries.iter().for_each(|entry| compared.add(which, entry));
                keep(entries, &mut report.results);
            }
        }
        print(&compared.told([a, b]))?;
        report.pair = Some(json!({ "a": a, "b": b, "results": compared.value() }));
    } else {
        let entries = names(arguments, &Side::ours()?, earlier.as_ref(), &mut heading).await?;
        keep(entries, &mut report.results);
    }
    report.postgres = heading.map(|heading| heading.postgres).unwrap_or_default();
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if !broken.is_empty() {
        bail!("a promise was broken: {}", broken.join("; "));
    }
    Ok(())
}

async fn names(
    arguments: &Arguments,
    side: &Side,
    earlier: Option<&Earlier>,
    heading: &mut Option<Heading>,
) -> Result<Vec<Entry>> {
    let mut maximum = arguments.rate;
    let mut entries = Vec::new();
    for name in arguments.names() {
        let mut bench = Bench {
            arguments,
            side: side.clone(),
            name,
            maximum,
            entries: Vec::new(),
            earlier,
            heading: &mut *heading,
        };
        benchmarks::run(name, &mut bench)
            .await
            .with_context(|| name.label())?;
        maximum = bench.maximum;
        entries.extend(bench.entries);
    }
    Ok(entries)
}

impl Bench<'_> {
    /// One process of each role.
    pub(crate) fn plain(&self) -> Setup {
        Setup::plain(&self.side)
    }

    /// Starts a world, and puts it through its first orders.
    pub(crate) async fn open(&mut self, setup: Setup) -> Result<World> {
        let sells = setup.cast == Cast::Selling;
        let mut world = self.open_cold(setup).await?;
        if sells {
            self.warm_up(&mut world).await?;
        }
        Ok(world)
    }

    /// Starts a world in which nothing was ordered yet.
    pub(crate) async fn open_cold(&mut self, setup: Setup) -> Result<World> {
        let mut world = World::start(&self.arguments.dir, setup).await?;
        if self.heading.is_none() {
            let postgres = postgres::settings(&mut world.connection).await?;
            let pairs = postgres
                .iter()
                .map(|(name, value)| format!("{name}={value}"));
            let settings = pairs.collect::<Vec<_>>().join(" ");
            print(&format!("PostgreSQL: {settings}\n"))?;
            *self.heading = Some(Heading { postgres });
        }
        Ok(world)
    }

    /// The first orders.
    pub(crate) async fn warm_up(&self, world: &mut World) -> Result<()> {
        let load = Load::flat(WARM_UP_PER_S, WARM_UP_S, self.arguments.connections);
        let orders = spread(world, load.requests()).await?;
        run::warm_up(world, &orders, &load).await?;
        meter::settle().await;
        Ok(())
    }

    /// Looks whether the promises hold, tells the result, and stops the world.
    pub(crate) async fn close(&mut self, mut world: World, entry: Entry) -> Result<()> {
        let held = self.record(&mut world, entry).await?;
        // The logs of what failed stay until the next run.
        world.stop(held).await
    }

    /// Looks whether the promises hold, and tells the result. Whether they do.
    pub(crate) async fn record(&mut self, world: &mut World, mut entry: Entry) -> Result<bool> {
        if let Err(rows) = world.check().await? {
            entry.breaks(rows);
        }
        let held = entry.broken.is_empty();
        let words = world.setup.words();
        entry.text.insert_str(0, &format!("{words}\n  "));
        entry.figure("processes", words);
        self.tell(entry)?;
        Ok(held)
    }

    /// Tells a result.
    pub(crate) fn tell(&mut self, mut entry: Entry) -> Result<()> {
        entry.benchmark = self.name.label();
        print(&entry.told())?;
        if let Some(earlier) = self.earlier {
            print(&earlier.beside(&entry))?;
        }
        self.entries.push(entry);
        Ok(())
    }

    /// A window of one rate.
    pub(crate) fn window(&self, rate_per_s: u32) -> Load {
        Load::flat(
            rate_per_s.max(1),
            self.arguments.seconds(),
            self.arguments.connections,
        )
    }

    /// How rates are tried.
    pub(crate) fn trial(&self) -> Trial {
        Trial {
            seconds: (self.arguments.seconds() / 6).clamp(TRIAL_S.0, TRIAL_S.1),
            connections: self.arguments.connections,
            allowance_s: ALLOWANCE_S,
        }
    }

    /// The most, if somebody has found it.
    pub(crate) fn known(&self) -> Option<u32> {
        self.maximum
    }

    /// The most that can be done with one process of each role, looked for in a world of its own if need be.
    pub(crate) async fn known_maximum(&mut self) -> Result<u32> {
        if let Some(maximum) = self.maximum {
            return Ok(maximum);
        }
        let mut world = self.open(self.plain()).await?;
        let found = self.maximum(&mut world).await?;
        world.stop(true).await?;
        Ok(found)
    }

    /// The most of other orders or in another world: `--rate`, or what is found beginning at a guess.
    pub(crate) async fn most(
        &self,
        world: &mut World,
        guess: impl Into<Option<u32>>,
        allowance_s: f64,
        orders: impl AsyncFn(&mut World, u64) -> Result<Orders>,
    ) -> Result<u32> {
        if let Some(rate) = self.arguments.rate {
            return Ok(rate);
        }
        let trial = Trial {
            allowance_s,
            ..self.trial()
        };
        maximum::find(world, guess.into(), trial, orders).await
    }

    /// The most that can be done with one process of each role: `--rate`, or what is found the first time.
    pub(crate) async fn maximum(&mut self, world: &mut World) -> Result<u32> {
        if let Some(maximum) = self.maximum {
            return Ok(maximum);
        }
        let found = maximum::find(world, None, self.trial(), spread).await?;
        self.maximum = Some(found);
        Ok(found)
    }
}

/// Orders over all offers.
pub(crate) async fn spread(world: &mut World, requests: u64) -> Result<Orders> {
    Orders::spread(&mut world.connection, world.gateway, requests).await
}

/// What is said about every run, and which settings of the caller's reach the roles. Their values may
/// be secret.
fn setup() -> BTreeMap<&'static str, String> {
    let said = SAID.iter().map(|(what, text)| (*what, (*text).to_owned()));
    let mut setup: BTreeMap<_, _> = said.collect();
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

fn introduction(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "commit {}\n{} x {}, {} MB, Linux {}\n",
        report.commit, machine.cpus, machine.cpu, machine.memory_mb, machine.kernel
    );
    if cfg!(debug_assertions) {
        text += "a DEBUG build: its figures say nothing about speed\n";
    }
    for (what, value) in &report.setup {
        text += &format!("{what}: {value}\n");
    }
    text
}
