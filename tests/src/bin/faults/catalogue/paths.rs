//! What brings orders onto paths that no other fault leads to for certain: steps of ours that the database refuses,
//! captures and payments of which nobody hears, and an event that is cancelled while it is sold.

use super::provider::{Lie, Lies, each, plan, unplanned};
use crate::{
    customers::wish::{Behaviour, GOOD},
    fault::Fault,
    run::Run,
};
use anyhow::{Context, Result, ensure};
use std::{fmt::Write as _, time::Duration};
use tokio::time::{Instant, sleep};

/// Longer than a step of ours is tried (30 s, and a pause of 5 s), shorter than it is then asked about as well.
const OUTLASTS_TRIES: Duration = Duration::from_secs(45);
/// Longer than a step at the provider is tried (60 s, and a pause of 10 s), shorter than it is then asked about as well.
const OUTLASTS_PROVIDER: Duration = Duration::from_secs(80);
/// How long it may take until something is met that is sure to be.
const MET_WITHIN: Duration = Duration::from_secs(15);

/// The card of those whose captures nobody hears of. They are two: three would be taken for an outage, which costs an
/// order no time.
const UNHEARD_CARD: &str = "pm_card_amex";
const fn of_card(cards: &'static [&'static str], on: &'static str, fault: &'static str) -> Lie {
    Lie {
        cards,
        ..each(on, fault)
    }
}
const UNHEARD: Lies = &[
    of_card(&[UNHEARD_CARD], "capture", r#""500_after""#),
    of_card(&[UNHEARD_CARD], "retrieve", r#""500""#),
];
/// The cards of one whose payment is made, and nobody hears of it or is shown it, and of one whose payment cannot even
/// be created. They are two for the same reason.
const MADE_CARD: &str = "pm_card_discover";
const NEVER_MADE_CARD: &str = "pm_card_jcb";
const PAYMENTS_UNHEARD: Lies = &[
    of_card(&[MADE_CARD], "confirm", r#""500_after""#),
    of_card(&[MADE_CARD], "retrieve", r#""500""#),
    of_card(&[NEVER_MADE_CARD], "create", r#""500""#),
];
/// The gateway that starts `order@2`.
const SECOND: usize = 1;
/// So long one of the two waits for his order before he ends it.
const ENDS_AFTER_MS: u64 = 10_000;

/// So many want the same event at once.
const FLOCK: u64 = 8;
const SLOW_CONFIRM: Lies = &[each("confirm", r#"{"slow": {"ms": 3000}}"#)];

/// The tickets of every order, reservations and assessments of a part of them, and of another part whatever takes one
/// of the three back. One statement at a time: each takes a lock of its own.
const REFUSE: [&str; 3] = [
    "CREATE OR REPLACE FUNCTION refuse_step() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''refused''; END'",
    "CREATE OR REPLACE TRIGGER refuse_step BEFORE INSERT ON tickets FOR EACH ROW EXECUTE FUNCTION refuse_step()",
    "CREATE OR REPLACE TRIGGER refuse_step BEFORE INSERT OR UPDATE ON effects FOR EACH ROW WHEN (
       new.state < 3 AND new.step = 'reserve' AND right(new.saga_id::text, 1) IN ('0', '1', '2', '3')
       OR new.state < 3 AND new.step = 'fraud-check' AND right(new.saga_id::text, 1) IN ('4', '5', '6', '7')
       OR new.state = 4 AND new.step IN ('reserve', 'fraud-check', 'issue')
         AND right(new.saga_id::text, 1) IN ('8', '9', 'a', 'b'))
       EXECUTE FUNCTION refuse_step()",
];
/// The triggers stay, and let everything pass. To drop them takes locks of the table and its partitions that meet those
/// of a worker half-way: a deadlock.
const ACCEPT: &str = "CREATE OR REPLACE FUNCTION refuse_step() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'";

/// How often each command of our own steps was tried in vain since then.
const IN_VAIN: &str = "SELECT s.name, h.kind, count(*) FROM history h JOIN steps s ON s.number = h.step
    WHERE h.outcome = 3 AND h.at >= $1::text::timestamptz AND s.name IN ('reserve', 'fraud-check', 'issue')
    GROUP BY 1, 2 ORDER BY 1, 2";

/// How often captures were tried, taken back and asked about in vain since then.
const CAPTURES: &str = "SELECT kind, count(*) FROM history
    WHERE step = 5 AND outcome = 3 AND at >= $1::text::timestamptz GROUP BY 1 ORDER BY 1";

/// How often payments were asked about and nobody knew, in vain (3) or for good (4), since then.
const PROBES: &str = "SELECT outcome, count(*) FROM history
    WHERE step = 2 AND kind = 3 AND outcome IN (3, 4) AND at >= $1::text::timestamptz GROUP BY 1 ORDER BY 1";

/// The event that so many orders want whose payments are under way.
const WANTED: &str = "SELECT i.event_id::text FROM sagas s JOIN order_items i ON i.order_id = s.id
    WHERE s.state = 1 AND s.step = 2 AND s.kind = 1 GROUP BY 1 HAVING count(*) >= 4 LIMIT 1";

/// How many orders ended for it when their tickets were to be made.
const TOO_LATE: &str = "SELECT count(*) FROM history h JOIN sagas s ON s.id = h.saga_id
    JOIN order_items i ON i.order_id = s.id
    WHERE h.step = 3 AND h.outcome = 2 AND s.reason = 'event_cancelled' AND i.event_id = $1::text::uuid";

pub(crate) const FAULTS: &[Fault] = &[
    Fault::new(
        "step-refused",
        "What the database refuses is tried again, then asked about, and never taken for done or for refused.",
        |run| Box::pin(refuse(run)),
        |run| Box::pin(in_vain(run)),
        |run| Box::pin(accept(run)),
    )
    .lasting(OUTLASTS_TRIES),
    Fault::new(
        "captures-unheard",
        "A capture of which nobody hears is asked about; who ends his order meanwhile has his money back.",
        |run| Box::pin(capture_unheard(run)),
        |run| Box::pin(captured_unheard(run)),
        |run| Box::pin(unplanned(run)),
    )
    .lasting(OUTLASTS_PROVIDER)
    .undisturbed(),
    Fault::new(
        "payments-unheard",
        "A payment of which nobody hears is asked about until it is known; of one that was never made it is never \
         known, and its order is taken back.",
        |run| Box::pin(payments_unheard(run)),
        |run| Box::pin(asked_in_vain(run)),
        |run| Box::pin(unplanned(run)),
    )
    .lasting(OUTLASTS_PROVIDER)
    .undisturbed(),
    Fault::new(
        "event-cancelled",
        "Whoever ordered and has no ticket yet when his event is cancelled keeps his money or has it back.",
        |run| Box::pin(cancel_event(run)),
        |run| Box::pin(too_late(run)),
        |run| Box::pin(unplanned(run)),
    ),
];

/// The time, as the database has it.
async fn now(run: &Run) -> Result<String> {
    let superuser = run.stage.postgres.superuser("guichet").await?;
    let row = superuser.query_one("SELECT now()::text", &[]).await?;
    Ok(row.get(0))
}

async fn refuse(run: &mut Run) -> Result<()> {
    run.note = now(run).await?;
    let superuser = run.stage.postgres.superuser("guichet").await?;
    for statement in REFUSE {
        superuser.batch_execute(statement).await?;
    }
    Ok(())
}

async fn accept(run: &mut Run) -> Result<()> {
    let superuser = run.stage.postgres.superuser("guichet").await?;
    superuser.batch_execute(ACCEPT).await?;
    Ok(())
}

/// Each of the steps was tried, taken back and asked about in vain.
async fn in_vain(run: &mut Run) -> Result<String> {
    let superuser = run.stage.postgres.superuser("guichet").await?;
    let rows = superuser.query(IN_VAIN, &[&run.note]).await?;
    let mut told = String::from("in vain:");
    for row in &rows {
        let (step, kind, count): (&str, i16, i64) = (row.get(0), row.get(1), row.get(2));
        write!(told, " {step} {} {count}", kind_of(kind))?;
    }
    ensure!(
        rows.len() == 9,
        "not each of three commands of three steps: {told}"
    );
    Ok(told)
}

fn kind_of(number: i16) -> &'static str {
    match number {
        1 => "do",
        2 => "undo",
        _ => "probe",
    }
}

async fn capture_unheard(run: &mut Run) -> Result<()> {
    run.note = now(run).await?;
    plan(run, UNHEARD).await?;
    for behaviour in [Behaviour::Waits, Behaviour::Cancels(ENDS_AFTER_MS)] {
        let customers = &mut run.customers;
        customers.flock(1, UNHEARD_CARD, behaviour, Some(SECOND));
    }
    Ok(())
}

/// One was asked about in vain, and one was given back in vain.
async fn captured_unheard(run: &mut Run) -> Result<String> {
    let superuser = run.stage.postgres.superuser("guichet").await?;
    let rows = superuser.query(CAPTURES, &[&run.note]).await?;
    let mut told = String::from("in vain:");
    for row in &rows {
        let (kind, count): (i16, i64) = (row.get(0), row.get(1));
        write!(told, " capture {} {count}", kind_of(kind))?;
    }
    ensure!(rows.len() == 3, "not each of three commands: {told}");
    Ok(told)
}

async fn payments_unheard(run: &mut Run) -> Result<()> {
    run.note = now(run).await?;
    plan(run, PAYMENTS_UNHEARD).await?;
    for card in [MADE_CARD, NEVER_MADE_CARD] {
        run.customers.flock(1, card, Behaviour::Waits, None);
    }
    Ok(())
}

/// One was asked about in vain, and of one nobody knew.
async fn asked_in_vain(run: &mut Run) -> Result<String> {
    let superuser = run.stage.postgres.superuser("guichet").await?;
    let rows = superuser.query(PROBES, &[&run.note]).await?;
    let mut told = String::from("payments asked about:");
    for row in &rows {
        let (outcome, count): (i16, i64) = (row.get(0), row.get(1));
        let outcome = ["retry", "unknown"][usize::from(outcome == 4)];
        write!(told, " {outcome} {count}")?;
    }
    ensure!(rows.len() == 2, "not both: {told}");
    Ok(told)
}

/// Cancels an event that several want whose payments are under way, for which the provider takes its time.
async fn cancel_event(run: &mut Run) -> Result<()> {
    plan(run, SLOW_CONFIRM).await?;
    run.customers.flock(FLOCK, GOOD[0], Behaviour::Waits, None);
    let superuser = run.stage.postgres.superuser("guichet").await?;
    let deadline = Instant::now() + MET_WITHIN;
    run.note = loop {
        if let Some(row) = superuser.query_opt(WANTED, &[]).await? {
            break row.get(0);
        }
        ensure!(Instant::now() < deadline, "nobody is paying");
        sleep(Duration::from_millis(50)).await;
    };
    let cancel = format!(
        "UPDATE events SET status = 'cancelled' WHERE id = '{}'",
        run.note
    );
    superuser.batch_execute(&cancel).await?;
    Ok(())
}

async fn too_late(run: &mut Run) -> Result<String> {
    let superuser = run.stage.postgres.superuser("guichet").await?;
    let deadline = Instant::now() + MET_WITHIN;
    loop {
        let row = superuser.query_one(TOO_LATE, &[&run.note]).await;
        let count: i64 = row.context("cannot count")?.get(0);
        if count > 0 {
            return Ok(format!(
                "{count} orders were paid for when it was too late for their tickets"
            ));
        }
        ensure!(Instant::now() < deadline, "no ticket was refused for it");
        sleep(Duration::from_millis(100)).await;
    }
}
