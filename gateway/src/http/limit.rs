//! How often one client may ask: a token bucket per address, told to him in the headers `RateLimit`
//! and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers).
//!
//! A client is an IPv4 address or an IPv6 network of 64 bits, which is what one household or machine
//! gets; by single addresses it would have 2^64 limits. The number of buckets is bounded: full ones
//! are dropped from time to time, and if there are still too many (an attack from everywhere) clients
//! share buckets by larger networks until it is over.

use governor::{
    Quota, RateLimiter, clock::Clock, clock::DefaultClock, middleware::StateInformationMiddleware,
    state::keyed::DashMapStateStore,
};
use http::HeaderValue;
use ipnet::IpNet;
use runtime::metrics::{self, IntCounter, IntCounterVec};
use std::{
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        LazyLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Buckets of one limit at most (about 10 MB).
const BUCKETS_MAX: usize = 100_000;
/// How many decisions lie between two looks at the number of buckets.
const LOOK_EVERY: u64 = 4_096;

static REFUSED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counters(
        "guichet_http_limited_total",
        "Requests refused with 429",
        &["limit"],
    )
});
static CROWDED: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter(
        "guichet_http_limit_crowded_total",
        "Times that clients had to share rate limit buckets because there were too many",
    )
});

/// Which limit a route counts against.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// Routes that read.
    Read,
    /// Routes that sell.
    Order,
}

/// The limits of a gateway.
#[derive(Debug)]
pub struct Limits {
    read: Bucket,
    order: Bucket,
    exempt: Vec<IpNet>,
}

/// What a limit said, and how to tell the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Decision {
    name: &'static str,
    per_minute: u32,
    remaining: u32,
    /// Seconds until the next request is let in, if this one is not.
    pub(super) refused_s: Option<u32>,
}

impl Limits {
    /// Requests per minute and client, each at least 1; addresses in `exempt` are counted by none.
    #[must_use]
    pub fn new(read_per_minute: u32, order_per_minute: u32, exempt: Vec<IpNet>) -> Self {
        Self {
            read: Bucket::new("read", read_per_minute),
            order: Bucket::new("order", order_per_minute),
            exempt,
        }
    }

    pub(super) fn check(&self, limit: Limit, client: IpAddr) -> Decision {
        let bucket = match limit {
            Limit::Read => &self.read,
            Limit::Order => &self.order,
        };
        match self.exempt.iter().any(|net| net.contains(&client)) {
            true => bucket.decision(bucket.per_minute.get(), None),
            false => bucket.check(client),
        }
    }
}

impl Decision {
    /// `"read";q=1200;w=60`
    pub(super) fn policy(&self) -> HeaderValue {
        header(format!("\"{}\";q={};w=60", self.name, self.per_minute))
    }

    /// `"read";r=1199;t=1`: what is left, and in how many seconds all of it is back, or, for a client
    /// that is refused, the next one.
    pub(super) fn state(&self) -> HeaderValue {
        let used = u64::from(self.per_minute - self.remaining.min(self.per_minute));
        let full_s = (used * 60).div_ceil(u64::from(self.per_minute));
        let reset_s = self.refused_s.map_or(full_s, u64::from);
        header(format!(
            "\"{}\";r={};t={reset_s}",
            self.name, self.remaining
        ))
    }
}

fn header(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("letters, digits and quotes are a legal header value")
}

#[derive(Debug)]
struct Bucket {
    name: &'static str,
    per_minute: NonZeroU32,
    buckets:
        RateLimiter<IpAddr, DashMapStateStore<IpAddr>, DefaultClock, StateInformationMiddleware>,
    clock: DefaultClock,
    decisions: AtomicU64,
    crowded: AtomicBool,
}

