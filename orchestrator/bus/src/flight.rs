//! A flight: the messages that go out together, and what became of them. No I/O here.
//!
//! **Who is to blame.** RabbitMQ confirms an unroutable message too; it only returns it first. The
//! driver attaches a returned message to *whichever* confirm completes next, and one `ack` may
//! complete many, in no order. With several messages in flight the wrong one would therefore be
//! blamed, and (worse) the unroutable one praised. So each message carries its own `message_id`, a
//! return is matched by that id, and:
//! - a message whose id was returned has failed, whatever its own confirm said;
//! - `Ack(None)` is success: the driver hands the oldest waiting return to each confirm it
//!   completes, so nothing was waiting, so this message's own return, which had to come before its
//!   ack, has been seen with an earlier confirm;
//! - an ack that carries *another* message's return says nothing certain until the whole flight
//!   has been answered, for its own return may still wait for a later confirm.

use crate::PublishError;
use contract::{Command, Envelope, StepKind, StepName, Topology, encode_batches};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// Characters of the reason with which an envelope is parked.
const REASON_MAX_CHARS: usize = 500;

/// A command among those handed over together: which request, and which place in it.
pub(crate) type Origin = (usize, usize);

/// An envelope, or a whole body, that nobody can use: it waits in the parked queue for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// The bytes as they came.
    pub body: Vec<u8>,
    /// Why, for a person; longer ones are cut to 500 characters.
    pub reason: String,
    /// Where it came from: the queue's role, such as `pay` or `replies`.
    pub source: String,
    /// The AMQP property `type` it came with.
    pub kind: Option<String>,
}

/// One AMQP message, ready to go.
#[derive(Debug)]
pub(crate) struct Message<O> {
    pub(crate) id: String,
    pub(crate) route: Route,
    /// The queue's role, for metrics.
    pub(crate) label: String,
    pub(crate) body: Vec<u8>,
    pub(crate) envelopes: usize,
    /// Whom to tell what became of it.
    pub(crate) origins: Vec<O>,
}

/// Where a confirmed message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    Commands {
        step: StepName,
        key: String,
    },
    Parked {
        reason: String,
        source: String,
        kind: Option<String>,
    },
}

/// Puts commands of many requests into as few messages as the limits allow: by queue, in the order
/// in which they were handed over. What cannot be written is told apart.
pub(crate) fn plan_commands(
    requests: Vec<Vec<Command>>,
    max_envelopes: usize,
) -> (Vec<Message<Origin>>, Vec<Origin>) {
    struct Group {
        step: StepName,
        commands: Vec<Command>,
        origins: Vec<Origin>,
    }
    let mut groups: Vec<(String, Group)> = Vec::new();
    let mut place: HashMap<(StepName, bool), usize> = HashMap::new();
    for (request, commands) in requests.into_iter().enumerate() {
        for (index, command) in commands.into_iter().enumerate() {
            let goes_as = command.goes_as();
            let of = (command.step.clone(), goes_as == StepKind::Do);
            let at = *place.entry(of).or_insert_with(|| {
                let step = command.step.clone();
                let key = Topology::command_key(&step, goes_as);
                groups.push((
                    key,
                    Group {
                        step,
                        commands: Vec::new(),
                        origins: Vec::new(),
                    },
                ));
                groups.len() - 1
            });
            let group = &mut groups[at].1;
            group.commands.push(command);
            group.origins.push((request, index));
        }
    }
    let (mut messages, mut unwritable) = (Vec::new(), Vec::new());
    for (
        key,
        Group {
            step,
            commands,
            origins,
        },
    ) in groups
    {
        let Ok(bodies) = encode_batches(&commands, max_envelopes) else {
            unwritable.extend(origins);
            continue;
        };
        let mut origins = origins.into_iter();
        for (body, envelopes) in bodies {
            messages.push(Message {
                id: message_id(),
                route: Route::Commands {
                    step: step.clone(),
                    key: key.clone(),
                },
                label: key.clone(),
                body,
                envelopes,
                origins: origins.by_ref().take(envelopes).collect(),
            });
        }
    }
    (messages, unwritable)
}

/// One message for each parked envelope.
pub(crate) fn plan_parked(parked: Parked, origin: Origin) -> Message<Origin> {
    let Parked {
        body,
        reason,
        source,
        kind,
    } = parked;
    // The headers travel in one frame, and people read them.
    let reason = reason
        .chars()
        .filter(|c| *c != '\0')
        .take(REASON_MAX_CHARS)
        .collect();
    Message {
        id: message_id(),
        route: Route::Parked {
            reason,
            source,
            kind,
        },
        label: "parked".to_owned(),
        body,
        envelopes: 1,
        origins: vec![origin],
    }
}

/// Groups what is not confirmed by its address, in order of first appearance.
pub(crate) fn group<K: Eq + std::hash::Hash + Clone, T>(
    items: impl IntoIterator<Item = (K, T)>,
) -> Vec<(K, Vec<T>)> {
    let mut groups: Vec<(K, Vec<T>)> = Vec::new();
    let mut place: HashMap<K, usize> = HashMap::new();
    for (key, item) in items {
        let at = *place.entry(key.clone()).or_insert_with(|| {
            groups.push((key, Vec::new()));
            groups.len() - 1
        });
        groups[at].1.push(item);
    }
    groups
}

