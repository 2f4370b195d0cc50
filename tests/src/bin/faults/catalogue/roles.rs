//! What is done to the roles' processes.

use super::{CALM, seen};
use crate::{
    fault::{Fault, OUTLASTS_LEASES},
    role::{Kind, Role},
    run::Run,
};
use anyhow::Result;
use nix::sys::signal::Signal;

const ONE: &str = "Another of its kind takes over, and what it held comes again.";
const ALL: &str = "What they were at is in the database, and goes on when they are back.";

/// The kinds of which there are two.
const TWINS: [Kind; 3] = [Kind::Worker, Kind::Orchestrator, Kind::Gateway];
const EVERY: [Kind; 4] = [
    Kind::Provider,
    Kind::Worker,
    Kind::Orchestrator,
    Kind::Gateway,
];

/// `kill -9` of so many of each of these kinds, of so many in all.
macro_rules! killed {
    ($name:literal, $hypothesis:expr, $of_each:literal of $kinds:expr, $all:literal) => {
        Fault::new(
            $name,
            $hypothesis,
            |run| Box::pin(kill(run, &$kinds, $of_each)),
            |run| Box::pin(seen::killed(run, $all)),
            |run| Box::pin(back(run)),
        )
    };
}

/// `STOP` until the fault's end, then `CONT`.
macro_rules! asleep {
    ($name:literal, $hypothesis:expr, $of_each:literal of $kinds:expr, $all:literal) => {
        Fault::new(
            $name,
            $hypothesis,
            |run| Box::pin(stand_still(run, &$kinds, $of_each)),
            |run| Box::pin(seen::asleep(run, $all)),
            |run| Box::pin(go_on(run)),
        )
        .lasting(OUTLASTS_LEASES)
    };
}

/// An orderly stop and a new start, one after the other.
macro_rules! restarted {
    ($name:literal, $hypothesis:expr, $of_each:literal of $kinds:expr, $all:literal) => {
        Fault::new(
            $name,
            $hypothesis,
            |run| Box::pin(restart(run, &$kinds, $of_each)),
            |run| Box::pin(seen::restarted(run, $all)),
            |run| Box::pin(back(run)),
        )
        .at_once()
    };
}

