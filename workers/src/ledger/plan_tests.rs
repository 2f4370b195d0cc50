use super::*;
use crate::kit::testing::{INCARNATION, command};
use contract::Outcome;
use proptest::prelude::*;
use serde_json::json;

fn row(state: State, outside: bool, waiting: bool) -> LedgerRow {
    LedgerRow {
        state,
        outside_id: outside.then(|| "pi_1".to_owned()),
        output: (waiting || state == State::Done).then(|| json!({"n": 1})),
        error: (state == State::Rejected).then(|| ReplyError {
            code: "sold_out".to_owned(),
            message: "Gone.".to_owned(),
            retry_after_ms: None,
        }),
        ..LedgerRow::claimed(1)
    }
}

/// A correction opens a refusal, and nothing else, once, for a command that was decided after it.
#[test]
fn a_correction_opens_a_refusal_once() {
    let newest = |audit| Newest {
        audit,
        after_seq: 7,
    };
    let refused = row(State::Rejected, false, false);
    let open = |row: &LedgerRow, seq, newest| reopens(row, StepKind::Do, seq, newest);
    let opened = open(&refused, 8, newest(40)).and_then(|opening| opening.apply(&refused));
    let opened = opened.expect("it opens");
    assert_eq!(
        (opened.state, opened.correction),
        (State::Claimed, Some(40))
    );
    assert_eq!(decide(Some(&opened), StepKind::Do), Action::Act);
    assert_eq!(open(&refused, 7, newest(40)), None, "a late command");
    let again = LedgerRow {
        correction: Some(40),
        ..refused.clone()
    };
    assert_eq!(open(&again, 9, newest(40)), None, "not twice");
    assert_eq!(open(&again, 9, newest(39)), None, "nor by an elder one");
    assert!(open(&again, 9, newest(41)).is_some(), "another one does");
    for kind in [StepKind::Undo, StepKind::Probe] {
        assert_eq!(reopens(&refused, kind, 8, newest(40)), None);
    }
    for state in [State::Claimed, State::Done, State::Undone] {
        let other = row(state, true, false);
        assert_eq!(open(&other, 8, newest(40)), None, "{state:?}");
    }
}

/// The table of the design, cell by cell.
#[test]
fn every_cell() {
    use Action::{Act, Ask, Fence, Undo};
    use StepKind::{Do, Probe, Undo as UndoKind};
    let answered = |row: Option<&LedgerRow>, kind| match decide(row, kind) {
        Action::Answer(verdict) => (verdict.outcome(), verdict.code().map(str::to_owned)),
        other => panic!("{kind:?} on {row:?} is no answer but {other:?}"),
    };
    assert_eq!(decide(None, Do), Act);
    assert_eq!(decide(None, UndoKind), Fence);
    assert_eq!(answered(None, Probe).0, Outcome::Unknown);

    let claimed = row(State::Claimed, false, false);
    assert_eq!(decide(Some(&claimed), Do), Act);
    assert_eq!(decide(Some(&claimed), UndoKind), Fence);
    assert_eq!(answered(Some(&claimed), Probe).0, Outcome::Unknown);

    for begun in [
        row(State::Claimed, true, false),
        row(State::Claimed, false, true),
    ] {
        assert_eq!(decide(Some(&begun), Do), Act);
        assert_eq!(decide(Some(&begun), UndoKind), Undo);
        assert_eq!(decide(Some(&begun), Probe), Ask);
    }

    let done = row(State::Done, true, false);
    let repeated = Action::Answer(Verdict::Done(Some(json!({"n": 1}))));
    assert_eq!(decide(Some(&done), Do), repeated);
    assert_eq!(decide(Some(&done), UndoKind), Undo);
    assert_eq!(decide(Some(&done), Probe), repeated);

    let rejected = row(State::Rejected, false, false);
    let refusal = (Outcome::Rejected, Some("sold_out".to_owned()));
    assert_eq!(answered(Some(&rejected), Do), refusal);
    assert_eq!(answered(Some(&rejected), UndoKind), (Outcome::Done, None));
    assert_eq!(answered(Some(&rejected), Probe), refusal);

    let undone = row(State::Undone, true, false);
    let refusal = (Outcome::Rejected, Some("undone".to_owned()));
    assert_eq!(answered(Some(&undone), Do), refusal);
    assert_eq!(answered(Some(&undone), UndoKind), (Outcome::Done, None));
    assert_eq!(answered(Some(&undone), Probe), refusal);
}

#[test]
fn a_look_at_the_envelope_comes_first() {
    let step = StepName::RESERVE;
    let good = command(&step, SagaId::new(), StepKind::Do);
    let now = good.sent_at + TimeDelta::seconds(1);
    let look = |command: &Command, now| triage(command, &step, INCARNATION, now);
    assert_eq!(look(&good, now), Triage::Process);
    assert_eq!(
        look(&good, good.sent_at - TimeDelta::hours(1)),
        Triage::Process
    );

    let ttl = TimeDelta::milliseconds(i64::from(good.ttl_ms));
    assert_eq!(look(&good, good.sent_at + ttl), Triage::Process);
    let expired = look(&good, good.sent_at + ttl + TimeDelta::milliseconds(1));
    let Triage::Answer(Verdict::Retry(error)) = expired else {
        panic!("{expired:?}");
    };
    assert_eq!(error.code, "expired");
    let late = good.sent_at + MAX_AGE + TimeDelta::milliseconds(1);
    assert_eq!(look(&good, late), Triage::Drop("too_old"));

    let drops = |change: fn(&mut Command)| {
        let mut bad = good.clone();
        change(&mut bad);
        matches!(look(&bad, now), Triage::Drop(_))
    };
    assert!(drops(|bad| bad.incarnation = Incarnation(8)));
    assert!(drops(|bad| bad.step = StepName::PAY));
    assert!(drops(|bad| bad.effect_key = "x/reserve".to_owned()));
    assert!(drops(|bad| bad.saga_id = SagaId::new()));
    assert!(drops(|bad| bad.reply_to = "q".repeat(256)));
}