/// The bodies of a group, each with the number of its envelopes; none if it cannot be written.
pub(crate) fn bodies<T: Envelope>(envelopes: &[T], max: usize) -> Vec<(Vec<u8>, usize)> {
    encode_batches(envelopes, max).unwrap_or_default()
}

pub(crate) fn message_id() -> String {
    Uuid::now_v7().to_string()
}

/// What the broker said to one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Acknowledged; with the id of the returned message that came with it.
    Ack(Option<String>),
    Nack(Option<String>),
    Failed(PublishError),
}

/// What became of each message of a flight. `answers` has one place per message; `None` is a
/// message that was not answered because the flight was broken off for the reason `broken`.
pub(crate) fn settle(
    ids: &[&str],
    answers: &[Option<Answer>],
    broken: Option<&PublishError>,
) -> Vec<Result<(), PublishError>> {
    let returned: HashSet<&str> = answers
        .iter()
        .filter_map(|answer| match answer {
            Some(Answer::Ack(id) | Answer::Nack(id)) => id.as_deref(),
            Some(Answer::Failed(_)) | None => None,
        })
        .collect();
    let unanswered = answers.iter().find_map(|answer| match answer {
        None => Some(broken.cloned().unwrap_or(PublishError::Lost)),
        Some(Answer::Failed(error)) => Some(error.clone()),
        Some(_) => None,
    });
    ids.iter()
        .zip(answers)
        .map(|(id, answer)| match answer {
            _ if returned.contains(id) => Err(PublishError::Returned),
            Some(Answer::Ack(None)) => Ok(()),
            Some(Answer::Ack(Some(_))) => unanswered.clone().map_or(Ok(()), Err),
            Some(Answer::Nack(_)) => Err(PublishError::Nacked),
            Some(Answer::Failed(error)) => Err(error.clone()),
            None => Err(broken.cloned().unwrap_or(PublishError::Lost)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sample_command;
    use contract::decode_batch;

    fn ack(id: Option<&str>) -> Option<Answer> {
        Some(Answer::Ack(id.map(str::to_owned)))
    }

    #[test]
    fn a_return_blames_its_own_message_wherever_the_driver_attached_it() {
        // b was returned; the driver hung the return on c's confirm.
        let verdicts = settle(
            &["a", "b", "c"],
            &[ack(None), ack(None), ack(Some("b"))],
            None,
        );
        assert_eq!(verdicts, [Ok(()), Err(PublishError::Returned), Ok(())]);
    }

    #[test]
    fn an_ack_with_a_strange_return_is_doubtful_until_all_are_answered() {
        let broken = PublishError::TimedOut;
        let answers = [ack(Some("c")), None, ack(None)];
        let verdicts = settle(&["a", "b", "c"], &answers, Some(&broken));
        assert_eq!(verdicts[0], Err(PublishError::TimedOut));
        assert_eq!(verdicts[1], Err(PublishError::TimedOut));
        assert_eq!(verdicts[2], Err(PublishError::Returned));
    }

    #[test]
    fn only_an_empty_ack_is_success() {
        let answers = [
            Some(Answer::Nack(None)),
            Some(Answer::Failed(PublishError::Lost)),
            ack(None),
            ack(Some("strange")),
        ];
        let verdicts = settle(&["a", "b", "c", "d"], &answers, None);
        assert_eq!(
            verdicts,
            [
                Err(PublishError::Nacked),
                Err(PublishError::Lost),
                Ok(()),
                Err(PublishError::Lost)
            ]
        );
    }

    #[test]
    fn commands_of_many_requests_share_messages_and_keep_their_origins() {
        let pay = || sample_command(&StepName::PAY, StepKind::Do);
        let undo = || sample_command(&StepName::PAY, StepKind::Undo);
        let probe = || sample_command(&StepName::PAY, StepKind::Probe);
        let redo = || Command {
            redo: true,
            ..pay()
        };
        let requests = vec![
            vec![pay(), undo()],
            vec![redo()],
            vec![probe(), pay(), pay()],
        ];
        let ids: Vec<Vec<_>> = requests
            .iter()
            .map(|r| r.iter().map(|c| c.id).collect())
            .collect();
        let (messages, unwritable) = plan_commands(requests, 2);
        assert!(unwritable.is_empty());
        let keys: Vec<_> = messages
            .iter()
            .map(|m| (m.label.as_str(), m.envelopes))
            .collect();
        assert_eq!(
            keys,
            [("pay", 2), ("pay", 1), ("pay.undo", 2), ("pay.undo", 1)]
        );
        for message in &messages {
            let decoded = decode_batch::<Command>(&message.body);
            assert_eq!(decoded.envelopes.len(), message.origins.len());
            for (command, (request, index)) in decoded.envelopes.iter().zip(&message.origins) {
                assert_eq!(command.id, ids[*request][*index]);
            }
        }
    }
}
