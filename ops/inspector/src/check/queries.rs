//! The queries. Numbers are those of the columns' comments in the migrations: an effect is 1 claimed,
//! 2 done, 3 rejected, 4 undone; a saga 3 compensating, 4 completed, 5 compensated, 6 abandoned; a
//! command 1 do, 2 undo, 3 probe; an outcome 1 done, 2 rejected, 3 retry, 4 unknown.
//!
//! What a saga's end must follow from is asked of compensated sagas only: they are few, and the
//! history of the others is not read for it.

use super::Query;

/// A person said that a step's effect was dealt with elsewhere.
macro_rules! resolved {
    ($saga:literal, $step:literal) => {
        concat!(
            "EXISTS (SELECT FROM history AS told WHERE told.saga_id = ",
            $saga,
            " AND told.input = 6 AND told.code = 'resolve' AND told.detail->>'step' = ",
            $step,
            ")"
        )
    };
}

/// All of them.
pub(super) const QUERIES: &[Query] = &[
    Query {
        name: "stock-is-held-by-orders",
        promise: "no-oversell",
        says: "What is taken of an offer is what the ledger's reservations in force hold.",
        sql: "WITH held AS (
                SELECT t.key::uuid AS offer_id, sum(t.value::bigint) AS places
                FROM effects e, jsonb_each_text(e.output->'taken') AS t
                WHERE e.step = 'reserve' AND e.state = 2 GROUP BY 1)
              SELECT 'offer ' || offer_id AS subject,
                     format('taken %s, held by orders %s', s.taken, coalesce(h.places, 0)) AS detail
              FROM stock s FULL JOIN held h USING (offer_id)
              WHERE s.taken IS DISTINCT FROM coalesce(h.places, 0)",
    },
    Query {
        name: "money-is-tickets",
        promise: "money-iff-ticket",
        says: "Of an ended order the captured amount is the price of its valid tickets: all of it \
               when completed, nothing when compensated, unless a person said that the payment was dealt \
               with elsewhere.",
        sql: concat!(
            "SELECT 'order ' || s.id AS subject,
                     format('captured %s, valid tickets %s, total %s', paid.minor, valid.minor,
                            o.total_minor) AS detail
              FROM sagas s JOIN orders o ON o.id = s.id
              CROSS JOIN LATERAL (
                SELECT coalesce(max((e.output->>'captured_minor')::bigint), 0) AS minor
                FROM effects e WHERE e.saga_id = s.id AND e.step IN ('pay', 'capture')
                  AND e.state = 2) AS paid
              CROSS JOIN LATERAL (
                SELECT coalesce(sum(i.unit_amount_minor), 0) AS minor
                FROM tickets t JOIN order_items i ON i.order_id = t.order_id AND i.line = t.line
                WHERE t.order_id = s.id AND t.revoked_at IS NULL AND NOT t.companion) AS valid
              WHERE s.state IN (4, 5)
                AND (paid.minor <> valid.minor
                     OR paid.minor <> CASE s.state WHEN 4 THEN o.total_minor ELSE 0 END)
                AND NOT (s.state = 5 AND valid.minor = 0 AND ",
            resolved!("s.id", "ANY (ARRAY['pay', 'capture'])"),
            ")"
        ),
    },
    Query {
        name: "tickets-are-what-was-ordered",
        promise: "money-iff-ticket",
        says: "An order whose tickets are issued has one valid ticket per place; any other has none.",
        sql: "SELECT 'order ' || i.order_id AS subject,
                     format('line %s: %s ordered, %s valid tickets', i.line, i.quantity, v.valid)
                       AS detail
              FROM order_items i
              LEFT JOIN effects e ON e.saga_id = i.order_id AND e.step = 'issue'
              CROSS JOIN LATERAL (
                SELECT count(*) AS valid FROM tickets t
                WHERE t.order_id = i.order_id AND t.line = i.line AND t.revoked_at IS NULL
                  AND NOT t.companion) AS v
              WHERE v.valid <> CASE e.state WHEN 2 THEN i.quantity ELSE 0 END",
    },
    Query {
        name: "ticket-numbers-are-unbroken",
        promise: "effects-once",
        says: "The tickets of an event are numbered from 1 to its counter without a gap.",
        sql: "SELECT 'event ' || event_id AS subject,
                     format('%s tickets, numbers %s to %s, counter %s', t.tickets, t.first, t.last,
                            c.last) AS detail
              FROM (SELECT event_id, count(*) AS tickets, min(number) AS first,
                           max(number) AS last FROM tickets GROUP BY event_id) AS t
              FULL JOIN ticket_counters c USING (event_id)
              WHERE t.first IS DISTINCT FROM 1 OR t.last IS DISTINCT FROM t.tickets
                 OR t.last IS DISTINCT FROM c.last",
    },
    Query {
        name: "compensated-has-no-effect",
        promise: "honest-end",
        says: "Of a compensated saga no effect is in force or may come into force, but what a person dealt \
               with elsewhere.",
        sql: concat!(
            "SELECT 'saga ' || s.id AS subject, format('%s is %s', e.step,
                     CASE e.state WHEN 1 THEN 'claimed' ELSE 'done' END) AS detail
              FROM sagas s JOIN effects e ON e.saga_id = s.id
              WHERE s.state = 5 AND e.state IN (1, 2) AND NOT ",
            resolved!("s.id", "e.step")
        ),
    },
    Query {
        name: "completed-has-its-effects",
        promise: "honest-end",
        says: "Each step that a completed saga counts as done is done in the ledger, or by a person.",
        sql: concat!(
            "SELECT 'saga ' || s.id AS subject, format('%s is not done', st.name) AS detail
              FROM sagas s JOIN steps st ON s.done & (1 << st.number) <> 0
              LEFT JOIN effects e ON e.saga_id = s.id AND e.step = st.name
              WHERE s.state = 4 AND e.state IS DISTINCT FROM 2 AND NOT ",
            resolved!("s.id", "st.name")
        ),
    },
    Query {
        name: "orders-have-sagas",
        promise: "nothing-accepted-is-lost",
        says: "Every order has a saga.",
        sql: "SELECT 'order ' || o.id AS subject, 'it has no saga' AS detail
              FROM orders o WHERE NOT EXISTS (SELECT FROM sagas s WHERE s.id = o.id)",
    },
    Query {
        name: "sagas-have-orders",
        promise: "nothing-accepted-is-lost",
        says: "Every saga of the definition `order` has an order.",
        sql: "SELECT 'saga ' || s.id AS subject, 'it has no order' AS detail
              FROM sagas s JOIN definitions d ON d.id = s.definition AND d.name = 'order'
              WHERE NOT EXISTS (SELECT FROM orders o WHERE o.id = s.id)",
    },
    Query {
        name: "nothing-sleeps-unseen",
        promise: "nothing-accepted-is-lost",
        says: "A live saga has a time to be looked at, or a person has it (held, attention, paused since).",
        sql: "SELECT 'saga ' || id AS subject, format('state %s without wake_at, flags %s, paused since %s', state, flags, paused_at)
                       AS detail
              FROM sagas WHERE NOT ended AND wake_at IS NULL AND flags & 7 = 0
                 OR (flags & 1 <> 0) <> (paused_at IS NOT NULL)",
    },
    Query {
        name: "history-is-there",
        promise: "nothing-accepted-is-lost",
        says: "Every saga's history has its beginning, nothing beyond its revision, and its end.",
        sql: "SELECT 'saga ' || s.id AS subject,
                     format('revision %s, history %s to %s, its last state %s', s.rev, h.first,
                            h.last, h.state) AS detail
              FROM sagas s CROSS JOIN LATERAL (
                SELECT min(rev) AS first, max(rev) AS last,
                       (array_agg(state ORDER BY rev DESC))[1] AS state
                FROM history WHERE saga_id = s.id) AS h
              WHERE h.first IS DISTINCT FROM 1 OR h.last > s.rev
                 OR (s.ended AND h.state IS DISTINCT FROM s.state)",
    },
    Query {
        name: "effects-have-sagas",
        promise: "effects-once",
        says: "No effect is without a saga.",
        sql: "SELECT 'saga ' || e.saga_id AS subject, format('%s without saga', e.step) AS detail
              FROM effects e WHERE NOT EXISTS (SELECT FROM sagas s WHERE s.id = e.saga_id)",
    },
    Query {
        name: "quotas-are-taken-by-orders",
        promise: "effects-once",
        says: "A counter of tickets is the sum of what orders took from it and did not give back.",
        sql: "WITH held AS (
                SELECT t.subject, t.event_id, sum(t.quantity) AS tickets
                FROM quota_takes q, unnest(q.subjects, q.events, q.quantities)
                       AS t(subject, event_id, quantity)
                WHERE NOT q.returned GROUP BY 1, 2)
              SELECT format('quota %s %s', encode(subject, 'hex'), event_id) AS subject,
                     format('taken %s, by orders %s', q.taken, coalesce(h.tickets, 0)) AS detail
              FROM quotas q FULL JOIN held h USING (subject, event_id)
              WHERE q.taken IS DISTINCT FROM coalesce(h.tickets, 0)",
    },
    Query {
        name: "quotas-are-taken-in-force",
        promise: "effects-once",
        says: "What an order took is given back exactly when its effect is not in force.",
        sql: "SELECT 'order ' || coalesce(q.order_id, e.saga_id) AS subject,
                     format('%s: ledger state %s, given back %s', coalesce(q.step, e.step), e.state,
                            q.returned) AS detail
              FROM quota_takes q FULL JOIN (
                SELECT * FROM effects WHERE step IN ('fraud-check', 'pay')) AS e
                ON e.saga_id = q.order_id AND e.step = q.step
              WHERE (NOT q.returned AND e.state IS DISTINCT FROM 1 AND e.state IS DISTINCT FROM 2)
                 OR (e.state = 2 AND e.step = 'fraud-check' AND q.returned IS DISTINCT FROM false)",
    },
    Query {
        name: "open-reviews-wait",
        promise: "nothing-accepted-is-lost",
        says: "An order is on the reviewers' list only while its fraud check waits.",
        sql: "SELECT 'order ' || r.order_id AS subject,
                     format('open review, ledger state %s', e.state) AS detail
              FROM reviews r LEFT JOIN effects e
                ON e.saga_id = r.order_id AND e.step = 'fraud-check'
              WHERE r.state = 'open' AND e.state IS DISTINCT FROM 1",
    },
    Query {
        name: "totals-are-sums",
        promise: "money-iff-ticket",
        says: "An order's total is the sum of its lines.",
        sql: "SELECT 'order ' || o.id AS subject,
                     format('total %s, lines %s', o.total_minor, i.minor) AS detail
              FROM orders o CROSS JOIN LATERAL (
                SELECT coalesce(sum(unit_amount_minor * quantity), 0) AS minor
                FROM order_items WHERE order_id = o.id) AS i
              WHERE o.total_minor <> i.minor",
    },
    Query {
        name: "references-lead-somewhere",
        promise: "nothing-accepted-is-lost",
        says: "Rows of the hot tables, which have no foreign keys, name rows that exist.",
        sql: "SELECT 'order ' || i.order_id AS subject,
                     format('line %s names no offer of its event', i.line) AS detail
              FROM order_items i WHERE NOT EXISTS (
                SELECT FROM offers f WHERE f.id = i.offer_id AND f.event_id = i.event_id)
              UNION ALL
              SELECT 'order ' || i.order_id, format('line %s without order', i.line)
              FROM order_items i WHERE NOT EXISTS (SELECT FROM orders o WHERE o.id = i.order_id)
              UNION ALL
              SELECT 'offer ' || s.offer_id, 'stock without offer'
              FROM stock s WHERE NOT EXISTS (SELECT FROM offers f WHERE f.id = s.offer_id)
              UNION ALL
              SELECT 'order ' || t.order_id, format('ticket %s without line', t.id)
              FROM tickets t WHERE NOT EXISTS (
                SELECT FROM order_items i WHERE i.order_id = t.order_id AND i.line = t.line
                  AND i.offer_id = t.offer_id AND i.event_id = t.event_id)
              UNION ALL
              SELECT 'order ' || k.order_id, 'idempotency key without order'
              FROM idempotency_keys k WHERE NOT EXISTS (SELECT FROM orders o WHERE o.id = k.order_id)
              UNION ALL
              SELECT 'signal ' || g.id, format('saga %s does not exist or is of another shard', g.saga_id)
              FROM signals g WHERE NOT EXISTS (
                SELECT FROM sagas s WHERE s.id = g.saga_id AND s.shard = g.shard)
              UNION ALL
              SELECT 'saga ' || s.id, format('definition %s does not exist', s.definition)
              FROM sagas s WHERE NOT EXISTS (SELECT FROM definitions d WHERE d.id = s.definition)
              UNION ALL
              SELECT 'order ' || a.order_id, 'fraud assessment without order'
              FROM fraud_assessments a WHERE NOT EXISTS (SELECT FROM orders o WHERE o.id = a.order_id)
              UNION ALL
              SELECT 'order ' || r.order_id, 'review without assessment'
              FROM reviews r WHERE NOT EXISTS (
                SELECT FROM fraud_assessments a WHERE a.order_id = r.order_id)",
    },
    Query {
        name: "what-was-begun-is-undone",
        promise: "every-end-undoes",
        says: "Each step that a compensated saga began was undone or refused after its last `do`, or a \
               person said that it was dealt with elsewhere.",
        sql: concat!(
            "WITH begun AS (
                SELECT h.saga_id, h.next_step AS step, max(h.rev) AS rev
                FROM sagas s JOIN history h ON h.saga_id = s.id
                WHERE s.state = 5 AND h.next_kind = 1 GROUP BY 1, 2)
              SELECT 'saga ' || b.saga_id AS subject,
                     format('%s, begun in revision %s, was neither undone nor refused',
                            coalesce(st.name, 'step ' || b.step), b.rev) AS detail
              FROM begun b LEFT JOIN steps st ON st.number = b.step
              WHERE NOT EXISTS (
                SELECT FROM history h
                WHERE h.saga_id = b.saga_id AND h.step = b.step AND h.rev > b.rev
                  AND (h.kind = 2 AND h.outcome = 1 OR h.kind IN (1, 3) AND h.outcome = 2))
                AND NOT ",
            resolved!("b.saga_id", "st.name")
        ),
    },
    Query {
        name: "undos-run-in-reverse",
        promise: "every-end-undoes",
        says: "The undos of a saga that ended without its pivot began in the reverse order of its steps.",
        // Only the first undo of each: what failed may be tried again after the others.
        sql: "WITH place AS (
                SELECT d.id AS definition, (step->>'number')::smallint AS step, place
                FROM definitions d, jsonb_array_elements(d.body->'steps') WITH ORDINALITY
                       AS t(step, place)),
              undos AS (
                SELECT s.id, s.definition, h.next_step AS step, min(h.rev) AS rev
                FROM sagas s JOIN history h ON h.saga_id = s.id
                WHERE s.state IN (5, 6) AND h.next_kind = 2 GROUP BY 1, 2, 3),
              placed AS (
                SELECT u.id, u.step, u.rev, p.place,
                       lag(p.place) OVER (PARTITION BY u.id ORDER BY u.rev) AS before
                FROM undos u JOIN place p USING (definition, step))
              SELECT 'saga ' || p.id AS subject,
                     format('%s was undone in revision %s, after an earlier step',
                            coalesce(st.name, 'step ' || p.step), p.rev) AS detail
              FROM placed p LEFT JOIN steps st ON st.number = p.step
              WHERE p.place > p.before",
    },
    Query {
        name: "unknown-is-undone",
        promise: "unknown-is-a-result",
        says: "A step of a compensated saga whose last answer left open what became of it was undone, or a \
               person said that it was dealt with elsewhere.",
        sql: concat!(
            "WITH answers AS (
                SELECT DISTINCT ON (h.saga_id, h.step) h.saga_id, h.step, h.rev, h.outcome
                FROM sagas s JOIN history h ON h.saga_id = s.id
                WHERE s.state = 5 AND h.kind IN (1, 3) AND h.outcome IS NOT NULL
                ORDER BY h.saga_id, h.step, h.rev DESC)
              SELECT 'saga ' || a.saga_id AS subject,
                     format('%s, last heard of in revision %s (outcome %s), was not undone',
                            coalesce(st.name, 'step ' || a.step), a.rev, a.outcome) AS detail
              FROM answers a LEFT JOIN steps st ON st.number = a.step
              WHERE a.outcome NOT IN (1, 2) AND NOT EXISTS (
                SELECT FROM history h
                WHERE h.saga_id = a.saga_id AND h.step = a.step AND h.rev > a.rev
                  AND h.kind = 2 AND h.outcome = 1)
                AND NOT ",
            resolved!("a.saga_id", "st.name")
        ),
    },
    Query {
        name: "failed-undos-wait-for-a-person",
        promise: "failed-undo-is-work",
        says: "A failed undo is still counted as in force and marked for a person, since when, and \
               the other undos are not left lying.",
        sql: "SELECT 'saga ' || id AS subject,
                     format('failed undos %s, maybe in force %s, flags %s, since %s, at step %s',
                            failed_undo, maybe_in_force, flags, flagged_at, step) AS detail
              FROM sagas
              WHERE failed_undo & ~maybe_in_force <> 0
                 OR NOT ended AND failed_undo <> 0 AND (flags & 4 = 0 OR flagged_at IS NULL)
                 OR state = 3 AND step IS NULL AND maybe_in_force & ~failed_undo <> 0",
    },
    Query {
        name: "resends-are-bounded",
        promise: "bounded-work",
        says: "No command was sent again more often than fits into its step's time, its pauses doubling.",
        // The n-th pause ends (2^n - 1) times `resend_ms` after the command; one more where the
        // saga's deadline wakes it early. After the pivot there is no such time and no such number.
        sql: "WITH bound AS (
                SELECT d.id AS definition, (step->>'number')::smallint AS step, p.kind,
                       floor(log(2, 1 + (step->p.policy->>'budget_ms')::numeric
                                        / (step->>'resend_ms')::numeric)) + 1 AS most
                FROM definitions d, jsonb_array_elements(d.body->'steps') AS step,
                     (VALUES (1, 'do_policy'), (2, 'undo_policy'), (3, 'probe_policy'))
                       AS p(kind, policy)),
              resent AS (
                SELECT id, definition, step, kind, seq, resends FROM sagas WHERE resends > 0
                UNION ALL
                SELECT h.saga_id, s.definition, h.step, h.kind, h.seq, count(*)
                FROM history h JOIN sagas s ON s.id = h.saga_id
                WHERE h.input = 3 AND h.next_seq = h.seq GROUP BY 1, 2, 3, 4, 5)
              SELECT 'saga ' || r.id AS subject,
                     format('command %s of %s was sent again %s times, at most %s', r.seq,
                            coalesce(st.name, 'step ' || r.step), r.resends, b.most) AS detail
              FROM resent r JOIN bound b USING (definition, step, kind)
              LEFT JOIN steps st ON st.number = r.step
              WHERE r.resends > b.most",
    },
    Query {
        name: "nothing-is-overdue",
        promise: "prompt-end",
        says: "No live saga is left for 10 minutes beyond its time while its shard has an owner with a broker.",
        sql: "SELECT 'saga ' || s.id AS subject,
                     format('due since %s, its shard %s owned by %s', s.wake_at, h.shard, h.owner)
                       AS detail
              FROM sagas s JOIN shards h USING (shard)
              WHERE NOT s.ended AND s.flags & 7 = 0 AND s.wake_at < now() - interval '10 minutes'
                AND h.owner IS NOT NULL AND h.lease_until > now() AND h.reply_queue IS NOT NULL",
    },
];

