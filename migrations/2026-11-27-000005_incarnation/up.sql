-- Which life of the database this is: a number drawn by chance, and the place (system identifier, timeline,
-- oid) where it was drawn. At another place it is another life, and messages from before are dropped.
CREATE TABLE incarnation (
  one    boolean PRIMARY KEY DEFAULT true CHECK (one),
  number bigint NOT NULL,
  since  timestamptz NOT NULL DEFAULT clock_timestamp(),
  place  text NOT NULL
);
