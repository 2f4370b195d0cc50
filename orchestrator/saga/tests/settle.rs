//! A batch comes to the same as its inputs one after the other.

use contract::{Outcome, SagaId};
use proptest::prelude::*;
use saga::{
    Action, Definition, Input, Instance, Now, Plan, ReplyInput, SignalKind, order, settle, start,
};
use std::collections::HashMap;
use uuid::Uuid;

type Sagas = HashMap<SagaId, Instance>;

fn inputs() -> impl Strategy<Value = Input> {
    let outcome = prop_oneof![
        6 => Just(Outcome::Done),
        1 => Just(Outcome::Rejected),
        1 => Just(Outcome::Retry),
        1 => Just(Outcome::Unknown),
        1 => Just(Outcome::Waiting),
    ];
    prop_oneof![
        10 => (1_i32..12, outcome).prop_map(|(seq, outcome)| Input::Reply(ReplyInput {
            seq,
            outcome,
            code: None,
            retry_after_ms: None,
        })),
        2 => Just(Input::Wake),
        1 => (0_u8..6).prop_map(|step| Input::Signal { step, kind: SignalKind::Decision }),
        1 => (0_u8..6).prop_map(|step| Input::Signal { step, kind: SignalKind::Nudge }),
        1 => (1_i64..4).prop_map(|audit| Input::Act(Action::Pause { audit })),
        1 => (1_i64..6).prop_map(|audit| Input::Act(Action::Resume { audit })),
        1 => Just(Input::End { reason: "customer_cancelled".into() }),
    ]
}

fn settled(definition: &Definition, sagas: &Sagas, inputs: &[(SagaId, Input)], now: Now) -> Plan {
    let lookup = |id| Some((definition, sagas.get(&id)?));
    settle(lookup, |_, _| false, inputs, now)
}

proptest! {
    #[test]
    fn a_batch_is_its_inputs_one_after_the_other(
        batch in prop::collection::vec((0_u128..4, inputs()), 0..60),
        seed in any::<u64>(),
        ms in prop_oneof![Just(1_000), Just(7_000), Just(700_000)],
    ) {
        let definition = order::v1();
        let (born, now) = (Now::new(0, seed), Now::new(ms, seed));
        // Three exist, the fourth does not.
        let before: Sagas = (0..3)
            .map(|n| SagaId(Uuid::from_u128(n)))
            .map(|id| (id, start(&definition, id, 1, born).next))
            .collect();
        let batch: Vec<(SagaId, Input)> = batch
            .into_iter()
            .map(|(n, input)| (SagaId(Uuid::from_u128(n)), input))
            .collect();
        let whole = settled(&definition, &before, &batch, now);

        let (mut after, mut logs) = (before.clone(), HashMap::<SagaId, Vec<_>>::new());
        for (index, one) in batch.iter().enumerate() {
            let plan = settled(&definition, &after, std::slice::from_ref(one), now);
            prop_assert_eq!(plan.settlements[0], whole.settlements[index]);
            for write in plan.writes {
                prop_assert_eq!(write.expected_rev, after[&one.0].rev);
                logs.entry(one.0).or_default().push(write.applied[0].log.clone());
                after.insert(one.0, write.next);
            }
        }
        prop_assert_eq!(whole.settlements.len(), batch.len());
        prop_assert_eq!(whole.writes.len(), logs.len(), "one write for each saga that changes");
        for write in &whole.writes {
            let id = write.next.id;
            prop_assert_eq!(write.expected_rev, before[&id].rev);
            prop_assert_eq!(&write.next, &after[&id]);
            let written: Vec<_> = write.applied.iter().map(|one| one.log.clone()).collect();
            prop_assert_eq!(&written, &logs[&id]);
            // What is sent is the command that the saga is at, and only if it was decided or due here.
            let out = write.next.cursor.is_some_and(|cursor| cursor.outstanding);
            let sent = written.iter().rev().find_map(|log| log.send).filter(|_| out);
            prop_assert_eq!(write.send, sent);
            prop_assert!(sent.is_none_or(|send| send.seq == write.next.seq));
            let (old, new) = (before[&id].status(&definition), write.next.status(&definition));
            prop_assert_eq!(write.status, Some(new).filter(|new| *new != old));
        }
    }
}
