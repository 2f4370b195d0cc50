-- What the saga platform itself keeps: definitions, shards, sagas, their history, the ledger of
-- effects, signals and the audit log.

-- The least UUID that a UUIDv7 made at `at` can have; bounds of time ranges over ids.
CREATE FUNCTION uuid7_floor(at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
  SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Step numbers are the bits in a saga's sets: given once per name, never used again.
CREATE TABLE steps (
  number smallint PRIMARY KEY CHECK (number BETWEEN 0 AND 30),
  name   text NOT NULL UNIQUE
);

-- Definitions are data. `guichet migrate` is their only writer.
CREATE TABLE definitions (
  id      smallint PRIMARY KEY,
  name    text NOT NULL,
  version smallint NOT NULL,
  hash    text NOT NULL,
  body    jsonb NOT NULL,
  UNIQUE (name, version)
);

-- Leases. `reply_queue` is where replies to the shard's owner go; `live` counts the owner's sagas
-- before their pivot, which the gateway's admission reads.
CREATE TABLE shards (
  shard       smallint PRIMARY KEY,
  owner       text,
  epoch       bigint NOT NULL DEFAULT 0,
  lease_until timestamptz NOT NULL DEFAULT '-infinity',
  reply_queue text,
  live        integer NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

INSERT INTO shards (shard) SELECT generate_series(0, 7);

-- Which orchestrators are there, so that shards are shared fairly.
CREATE TABLE orchestrators (
  node       text PRIMARY KEY,
  seen_until timestamptz NOT NULL
) WITH (fillfactor = 50);

-- One row per saga. Narrow, and its updates are HOT until it ends: no index has a column that
-- changes before that.
--   state: 1 running, 2 waiting, 3 compensating, 4 completed, 5 compensated, 6 abandoned
--   flags: 2 held, 4 attention
--   kind:  1 do, 2 undo, 3 probe
CREATE TABLE sagas (
  id             uuid PRIMARY KEY,
  wake_at        timestamptz,
  budget_until   timestamptz,
  deadline       timestamptz NOT NULL,
  waiting_since  timestamptz,
  flagged_at     timestamptz,
  updated_at     timestamptz NOT NULL,
  trace_id       uuid NOT NULL,
  rev            integer NOT NULL,
  seq            integer NOT NULL,
  done           integer NOT NULL DEFAULT 0,
  maybe_in_force integer NOT NULL DEFAULT 0,
  failed_undo    integer NOT NULL DEFAULT 0,
  pivot          integer NOT NULL,
  shard          smallint NOT NULL,
  definition     smallint NOT NULL,
  state          smallint NOT NULL CHECK (state BETWEEN 1 AND 6),
  flags          smallint NOT NULL DEFAULT 0,
  step           smallint,
  kind           smallint CHECK (kind BETWEEN 1 AND 3),
  attempt        smallint NOT NULL DEFAULT 0,
  resends        smallint NOT NULL DEFAULT 0,
  outstanding    boolean NOT NULL DEFAULT false,
  ended          boolean NOT NULL DEFAULT false,
  reason         text CHECK (length(reason) <= 40),
  approver       text,
  CONSTRAINT ended_says_state CHECK (ended = (state >= 4)),
  CONSTRAINT honest_end CHECK (state <> 5 OR maybe_in_force = 0),
  CONSTRAINT completed_has_pivot CHECK (state <> 4 OR (done & pivot) <> 0),
  CONSTRAINT abandoned_has_approver CHECK (state <> 6 OR (reason IS NOT NULL AND approver IS NOT NULL)),
  CONSTRAINT step_with_kind CHECK ((step IS NULL) = (kind IS NULL))
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX sagas_live ON sagas (shard) WHERE NOT ended;

-- One row per applied input, written in the same statement as the saga's row.
--   input: 1 start, 2 reply, 3 wake, 4 signal, 5 end, 6 operator
--   outcome: 1 done, 2 rejected, 3 retry, 4 unknown, 5 waiting
--   next_*: the command that was decided, if any
CREATE TABLE history (
  saga_id      uuid NOT NULL,
  at           timestamptz NOT NULL,
  message_id   uuid,
  rev          integer NOT NULL,
  seq          integer NOT NULL,
  input        smallint NOT NULL,
  step         smallint,
  kind         smallint,
  attempt      smallint,
  outcome      smallint,
  state        smallint NOT NULL,
  next_seq     integer,
  next_step    smallint,
  next_kind    smallint,
  next_attempt smallint,
  code         text,
  detail       jsonb,
  PRIMARY KEY (saga_id, rev)
) PARTITION BY RANGE (saga_id);

-- The effect ledger: what each step brought about.
--   state: 1 claimed, 2 done, 3 rejected, 4 undone
CREATE TABLE effects (
  saga_id      uuid NOT NULL,
  claimed_at   timestamptz NOT NULL,
  settled_at   timestamptz,
  definition   smallint NOT NULL,
  state        smallint NOT NULL CHECK (state BETWEEN 1 AND 4),
  step         text NOT NULL,
  outside_id   text,
  output       jsonb,
  error        jsonb,
  undo_refusal jsonb,
  PRIMARY KEY (saga_id, step)
) PARTITION BY RANGE (saga_id);

CREATE TABLE history_default PARTITION OF history DEFAULT;
CREATE TABLE effects_default PARTITION OF effects DEFAULT WITH (fillfactor = 70);

-- Makes the monthly partitions from the month of `since` on, as many as `months`, where missing.
-- Returns how many tables it made.
CREATE FUNCTION make_partitions(since timestamptz, months integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
  month  timestamptz;
  made   integer := 0;
  parent text;
BEGIN
  PERFORM pg_advisory_xact_lock(4745001);
  FOR n IN 0 .. months - 1 LOOP
    month := (date_trunc('month', since AT TIME ZONE 'UTC') + make_interval(months => n)) AT TIME ZONE 'UTC';
    FOREACH parent IN ARRAY ARRAY['history', 'effects'] LOOP
      IF to_regclass(format('%I', parent || '_' || to_char(month AT TIME ZONE 'UTC', 'YYYYMM'))) IS NULL THEN
        EXECUTE format(
          'CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)%s',
          parent || '_' || to_char(month AT TIME ZONE 'UTC', 'YYYYMM'), parent,
          uuid7_floor(month),
          uuid7_floor((month AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC'),
          CASE parent WHEN 'effects' THEN ' WITH (fillfactor = 70)' ELSE '' END);
        made := made + 1;
      END IF;
    END LOOP;
  END LOOP;
  RETURN made;
END
$$;

SELECT make_partitions(now(), 3);

-- Something from outside that a saga waits for. Written before the 2xx; a message is only a nudge.
--   kind: 1 decision (carries the outcome), 2 nudge (causes a look, is never believed)
CREATE TABLE signals (
  id         uuid PRIMARY KEY,
  saga_id    uuid NOT NULL,
  shard      smallint NOT NULL,
  kind       smallint NOT NULL CHECK (kind IN (1, 2)),
  step       text NOT NULL,
  payload    jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  applied_at timestamptz
);

CREATE INDEX signals_open ON signals (shard) WHERE applied_at IS NULL;

-- Every human intervention, each row holding the hash of the one before.
CREATE TABLE audit (
  id         bigint PRIMARY KEY,
  at         timestamptz NOT NULL,
  actor      text NOT NULL,
  action     text NOT NULL,
  subject    uuid,
  reason     text NOT NULL,
  detail     jsonb NOT NULL,
  previous   bytea NOT NULL,
  hash       bytea NOT NULL
);

CREATE INDEX audit_subject ON audit (subject) WHERE subject IS NOT NULL;
