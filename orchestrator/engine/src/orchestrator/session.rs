//! When what was sent has to be sent again because of the broker. After each new session all that is out
//! may be lost. After a time in which the broker took nothing only what it refused is: what it had before
//! still waits in its queues, and a second copy of a whole backlog would be the next alarm.

use bus::State;

/// What was seen of the sessions with the broker.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// The last one; 0 before the first.
    pub(super) number: u64,
    blocked: bool,
}

/// What may have been lost; the more comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lost {
    /// The commands that were refused.
    Refused,
    /// All commands without an answer.
    All,
}

impl Sessions {
    /// Notices how it stands; which commands may have been lost since the last look and can be sent again
    /// now.
    pub(super) fn notice(&mut self, now: &State) -> Option<Lost> {
        if !now.connected {
            self.blocked = false;
            return None;
        }
        let new = now.session != self.number;
        let takes_again = self.blocked && !now.blocked;
        self.number = now.session;
        self.blocked = now.blocked;
        match (new, takes_again) {
            (true, _) => Some(Lost::All),
            (false, true) => Some(Lost::Refused),
            (false, false) => None,
        }
    }
}

/// Whether anything can be sent.
pub(super) fn takes(now: &State) -> bool {
    now.connected && !now.blocked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_session_has_lost_all_and_a_broker_that_takes_messages_again_what_it_refused() {
        let mut sessions = Sessions::default();
        let (all, refused) = (Some(Lost::All), Some(Lost::Refused));
        for (session, connected, blocked, lost) in [
            (0, false, false, None),
            (1, true, false, all),
            (1, true, false, None),
            (1, true, true, None),
            (1, true, true, None),
            (1, true, false, refused),
            (1, true, false, None),
            (1, true, true, None),
            // The session is lost while it is blocked: the next one is reason enough.
            (1, false, false, None),
            (2, true, false, all),
            (2, true, false, None),
        ] {
            let mut now = State::default();
            (now.session, now.connected, now.blocked) = (session, connected, blocked);
            assert_eq!(sessions.notice(&now), lost, "{now:?}");
        }
    }
}
