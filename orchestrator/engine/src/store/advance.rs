//! The one statement that moves sagas: the conditional update of their rows and their history, in a
//! single round trip that is atomic by itself. A row that has another revision than expected stays
//! as it is, and so does its history.

use crate::store::row::{kind_number, outcome_number};
use diesel::sql_types::{
    Array, BigInt, Bool, Integer, Jsonb, Nullable, SmallInt, Text, Uuid as SqlUuid,
};
use saga::Write;
use serde_json::Value;
use uuid::Uuid;

database::statement! {
    /// Moves sagas; returns those that had the expected revision, and the database's time.
    pub(crate) struct Advance {
        ids: Vec<Uuid> => Array<SqlUuid>,
        expected: Vec<i32> => Array<Integer>,
        rev: Vec<i32> => Array<Integer>,
        seq: Vec<i32> => Array<Integer>,
        done: Vec<i32> => Array<Integer>,
        maybe: Vec<i32> => Array<Integer>,
        failed: Vec<i32> => Array<Integer>,
        state: Vec<i16> => Array<SmallInt>,
        definition: Vec<i16> => Array<SmallInt>,
        pivot: Vec<i32> => Array<Integer>,
        flags: Vec<i16> => Array<SmallInt>,
        step: Vec<Option<i16>> => Array<Nullable<SmallInt>>,
        kind: Vec<Option<i16>> => Array<Nullable<SmallInt>>,
        attempt: Vec<i16> => Array<SmallInt>,
        resends: Vec<i16> => Array<SmallInt>,
        outstanding: Vec<bool> => Array<Bool>,
        ended: Vec<bool> => Array<Bool>,
        wake: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        budget: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        deadline: Vec<i64> => Array<BigInt>,
        waiting: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        flagged: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        paused: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        pause_audit: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        reason: Vec<Option<String>> => Array<Nullable<Text>>,
        approver: Vec<Option<String>> => Array<Nullable<Text>>,
        h_id: Vec<Uuid> => Array<SqlUuid>,
        h_rev: Vec<i32> => Array<Integer>,
        h_seq: Vec<i32> => Array<Integer>,
        h_input: Vec<i16> => Array<SmallInt>,
        h_step: Vec<Option<i16>> => Array<Nullable<SmallInt>>,
        h_kind: Vec<Option<i16>> => Array<Nullable<SmallInt>>,
        h_attempt: Vec<Option<i16>> => Array<Nullable<SmallInt>>,
        h_outcome: Vec<Option<i16>> => Array<Nullable<SmallInt>>,
        h_state: Vec<i16> => Array<SmallInt>,
        h_next_seq: Vec<Option<i32>> => Array<Nullable<Integer>>,
        h_next_step: Vec<Option<i16>> => Array<Nullable<SmallInt>>,
        h_next_kind: Vec<Option<i16>> => Array<Nullable<SmallInt>>,
        h_next_attempt: Vec<Option<i16>> => Array<Nullable<SmallInt>>,
        h_code: Vec<Option<String>> => Array<Nullable<Text>>,
        h_message: Vec<Option<Uuid>> => Array<Nullable<SqlUuid>>,
        h_detail: Vec<Option<Value>> => Array<Nullable<Jsonb>>,
    } -> (SqlUuid, BigInt) =
    "WITH moved AS (
       UPDATE sagas s SET
         rev = n.rev, seq = n.seq, done = n.done, maybe_in_force = n.maybe,
         failed_undo = n.failed, state = n.state, definition = n.definition, pivot = n.pivot,
         flags = n.flags, step = n.step, kind = n.kind, attempt = n.attempt, resends = n.resends, outstanding = n.outstanding, ended = n.ended,
         wake_at = to_timestamp(n.wake / 1000.0), budget_until = to_timestamp(n.budget / 1000.0),
         deadline = to_timestamp(n.deadline / 1000.0),
         waiting_since = to_timestamp(n.waiting / 1000.0),
         flagged_at = to_timestamp(n.flagged / 1000.0),
         paused_at = to_timestamp(n.paused / 1000.0), pause_audit = n.pause_audit, reason = n.reason, approver = n.approver,
         updated_at = clock_timestamp()
       FROM unnest({ids}, {expected}, {rev}, {seq}, {done}, {maybe}, {failed}, {state},
                   {definition}, {pivot}, {flags}, {step}, {kind}, {attempt}, {resends}, {outstanding}, {ended}, {wake}, {budget},
                   {deadline}, {waiting}, {flagged}, {paused}, {pause_audit}, {reason}, {approver})
         AS n(id, expected, rev, seq, done, maybe, failed, state, definition, pivot, flags, step,
              kind, attempt, resends, outstanding, ended, wake, budget, deadline, waiting, flagged, paused,
              pause_audit, reason, approver)
       WHERE s.id = n.id AND s.rev = n.expected
       RETURNING s.id
     ), noted AS (
       INSERT INTO history (saga_id, at, message_id, rev, seq, input, step, kind, attempt, outcome,
                            state, next_seq, next_step, next_kind, next_attempt, code, detail)
       SELECT h.id, clock_timestamp(), h.message, h.rev, h.seq, h.input, h.step, h.kind, h.attempt,
              h.outcome, h.state, h.next_seq, h.next_step, h.next_kind, h.next_attempt, h.code, h.detail
       FROM unnest({h_id}, {h_rev}, {h_seq}, {h_input}, {h_step}, {h_kind}, {h_attempt},
                   {h_outcome}, {h_state}, {h_next_seq}, {h_next_step}, {h_next_kind}, {h_next_attempt},
                   {h_code}, {h_message}, {h_detail})
         AS h(id, rev, seq, input, step, kind, attempt, outcome, state, next_seq, next_step, next_kind,
              next_attempt, code, message, detail)
       WHERE h.id = ANY (ARRAY(SELECT moved.id FROM moved))
     )
     SELECT id, (extract(epoch FROM clock_timestamp()) * 1000)::bigint FROM moved"
}

