//! What PostgreSQL answers, message by message, so that exactly the answer to a commit can be lost: the
//! transaction is there, and its client does not know.
//!
//! An answer ends with `ReadyForQuery`, which says whether a transaction is open. What does not look like
//! PostgreSQL passes as it is.

use std::sync::atomic::{AtomicU64, Ordering};

/// No message of a server is longer; what says so is another protocol.
const LENGTH_MAX: usize = 64 * 1024 * 1024;

/// One connection's answers.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// The beginning of a message.
    part: Vec<u8>,
    /// Whole messages since the last answer was complete.
    held: Vec<u8>,
    /// What the last command of this answer was.
    tag: Vec<u8>,
    /// The client was let in.
    in_session: bool,
    foreign: bool,
}

impl Answers {
    /// What passes of these bytes; nothing passes any more once an answer to a commit is lost, which
    /// happens to one of `losing`.
    pub(super) fn pass(
        &mut self,
        bytes: &[u8],
        losing: Option<u64>,
        commits: &AtomicU64,
    ) -> Option<Vec<u8>> {
        if self.foreign {
            return Some(bytes.to_vec());
        }
        self.part.extend_from_slice(bytes);
        let mut passing = Vec::new();
        while let Some(length) = self.message() {
            if !(5..=LENGTH_MAX).contains(&length) {
                self.foreign = true;
                passing.append(&mut self.held);
                passing.append(&mut self.part);
                return Some(passing);
            }
            if self.part.len() < length {
                break;
            }
            let message: Vec<u8> = self.part.drain(..length).collect();
            if message[0] == b'C' {
                self.tag = message[5..].to_vec();
            }
            let complete = message[0] == b'Z';
            let at_rest = complete && message.get(5) == Some(&b'I');
            self.held.extend(message);
            if at_rest && self.in_session && self.has_committed() {
                let number = commits.fetch_add(1, Ordering::Relaxed) + 1;
                if losing.is_some_and(|every| number.is_multiple_of(every.max(1))) {
                    return None;
                }
            }
            if complete {
                self.in_session = true;
                self.tag.clear();
            }
            if complete || !self.in_session || losing.is_none() {
                passing.append(&mut self.held);
            }
        }
        Some(passing)
    }

    /// How long the first message is: its kind, and a length that counts itself.
    fn message(&self) -> Option<usize> {
        let length: &[u8; 4] = self.part.get(1..5)?.try_into().ok()?;
        Some(u32::from_be_bytes(*length) as usize + 1)
    }

    fn has_committed(&self) -> bool {
        let committing: [&[u8]; 5] = [b"COMMIT", b"INSERT", b"UPDATE", b"DELETE", b"SELECT"];
        committing.iter().any(|tag| self.tag.starts_with(tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len() + 4).expect("short");
        [&[kind][..], &length.to_be_bytes(), content].concat()
    }

    fn greeting() -> Vec<u8> {
        [message(b'R', &[0; 4]), message(b'Z', b"I")].concat()
    }

    fn answer(tag: &str, state: u8) -> Vec<u8> {
        let tag = format!("{tag}\0");
        [message(b'C', tag.as_bytes()), message(b'Z', &[state])].concat()
    }

    #[test]
    fn every_second_answer_to_a_commit_is_lost_and_nothing_else() {
        let (mut answers, commits) = (Answers::default(), AtomicU64::new(0));
        let mut pass = |bytes: &[u8]| answers.pass(bytes, Some(2), &commits);
        assert_eq!(pass(&greeting()), Some(greeting()));
        for other in [
            answer("BEGIN", b'T'),
            answer("UPDATE 1", b'T'),
            answer("SET", b'I'),
        ] {
            assert_eq!(pass(&other), Some(other.clone()));
        }
        assert_eq!(pass(&answer("COMMIT", b'I')), Some(answer("COMMIT", b'I')));
        assert_eq!(pass(&answer("INSERT 0 1", b'I')), None);
    }

    #[test]
    fn nothing_of_a_lost_answer_passes_however_it_is_cut() {
        let (mut answers, commits) = (Answers::default(), AtomicU64::new(0));
        answers.pass(&greeting(), None, &commits);
        let whole = [message(b'D', b"row"), answer("SELECT 1", b'I')].concat();
        let (first, rest) = whole.split_at(11);
        assert_eq!(answers.pass(first, Some(1), &commits), Some(Vec::new()));
        assert_eq!(answers.pass(rest, Some(1), &commits), None);
    }

    #[test]
    fn without_losing_bytes_pass_message_by_message_and_other_protocols_as_they_are() {
        let (mut answers, commits) = (Answers::default(), AtomicU64::new(0));
        let bytes = [greeting(), message(b'D', b"row")].concat();
        assert_eq!(answers.pass(&bytes, None, &commits), Some(bytes.clone()));
        let mut foreign = Answers::default();
        let http = b"HTTP/1.1 200 OK\r\n";
        assert_eq!(foreign.pass(http, None, &commits), Some(http.to_vec()));
    }
}