impl Bucket {
    fn new(name: &'static str, per_minute: u32) -> Self {
        let per_minute = NonZeroU32::new(per_minute).unwrap_or(NonZeroU32::MIN);
        let buckets = RateLimiter::keyed(Quota::per_minute(per_minute)).with_middleware();
        Self {
            name,
            per_minute,
            buckets,
            clock: DefaultClock::default(),
            decisions: AtomicU64::new(0),
            crowded: AtomicBool::new(false),
        }
    }

    fn check(&self, client: IpAddr) -> Decision {
        if self
            .decisions
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(LOOK_EVERY)
        {
            self.look(BUCKETS_MAX);
        }
        let key = network(client, self.crowded.load(Ordering::Relaxed));
        match self.buckets.check_key(&key) {
            Ok(state) => self.decision(state.remaining_burst_capacity(), None),
            Err(until) => {
                REFUSED.with_label_values(&[self.name]).inc();
                let wait = until.wait_time_from(self.clock.now());
                let seconds = u32::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX);
                self.decision(0, Some(seconds.max(1)))
            }
        }
    }

    fn decision(&self, remaining: u32, refused_s: Option<u32>) -> Decision {
        Decision {
            name: self.name,
            per_minute: self.per_minute.get(),
            remaining,
            refused_s,
        }
    }

    fn look(&self, buckets_max: usize) {
        if self.buckets.len() <= buckets_max / 2 && !self.crowded.load(Ordering::Relaxed) {
            return;
        }
        self.buckets.retain_recent();
        let crowded = self.buckets.len() > buckets_max;
        if self.crowded.swap(crowded, Ordering::Relaxed) != crowded && crowded {
            CROWDED.inc();
            tracing::warn!(
                limit = self.name,
                buckets_max,
                "too many clients for a limit each"
            );
        }
    }
}

/// What counts as one client.
fn network(client: IpAddr, crowded: bool) -> IpAddr {
    let bits = match (client, crowded) {
        (IpAddr::V4(_), false) => 32,
        (IpAddr::V4(_), true) => 16,
        (IpAddr::V6(_), false) => 64,
        (IpAddr::V6(_), true) => 32,
    };
    IpNet::new(client, bits).map_or(client, |net| net.network())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_client_is_refused_after_its_quota_and_another_is_not() {
        let limits = Limits::new(3, 1, vec!["127.0.0.0/8".parse().expect("a net")]);
        let one = address("2001:db8::1");
        let first = limits.check(Limit::Read, one);
        assert_eq!(first.refused_s, None);
        assert_eq!(first.policy(), "\"read\";q=3;w=60");
        assert_eq!(first.state(), "\"read\";r=2;t=20");
        let neighbour = address("2001:db8::ffff");
        assert_eq!(
            limits.check(Limit::Read, neighbour).remaining,
            1,
            "the same network of 64 bits"
        );
        assert_eq!(limits.check(Limit::Read, one).remaining, 0);
        let refused = limits.check(Limit::Read, one);
        assert!(matches!(refused.refused_s, Some(1..=20)), "{refused:?}");
        assert_eq!(
            limits
                .check(Limit::Read, address("2001:db8:0:1::1"))
                .refused_s,
            None
        );
        assert_eq!(
            limits.check(Limit::Order, one).refused_s,
            None,
            "a limit of its own"
        );
        for _ in 0..10 {
            let exempt = limits.check(Limit::Read, address("127.0.0.1"));
            assert_eq!(exempt.state(), "\"read\";r=3;t=0");
        }
    }

    #[test]
    fn when_there_are_too_many_clients_they_share() {
        let bucket = Bucket::new("test", 1);
        for last in 0..4 {
            assert_eq!(
                bucket.check(address(&format!("192.0.2.{last}"))).refused_s,
                None
            );
        }
        bucket.look(3);
        assert_eq!(bucket.check(address("192.0.2.200")).refused_s, None);
        assert!(
            bucket.check(address("192.0.2.201")).refused_s.is_some(),
            "shares with 192.0.2.200"
        );
    }
}
