ALTER TABLE sagas DROP COLUMN paused_at, DROP COLUMN pause_audit;
