//! The engine against a real RabbitMQ and a real PostgreSQL, with workers that do what a test says.

mod drive;
mod early;
mod faults;
mod held;
mod locked;
mod logs;
mod nodes;
mod outage;
mod outdated;
mod pause;
mod probes;
mod reads;
mod strays;
mod world;
