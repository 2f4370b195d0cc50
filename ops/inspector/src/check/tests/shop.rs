//! What the queries are tried on.

/// A sound shop: one order confirmed with two tickets, one held for review, one compensated.
pub(super) const SOUND: &str = "
    INSERT INTO venues VALUES ('V1', 'Stade', 'Stade', 'Paris', 'Europe/Paris', 48, 2, 9);
    INSERT INTO sports VALUES ('ATH', 'Athletics', 'Athlétisme', 'sport');
    INSERT INTO events (id, starts_at, ends_at, published_starts_at, code, sport, venue, name, status,
                        tier, currency)
    VALUES ('00000000-0000-0000-0000-0000000000e1', now(), now() + interval '1 hour', now(), 'ATH01',
            'ATH', 'V1', 'Heat', 'on_sale', 'standard', 'EUR');
    INSERT INTO offers VALUES ('00000000-0000-0000-0000-0000000000f1',
      '00000000-0000-0000-0000-0000000000e1', 5000, 'A', 'EUR', false, false);
    INSERT INTO stock VALUES ('00000000-0000-0000-0000-0000000000f1', 100, 3);

    CREATE FUNCTION make(order_id uuid, tickets integer, saga_state integer, revision integer,
                         steps_done integer) RETURNS void LANGUAGE sql AS $$
      INSERT INTO orders VALUES (order_id, NULL, 5000 * tickets, 'EUR', 'a@b.example',
        'Ann', 'en', 'pm_card_visa', NULL);
      INSERT INTO order_items VALUES (order_id, '00000000-0000-0000-0000-0000000000f1',
        '00000000-0000-0000-0000-0000000000e1', 5000, tickets, 0);
      INSERT INTO sagas (id, wake_at, deadline, updated_at, trace_id, rev, seq, done, pivot, shard,
                         definition, state, ended)
      VALUES (order_id, CASE WHEN saga_state < 4 THEN now() END, now(), now(), order_id, revision, 1,
              steps_done, 8, 0, 1, saga_state, saga_state >= 4);
      INSERT INTO history (saga_id, at, rev, seq, input, state)
      SELECT order_id, now(), n, n, 2, CASE n WHEN revision THEN saga_state ELSE 1 END
      FROM generate_series(1, revision) AS n;
      INSERT INTO fraud_assessments VALUES (order_id, now(), 0, 'accept', '[]');
    $$;
    SELECT make('01930000-0000-7000-8000-000000000001', 2, 4, 6, 31);
    SELECT make('01930000-0000-7000-8000-000000000002', 1, 2, 3, 1);
    SELECT make('01930000-0000-7000-8000-000000000003', 4, 5, 4, 0);

    INSERT INTO effects (saga_id, claimed_at, definition, state, step, output)
    SELECT id::uuid, now(), 1, state, step, output::jsonb FROM (VALUES
      ('01930000-0000-7000-8000-000000000001', 2, 'reserve',
       '{\"taken\": {\"00000000-0000-0000-0000-0000000000f1\": 2}}'),
      ('01930000-0000-7000-8000-000000000001', 2, 'fraud-check', '{}'),
      ('01930000-0000-7000-8000-000000000001', 2, 'pay', '{\"captured_minor\": 10000}'),
      ('01930000-0000-7000-8000-000000000001', 2, 'issue', '{}'),
      ('01930000-0000-7000-8000-000000000001', 2, 'notify', '{}'),
      ('01930000-0000-7000-8000-000000000002', 2, 'reserve',
       '{\"taken\": {\"00000000-0000-0000-0000-0000000000f1\": 1}}'),
      ('01930000-0000-7000-8000-000000000002', 1, 'fraud-check', '{\"waits_for\": \"review\"}'),
      ('01930000-0000-7000-8000-000000000003', 4, 'reserve',
       '{\"taken\": {\"00000000-0000-0000-0000-0000000000f1\": 4}}'),
      ('01930000-0000-7000-8000-000000000003', 4, 'fraud-check', '{}'),
      ('01930000-0000-7000-8000-000000000003', 4, 'pay', '{\"captured_minor\": 20000}'),
      ('01930000-0000-7000-8000-000000000003', 4, 'issue', '{}')
    ) AS t(id, state, step, output);
    INSERT INTO reviews VALUES ('01930000-0000-7000-8000-000000000002', now(), NULL, 'open');
    INSERT INTO quotas VALUES (substr(sha256('a'), 1, 16), '00000000-0000-0000-0000-000000000000',
      'email', 3);
    INSERT INTO quota_takes SELECT id::uuid, 'fraud-check', ARRAY[substr(sha256('a'), 1, 16)],
      ARRAY['00000000-0000-0000-0000-000000000000'::uuid], ARRAY[n], returned
    FROM (VALUES ('01930000-0000-7000-8000-000000000001', 2, false),
                 ('01930000-0000-7000-8000-000000000002', 1, false),
                 ('01930000-0000-7000-8000-000000000003', 4, true)) AS t(id, n, returned);
    INSERT INTO tickets
    SELECT gen_random_uuid(), CASE WHEN n < 3 THEN '01930000-0000-7000-8000-000000000001'
                                   ELSE '01930000-0000-7000-8000-000000000003' END::uuid,
           '00000000-0000-0000-0000-0000000000e1', '00000000-0000-0000-0000-0000000000f1', now(),
           CASE WHEN n >= 3 THEN now() END, n, 0, n, false, 'Ann', '\\x00000000',
           sha512('x')
    FROM generate_series(1, 6) AS n;
    INSERT INTO ticket_counters VALUES ('00000000-0000-0000-0000-0000000000e1', 6);
    INSERT INTO idempotency_keys VALUES ('guest', 'k', 'r', '01930000-0000-7000-8000-000000000001');

    -- What happened to the compensated one. The outcome of its payment was not known and asked for;
    -- that of its tickets was asked for, sent again twice, and stayed unknown.
    DELETE FROM history WHERE saga_id = '01930000-0000-7000-8000-000000000003';
    INSERT INTO history (saga_id, at, rev, seq, input, step, kind, attempt, outcome, state, next_seq,
                         next_step, next_kind, next_attempt)
    SELECT '01930000-0000-7000-8000-000000000003', now(), t.* FROM (VALUES
      (1,  0, 1, NULL::int, NULL::int, NULL::int, NULL::int, 1, 1, 0, 1, 1),
      (2,  1, 2, 0, 1, 1, 1, 1, 2, 1, 1, 1),
      (3,  2, 2, 1, 1, 1, 1, 1, 3, 2, 1, 1),
      (4,  3, 2, 2, 1, 1, 4, 1, 4, 2, 3, 1),
      (5,  4, 2, 2, 3, 1, 1, 1, 5, 3, 1, 1),
      (6,  5, 2, 3, 1, 1, 4, 1, 6, 3, 1, 1),
      (7,  6, 3, 3, 3, 1, NULL, 1, 6, 3, 1, 1),
      (8,  6, 3, 3, 3, 1, NULL, 1, 6, 3, 1, 1),
      (9,  6, 3, 3, 3, 1, NULL, 3, 7, 3, 2, 1),
      (10, 7, 2, 3, 2, 1, 1, 3, 8, 2, 2, 1),
      (11, 8, 2, 2, 2, 1, 1, 3, 9, 1, 2, 1),
      (12, 9, 2, 1, 2, 1, 1, 3, 10, 0, 2, 1),
      (13, 10, 2, 0, 2, 1, 1, 5, NULL, NULL, NULL, NULL)
    ) AS t(rev, seq, input, step, kind, attempt, outcome, state, next_seq, next_step, next_kind,
           next_attempt);
    UPDATE sagas SET rev = 13, seq = 10 WHERE id = '01930000-0000-7000-8000-000000000003'";
