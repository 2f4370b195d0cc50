//! The benchmarks: `./ops/bench [NAME…]`.
//!
//! Everything runs on this one machine: PostgreSQL, RabbitMQ, every role as a process of its own, the
//! payment simulator, and the load generator. What is measured is told in full: no part of the window is
//! left out, latencies count from the time a request was to be sent ([`load`]), what is never confirmed
//! counts ([`run`]), and the promises are checked after each run. Only they decide about the exit code: a
//! machine that is busy with something else must not fail a run for its speed.
//!
//! A benchmark is a file of [`benchmarks`]; the targets stand in [`targets`].

mod arguments;
mod benchmarks;
mod compare;
mod connection;
mod db;
mod entry;
mod folder;
mod grown;
mod latency;
mod load;
mod machine;
mod mails;
mod maximum;
mod meter;
mod noop;
mod observer;
mod outcome;
mod postgres;
mod processes;
mod report;
mod roles;
mod run;
mod sampler;
mod scrape;
mod session;
mod setup;
mod shop;
mod targets;
mod world;

use std::{env, process::ExitCode};

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use tokio::{runtime::Builder, select, signal::ctrl_c};

use crate::{arguments::Arguments, world::say};

/// That of the binary, for the sake of `saga`, whose engine and workers run here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().collect();
    if words.get(1).is_some_and(|word| word == "role") {
        return noop::main(&words[2..]);
    }
    match bench(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// On one thread: the load generator shares the cores with what it measures, and threads that hand work to
/// each other cost more than the work. The kernel ties the processes that are started to this thread, too.
fn bench(arguments: &Arguments) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.context("no runtime")?.block_on(async {
        select! {
            done = session::all(arguments) => done,
            _ = ctrl_c() => Err(anyhow!("interrupted")),
        }
    })
}
