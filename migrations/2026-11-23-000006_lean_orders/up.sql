-- Limits are counted by subjects of fraud-check's own; nothing reads this column, and no version that
-- was released writes it.
ALTER TABLE orders DROP COLUMN email_key;

-- Old keys are found by their order's id, which is time-ordered, and so is the table: a few pages of
-- index, and next to nothing to write for each order.
CREATE INDEX idempotency_keys_order ON idempotency_keys USING brin (order_id) WITH (autosummarize = on);

-- Why a payment may not take: said once, and said again to whoever asks again. Such a row is
-- `returned` from the start.
ALTER TABLE quota_takes ADD COLUMN refusal text;
