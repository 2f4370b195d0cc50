//! Wall clocks that jump, by libfaketime: those of single processes, and the database's, by which leases
//! and deadlines are counted. What counts the time between two moments goes on.

use crate::{fault::Fault, run::Run, stage::Setting};
use anyhow::{Result, ensure};

const CLOCKS: Setting = Setting {
    clocks: true,
    ..Setting::USUAL
};

/// An answer takes a moment, and some name whole seconds only.
const TOLERANCE_S: f64 = 4.0;

const ROLES: &str = "No process decides by its own clock.";
const DATABASE: &str =
    "When the database's clock jumps, leases and pauses are shorter or longer, and nothing else.";

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
    jump!(
        "clock-ahead",
        ROLES,
        &["gateway-1", "worker-1", "orchestrator-1"],
        3_600
    ),
    jump!(
        "clock-behind",
        ROLES,
        &["gateway-1", "worker-1", "orchestrator-1"],
        -3_600
    ),
    jump!("provider-clock-ahead", ROLES, &["psp"], 3_600),
    jump!("database-clock-ahead", DATABASE, &["postgres"], 15).lease(),
    jump!("database-clock-behind", DATABASE, &["postgres"], -15).lease(),
];

async fn jump(run: &mut Run, who: &[&str], seconds: i64) -> Result<()> {
    for name in who {
        run.stage.set_clock(name, seconds)?;
    }
    Ok(())
}

/// Whether their clocks are off by so much, as far as they can be asked.
async fn jumped(run: &mut Run, who: &[&str], seconds: i64) -> Result<String> {
    let mut seen = Vec::new();
    for name in who {
        let theirs_ms = match *name {
            "postgres" => run.stage.reader().await?.now_ms().await?,
            role => run.stage.clock_of(role).await?,
        };
        let off = (theirs_ms - crate::run::now_ms()) as f64 / 1000.0;
        ensure!(
            (off - seconds as f64).abs() < TOLERANCE_S,
            "the clock of {name} is off by {off:.1} s"
        );
        seen.push(format!("{name} off by {off:+.1} s"));
    }
    Ok(seen.join(", "))
}
