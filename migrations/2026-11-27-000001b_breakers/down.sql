ALTER TABLE shards DROP COLUMN away_step, DROP COLUMN away_since;