/// Orders in attention, abandoned, paused for more than an hour, or whose payment a person dealt with elsewhere, with what is or may
/// be captured of them.
pub(super) const APART: &str = "\
    SELECT s.id::text AS saga, CASE s.state WHEN 6 THEN 'abandoned' WHEN 5 THEN 'resolved' ELSE
             CASE WHEN s.flags & 4 <> 0 THEN 'attention' ELSE 'paused' END END AS why, s.reason,
           coalesce(e.minor, 0) AS at_stake_minor, coalesce(o.currency, '') AS currency
    FROM sagas s LEFT JOIN orders o ON o.id = s.id
    LEFT JOIN LATERAL (
      SELECT max(CASE WHEN s.failed_undo & (1 << st.number) <> 0 THEN o.total_minor
                      ELSE coalesce((e.output->>'captured_minor')::bigint, o.total_minor) END) AS minor
      FROM effects e JOIN steps st ON st.name = e.step
      WHERE e.saga_id = s.id AND e.step IN ('pay', 'capture') AND e.state IN (1, 2)) AS e ON true
    WHERE s.state = 6 OR s.flags & 4 <> 0 OR s.state = 5 AND e.minor IS NOT NULL AND EXISTS (
         SELECT FROM history h WHERE h.saga_id = s.id AND h.code = 'resolve')
       OR NOT s.ended AND s.flags & 1 <> 0 AND s.paused_at < now() - interval '1 hour' ORDER BY s.id";
