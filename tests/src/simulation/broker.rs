//! RabbitMQ as the platform uses it: queues that promise nothing. A message is where it is: on its way,
//! in a queue, or in a process that has not acknowledged it.

use contract::{Command, Reply};
use std::{collections::VecDeque, rc::Rc};

/// A queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    /// Commands of a step; `true`: undos and probes.
    Commands(usize, bool),
    /// Replies to one session of an orchestrator.
    Replies(usize),
}

/// What a message carries.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// Commands.
    Commands(Vec<Rc<Command>>),
    /// Replies.
    Replies(Vec<Rc<Reply>>),
    /// "There is something to look for."
    Nudge,
}

/// All queues.
#[derive(Debug, Default)]
pub(super) struct Broker {
    commands: [[VecDeque<Body>; 2]; super::database::STEPS],
    /// Reply queues by number: whose they are, while they are.
    replies: Vec<Option<(usize, VecDeque<Body>)>>,
    /// Counts the times its data was lost: what was unacknowledged before is gone.
    pub(super) life: u32,
    /// Whether it cannot be reached.
    pub(super) away: bool,
}

impl Broker {
    /// A new reply queue for an orchestrator.
    pub(super) fn declare(&mut self, orchestrator: usize) -> usize {
        self.replies.push(Some((orchestrator, VecDeque::new())));
        self.replies.len() - 1
    }

    /// A session is over, and its reply queue with it.
    pub(super) fn delete(&mut self, queue: usize) {
        if let Some(slot) = self.replies.get_mut(queue) {
            *slot = None;
        }
    }

    /// Whose reply queue it is.
    #[must_use]
    pub(super) fn owner_of(&self, queue: usize) -> Option<usize> {
        self.replies.get(queue)?.as_ref().map(|(owner, _)| *owner)
    }

    /// A message arrives; `false` if its queue is gone.
    pub(super) fn push(&mut self, queue: Queue, body: Body) -> bool {
        let Some(queue) = self.queue(queue) else {
            return false;
        };
        queue.push_back(body);
        true
    }

    /// What is first in a queue.
    pub(super) fn pop(&mut self, queue: Queue) -> Option<Body> {
        self.queue(queue)?.pop_front()
    }

    fn queue(&mut self, queue: Queue) -> Option<&mut VecDeque<Body>> {
        match queue {
            Queue::Commands(step, undo) => Some(&mut self.commands[step][usize::from(undo)]),
            Queue::Replies(number) => {
                let slot = self.replies.get_mut(number)?.as_mut()?;
                Some(&mut slot.1)
            }
        }
    }

    /// How many messages are in which queue.
    pub(super) fn holds(&self) -> impl Iterator<Item = (Queue, usize)> {
        let commands = self.commands.iter().enumerate().flat_map(|(step, lanes)| {
            let lanes = [false, true].into_iter().zip(lanes);
            lanes.map(move |(undo, queue)| (Queue::Commands(step, undo), queue.len()))
        });
        let replies = self.replies.iter().enumerate();
        let replies = replies.filter_map(|(number, slot)| {
            let (_, queue) = slot.as_ref()?;
            Some((Queue::Replies(number), queue.len()))
        });
        commands
            .chain(replies)
            .filter(|(_, messages)| *messages > 0)
    }

    /// Everything is gone.
    pub(super) fn empty(&mut self) {
        self.commands = Default::default();
        self.replies.fill_with(|| None);
        self.life += 1;
    }
}
