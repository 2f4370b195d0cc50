//! Ports on the loopback address for what `up` starts.
//!
//! Chosen once and remembered, so that addresses stay the same from run to run. They come from
//! below 32768, the lower end of Linux's ephemeral range: a port inside it may at any time be the
//! local end of somebody's outgoing connection, and the server could then not bind it.
//!
//! Between our look and the server's bind another process may take the port. That race cannot be
//! closed from here; who starts a server looks again when the start failed and chooses anew.

use std::{collections::BTreeSet, net::TcpListener, ops::Range};

use anyhow::{Result, bail};

/// Where ports are looked for.
const RANGE: Range<u16> = 20_000..32_000;
/// Ports tried before giving up: with even half the range taken, all failing is out of the question.
const TRIES: usize = 200;

/// Keeps `remembered` if it is still free, else chooses another port, none of `taken`.
pub(crate) fn keep_or_choose(remembered: Option<u16>, taken: &BTreeSet<u16>) -> Result<u16> {
    let candidates = remembered
        .into_iter()
        .chain((0..TRIES).map(|_| rand::random_range(RANGE)));
    choose(candidates, taken, is_free)
}

/// Whether nobody listens on this port of the loopback address.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

fn choose(
    candidates: impl Iterator<Item = u16>,
    taken: &BTreeSet<u16>,
    mut free: impl FnMut(u16) -> bool,
) -> Result<u16> {
    for port in candidates {
        if !taken.contains(&port) && free(port) {
            return Ok(port);
        }
    }
    bail!(
        "no free port on 127.0.0.1 between {} and {}",
        RANGE.start,
        RANGE.end
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remembered_port_wins_while_it_is_free() {
        let port = choose([4000, 5000].into_iter(), &BTreeSet::new(), |_| true);
        assert_eq!(port.ok(), Some(4000));
    }

    #[test]
    fn a_port_that_is_taken_or_promised_is_passed_over() {
        let promised = BTreeSet::from([5000]);
        let port = choose([4000, 5000, 6000].into_iter(), &promised, |p| p != 4000);
        assert_eq!(port.ok(), Some(6000));
    }

    #[test]
    fn running_out_is_an_error_and_not_a_loop() {
        assert!(choose([1, 2].into_iter(), &BTreeSet::new(), |_| false).is_err());
    }

    #[test]
    fn a_listener_makes_its_port_not_free() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback address exists");
        let port = listener.local_addr().expect("it is bound").port();
        assert!(!is_free(port));
        let chosen = keep_or_choose(Some(port), &BTreeSet::new()).expect("others are free");
        assert_ne!(chosen, port);
        assert!(RANGE.contains(&chosen));
    }
}
