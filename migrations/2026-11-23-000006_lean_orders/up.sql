-- Limits are counted by subjects of fraud-check's own; nothing reads this column, and no version that
-- was released writes it.
ALTER TABLE orders DROP COLUMN email_key;

-- Old keys are found by their order's id, which is time-ordered: the index grows at its end only. (A
-- BRIN index would be smaller, until deleted rows make room for new ones among the old.)
CREATE INDEX idempotency_keys_order ON idempotency_keys (order_id);

-- Why a payment may not take: said once, and said again to whoever asks again. Such a row is
-- `returned` from the start.
ALTER TABLE quota_takes ADD COLUMN refusal text;
