//! Wall clocks that jump, by libfaketime: those of single processes, and the database's, by which leases
//! and deadlines are counted. What counts the time between two moments goes on.

use crate::{
    fault::{Fault, OUTLASTS_LEASES},
    run::Run,
    stage::Setting,
};
use anyhow::{Result, ensure};

const CLOCKS: Setting = Setting {
    clocks: true,
    ..Setting::USUAL
};

/// An answer takes a moment, and some name whole seconds only.
const TOLERANCE_S: f64 = 4.0;

/// Each of them has another beside it, whose clock is right.
const FIRST_OF_EACH: &[&str] = &["gateway-1", "worker-1", "orchestrator-1"];

const ROLES: &str = "No process decides by its own clock.";
const DATABASE: &str = "When the database's clock jumps, leases and waits are shorter or longer, and nothing else: no step is over for it.";

/// Ahead or behind by so many seconds: every process of which this is said.
macro_rules! jump {
    ($name:literal, $hypothesis:expr, $who:expr, $seconds:literal) => {
        Fault::new(
            $name,
            $hypothesis,
            |run| Box::pin(jump(run, $who, $seconds)),
            |run| Box::pin(jumped(run, $who, $seconds)),
            |run| Box::pin(jump(run, $who, 0)),
        )
        .on(CLOCKS)
    };
}

pub(crate) const FAULTS: &[Fault] = &[
    jump!("clock-ahead", ROLES, FIRST_OF_EACH, 3_600),
    Fault::new(
        "clock-behind",
        ROLES,
        |run| Box::pin(born_behind(run, FIRST_OF_EACH, -3_600)),
        |run| Box::pin(jumped(run, FIRST_OF_EACH, -3_600)),
        |run| Box::pin(jump(run, FIRST_OF_EACH, 0)),
    )
    .on(CLOCKS),
    jump!("provider-clock-ahead", ROLES, &["psp"], 3_600),
    jump!("database-clock-ahead", DATABASE, &["postgres"], 15),
    jump!("database-clock-behind", DATABASE, &["postgres"], -15),
    // By more than a command lives, and for longer than one waits for an answer.
    jump!("database-clock-far-behind", DATABASE, &["postgres"], -120).lasting(OUTLASTS_LEASES),
];

async fn jump(run: &mut Run, who: &[&str], seconds: i64) -> Result<()> {
    for name in who {
        run.stage.set_clock(name, seconds)?;
    }
    Ok(())
}

/// Behind by so many seconds, and started anew: the ids that a running process makes never go back, so
/// nobody could see that its clock has.
async fn born_behind(run: &mut Run, who: &[&str], seconds: i64) -> Result<()> {
    jump(run, who, seconds).await?;
    let roles = run.stage.roles.iter_mut();
    for role in roles.filter(|role| who.contains(&role.name.as_str())) {
        role.stop().await?;
        role.start()?;
        role.ready().await?;
    }
    Ok(())
}

/// Whether their clocks are off by so much: what a gateway and a worker make bears ids with their time in
/// them, and the others can be asked.
async fn jumped(run: &mut Run, who: &[&str], seconds: i64) -> Result<String> {
    let reader = run.stage.reader().await?;
    let mut seen = Vec::new();
    for name in who {
        let what = match *name {
            "gateway-1" => format!("{} orders", reader.sagas_born_off(seconds).await?),
            "worker-1" => format!("{} answers", reader.answers_made_off(seconds).await?),
            "postgres" => off(reader.now_ms().await?, seconds)?,
            role => off(run.stage.clock_of(role).await?, seconds)?,
        };
        ensure!(!what.starts_with("0 "), "nothing of {name} is off");
        seen.push(format!("{name}: {what} off by {seconds:+} s"));
    }
    Ok(seen.join(", "))
}

fn off(theirs_ms: i64, seconds: i64) -> Result<String> {
    let off = (theirs_ms - tests::world::evidence::now_ms()) as f64 / 1000.0;
    let right = (off - seconds as f64).abs() < TOLERANCE_S;
    ensure!(right, "a clock is off by {off:.1} s");
    Ok("a clock".to_owned())
}