fn kinds() -> impl Strategy<Value = StepKind> {
    prop_oneof![
        Just(StepKind::Do),
        Just(StepKind::Undo),
        Just(StepKind::Probe)
    ]
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Done(Some(json!({"n": 2})))),
        Just(Verdict::Done(None)),
        Just(Verdict::rejected("declined", "No.")),
        Just(Verdict::retry("busy", "Later.")),
        Just(Verdict::unknown("lost", "Who knows.")),
        Just(Verdict::Waiting(json!({"review": 1}))),
    ]
}

fn rows() -> impl Strategy<Value = LedgerRow> {
    let states = [State::Claimed, State::Done, State::Rejected, State::Undone];
    (0..4_usize, any::<bool>(), any::<bool>())
        .prop_map(move |(state, outside, waiting)| row(states[state], outside, waiting))
}

proptest! {
    /// Whatever happens in whatever order: nothing leads out of `rejected` or `undone`, and the
    /// only way out of `done` is an undo.
    #[test]
    fn no_verdict_revives_an_effect(row in rows(), kind in kinds(), verdict in verdicts()) {
        let Some(next) = record(kind, &verdict, Some(&row)).and_then(|change| change.apply(&row)) else {
            return Ok(());
        };
        match row.state {
            State::Rejected | State::Undone => prop_assert!(false, "{row:?} changed to {next:?}"),
            State::Done => {
                prop_assert_eq!(kind, StepKind::Undo);
                prop_assert!(matches!(next.state, State::Done | State::Undone));
            }
            State::Claimed => {}
        }
    }

    /// Corrections and duplicates in any order: each correction lets a refused effect be tried once more,
    /// and once it is done or undone none does.
    #[test]
    fn no_correction_revives_what_is_settled_otherwise(
        script in prop::collection::vec(
            prop_oneof![
                (1_i32..12, verdicts()).prop_map(|(seq, verdict)| (Some((seq, verdict)), 0)),
                (1_i32..12).prop_map(|after_seq| (None, after_seq)),
            ],
            0..40,
        ),
    ) {
        let mut ledger: Option<LedgerRow> = None;
        let mut newest: Option<Newest> = None;
        let (mut made, mut opened) = (0_i64, 0_i64);
        for (command, after_seq) in script {
            let Some((seq, verdict)) = command else {
                made += 1;
                newest = Some(Newest { audit: made, after_seq });
                continue;
            };
            let settled = ledger.as_ref().map(|row| row.state);
            if let (Some(row), Some(newest)) = (&mut ledger, newest)
                && let Some(opening) = reopens(row, StepKind::Do, seq, newest)
            {
                prop_assert_eq!(settled, Some(State::Rejected));
                prop_assert!(seq > newest.after_seq);
                *row = opening.apply(row).expect("it said so");
                opened += 1;
            }
            if decide(ledger.as_ref(), StepKind::Do) == Action::Act {
                prop_assert!(!matches!(settled, Some(State::Done | State::Undone)));
                let row = ledger.take().unwrap_or_else(|| LedgerRow::claimed(1));
                let next = record(StepKind::Do, &verdict, Some(&row)).and_then(|change| change.apply(&row));
                ledger = Some(next.unwrap_or(row));
            }
        }
        prop_assert!(opened <= made, "each correction opens once");
    }

    /// One effect, any sequence of commands whose verdicts are any: once undone (or rejected), a
    /// `do` is never acted on again.
    #[test]
    fn a_late_do_never_happens(script in prop::collection::vec((kinds(), verdicts()), 0..40)) {
        let mut ledger: Option<LedgerRow> = None;
        let mut over = false;
        for (kind, verdict) in script {
            match decide(ledger.as_ref(), kind) {
                Action::Act | Action::Undo | Action::Ask => {
                    prop_assert!(!over);
                    let row = ledger.take().unwrap_or_else(|| LedgerRow::claimed(1));
                    let next = record(kind, &verdict, Some(&row)).and_then(|change| change.apply(&row));
                    ledger = Some(next.unwrap_or(row));
                }
                Action::Fence => {
                    let mut row = ledger.take().unwrap_or_else(|| LedgerRow::claimed(1));
                    row.state = State::Undone;
                    ledger = Some(row);
                }
                Action::Answer(_) => {}
            }
            over |= ledger.as_ref().is_some_and(|row| {
                matches!(row.state, State::Undone | State::Rejected)
            });
        }
    }

    /// Folding loses nothing, keeps the order per effect, and never has an effect twice in a round.
    #[test]
    fn folding_keeps_every_command(batch in prop::collection::vec((0..6_u128, kinds()), 0..60)) {
        let commands: Vec<(SagaId, StepKind)> = batch
            .iter()
            .map(|(saga, kind)| (SagaId(uuid::Uuid::from_u128(*saga)), *kind))
            .collect();
        let rounds = fold(&commands);
        let mut order: HashMap<SagaId, Vec<usize>> = HashMap::new();
        for round in &rounds {
            let mut seen = std::collections::HashSet::new();
            for group in round {
                prop_assert!(seen.insert(group.saga_id));
                prop_assert!(group.members.iter().all(|&n| commands[n] == (group.saga_id, group.kind)));
                order.entry(group.saga_id).or_default().extend(&group.members);
            }
        }
        prop_assert_eq!(order.values().map(Vec::len).sum::<usize>(), commands.len());
        for places in order.values() {
            prop_assert!(places.is_sorted());
        }
    }
}
