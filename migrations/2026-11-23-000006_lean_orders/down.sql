ALTER TABLE quota_takes DROP COLUMN refusal;
DROP INDEX idempotency_keys_order;
ALTER TABLE orders ADD COLUMN email_key text NOT NULL DEFAULT '';
