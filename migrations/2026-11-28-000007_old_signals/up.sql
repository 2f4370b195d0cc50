-- Old signals are found by when they were applied.
CREATE INDEX signals_applied ON signals (applied_at) WHERE applied_at IS NOT NULL;
