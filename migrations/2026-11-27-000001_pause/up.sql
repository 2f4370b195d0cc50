-- A person stops a saga for a while (flags: 1 paused). Since when, for its times stand still meanwhile;
-- and by which row of the audit log it was last stopped or let go on, for neither is applied twice.
ALTER TABLE sagas ADD COLUMN paused_at timestamptz, ADD COLUMN pause_audit bigint;
