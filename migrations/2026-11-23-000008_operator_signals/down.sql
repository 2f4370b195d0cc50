DROP INDEX sagas_attention;
DELETE FROM signals WHERE kind = 4;
ALTER TABLE signals DROP CONSTRAINT signals_kind_check;
ALTER TABLE signals ADD CONSTRAINT signals_kind_check CHECK (kind IN (1, 2, 3));
