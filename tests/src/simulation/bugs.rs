//! The bugs that are planted, to show that each is seen, and by which promise.

use super::{Fault, Mix, Setting, Violation, run};
use contract::planted::{Bug, plant};

/// Orders in a world with a bug.
const SAGAS: usize = 12;

/// One or several protections that are taken away together.
#[derive(Clone, Copy, Debug)]
pub struct Planted {
    /// The protections.
    pub bugs: &'static [Bug],
    /// The promises one of which has to be seen broken.
    pub breaks: &'static [&'static str],
    /// The faults of its worlds; the seeds draw them if none are named.
    pub faults: &'static [Fault],
    /// The version of its orders; they draw it if none is named.
    pub version: Option<i16>,
}

/// How a bug was caught.
#[derive(Debug)]
pub struct Caught {
    /// The first seed that showed it, from 1.
    pub seed: u64,
    /// What it broke.
    pub violation: Violation,
}

const fn alone(bug: &'static [Bug], breaks: &'static [&'static str]) -> Planted {
    Planted {
        bugs: bug,
        breaks,
        faults: &[],
        version: None,
    }
}

/// In worlds with these faults and no others.
const fn among(
    bugs: &'static [Bug],
    breaks: &'static [&'static str],
    faults: &'static [Fault],
) -> Planted {
    Planted {
        bugs,
        breaks,
        faults,
        version: None,
    }
}

/// Workers that are stopped while the broker is away, and nothing else: all that a message can lose
/// here, the broker gives again, unless it was acknowledged.
const ONLY_WORKERS_STOP: &[Fault] = &[Fault::ReplyUnpublished];

/// Two workers at one payment, and a provider that gives each its own.
const TWINS_WITH_KEYS_FORGOTTEN: &[Fault] = &[
    Fault::MessageDoubled,
    Fault::MessageLate,
    Fault::WorkerStalls,
    Fault::RequestLate,
    Fault::KeyForgotten,
];

/// What comes twice, and nothing else.
const DUPLICATES: &[Fault] = &[Fault::MessageDoubled, Fault::MessageLate];

/// Requests of which nobody hears whether they reached the provider.
const PROVIDER_OUT_OF_REACH: &[Fault] = &[
    Fault::ProviderAway,
    Fault::AnswerLost,
    Fault::RequestLate,
    Fault::AuthorisationEnds,
];

/// Owners that stall with a pause in hand, and others who apply it and let the saga go on meanwhile; answers are
/// late, so that there is much to do in that moment.
const STALE_OWNERS_AND_PAUSES: &[Fault] = &[
    Fault::OrchestratorStalls,
    Fault::OperatorPauses,
    Fault::MessageLate,
];

/// A mail goes to the address that one person has corrected, and its command comes once more after another
/// person has.
const TWO_CORRECT_ONE_ADDRESS: &[Fault] = &[
    Fault::AddressWrong,
    Fault::MessageDoubled,
    Fault::MessageLate,
];

/// A payment is made, nobody hears of it, and who asks is shown nothing.
const ANSWERS_LOST_AND_LIES: &[Fault] = &[
    Fault::AnswerLost,
    Fault::ProviderLies,
    Fault::RequestLate,
    Fault::WorkerDies,
];

/// Orders by `order@2` whose payment is captured without anybody hearing of it before they are undone; no request
/// is on its way for longer, so nothing is captured after the undo of the capture.
const CAPTURED_UNHEARD: Planted = Planted {
    bugs: &[],
    breaks: &[],
    faults: &[Fault::AnswerLost, Fault::ProviderAway, Fault::ClockForward],
    version: Some(2),
};

/// Workers that stall with others' commands in their queues, and owners that hear late of what they did.
const BACKLOGS: &[Fault] = &[Fault::WorkerStalls, Fault::MessageLate, Fault::RequestLate];

/// Processes that stall while another one is started under their name.
const ELDERS_STALL: &[Fault] = &[Fault::OrchestratorStalls, Fault::NameTwice];

