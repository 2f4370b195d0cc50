-- 3: somebody entitled ends the saga; the payload says why. An owner that does not know the kind leaves
-- the row open for one that does.
ALTER TABLE signals DROP CONSTRAINT signals_kind_check;
ALTER TABLE signals ADD CONSTRAINT signals_kind_check CHECK (kind IN (1, 2, 3));
