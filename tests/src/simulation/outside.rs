//! What people do: they place orders, look at them, act at their bank, and have enough.

use super::{
    broker::{Body, Queue},
    customer::{Card, Fraud, Order, Stand},
    database::{Review, SHARDS, Told, saga_id},
    fault::Fault,
    orchestrator::{CAPTURE, NOTIFY, PAY},
    race::Racer,
    world::{BEGIN, Event, INCARNATION, World, tell},
};
use contract::OrderId;
use engine::{Cause, Sender, shard_of};
use saga::{Now, start};
use std::{rc::Rc, sync::Arc};

impl World {
    pub(super) fn place(&mut self) {
        let number = self.orders.len();
        // Whoever stalls when nothing goes wrong any more has still to wake up.
        let calm = self.healed_at.is_some_and(|at| self.now >= at);
        let mut order = Order::draw(&mut self.rng, self.now, calm, &self.offers, &self.mix);
        // A gateway may not have heard of it yet.
        let other = if order.version == 1 { 2 } else { 1 };
        if self.db.withdrawn == Some(order.version) && self.rng.chance(7_000) {
            order.version = other;
        }
        if let Some(version) = self.version {
            (order.version, order.moves) = (version, order.moves && version == 1);
        }
        if let Some(race) = self.race {
            order.calm = false; // its time may end first
            order.fraud = Fraud::Accept;
            order.card = match race.of {
                Racer::Pay if number.is_multiple_of(2) => Card::Slow,
                Racer::Pay | Racer::Capture => Card::Good,
            };
            if race.of == Racer::Capture {
                (order.version, order.moves) = (2, false);
            }
        }
        let id = saga_id(number, self.now);
        Arc::make_mut(&mut order.view).id = OrderId(id.0);
        tell!(
            self,
            Some(number),
            "placed: order@{}, {:?}, {:?}, ends {:?}, {} places",
            order.version,
            order.fraud,
            order.card,
            order.ends_at.map(|at| at - BEGIN),
            order.places()
        );
        if let Some(at) = order.ends_at {
            self.at(at, Event::End(number));
        }
        if self.rng.chance(self.pauses) {
            let after = self.rng.range(0, 30).pow(3);
            self.operators += 1;
            self.after(after, Event::Pause(number));
        }
        if self.rng.chance(self.mix.of(Fault::OperatorMigrates)) {
            let after = self.rng.range(0, 20).pow(3);
            self.after(after, Event::Migrate(number));
        }
        if self.rng.chance(self.mix.of(Fault::OperatorEnds)) {
            let after = self.rng.range(0, 30).pow(3);
            self.after(after, Event::OperatorEnds(number));
        }
        self.orders.push(order);
        let seed = self.rng.any();
        let now = Now::new(self.db_now(), seed);
        let definition = self.definition(self.orders[number].version);
        let transition = start(&definition, id, 1, now);
        let db_now = self.db_now();
        self.db.insert(transition.next.clone());
        self.judge.born(&transition.next, &definition);
        self.expect(number);
        let lease = &self.db.leases[usize::try_from(shard_of(id, SHARDS)).unwrap_or(0)];
        let owner = lease
            .reply_queue
            .filter(|_| lease.owner.is_some() && lease.until > db_now);
        let (Some(queue), Some(send)) = (owner, transition.send) else {
            return; // whoever takes the shard finds the saga
        };
        let sender = Sender {
            reply_to: queue.to_string(),
            incarnation: INCARNATION,
            now_ms: db_now,
        };
        if let Some(command) = sender.command(&definition, &transition.next, send) {
            self.publish_commands(vec![Rc::new(command)]);
        }
    }

    pub(super) fn review(&mut self, order: usize) {
        let Fraud::Review(Some(approves)) = self.orders[order].fraud else {
            return;
        };
        let row = &mut self.db.orders[order];
        if row.review == Some(Review::Open) {
            row.review = Some(if approves {
                Review::Approved
            } else {
                Review::Rejected
            });
            tell!(self, Some(order), "the reviewer decides: {approves}");
            self.tell_saga(order, Told::Decision, 1);
        }
    }

    /// Whoever is asked corrects what the step was given, and may be wrong; or has it tried again, mostly when
    /// the reason for the failure is gone; or has dealt with it himself; or gives it up, with somebody else. Now
    /// and then two act.
    pub(super) fn operator(&mut self, order: usize) {
        self.operators -= 1;
        if self.rng.chance(7_000) {
            self.orders[order].refund_refused = false;
        }
        let saga = &self.db.orders[order].saga;
        let (sold, failed) = (saga.pivot_done(), saga.failed_undo);
        let step = if sold { NOTIFY } else { PAY };
        let wrong = match sold {
            true => self.orders[order].mail_refused,
            false => self.orders[order].moved,
        };
        // What is at the provider he can give back himself.
        let is_failed = |step: &usize| failed.contains(*step as u8);
        let of_money: Vec<usize> = [PAY, CAPTURE].into_iter().filter(is_failed).collect();
        let others = failed.without(of_money.iter().map(|step| *step as u8).collect());
        let only_money = !of_money.is_empty() && others.is_empty();
        if wrong && self.rng.chance(7_000) {
            self.correct(order, step);
            if self.rng.chance(8_000) {
                let after = self.rng.range(5, 45);
                self.after(after, Event::Correct(order, step));
            }
            return self.expect(order);
        }
        match self.rng.below(4) {
            0..2 if sold => self.operator_acts(order, Told::Resolve, step),
            0 if only_money => {
                self.orders[order].give_back_by_hand();
                for step in of_money {
                    self.operator_acts(order, Told::Resolve, step);
                }
            }
            1 if !failed.is_empty() => {
                self.orders[order].given_up = true;
                self.operator_acts(order, Told::Abandon, step);
            }
            _ => self.operator_acts(order, Told::Retry, step),
        }
        self.expect(order);
    }

