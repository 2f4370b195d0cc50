-- The tickets of confirmed orders.

-- `number` is unbroken per event; a revoked ticket keeps it. A place with a companion is two
-- tickets of one `position`: the place's own, and the companion's, which costs nothing. The code
-- that a gate reads is made of these columns and `signature`; `key_id` says by which key.
CREATE TABLE tickets (
  id          uuid PRIMARY KEY,
  order_id    uuid NOT NULL,
  event_id    uuid NOT NULL,
  offer_id    uuid NOT NULL,
  issued_at   timestamptz NOT NULL,
  revoked_at  timestamptz,
  number      integer NOT NULL CHECK (number > 0),
  line        smallint NOT NULL,
  position    smallint NOT NULL CHECK (position > 0),
  companion   boolean NOT NULL,
  holder_name text NOT NULL CHECK (holder_name <> ''),
  key_id      bytea NOT NULL CHECK (octet_length(key_id) = 4),
  signature   bytea NOT NULL CHECK (octet_length(signature) = 64),
  UNIQUE (event_id, number),
  UNIQUE (order_id, line, position, companion)
);

-- The last number given out per event: locked, in the order of the key, by whoever issues.
CREATE TABLE ticket_counters (
  event_id uuid PRIMARY KEY,
  last     integer NOT NULL CHECK (last > 0)
) WITH (fillfactor = 50);