/// What the history says of an input beside what was decided.
#[derive(Clone, Debug, Default)]
pub(crate) struct Note {
    /// The message it came with.
    pub(crate) message: Option<Uuid>,
    /// The error's text, the output; no NUL in it.
    pub(crate) detail: Option<Value>,
}

impl Advance {
    /// The statement for some writes; `notes` has one entry for each input of the batch.
    pub(crate) fn of(writes: &[&Write], notes: &[Note]) -> Self {
        let mut order: Vec<&Write> = writes.to_vec();
        order.sort_by_key(|write| write.next.id); // rows are locked in the order of their keys
        let history = || {
            order
                .iter()
                .flat_map(|write| write.applied.iter().map(|one| (write.next.id.0, one)))
        };
        let sagas = |field: fn(&saga::Instance) -> i32| -> Vec<i32> {
            order.iter().map(|write| field(&write.next)).collect()
        };
        let cursors = || order.iter().map(|write| write.next.cursor);
        let times = |field: fn(&saga::Instance) -> Option<i64>| -> Vec<Option<i64>> {
            order.iter().map(|write| field(&write.next)).collect()
        };
        Self {
            ids: order.iter().map(|write| write.next.id.0).collect(),
            expected: order.iter().map(|write| write.expected_rev).collect(),
            rev: sagas(|saga| saga.rev),
            seq: sagas(|saga| saga.seq),
            done: sagas(|saga| saga.done.bits()),
            maybe: sagas(|saga| saga.maybe_in_force.bits()),
            failed: sagas(|saga| saga.failed_undo.bits()),
            state: order.iter().map(|write| write.next.state as i16).collect(),
            definition: order.iter().map(|write| write.next.definition).collect(),
            pivot: sagas(|saga| saga.pivot.bits()),
            flags: order.iter().map(|write| write.next.flags.bits()).collect(),
            step: cursors()
                .map(|cursor| cursor.map(|c| i16::from(c.step)))
                .collect(),
            kind: cursors()
                .map(|cursor| cursor.map(|c| kind_number(c.kind)))
                .collect(),
            attempt: cursors()
                .map(|cursor| cursor.map_or(0, |c| c.attempt))
                .collect(),
            resends: order.iter().map(|write| write.next.resends).collect(),
            outstanding: cursors()
                .map(|cursor| cursor.is_some_and(|c| c.outstanding))
                .collect(),
            ended: order
                .iter()
                .map(|write| write.next.state.is_end())
                .collect(),
            wake: times(|saga| saga.wake_at),
            budget: times(|saga| saga.budget_until),
            deadline: order.iter().map(|write| write.next.deadline).collect(),
            waiting: times(|saga| saga.waiting_since),
            flagged: times(|saga| saga.flagged_at),
            paused: times(|saga| saga.paused_at),
            pause_audit: times(|saga| saga.pause_audit),
            reason: order
                .iter()
                .map(|write| write.next.reason.clone())
                .collect(),
            approver: order
                .iter()
                .map(|write| write.next.approver.clone())
                .collect(),
            h_id: history().map(|(id, _)| id).collect(),
            h_rev: history().map(|(_, one)| one.log.rev).collect(),
            h_seq: history().map(|(_, one)| one.log.seq).collect(),
            h_input: history().map(|(_, one)| one.log.input as i16).collect(),
            h_step: history()
                .map(|(_, one)| one.log.cursor.map(|c| i16::from(c.step)))
                .collect(),
            h_kind: history()
                .map(|(_, one)| one.log.cursor.map(|c| kind_number(c.kind)))
                .collect(),
            h_attempt: history()
                .map(|(_, one)| one.log.cursor.map(|c| c.attempt))
                .collect(),
            h_outcome: history()
                .map(|(_, one)| one.log.outcome.map(outcome_number))
                .collect(),
            h_state: history().map(|(_, one)| one.log.state as i16).collect(),
            h_next_seq: history()
                .map(|(_, one)| one.log.send.map(|s| s.seq))
                .collect(),
            h_next_step: history()
                .map(|(_, one)| one.log.send.map(|s| i16::from(s.step)))
                .collect(),
            h_next_kind: history()
                .map(|(_, one)| one.log.send.map(|s| kind_number(s.kind)))
                .collect(),
            h_next_attempt: history()
                .map(|(_, one)| one.log.send.map(|s| s.attempt))
                .collect(),
            h_code: history().map(|(_, one)| one.log.code.clone()).collect(),
            h_message: history()
                .map(|(_, one)| notes.get(one.input).and_then(|n| n.message))
                .collect(),
            h_detail: history()
                .map(|(_, one)| notes.get(one.input).and_then(|n| n.detail.clone()))
                .collect(),
        }
    }
}
