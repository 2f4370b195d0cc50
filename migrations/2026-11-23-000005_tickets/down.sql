DROP TABLE ticket_counters;
DROP TABLE tickets;