/// All of them.
pub const ALL: &[Planted] = &[
    among(&[Bug::LedgerForgetsDone], &["effects-once"], DUPLICATES),
    alone(&[Bug::LateDoNotFenced], &["honest-end"]),
    alone(&[Bug::UndoneRevived], &["honest-end"]),
    // It takes the last places twice, and the database refuses that.
    alone(&[Bug::WorkerDoesNotFold], &["effects-once", "no-oversell"]),
    // It comes into force unknown to its saga, twice, or the one that its customer answered is never asked
    // about.
    alone(
        &[Bug::CallBeforeClaim],
        &["honest-end", "money-iff-ticket", "prompt-end"],
    ),
    // Charged twice, or the one is charged and the other asked about, or undone.
    among(
        &[Bug::SecondIntentKept],
        &["money-iff-ticket", "prompt-end", "honest-end"],
        TWINS_WITH_KEYS_FORGOTTEN,
    ),
    // Alone, the history's key refuses what is written over another one, and the saga is held for a person.
    alone(&[Bug::UnconditionalWrite], &["prompt-end"]),
    // An effect is in force of which the row that was written over knew, a paid and ended order is before its
    // payment again, or two send the same command.
    alone(
        &[Bug::UnconditionalWrite, Bug::HistoryWithoutKey],
        &[
            "honest-end",
            "unknown-is-a-result",
            "money-iff-ticket",
            "bounded-work",
            "broker-is-transport",
        ],
    ),
    // A command is out that no row knows: it is decided once more, or its effect is never undone.
    alone(
        &[Bug::AmbiguousIsCommitted],
        &["broker-is-transport", "bounded-work", "honest-end"],
    ),
    alone(&[Bug::LostShardKept], &["bounded-work"]),
    // The elder of two with one name minds its shards for ever, beside the younger one.
    among(&[Bug::EpochIgnored], &["bounded-work"], ELDERS_STALL),
    // What an elder does whose epoch is over takes back what the younger one has done.
    among(
        &[Bug::UnconditionalWrite, Bug::HistoryWithoutKey],
        &[
            "honest-end",
            "unknown-is-a-result",
            "money-iff-ticket",
            "bounded-work",
            "broker-is-transport",
            "nothing-accepted-is-lost",
        ],
        ELDERS_STALL,
    ),
    // Of two writes to one row one is lost, and what follows from it is done.
    alone(
        &[Bug::InputsNotFolded, Bug::HistoryWithoutKey],
        &[
            "broker-is-transport",
            "nothing-accepted-is-lost",
            "bounded-work",
        ],
    ),
    alone(&[Bug::StaleCausesResend], &["bounded-work"]),
    among(&[Bug::BacklogIsSilence], &["bounded-work"], BACKLOGS),
    alone(&[Bug::NoResendWhenDue], &["prompt-end"]),
    // Another command's outcome counts: it is sold unpaid, or one undo's answer is taken for another's.
    alone(
        &[Bug::ReplyToAnyCommand],
        &["money-iff-ticket", "honest-end"],
    ),
    alone(&[Bug::BitAtReply], &["honest-end"]),
    // The effect is there when it is given up, or comes late.
    among(
        &[Bug::UnknownIsFailure],
        &["unknown-is-a-result", "honest-end"],
        ANSWERS_LOST_AND_LIES,
    ),
    alone(
        &[Bug::ExhaustedIsFailure],
        &["unknown-is-a-result", "honest-end"],
    ),
    alone(&[Bug::ProbeSkipped], &["unknown-is-a-result"]),
    alone(&[Bug::UndoInOrder], &["every-end-undoes"]),
    alone(&[Bug::UndoStopsAtFailure], &["failed-undo-is-work"]),
    among(
        &[Bug::DeadlineKills],
        &["honest-end"],
        &[Fault::ClockForward, Fault::ProviderOutage],
    ),
    alone(&[Bug::NudgeBelieved], &["money-iff-ticket"]),
    // Its saga waits for what it was told already.
    alone(&[Bug::EarlyNudgeDropped], &["nothing-accepted-is-lost"]),
    alone(&[Bug::EndOverridesPivot], &["every-end-undoes"]),
    alone(&[Bug::PauseIgnored], &["bounded-work"]),
    // An ending is lost, or what a saga waited for.
    alone(
        &[Bug::PauseLosesSignals],
        &["nothing-accepted-is-lost", "prompt-end"],
    ),
    among(
        &[Bug::PauseTakesTime],
        &["prompt-end"],
        &[Fault::OperatorPauses],
    ),
    among(
        &[Bug::PauseComesAgain],
        &["prompt-end"],
        STALE_OWNERS_AND_PAUSES,
    ),
    alone(&[Bug::PausedIsSent], &["bounded-work"]),
    among(
        &[Bug::LostCaptureBelieved],
        &["money-iff-ticket"],
        PROVIDER_OUT_OF_REACH,
    ),
    alone(&[Bug::RefusedCancelBelieved], &["honest-end"]),
    // The undo of a capture that was made overlooks it, and so does the undo of its payment.
    CAPTURED_UNHEARD.without(
        &[Bug::CaptureUndoBlind, Bug::RefusedCancelBelieved],
        &["honest-end"],
    ),
    alone(&[Bug::GivenBackAgain], &["effects-once"]),
    // An authorisation that nobody captures becomes tickets, or a saga is at a step that it does not have.
    among(
        &[Bug::UnsafeIsMigrated],
        &["money-iff-ticket"],
        &[Fault::OperatorMigrates],
    ),
    among(
        &[Bug::WithdrawnGoesOn],
        &["every-end-undoes"],
        &[Fault::DefinitionWithdrawn],
    ),
    alone(&[Bug::SleeperForgotten], &["prompt-end"]),
    alone(&[Bug::DeadlineNotWarned], &["prompt-end"]),
    among(
        &[Bug::BreakerIgnored],
        &["bounded-work"],
        &[Fault::ProviderOutage],
    ),
    among(
        &[Bug::BreakerNeverTries],
        &["prompt-end"],
        &[Fault::ProviderOutage],
    ),
    // Cancelled for nothing, or its undo has failed for nothing.
    among(
        &[Bug::OutageTakesTime],
        &["prompt-end"],
        &[Fault::BrokerAway],
    ),
    among(
        &[Bug::LeapTakesTime],
        &["prompt-end"],
        &[Fault::ClockForward, Fault::MessageLate],
    ),
    among(
        &[Bug::CorrectionRevivesDone, Bug::CorrectionForLateCommands],
        &["effects-once"],
        TWO_CORRECT_ONE_ADDRESS,
    ),
    among(
        &[Bug::AcknowledgedUnanswered, Bug::NoResendWhenDue],
        &["prompt-end"],
        ONLY_WORKERS_STOP,
    ),
];

