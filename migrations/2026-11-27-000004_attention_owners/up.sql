-- Who has taken on a saga that asks for a person. A row counts while the saga asks as it did when it was
-- taken: both name the same beginning. So a taking ends with the asking, without another write of the
-- saga's row; what is left over is deleted later.
CREATE TABLE attention_owners (
  saga_id    uuid PRIMARY KEY,
  owner      text NOT NULL,
  reason     text NOT NULL,
  flagged_at timestamptz NOT NULL,
  taken_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Sagas that are set aside wait for a person as well (beside sagas_attention).
CREATE INDEX sagas_held ON sagas (flagged_at) WHERE flags & 2 <> 0;
