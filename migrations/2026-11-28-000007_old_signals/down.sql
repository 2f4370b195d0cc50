DROP INDEX signals_applied;
