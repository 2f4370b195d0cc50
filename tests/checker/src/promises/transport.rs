//! `broker-is-transport`: once everything has come to rest the broker holds nothing, and nothing was
//! thrown away that could be read.

use super::Found;
use crate::Evidence;

pub(super) fn broker_is_transport(evidence: &Evidence, found: &mut Found<'_>) {
    for (queue, messages) in &evidence.queues {
        if *queue == evidence.parked.queue {
            if *messages > evidence.parked.sent {
                let detail = format!(
                    "{messages} messages that nobody could read, {} of them were sent so",
                    evidence.parked.sent
                );
                found.that(format!("queue {queue}"), detail);
            }
        } else if *messages > 0 {
            found.that(
                format!("queue {queue}"),
                format!("{messages} messages at rest"),
            );
        }
    }
}
