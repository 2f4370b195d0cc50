-- What customers asked for. These rows never change: an order's status is its saga's.

CREATE TABLE orders (
  id             uuid PRIMARY KEY,
  account_id     uuid,
  total_minor    bigint NOT NULL CHECK (total_minor > 0),
  currency       text NOT NULL CHECK (length(currency) = 3),
  email          text NOT NULL,
  email_key      text NOT NULL,
  name           text NOT NULL,
  locale         text NOT NULL,
  payment_method text NOT NULL,
  client_addr    inet
);

CREATE TABLE order_items (
  order_id          uuid NOT NULL,
  offer_id          uuid NOT NULL,
  event_id          uuid NOT NULL,
  unit_amount_minor bigint NOT NULL CHECK (unit_amount_minor > 0),
  quantity          integer NOT NULL CHECK (quantity > 0),
  line              smallint NOT NULL,
  attendees         jsonb,
  PRIMARY KEY (order_id, line)
);

-- Which order a caller's key stands for. The unique insert itself decides between twins, so the
-- table is not partitioned; rows are deleted in batches when they are old.
CREATE TABLE idempotency_keys (
  scope        text NOT NULL,
  key_hash     bytea NOT NULL,
  request_hash bytea NOT NULL,
  order_id     uuid NOT NULL,
  PRIMARY KEY (scope, key_hash)
);
