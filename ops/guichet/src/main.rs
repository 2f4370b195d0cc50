//! One binary, `guichet`, plays every role and holds every operator command.

mod cli;
mod config;
mod crash;
mod demo;
mod failure;
mod operator;
mod output;
mod roles;
#[cfg(test)]
mod testing;
mod up;

use std::{future::Future, process::ExitCode};

use anyhow::Context;
use clap::{CommandFactory, Parser};
use inspector::review::Decision;
use tokio::runtime::Builder;

use crate::{
    cli::{Audit, Catalogue, Cli, Command, Config, Incarnation, Review, Saga},
    failure::Failure,
};

/// Batches allocate on one thread and free on another, many small things at a time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match crash::from_environment() {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(failure) => return told(&failure),
    }
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(failure) => told(&failure),
    }
}

fn told(failure: &Failure) -> ExitCode {
    eprintln!("guichet: {failure}");
    ExitCode::from(failure.exit())
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let (file, format) = (cli.global.config.as_deref(), cli.global.output);
    match cli.command {
        // One thread: the kernel ties what `up` starts to the thread that started it.
        Command::Up(args) => {
            return on(Builder::new_current_thread(), up::run(args, file));
        }
        Command::Gateway => on(Builder::new_multi_thread(), roles::gateway::run(file)),
        Command::Orchestrator => on(Builder::new_multi_thread(), roles::orchestrator::run(file)),
        Command::Worker { steps } => on(
            Builder::new_multi_thread(),
            roles::worker::run(file, &steps),
        ),
        Command::Psp => on(Builder::new_multi_thread(), roles::psp::run(file)),
        Command::Migrate => on(
            Builder::new_multi_thread(),
            operator::migrate::run(file, format),
        ),
        Command::Catalogue(Catalogue::Load(load)) => on(
            Builder::new_multi_thread(),
            operator::catalogue::run(file, format, load),
        ),
        Command::Saga(Saga::Ls(list)) => on(
            Builder::new_multi_thread(),
            operator::saga::list(file, format, list),
        ),
        Command::Saga(Saga::Show(show)) => on(
            Builder::new_multi_thread(),
            operator::saga::show(file, format, show),
        ),
        Command::Saga(Saga::Pause(act)) => on(
            Builder::new_multi_thread(),
            operator::act::pause(file, format, act),
        ),
        Command::Saga(Saga::Resume(act)) => on(
            Builder::new_multi_thread(),
            operator::act::resume(file, format, act),
        ),
        Command::Saga(Saga::Take(take)) => on(
            Builder::new_multi_thread(),
            operator::attention::take(file, format, take),
        ),
        Command::Saga(Saga::Release(act)) => on(
            Builder::new_multi_thread(),
            operator::release::release(file, format, act),
        ),
        Command::Saga(Saga::Retry(retry)) => on(
            Builder::new_multi_thread(),
            operator::act::retry(file, format, retry),
        ),
        Command::Saga(Saga::Resolve(resolve)) => on(
            Builder::new_multi_thread(),
            operator::act::resolve(file, format, resolve),
        ),
        Command::Saga(Saga::Compensate(act)) => on(
            Builder::new_multi_thread(),
            operator::act::compensate(file, format, act),
        ),
        Command::Saga(Saga::Abandon(abandon)) => on(
            Builder::new_multi_thread(),
            operator::act::abandon(file, format, abandon),
        ),
        Command::Saga(Saga::Migrate(migrate)) => on(
            Builder::new_multi_thread(),
            operator::versions::migrate(file, format, migrate),
        ),
        Command::Saga(Saga::Withdraw(withdraw)) => on(
            Builder::new_multi_thread(),
            operator::versions::withdraw(file, format, withdraw),
        ),
        Command::Review(Review::Ls(list)) => on(
            Builder::new_multi_thread(),
            operator::review::list(file, format, list),
        ),
        Command::Review(Review::Approve(decide)) => on(
            Builder::new_multi_thread(),
            operator::review::decide(file, format, decide, Decision::Approve),
        ),
        Command::Review(Review::Reject(decide)) => on(
            Builder::new_multi_thread(),
            operator::review::decide(file, format, decide, Decision::Reject),
        ),
        Command::Audit(Audit::Verify) => on(
            Builder::new_multi_thread(),
            operator::audit::verify(file, format),
        ),
        Command::Audit(Audit::Ls(list)) => on(
            Builder::new_multi_thread(),
            operator::audit::list(file, format, list),
        ),
        Command::Check => on(
            Builder::new_multi_thread(),
            operator::check::run(file, format),
        ),
        Command::Reconcile(args) => on(
            Builder::new_multi_thread(),
            operator::reconcile::run(file, format, args),
        ),
        Command::Incarnation(Incarnation::Show) => on(
            Builder::new_multi_thread(),
            operator::incarnation::show(file, format),
        ),
        Command::Incarnation(Incarnation::Renew(by)) => on(
            Builder::new_multi_thread(),
            operator::incarnation::renew(file, format, by),
        ),
        Command::Config(Config::Print) => operator::config_print::run(file, format),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "guichet", &mut script);
            output::print(&String::from_utf8_lossy(&script))?;
            Ok(())
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Runs a command on a runtime of its own.
fn on<T>(
    mut runtime: Builder,
    command: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let runtime = runtime
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(command)
}
