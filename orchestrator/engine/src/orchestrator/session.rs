//! When what was sent has to be sent again because of the broker: once after each new session, and once
//! after each time in which it took nothing. While it takes nothing every command is refused, so nearly
//! all that are out were never sent; each of them would wait for its own time, which doubles.

use bus::State;

/// What was seen of the sessions with the broker.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// The last one; 0 before the first.
    pub(super) number: u64,
    blocked: bool,
}

impl Sessions {
    /// Notices how it stands; whether commands may have been lost since the last look and can be sent again
    /// now.
    pub(super) fn notice(&mut self, now: &State) -> bool {
        if !now.connected {
            self.blocked = false;
            return false;
        }
        let new = now.session != self.number;
        let takes_again = self.blocked && !now.blocked;
        self.number = now.session;
        self.blocked = now.blocked;
        new || takes_again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_sent_again_after_a_new_session_and_once_the_broker_takes_messages_again() {
        let mut sessions = Sessions::default();
        for (session, connected, blocked, again) in [
            (0, false, false, false),
            (1, true, false, true),
            (1, true, false, false),
            (1, true, true, false),
            (1, true, true, false),
            (1, true, false, true),
            (1, true, false, false),
            (1, true, true, false),
            // The session is lost while it is blocked: the next one is reason enough.
            (1, false, false, false),
            (2, true, false, true),
            (2, true, false, false),
        ] {
            let mut now = State::default();
            (now.session, now.connected, now.blocked) = (session, connected, blocked);
            assert_eq!(sessions.notice(&now), again, "{now:?}");
        }
    }
}
