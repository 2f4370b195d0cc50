-- What fraud-check keeps: limits taken, orders counted, who is blocked, what was decided and why,
-- and what people decided. `subject` is the first half of a SHA-256 of kind and value (an account, a
-- folded e-mail address, a client network, a payment fingerprint): no personal data is kept twice.
--
-- How long: `velocity` two weeks (the step itself deletes older buckets); `quotas` and `quota_takes`
-- for good, for the limits are those of the whole sale; `fraud_assessments` and `reviews` as long as
-- their order. Erasing a person means erasing his subjects in `quotas` and `velocity` too.

-- Tickets in force per subject: of one event, or (the nil id) of all. The limits themselves are
-- configuration, so the table cannot check them; the row's lock is what makes taking atomic.
CREATE TABLE quotas (
  subject  bytea NOT NULL CHECK (length(subject) = 16),
  event_id uuid NOT NULL,
  kind     text NOT NULL CHECK (kind IN ('account', 'email', 'fingerprint')),
  taken    integer NOT NULL CHECK (taken >= 0),
  PRIMARY KEY (subject, event_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

-- What an order's step took from which counters (parallel arrays), so that exactly that is given
-- back, once, whatever the configuration says by then.
CREATE TABLE quota_takes (
  order_id   uuid NOT NULL,
  step       text NOT NULL,
  subjects   bytea[] NOT NULL,
  events     uuid[] NOT NULL,
  quantities integer[] NOT NULL,
  returned   boolean NOT NULL DEFAULT false,
  PRIMARY KEY (order_id, step)
) WITH (fillfactor = 90);

-- Orders per subject and bucket of time; a window is the sum of its buckets.
CREATE TABLE velocity (
  subject bytea NOT NULL CHECK (length(subject) = 16),
  bucket  timestamptz NOT NULL,
  kind    text NOT NULL CHECK (kind IN ('email', 'address', 'fingerprint')),
  orders  integer NOT NULL CHECK (orders > 0),
  PRIMARY KEY (subject, bucket)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX velocity_bucket ON velocity USING brin (bucket);

-- value: of an e-mail address or fingerprint its subject in hexadecimal digits; a domain; a network.
CREATE TABLE blocklist (
  kind     text NOT NULL CHECK (kind IN ('email', 'domain', 'network', 'fingerprint')),
  value    text NOT NULL CHECK (value <> ''),
  network  cidr GENERATED ALWAYS AS (CASE WHEN kind = 'network' THEN value::cidr END) STORED,
  reason   text NOT NULL,
  added_by text NOT NULL,
  added_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  until    timestamptz,
  PRIMARY KEY (kind, value)
);

CREATE INDEX blocklist_network ON blocklist USING gist (network inet_ops) WHERE network IS NOT NULL;

-- hits: [{"rule", "value", "threshold", "weight"}].
CREATE TABLE fraud_assessments (
  order_id   uuid PRIMARY KEY,
  decided_at timestamptz NOT NULL,
  score      integer NOT NULL CHECK (score >= 0),
  decision   text NOT NULL CHECK (decision IN ('accept', 'review', 'reject')),
  hits       jsonb NOT NULL
);

-- Orders held for a person. `withdrawn`: the order ended before anyone decided.
CREATE TABLE reviews (
  order_id  uuid PRIMARY KEY,
  opened_at timestamptz NOT NULL,
  at        timestamptz,
  state     text NOT NULL CHECK (state IN ('open', 'approved', 'rejected', 'withdrawn')),
  by        text,
  reason    text,
  CHECK ((state = 'open') = (at IS NULL)),
  CHECK ((state IN ('approved', 'rejected')) = (by IS NOT NULL AND reason IS NOT NULL))
);

CREATE INDEX reviews_open ON reviews (opened_at) WHERE state = 'open';
