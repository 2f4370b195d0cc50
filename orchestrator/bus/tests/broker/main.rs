//! The bus against a real RabbitMQ, each test in a namespace of its own.

mod consume;
mod fixture;
mod publish;
mod session;
mod stop;
