//! The private PostgreSQL and RabbitMQ, or the existing ones we are told to use.

mod postgres;
mod rabbitmq;

use std::{env, time::Instant};

use anyhow::{Result, anyhow};
use tokio::join;

use super::{home::Home, leftover, narrator::Narrator, supervisor::Supervisor};
use crate::failure::Failure;

/// Environment variable with the database's URL.
pub(crate) const DATABASE_URL: &str = "GUICHET_DATABASE_URL";
/// Environment variable with the broker's URL.
pub(crate) const AMQP_URL: &str = "GUICHET_AMQP_URL";

/// How often a start is tried again with other ports when somebody took ours in the meantime.
const PORT_RACES: u32 = 3;

/// Where the servers are. The URLs hold passwords.
#[derive(Clone)]
pub(crate) struct Urls {
    /// `postgres://…`
    pub(crate) database: String,
    /// `amqp://…`
    pub(crate) amqp: String,
}

/// The existing servers that the environment names, if it does.
///
/// # Errors
/// A usage failure when it names only one of the two: half a private set is what nobody means.
pub(crate) fn existing() -> Result<Option<Urls>, Failure> {
    let read = |name| env::var(name).ok().filter(|url| !url.is_empty());
    match (read(DATABASE_URL), read(AMQP_URL)) {
        (Some(database), Some(amqp)) => Ok(Some(Urls { database, amqp })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(half(DATABASE_URL, AMQP_URL)),
        (None, Some(_)) => Err(half(AMQP_URL, DATABASE_URL)),
    }
}

fn half(set: &str, unset: &str) -> Failure {
    Failure::usage(anyhow!(
        "{set} is set but {unset} is not: set both to use existing servers, or neither to start private ones"
    ))
}

/// Starts both private servers.
pub(crate) async fn start(
    home: &mut Home,
    supervisor: &mut Supervisor,
    narrator: Narrator,
) -> Result<Urls> {
    leftover::stop_recorded(&home.path("run"), narrator)?;
    narrator.say("servers", "starting PostgreSQL and RabbitMQ");
    let began = Instant::now();
    let (postgres, rabbitmq) = {
        let home = &*home;
        join!(
            postgres::Server::prepare(home, narrator),
            rabbitmq::Server::prepare(home, narrator)
        )
    };
    let (postgres, rabbitmq) = (postgres?, rabbitmq?);
    let mut races = 0;
    loop {
        let database = postgres.configure(home.port("postgres", None)?)?;
        let broker = rabbitmq.configure(rabbitmq::Ports {
            amqp: home.port("amqp", None)?,
            dist: home.port("rabbitmq_dist", None)?,
            epmd: home.port("epmd", None)?,
        })?;
        let specs = vec![database.spec, broker.epmd, broker.spec];
        let names: Vec<_> = specs.iter().map(|spec| spec.name.clone()).collect();
        let Err(why) = supervisor.start(specs).await else {
            narrator.say(
                "servers",
                &format!(
                    "PostgreSQL {} and RabbitMQ {} are ready ({:.1} s)",
                    database.addr,
                    broker.addr,
                    began.elapsed().as_secs_f64()
                ),
            );
            return Ok(Urls {
                database: database.url,
                amqp: broker.url,
            });
        };
        for name in names.iter().rev() {
            supervisor.stop(name).await;
        }
        // Nobody of ours listens now: a port that is taken is taken by a stranger.
        races += 1;
        if races > PORT_RACES || !home.lost_a_port() {
            return Err(why);
        }
        narrator.warn(
            "servers",
            "a port was taken by somebody else; choosing others",
        );
        home.forget_promises();
    }
}
