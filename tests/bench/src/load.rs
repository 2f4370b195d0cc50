//! An open-loop load generator: requests go out by a timetable, whatever becomes of the earlier ones.
//!
//! The trap is *coordinated omission*: a generator that waits for an answer before it sends the next
//! request asks less just when the system is slow, and so never sees how long everybody else would
//! have waited. Here each request has its intended time from the start, and every latency counts from
//! there: if all connections are busy, or this process is late, that counts against the system.
//!
//! It shares the cores with what it measures, so it is cheap: one thread, a request made before its time
//! has come, of an answer only what is asked about kept. Timers have a resolution of a millisecond, so a
//! request goes out up to so much late; that counts too, and is told (`sent late`).

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use http::{Request, Response, StatusCode};
use tokio::time::sleep_until;

use crate::connection::{Body, Connection};

/// From having all connections to the first request.
const LEAD: Duration = Duration::from_millis(100);

/// A part of the window with one rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Phase {
    /// Requests per second, evenly spaced.
    pub(crate) rate_per_s: u32,
    /// For so long.
    pub(crate) seconds: u32,
}

impl Phase {
    fn requests(self) -> u64 {
        u64::from(self.rate_per_s) * u64::from(self.seconds)
    }
}

/// How much is sent: one phase after the other.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) phases: Vec<Phase>,
    /// Over so many connections, kept alive; as many requests can be under way.
    pub(crate) connections: usize,
}

impl Load {
    /// One rate.
    pub(crate) fn flat(rate_per_s: u32, seconds: u32, connections: usize) -> Self {
        Self {
            phases: vec![Phase {
                rate_per_s,
                seconds,
            }],
            connections,
        }
    }

    /// How many requests that makes.
    pub(crate) fn requests(&self) -> u64 {
        self.phases.iter().map(|phase| phase.requests()).sum()
    }

    /// How long it takes, in seconds.
    pub(crate) fn seconds(&self) -> u32 {
        self.phases.iter().map(|phase| phase.seconds).sum()
    }

    /// When a request is to be sent, after the beginning.
    fn intended(&self, mut number: u64) -> Duration {
        let mut from = Duration::ZERO;
        for phase in &self.phases {
            if number < phase.requests() {
                let within = number as f64 / f64::from(phase.rate_per_s);
                return from + Duration::from_secs_f64(within);
            }
            number -= phase.requests();
            from += Duration::from_secs(u64::from(phase.seconds));
        }
        from
    }
}

/// One request and what came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer<T> {
    /// When it was to be sent.
    pub(crate) intended: Instant,
    /// When it was sent.
    pub(crate) sent: Instant,
    /// When the whole answer was there.
    pub(crate) answered: Instant,
    /// None if there was no answer.
    pub(crate) status: Option<StatusCode>,
    /// What was made of it; none if there was no answer.
    pub(crate) read: Option<T>,
}

/// A whole run.
#[derive(Debug)]
pub(crate) struct Run<T> {
    /// The first request's intended time: the window begins.
    pub(crate) began: Instant,
    /// In no order.
    pub(crate) answers: Vec<Answer<T>>,
}

/// Sends `request(n)` for each number from 0 on, and keeps what `read` makes of the answers.
pub(crate) async fn run<T: Send + 'static>(
    to: SocketAddr,
    load: Load,
    request: impl Fn(u64) -> Request<Body> + Send + Sync + 'static,
    read: impl Fn(&Response<Bytes>) -> T + Send + Sync + 'static,
) -> Result<Run<T>> {
    let opening = (0..load.connections).map(|_| Connection::open(to));
    let connections = try_join_all(opening).await?;
    let next = Arc::new(AtomicU64::new(0));
    let common = Arc::new((load, request, read));
    let began = Instant::now() + LEAD;
    let lanes = connections.into_iter().map(|mut connection| {
        let (next, common) = (Arc::clone(&next), Arc::clone(&common));
        tokio::spawn(async move {
            let (load, request, read) = &*common;
            let (last, mut answers) = (load.requests(), Vec::new());
            loop {
                // Numbers are given out in order, so no request waits while a connection is idle.
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= last {
                    return answers;
                }
                let intended = began + load.intended(number);
                let request = request(number);
                sleep_until(intended.into()).await;
                let sent = Instant::now();
                let answer = connection.send(request).await.ok();
                answers.push(Answer {
                    intended,
                    sent,
                    answered: Instant::now(),
                    status: answer.as_ref().map(Response::status),
                    read: answer.as_ref().map(read),
                });
            }
        })
    });
    let mut answers = Vec::new();
    for lane in join_all(lanes).await {
        answers.extend(lane.context("a task of the load generator broke")?);
    }
    Ok(Run { began, answers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timetable_goes_from_phase_to_phase() {
        let phase = |rate_per_s, seconds| Phase {
            rate_per_s,
            seconds,
        };
        let load = Load {
            phases: vec![phase(2, 2), phase(10, 1), phase(1, 3)],
            connections: 1,
        };
        assert_eq!((load.requests(), load.seconds()), (17, 6));
        let at: Vec<u128> = [0, 1, 3, 4, 5, 13, 14, 16]
            .map(|number| load.intended(number).as_millis())
            .to_vec();
        assert_eq!(at, [0, 500, 1_500, 2_000, 2_100, 2_900, 3_000, 5_000]);
    }
}
