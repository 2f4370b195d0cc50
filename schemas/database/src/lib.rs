//! PostgreSQL for every service: pool, embedded migrations and the kit for batch statements
