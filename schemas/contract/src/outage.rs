//! Which answers say that what a step needs is away.

/// The codes of a `retry` that say that what the step needs outside (a provider, a mail server) is away
/// for everybody, and not busy with this one command. While the answers are these, an orchestrator sends
/// the step's `do` to a few sagas only. A worker of your own uses `outside_unavailable`, or one of these.
pub const CODES: [&str; 6] = [
    "outside_unavailable",
    "provider_unreachable",
    "provider_failed",
    "provider_refuses_key",
    "mail_unavailable",
    "timed_out",
];

/// Whether a code says so.
#[must_use]
pub fn says_away(code: &str) -> bool {
    CODES.contains(&code)
}