pub(crate) const FAULTS: &[Fault] = &[
    Fault::new(
        CALM,
        "Where nothing is wrong nothing is sent twice.",
        |_| Box::pin(async { Ok(()) }),
        |_| Box::pin(async { Ok("nothing, as intended".to_owned()) }),
        |_| Box::pin(async { Ok(()) }),
    )
    .undisturbed()
    .ci(),
    killed!("kill-worker", ONE, 1 of [Kind::Worker], 1).ci(),
    killed!("kill-orchestrator", ONE, 1 of [Kind::Orchestrator], 1)
        .lasting(OUTLASTS_LEASES)
        .lease()
        .ci(),
    killed!(
        "kill-gateway",
        "Orders that were answered are sold; the others can be sent again.",
        1 of [Kind::Gateway],
        1
    )
    .ci(),
    killed!(
        "kill-provider",
        "A payment is captured once, whatever was heard of it.",
        1 of [Kind::Provider],
        1
    )
    .ci(),
    killed!("kill-workers", ALL, 2 of [Kind::Worker], 2),
    killed!("kill-orchestrators", ALL, 2 of [Kind::Orchestrator], 2)
        .lasting(OUTLASTS_LEASES)
        .lease(),
    killed!("kill-gateways", ALL, 2 of [Kind::Gateway], 2),
    killed!("kill-one-of-each", ONE, 1 of TWINS, 3)
        .lasting(OUTLASTS_LEASES)
        .lease(),
    killed!("kill-all", ALL, 2 of EVERY, 7)
        .lasting(OUTLASTS_LEASES)
        .lease(),
    asleep!(
        "stop-worker",
        "A worker that wakes up late changes nothing that was decided.",
        1 of [Kind::Worker],
        1
    ),
    asleep!(
        "stop-orchestrator",
        "An owner that wakes up late finds that it is none any more.",
        1 of [Kind::Orchestrator],
        1
    )
    .lease(),
    asleep!(
        "stop-gateway",
        "Whoever is not answered asks another gateway with the same key.",
        1 of [Kind::Gateway],
        1
    ),
    asleep!(
        "stop-provider",
        "A provider that is silent leaves what is unknown, which is asked about.",
        1 of [Kind::Provider],
        1
    ),
    asleep!(
        "stop-one-of-each",
        "Whoever wakes up late finds what others have done meanwhile.",
        1 of TWINS,
        3
    )
    .lease(),
    asleep!("stop-all", "A whole site that stood still goes on.", 2 of EVERY, 7).lease(),
    restarted!("restart-worker", "It finishes what it has begun.", 1 of [Kind::Worker], 1),
    restarted!(
        "restart-orchestrator",
        "It gives its shards back, and nobody waits for a lease.",
        1 of [Kind::Orchestrator],
        1
    ),
    restarted!(
        "restart-gateway",
        "Open requests are answered before it goes.",
        1 of [Kind::Gateway],
        1
    ),
    restarted!(
        "restart-provider",
        "A payment that was not answered is asked about.",
        1 of [Kind::Provider],
        1
    ),
    Fault::new(
        "restart-together",
        "A whole site that goes in order at once leaves nothing behind that is not in the database.",
        |run| Box::pin(restart_together(run)),
        |run| Box::pin(seen::restarted(run, 7)),
        |run| Box::pin(back(run)),
    )
    .at_once(),
    restarted!("restart-all", "A new release is rolled out while customers order.", 2 of EVERY, 7),
];

/// So many of a kind, by chance the first or the second where one of two is meant.
fn some(run: &mut Run, kind: Kind, of_each: usize) -> impl Iterator<Item = &mut Role> {
    let others = run.stage.of(kind).count().saturating_sub(of_each);
    let first = run.rng.below(others + 1);
    run.stage.of(kind).skip(first).take(of_each)
}

async fn kill(run: &mut Run, kinds: &[Kind], of_each: usize) -> Result<()> {
    for kind in kinds {
        some(run, *kind, of_each).for_each(Role::kill);
    }
    Ok(())
}

/// Starts again what does not run.
async fn back(run: &mut Run) -> Result<()> {
    let gone = run.stage.roles.iter_mut().filter(|role| !role.is_wanted());
    for role in gone {
        role.start()?;
    }
    Ok(())
}

async fn stand_still(run: &mut Run, kinds: &[Kind], of_each: usize) -> Result<()> {
    for kind in kinds {
        some(run, *kind, of_each).for_each(|role| role.signal(Signal::SIGSTOP));
    }
    Ok(())
}

/// Lets go on who does not move.
async fn go_on(run: &mut Run) -> Result<()> {
    let asleep = run.stage.roles.iter().filter(|role| role.is_asleep());
    asleep.for_each(|role| role.signal(Signal::SIGCONT));
    Ok(())
}

async fn restart(run: &mut Run, kinds: &[Kind], of_each: usize) -> Result<()> {
    for kind in kinds {
        for role in some(run, *kind, of_each) {
            role.stop().await?;
            role.start()?;
            // The next only goes once this one works, as in a rolling update.
            role.ready().await?;
        }
    }
    Ok(())
}

/// All are asked to go at the same moment, and come back once the last has gone.
async fn restart_together(run: &mut Run) -> Result<()> {
    let roles = run.stage.roles.iter_mut();
    let stops = futures_util::future::join_all(roles.map(Role::stop)).await;
    stops.into_iter().collect::<Result<Vec<()>>>()?;
    for role in &mut run.stage.roles {
        role.start()?;
    }
    for role in &mut run.stage.roles {
        role.ready().await?;
    }
    Ok(())
}
