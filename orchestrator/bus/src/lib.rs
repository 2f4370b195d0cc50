//! RabbitMQ for every service: session, publisher, consumer, topology and message batches
