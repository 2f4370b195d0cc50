//! What a whole campaign has to have met, or it says nothing about it: every outcome of every command of every
//! step, everything that a person can do, and every end. The list follows from the definitions and the codes;
//! what is taken from it stands here with its reason.

use contract::Refusal;
use saga::{Class, order::versions};
use std::{collections::BTreeSet, fmt::Write as _};

const OUTCOMES: [&str; 6] = ["done", "rejected", "retry", "unknown", "waiting", "pause"];
const ACTS: [&str; 7] = [
    "pause", "resume", "retry", "correct", "resolve", "abandon", "migrate",
];

/// Why something need not be met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    /// It cannot be: a campaign that meets it is wrong about this, and fails.
    Never,
    /// It takes a chance that no campaign can count on; what is met of it is welcome.
    Chance,
}
use Why::{Chance, Never};

/// What need not be met; `*` is any word.
const EXEMPT: &[(&str, Why, &str)] = &[
    ("reserve * waiting", Never, OWN),
    ("issue * waiting", Never, OWN),
    ("notify * waiting", Never, OWN),
    ("capture * waiting", Never, OWN),
    ("* undo waiting", Never, "an undo waits for nobody"),
    (
        "fraud-check probe waiting",
        Chance,
        "an answer has to be lost of the few that are looked at",
    ),
    (
        "pay probe waiting",
        Chance,
        "a customer is at the bank's page while his payment is asked about",
    ),
    (
        "notify undo *",
        Never,
        "what follows the pivot is not undone",
    ),
    ("reserve * unknown", Chance, LEDGER),
    ("fraud-check * unknown", Chance, LEDGER),
    ("issue * unknown", Chance, LEDGER),
    (
        "notify * unknown",
        Chance,
        "a mail server has to hang up within some milliseconds",
    ),
    (
        "* undo unknown",
        Chance,
        "a refund's or a cancellation's answer has to be lost, and what it did not to be seen",
    ),
    (
        "capture * unknown",
        Chance,
        "the provider has to have lost a payment that it authorised",
    ),
    (
        "pay do unknown",
        Chance,
        "what is not heard of is asked about at once, and mostly known then",
    ),
    ("reserve undo rejected", Never, GIVES_BACK),
    ("fraud-check undo rejected", Never, GIVES_BACK),
    ("issue undo rejected", Never, GIVES_BACK),
    (
        "capture * rejected",
        Chance,
        "an authorisation has to end between the tickets and its capture",
    ),
    ("reserve probe rejected", Chance, MEANWHILE),
    ("fraud-check probe rejected", Chance, MEANWHILE),
    ("issue probe rejected", Chance, MEANWHILE),
    (
        "notify probe *",
        Never,
        "what may not be undone any more is tried until it is done, and not asked about",
    ),
    ("* undo pause", Chance, MOMENT),
    ("* probe pause", Chance, MOMENT),
    ("capture do pause", Chance, MOMENT),
    (
        "end deadline_exceeded",
        Chance,
        "no step is tried for so long that an order's time goes by, and an outage that lasts ends it as that",
    ),
    ("end not_on_sale", Never, CATALOGUE),
    (
        "end fraud_refused",
        Never,
        "nobody is on a blocklist, and this machine's addresses are exempt",
    ),
    ("end review_expired", Never, "a review may take a day"),
    (
        "end payment_method_invalid",
        Never,
        "every card of the customers is a documented one",
    ),
    (
        "end step_failed",
        Chance,
        "a payment has to stay unknown for longer than it is asked about",
    ),
    (
        "end undone",
        Never,
        "an order is undone for a reason of its own",
    ),
];

const OWN: &str = "it waits for nobody outside";
const LEDGER: &str =
    "what is ours is known from the ledger, unless a probe finds nothing of it there";
const GIVES_BACK: &str = "what is ours is given back unconditionally";
const MEANWHILE: &str =
    "what could be had has to be gone when it is asked for again, after half a minute of a fault";
const MOMENT: &str = "a person has to type just then";
const CATALOGUE: &str = "what is sold goes on being sold, unless its event is cancelled";

