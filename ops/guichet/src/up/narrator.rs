//! What `up` says while it works: one line per fact on standard error.
//!
//! These lines are not progress that may be lost: that a role died and was started again must be
//! found in the journal of a service manager too, so they are also written when nobody looks on.
//! Colour is for terminals, and never with `NO_COLOR`.

use std::io::{IsTerminal, Write};

/// Says things, each under the name of the part it is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Narrator {
    colour: bool,
}

impl Narrator {
    /// Speaks to standard error.
    pub(crate) fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            colour: wanted && std::io::stderr().is_terminal(),
        }
    }

    /// Something went as it should.
    pub(crate) fn say(self, part: &str, text: &str) {
        self.line(part, text, "36");
    }

    /// Something did not.
    pub(crate) fn warn(self, part: &str, text: &str) {
        self.line(part, text, "33");
    }

    fn line(self, part: &str, text: &str, colour: &str) {
        let line = if self.colour {
            format!("\x1b[{colour}m{part:>12}\x1b[0m  {text}\n")
        } else {
            format!("{part:>12}  {text}\n")
        };
        // Nobody left to tell is no reason to stop the servers.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}
