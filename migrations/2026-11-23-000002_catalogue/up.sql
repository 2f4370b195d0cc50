-- The catalogue: what is sold (events of a sport at a venue), at which prices (offers), and how
-- much of it is left (stock). Written rarely, by `guichet catalogue load` and by operators; only
-- `stock.taken` is hot.

CREATE TABLE venues (
  code      text PRIMARY KEY CHECK (code ~ '^[A-Z0-9]{2,8}$'),
  name      text NOT NULL,
  name_fr   text NOT NULL,
  city      text NOT NULL,
  time_zone text NOT NULL,
  latitude  double precision NOT NULL CHECK (latitude BETWEEN -90 AND 90),
  longitude double precision NOT NULL CHECK (longitude BETWEEN -180 AND 180),
  capacity  integer NOT NULL CHECK (capacity >= 0)
);

CREATE TABLE sports (
  code    text PRIMARY KEY CHECK (code ~ '^[A-Z0-9]{2,8}$'),
  name    text NOT NULL,
  name_fr text NOT NULL,
  kind    text NOT NULL CHECK (kind IN ('sport', 'ceremony'))
);

-- `starts_at` is when it takes place, `published_starts_at` when the source says it took place
-- (see `catalogue_state.shift_days`). `tier` decides the purchase limit per event.
CREATE TABLE events (
  id                  uuid PRIMARY KEY,
  starts_at           timestamptz NOT NULL,
  ends_at             timestamptz NOT NULL,
  published_starts_at timestamptz NOT NULL,
  medal_events        smallint NOT NULL DEFAULT 0 CHECK (medal_events >= 0),
  code                text NOT NULL UNIQUE CHECK (code ~ '^[A-Z0-9]{3,12}$'),
  sport               text NOT NULL REFERENCES sports,
  venue               text NOT NULL REFERENCES venues,
  name                text NOT NULL CHECK (name <> ''),
  status              text NOT NULL CHECK (status IN ('on_sale', 'not_on_sale', 'cancelled')),
  tier                text NOT NULL CHECK (tier IN ('standard', 'most_wanted', 'ceremony')),
  currency            text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
  CHECK (ends_at > starts_at)
);

-- A unit of an accessible offer is a wheelchair place; with `companion`, the companion's ticket is
-- part of it.
CREATE TABLE offers (
  id           uuid PRIMARY KEY,
  event_id     uuid NOT NULL REFERENCES events,
  amount_minor bigint NOT NULL CHECK (amount_minor > 0),
  category     text NOT NULL CHECK (category IN ('First', 'A', 'B', 'C', 'D')),
  currency     text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
  accessible   boolean NOT NULL,
  companion    boolean NOT NULL,
  UNIQUE (event_id, category, accessible),
  CHECK (accessible OR NOT companion)
);

-- The promise no-oversell. The only hot table of the catalogue: half of each page is left free so
-- that updates stay on it (HOT; no index has `taken`), and no foreign key is checked.
CREATE TABLE stock (
  offer_id uuid PRIMARY KEY,
  capacity integer NOT NULL,
  taken    integer NOT NULL DEFAULT 0,
  CONSTRAINT no_oversell CHECK (0 <= taken AND taken <= capacity)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.1);

-- One row. `version` grows with every change of venues, sports, events or offers, whoever makes
-- it, so that a gateway sees by one look whether its copy is old.
CREATE TABLE catalogue_state (
  singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  version    bigint NOT NULL DEFAULT 0,
  shift_days integer CHECK (shift_days >= 0),
  loaded_at  timestamptz
);

INSERT INTO catalogue_state DEFAULT VALUES;

CREATE FUNCTION catalogue_changed() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  UPDATE catalogue_state SET version = version + 1;
  RETURN NULL;
END
$$;

CREATE TRIGGER catalogue_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON venues
  FOR EACH STATEMENT EXECUTE FUNCTION catalogue_changed();
CREATE TRIGGER catalogue_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON sports
  FOR EACH STATEMENT EXECUTE FUNCTION catalogue_changed();
CREATE TRIGGER catalogue_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON events
  FOR EACH STATEMENT EXECUTE FUNCTION catalogue_changed();
CREATE TRIGGER catalogue_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON offers
  FOR EACH STATEMENT EXECUTE FUNCTION catalogue_changed();