/// All that there is.
fn all() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for step in versions().into_iter().flat_map(|version| version.steps) {
        let undone = step.class != Class::Retriable;
        for kind in ["do", "undo", "probe"] {
            let met = OUTCOMES.map(|outcome| format!("{} {kind} {outcome}", step.name.as_str()));
            all.extend(met.into_iter().filter(|_| undone || kind != "undo"));
        }
    }
    all.extend(ACTS.map(|act| format!("operator {act}")));
    all.extend(["completed", "abandoned"].map(|end| format!("end {end}")));
    let codes = Refusal::ALL.iter().map(|refusal| refusal.code());
    all.extend(codes.map(|code| format!("end {code}")));
    all
}

fn is(pattern: &str, what: &str) -> bool {
    let (mut pattern, mut what) = (pattern.split(' '), what.split(' '));
    loop {
        match (pattern.next(), what.next()) {
            (None, None) => return true,
            (Some(wanted), Some(word)) if wanted == "*" || wanted == word => {}
            _ => return false,
        }
    }
}

fn exempt(what: &str) -> Option<Why> {
    let mut of_it = EXEMPT.iter().filter(|(pattern, ..)| is(pattern, what));
    let first = of_it.next().map(|(_, why, _)| *why);
    // What can never be is not made possible by another line.
    first.map(|first| {
        if of_it.any(|(_, why, _)| *why == Never) {
            Never
        } else {
            first
        }
    })
}

/// What a whole campaign that met this was to meet and did not.
pub(crate) fn missing(met: &BTreeSet<String>) -> Vec<String> {
    let unmet = all().into_iter().filter(|what| !met.contains(what));
    unmet.filter(|what| exempt(what).is_none()).collect()
}

/// What was met of that which can never be, or which nobody knows of.
pub(crate) fn strange(met: &BTreeSet<String>) -> Vec<String> {
    let all = all();
    let strange = |what: &&String| exempt(what) == Some(Never) || !all.contains(*what);
    met.iter().filter(strange).cloned().collect()
}

/// As a part of the page.
pub(crate) fn told(met: &BTreeSet<String>) -> String {
    let wanted = all().len();
    let listed = |which: Vec<String>| match which.as_slice() {
        [] => "nothing".to_owned(),
        _ => format!("`{}`", which.join("`, `")),
    };
    let mut told = format!(
        "\n## What was not reached\n\nOf {wanted} outcomes of commands, acts of people and ends that the definitions \
         and codes have, {} were met. Not met, though a whole campaign has to: {}. Met, though it cannot be: {}.\n\n\
         Exempt, with the reason:\n\n| what | | why |\n|---|---|---|\n",
        all().intersection(met).count(),
        listed(missing(met)),
        listed(strange(met)),
    );
    for (pattern, why, reason) in EXEMPT {
        let why = if *why == Never {
            "cannot be"
        } else {
            "by chance"
        };
        let _ = writeln!(told, "| `{pattern}` | {why} | {reason} |");
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_exempt_is_missed_and_what_cannot_be_is_strange() {
        let mut met: BTreeSet<String> = all();
        met.retain(|what| exempt(what).is_none());
        assert_eq!((missing(&met), strange(&met)), (vec![], vec![]));
        for one in met.clone() {
            met.remove(&one);
            assert_eq!(missing(&met), std::slice::from_ref(&one));
            met.insert(one);
        }
        met.insert("notify undo done".to_owned());
        met.insert("end review_expired".to_owned());
        met.insert("operator dance".to_owned());
        let strange = strange(&met);
        assert_eq!(
            strange,
            ["end review_expired", "notify undo done", "operator dance"]
        );
        assert!(told(&met).contains("`operator dance`"));
    }

    #[test]
    fn each_exemption_is_of_something() {
        for (pattern, why, _) in EXEMPT {
            let is_of_something = all().iter().any(|what| is(pattern, what));
            let is_a_guard = *why == Never && *pattern == "notify undo *";
            assert!(is_of_something || is_a_guard, "{pattern}");
        }
    }

    #[test]
    fn what_has_to_be_met_is_most_of_what_matters() {
        let none = missing(&BTreeSet::new());
        for what in [
            "pay undo rejected",
            "pay undo done",
            "notify do rejected",
            "notify do retry",
            "pay do retry",
            "pay probe unknown",
            "reserve probe retry",
            "fraud-check undo retry",
            "issue do rejected",
            "issue probe done",
            "issue undo retry",
            "capture probe done",
            "capture undo done",
            "end event_cancelled",
            "operator abandon",
            "operator migrate",
            "end definition_withdrawn",
            "end payment_unavailable",
            "end operator_ended",
        ] {
            assert!(none.iter().any(|one| one == what), "{what}: {none:?}");
        }
    }
}
