//! One violation after the other.

use super::{ORDER, OTHER, UNDONE};

/// What is planted, the check that must see it, and what it must name.
pub(super) const PLANTED: &[(&str, &str, &str)] = &[
    (
        "stock-is-held-by-orders",
        "UPDATE stock SET taken = 2",
        "offer 00000000-0000-0000-0000-0000000000f1",
    ),
    (
        "stock-is-held-by-orders",
        "DELETE FROM stock",
        "offer 00000000-0000-0000-0000-0000000000f1",
    ),
    (
        "money-is-tickets",
        "UPDATE effects SET state = 2 WHERE step = 'pay'",
        "order 01930000-0000-7000-8000-000000000003",
    ),
    (
        "money-is-tickets",
        "UPDATE tickets SET revoked_at = now() WHERE number = 1",
        ORDER,
    ),
    (
        "money-is-tickets",
        "UPDATE effects SET output = '{\"captured_minor\": 9999}' WHERE step = 'pay'",
        ORDER,
    ),
    // As under order@2: authorised by one step, captured by another.
    (
        "money-is-tickets",
        "UPDATE effects SET output = '{\"captured_minor\": 0}' WHERE step = 'pay'",
        ORDER,
    ),
    (
        "money-is-tickets",
        "INSERT INTO effects (saga_id, claimed_at, definition, state, step, output)
         VALUES ('01930000-0000-7000-8000-000000000003', now(), 2, 2, 'capture',
                 '{\"captured_minor\": 20000}')",
        "order 01930000-0000-7000-8000-000000000003",
    ),
    (
        "tickets-are-what-was-ordered",
        "UPDATE tickets SET revoked_at = now() WHERE number = 2",
        ORDER,
    ),
    (
        "tickets-are-what-was-ordered",
        "UPDATE tickets SET revoked_at = NULL WHERE number = 4",
        "order 01930000-0000-7000-8000-000000000003",
    ),
    (
        "ticket-numbers-are-unbroken",
        "DELETE FROM tickets WHERE number = 4",
        "event 00000000-0000-0000-0000-0000000000e1",
    ),
    (
        "ticket-numbers-are-unbroken",
        "UPDATE ticket_counters SET last = 7",
        "event 00000000-0000-0000-0000-0000000000e1",
    ),
    (
        "compensated-has-no-effect",
        "UPDATE effects SET state = 2 WHERE step = 'issue'",
        "saga 01930000-0000-7000-8000-000000000003",
    ),
    (
        "compensated-has-no-effect",
        "UPDATE effects SET state = 1 WHERE step = 'pay'",
        "saga 01930000-0000-7000-8000-000000000003",
    ),
    (
        "completed-has-its-effects",
        "UPDATE effects SET state = 1 WHERE step = 'notify'",
        ORDER,
    ),
    (
        "orders-have-sagas",
        "DELETE FROM sagas WHERE state = 4",
        ORDER,
    ),
    (
        "sagas-have-orders",
        "DELETE FROM orders WHERE total_minor = 5000",
        OTHER,
    ),
    (
        "nothing-sleeps-unseen",
        "UPDATE sagas SET wake_at = NULL, flags = 8",
        OTHER,
    ),
    (
        "nothing-sleeps-unseen",
        "UPDATE sagas SET flags = 1 WHERE state = 2",
        OTHER,
    ),
    (
        "history-is-there",
        "DELETE FROM history WHERE rev = 1 AND saga_id = (SELECT id FROM sagas WHERE state = 2)",
        OTHER,
    ),
    (
        "history-is-there",
        "UPDATE history SET state = 1 WHERE state = 4",
        ORDER,
    ),
    (
        "history-is-there",
        "UPDATE sagas SET rev = 2 WHERE state = 2",
        OTHER,
    ),
    (
        "effects-have-sagas",
        "DELETE FROM sagas WHERE state = 2",
        OTHER,
    ),
    (
        "quotas-are-taken-by-orders",
        "UPDATE quotas SET taken = 4",
        "quota ",
    ),
    ("quotas-are-taken-by-orders", "DELETE FROM quotas", "quota "),
    (
        "quotas-are-taken-in-force",
        "UPDATE quota_takes SET returned = false",
        "order 01930000-0000-7000-8000-000000000003",
    ),
    (
        "quotas-are-taken-in-force",
        "DELETE FROM quota_takes WHERE quantities = ARRAY[2]",
        ORDER,
    ),
    (
        "quotas-are-taken-in-force",
        "DELETE FROM effects WHERE state = 1",
        OTHER,
    ),
    (
        "open-reviews-wait",
        "UPDATE effects SET state = 4 WHERE state = 1",
        OTHER,
    ),
    (
        "totals-are-sums",
        "UPDATE order_items SET quantity = 3 WHERE quantity = 2",
        ORDER,
    ),
    (
        "references-lead-somewhere",
        "UPDATE order_items SET event_id = offer_id WHERE quantity = 2",
        ORDER,
    ),
    (
        "references-lead-somewhere",
        "DELETE FROM orders WHERE total_minor = 10000",
        ORDER,
    ),
    (
        "references-lead-somewhere",
        "INSERT INTO stock VALUES ('00000000-0000-0000-0000-0000000000f2', 1)",
        "0000000000f2",
    ),
    (
        "references-lead-somewhere",
        "UPDATE tickets SET line = 1 WHERE number = 1",
        ORDER,
    ),
    (
        "references-lead-somewhere",
        "UPDATE idempotency_keys SET order_id = gen_random_uuid()",
        "order ",
    ),
    (
        "references-lead-somewhere",
        "INSERT INTO signals VALUES ('01930000-0000-7000-8000-00000000000a', '01930000-0000-7000-8000-000000000002', 7, 1, 'fraud-check', '{}')",
        "signal 01930000-0000-7000-8000-00000000000a",
    ),
    (
        "references-lead-somewhere",
        "UPDATE sagas SET definition = 99 WHERE state = 2",
        OTHER,
    ),
    (
        "references-lead-somewhere",
        "DELETE FROM fraud_assessments WHERE order_id IN (SELECT order_id FROM reviews)",
        OTHER,
    ),
    (
        "references-lead-somewhere",
        "INSERT INTO fraud_assessments VALUES ('01930000-0000-7000-8000-00000000000b', now(), 0, 'accept', '[]')",
        "order 01930000-0000-7000-8000-00000000000b",
    ),
    // The fraud check's undo is gone, the payment's is refused, the tickets' never came.
    (
        "what-was-begun-is-undone",
        "UPDATE history SET step = 0 WHERE rev = 12",
        UNDONE,
    ),
    (
        "what-was-begun-is-undone",
        "UPDATE history SET outcome = 2 WHERE rev = 11",
        UNDONE,
    ),
    (
        "what-was-begun-is-undone",
        "DELETE FROM history WHERE rev IN (9, 10)",
        UNDONE,
    ),
    // Begun once more after its undo.
    (
        "what-was-begun-is-undone",
        "UPDATE history SET next_step = 3, next_kind = 1 WHERE rev = 11",
        UNDONE,
    ),
    (
        "undos-run-in-reverse",
        "UPDATE history SET next_step = 3 - next_step WHERE next_kind = 2 AND next_step IN (1, 2)",
        UNDONE,
    ),
    (
        "undos-run-in-reverse",
        "UPDATE history SET next_step = 4 WHERE rev = 12",
        UNDONE,
    ),
    (
        "unknown-is-undone",
        "UPDATE history SET outcome = 3 WHERE rev = 10",
        UNDONE,
    ),
    (
        "unknown-is-undone",
        "UPDATE history SET outcome = 4 WHERE rev = 5; DELETE FROM history WHERE rev = 11",
        UNDONE,
    ),
    (
        "failed-undos-wait-for-a-person",
        "UPDATE sagas SET state = 3, failed_undo = 1, maybe_in_force = 2, flags = 4, flagged_at = now()
         WHERE state = 2",
        OTHER,
    ),
    (
        "failed-undos-wait-for-a-person",
        "UPDATE sagas SET failed_undo = 4 WHERE state = 5",
        UNDONE,
    ),
    (
        "failed-undos-wait-for-a-person",
        "UPDATE sagas SET state = 3, failed_undo = 1, maybe_in_force = 1, flagged_at = now()
         WHERE state = 2",
        OTHER,
    ),
    (
        "failed-undos-wait-for-a-person",
        "UPDATE sagas SET state = 3, failed_undo = 1, maybe_in_force = 1, flags = 4 WHERE state = 2",
        OTHER,
    ),
    (
        "failed-undos-wait-for-a-person",
        "UPDATE sagas SET state = 3, failed_undo = 2, maybe_in_force = 3, flags = 4, flagged_at = now()
         WHERE state = 2",
        OTHER,
    ),
    // A reservation has 30 s and is sent again after 5, 15 and, at the saga's deadline, once more.
    (
        "resends-are-bounded",
        "UPDATE sagas SET step = 0, kind = 1, outstanding = true, resends = 4 WHERE state = 2",
        OTHER,
    ),
    (
        "resends-are-bounded",
        "INSERT INTO history (saga_id, at, rev, seq, input, step, kind, attempt, state, next_seq,
                              next_step, next_kind, next_attempt)
         SELECT saga_id, at, 100 + n, seq, input, step, kind, attempt, state, next_seq, next_step,
                next_kind, next_attempt FROM history, generate_series(1, 2) AS n WHERE rev = 7",
        UNDONE,
    ),
    (
        "nothing-is-overdue",
        "UPDATE sagas SET wake_at = now() - interval '11 minutes' WHERE NOT ended;
         UPDATE shards SET owner = 'a', lease_until = now() + interval '5 seconds', reply_queue = 'a'
         WHERE shard = 0",
        OTHER,
    ),
    (
        "audit-chain",
        "INSERT INTO audit VALUES (1, now(), 'eve', 'x', NULL, 'x', '{}', '', '')",
        "audit 1",
    ),
];