/// Protections that are harmless to lose alone in these worlds, because another one protects.
pub const HARMLESS_ALONE: &[Planted] = &[
    // The history refuses a second row for a revision, and what is tried in halves is folded by the rows.
    alone(&[Bug::InputsNotFolded], &[]),
    alone(&[Bug::HistoryWithoutKey], &[]),
    // What it overlooks the undo of the payment gives back. (`RefusedCancelBelieved` is not harmless alone: a bank
    // that thinks refuses to be cancelled, too.)
    CAPTURED_UNHEARD.without(&[Bug::CaptureUndoBlind], &[]),
    among(&[Bug::CorrectionRevivesDone], &[], TWO_CORRECT_ONE_ADDRESS),
    among(
        &[Bug::CorrectionForLateCommands],
        &[],
        TWO_CORRECT_ONE_ADDRESS,
    ),
    among(&[Bug::AcknowledgedUnanswered], &[], ONLY_WORKERS_STOP),
    among(&[Bug::NoResendWhenDue], &[], ONLY_WORKERS_STOP),
];

impl Planted {
    /// In these worlds, without these protections.
    const fn without(self, bugs: &'static [Bug], breaks: &'static [&'static str]) -> Self {
        Self {
            bugs,
            breaks,
            ..self
        }
    }

    fn setting(&self, seed: u64, story: bool) -> Setting {
        let mix = (!self.faults.is_empty()).then(|| Mix::only(self.faults));
        let (sagas, race, version) = (SAGAS, None, self.version);
        Setting {
            seed,
            sagas,
            mix,
            race,
            version,
            story,
        }
    }
}

/// Runs worlds with a bug until it shows, at most so many.
#[must_use]
pub fn catch(planted: &Planted, seeds: u64) -> Option<Caught> {
    plant(planted.bugs);
    let caught = (1..=seeds).find_map(|seed| {
        let violation = run(&planted.setting(seed, false)).violation?;
        Some(Caught { seed, violation })
    });
    plant(&[]);
    caught
}

/// What is broken in a world of a bug without it.
#[must_use]
pub fn without(planted: &Planted, seed: u64) -> Option<Violation> {
    run(&planted.setting(seed, false)).violation
}

/// A world in which several bugs show together and each alone does not, of so many worlds: what one overlooks the
/// other protection finds.
#[must_use]
pub fn only_together(planted: &Planted, seeds: u64) -> Option<u64> {
    let breaks = |bugs: &[Bug], seed| {
        plant(bugs);
        let broken = run(&planted.setting(seed, false)).violation;
        plant(&[]);
        broken.map(|violation| violation.invariant)
    };
    let together = |seed| {
        let broken = breaks(planted.bugs, seed);
        broken.is_some_and(|promise| planted.breaks.contains(&promise))
    };
    let alone = |seed| {
        planted
            .bugs
            .iter()
            .any(|bug| breaks(&[*bug], seed).is_some())
    };
    (1..=seeds).find(|seed| together(*seed) && !alone(*seed))
}

/// The story of one world with a bug.
#[must_use]
pub fn story(planted: &Planted, seed: u64) -> Vec<String> {
    plant(planted.bugs);
    let story = run(&planted.setting(seed, true)).story;
    plant(&[]);
    story
}
