DROP TABLE audit, signals, effects, history, sagas, orchestrators, shards, definitions, steps;
DROP FUNCTION make_partitions(timestamptz, integer);
DROP FUNCTION uuid7_floor(timestamptz);