    fn operator_acts(&mut self, order: usize, told: Told, step: usize) {
        tell!(
            self,
            Some(order),
            "an operator acts on step {step}: {told:?}"
        );
        self.tell_saga(order, told, step);
    }

    /// An operator ends it, whatever it is at.
    pub(super) fn operator_ends(&mut self, order: usize) {
        self.coverage.fault(Fault::OperatorEnds);
        tell!(self, Some(order), "an operator ends it");
        self.tell_saga(order, Told::OperatorEnds, 0);
        self.expect(order);
    }

    pub(super) fn correct(&mut self, order: usize, step: usize) {
        let good = self.rng.chance(7_500);
        self.audit += 1;
        tell!(
            self,
            Some(order),
            "an operator corrects step {step}: {good}"
        );
        self.db.correct(order, step, self.audit, good);
        self.tell_saga(order, Told::Correct, step);
    }

    /// Stopped for a while: mostly for seconds, sometimes for longer than its whole deadline.
    pub(super) fn pause(&mut self, order: usize) {
        self.coverage.fault(Fault::OperatorPauses);
        self.audit += 1;
        self.orders[order].paused = true;
        tell!(self, Some(order), "an operator stops it");
        self.tell_saga(order, Told::Pause(self.audit), 0);
        self.expect(order);
        let after = self.rng.range(1, 100).pow(3);
        self.after(after, Event::Resume(order));
    }

    pub(super) fn resume(&mut self, order: usize) {
        self.operators -= 1;
        self.audit += 1;
        self.orders[order].paused = false;
        tell!(self, Some(order), "the operator lets it go on");
        self.tell_saga(order, Told::Resume(self.audit), 0);
        self.expect(order);
    }

    /// To the other version, whatever it has done by its own: its owner decides whether that is safe.
    pub(super) fn migrate(&mut self, order: usize) {
        self.coverage.fault(Fault::OperatorMigrates);
        let from = self.db.orders[order].saga.definition;
        let to = if from == 1 { 2 } else { 1 };
        tell!(self, Some(order), "an operator moves it to order@{to}");
        self.tell_saga(order, Told::Migrate(from, to), 0);
        self.expect(order);
    }

    /// No order is to go on by one of the versions.
    pub(super) fn withdraw(&mut self) {
        self.coverage.fault(Fault::DefinitionWithdrawn);
        let version = if self.rng.chance(5_000) { 1 } else { 2 };
        tell!(self, None, "order@{version} is withdrawn");
        self.db.withdrawn = Some(version);
        self.judge.withdrawn(version, self.now);
    }

    /// Once nothing goes wrong any more, it has to be at rest within a time that is counted from now.
    fn expect(&mut self, order: usize) {
        if self.healed {
            let from = self.healed_at.map_or(self.now, |at| at.max(self.now));
            let db_now = self.db_now();
            let definition = self.definition(self.db.orders[order].saga.definition);
            let (row, truth) = (&self.db.orders[order], &self.orders[order]);
            self.judge
                .expect(order, from, db_now, &row.saga, truth, &definition);
        }
    }

    /// By the time that the provider tells, it shows what it tells. What a request of ours did says nothing of
    /// what its owner's bank may have done since.
    pub(super) fn webhook(&mut self, order: usize, cause: Cause) {
        let asks_bank = matches!(self.orders[order].card, Card::Slow | Card::Challenge(_));
        let all_told = cause == Cause::Outside || !asks_bank;
        for payment in self.orders[order].payments.iter_mut().filter(|_| all_told) {
            payment.before = payment.stand;
            payment.told = true;
        }
        let kept = self.tell_saga(order, Told::Nudge(cause), 2);
        if !kept && cause == Cause::OwnRequest {
            self.coverage.reached("our own request is not told early");
        }
    }

    /// A signal's row, and the nudge that says that there is one.
    pub(super) fn tell_saga(&mut self, order: usize, told: Told, step: usize) -> bool {
        let kept = self.db.signal(order, told, step);
        let shard = shard_of(self.db.orders[order].saga.id, SHARDS);
        let lease = &self.db.leases[usize::try_from(shard).unwrap_or(0)];
        if let Some(queue) = lease.reply_queue {
            self.send(Queue::Replies(queue), Body::Nudge);
        }
        kept
    }

    /// The bank has decided, or the customer has.
    pub(super) fn bank(&mut self, order: usize, at: usize) {
        let good = match self.orders[order].card {
            Card::Challenge(answer) => answer,
            _ => Some(true),
        };
        let Some(payment) = self.orders[order].payments.get_mut(at) else {
            return;
        };
        let (Some(good), Stand::Challenged | Stand::Thinking) = (good, payment.stand) else {
            return;
        };
        payment.turn(if good {
            payment.paid()
        } else {
            Stand::Declined
        });
        tell!(
            self,
            Some(order),
            "payment {at} decided by its owner: {good}"
        );
        self.effect(order, 2);
        if self.strikes(Fault::WebhookLost) {
            self.orders[order].unheard = true;
            return;
        }
        let after = self.rng.range(100, 20_000);
        self.after(after, Event::Webhook(order, Cause::Outside));
        if self.rng.chance(3_000) {
            self.after(after + 500, Event::Webhook(order, Cause::Outside));
        }
    }
}
