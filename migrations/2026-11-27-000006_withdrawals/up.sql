-- Versions of a definition that are withdrawn: no saga is started by one any more, and its owner ends each
-- that runs by it before its pivot. With who did it, why, and the row of the audit log.
CREATE TABLE withdrawals (
  definition   smallint PRIMARY KEY,
  withdrawn_by text NOT NULL,
  reason       text NOT NULL,
  audit        bigint NOT NULL,
  withdrawn_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
