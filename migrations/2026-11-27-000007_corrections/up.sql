-- What people corrected of what a step was given: its worker reads the newest. Written with the row of the
-- audit log that it bears the number of, and never changed; the fields are personal data, as the order's.
--   kind: 1 for the do, 2 for the undo
--   after_seq: the saga's last command then; only a later one may try again what was refused for good
CREATE TABLE corrections (
  saga_id   uuid NOT NULL,
  audit     bigint NOT NULL,
  made_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  after_seq integer NOT NULL,
  kind      smallint NOT NULL CHECK (kind IN (1, 2)),
  step      text NOT NULL,
  made_by   text NOT NULL,
  reason    text NOT NULL,
  fields    jsonb NOT NULL CHECK (jsonb_typeof(fields) = 'object'),
  PRIMARY KEY (saga_id, step, kind, audit)
);

CREATE FUNCTION corrections_stay() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'a correction is never changed: make another one';
END
$$;

CREATE TRIGGER corrections_stay BEFORE UPDATE ON corrections
  FOR EACH ROW EXECUTE FUNCTION corrections_stay();

-- By which correction a refusal was last opened again: each opens it once.
ALTER TABLE effects ADD COLUMN correction bigint;
