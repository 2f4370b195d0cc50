-- 4: a person does something about a saga that asks for one; the payload says what and who.
ALTER TABLE signals DROP CONSTRAINT signals_kind_check;
ALTER TABLE signals ADD CONSTRAINT signals_kind_check CHECK (kind BETWEEN 1 AND 4);

-- Undos that failed wait for a person: found without reading all that is live.
CREATE INDEX sagas_attention ON sagas (flagged_at) WHERE flags & 4 <> 0;
