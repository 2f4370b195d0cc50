-- A step before the pivot whose outside is away, as the shard's owner has heard, and since when nothing is
-- sent to it: gateways read it, and take no order that could only wait.
ALTER TABLE shards ADD COLUMN away_step smallint, ADD COLUMN away_since timestamptz;
