-- How many sagas of the shard wait for so long that its owner does not keep them in memory, as it last counted:
-- gateways read it, and take no more once too many could come back together. They are there without an owner too.
ALTER TABLE shards ADD COLUMN asleep integer NOT NULL DEFAULT 0;
