DROP INDEX sagas_held;
DROP TABLE attention_owners;
