DROP TABLE idempotency_keys, order_items, orders;
