//! The configuration section `amqp`.

use lapin::uri::AMQPUri;
use serde::{Deserialize, Serialize, Serializer};
use std::{fmt, time::Duration};

/// How to reach the broker and what to make of it. Every field has a default.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `amqp://user:password@host:port/vhost`, or `amqps://` with TLS.
    pub url: AmqpUrl,
    /// First part of every exchange's and queue's name; 1 to 60 of `a-z 0-9 . - _`.
    pub namespace: String,
    /// Type of the queues that outlive a session (commands, parked envelopes). It cannot be changed
    /// while they exist.
    pub command_queue_type: QueueType,
    /// Interval of heartbeats; a peer silent for twice as long is given up. 1 to 60.
    pub heartbeat_s: u16,
    /// This process's name in connections and reply queues; 1 to 60 of `a-z A-Z 0-9 . - _`.
    pub node: String,
    /// A flight of messages that is not confirmed within this time fails. 100 to 60,000.
    pub confirm_timeout_ms: u64,
    /// A session that is not established within this time is given up. 100 to 60,000.
    pub connect_timeout_ms: u64,
    /// The longest pause between two attempts to connect. 100 to 60,000.
    pub reconnect_max_ms: u64,
    /// At most so many messages are in flight to the broker at once. 1 to 4,096.
    pub publish_window: usize,
    /// At most so many envelopes are in one message. 1 to 1,000.
    pub batch_max_envelopes: usize,
    /// On an orderly stop, deliveries already handed out may be acknowledged for so long. At most
    /// 60,000.
    pub drain_timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: AmqpUrl("amqp://guest:guest@127.0.0.1:5672/%2f".to_owned()),
            namespace: "guichet".to_owned(),
            command_queue_type: QueueType::Classic,
            heartbeat_s: 5,
            node: "node".to_owned(),
            confirm_timeout_ms: 5_000,
            connect_timeout_ms: 5_000,
            reconnect_max_ms: 2_000,
            publish_window: 256,
            batch_max_envelopes: 100,
            drain_timeout_ms: 5_000,
        }
    }
}

impl Config {
    /// What is wrong with the configuration, one line for each problem; empty when it is fine.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Err(error) = self.url.parse() {
            problems.push(format!("amqp.url: {error}"));
        }
        let name = |text: &str| {
            (1..=60).contains(&text.len())
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
        };
        if !name(&self.namespace) {
            problems.push("amqp.namespace: must be 1 to 60 of a-z, 0-9, `.`, `-`, `_`".to_owned());
        }
        if !name(&self.node) {
            problems.push("amqp.node: must be 1 to 60 of a-z, 0-9, `.`, `-`, `_`".to_owned());
        }
        let window = u64::try_from(self.publish_window).unwrap_or(u64::MAX);
        let batch = u64::try_from(self.batch_max_envelopes).unwrap_or(u64::MAX);
        for (key, value, from, to) in [
            ("heartbeat_s", u64::from(self.heartbeat_s), 1, 60),
            ("confirm_timeout_ms", self.confirm_timeout_ms, 100, 60_000),
            ("connect_timeout_ms", self.connect_timeout_ms, 100, 60_000),
            ("reconnect_max_ms", self.reconnect_max_ms, 100, 60_000),
            ("publish_window", window, 1, 4_096),
            ("batch_max_envelopes", batch, 1, 1_000),
            ("drain_timeout_ms", self.drain_timeout_ms, 0, 60_000),
        ] {
            if !(from..=to).contains(&value) {
                problems.push(format!("amqp.{key}: {value} is not within {from} to {to}"));
            }
        }
        problems
    }

    pub(crate) fn confirm_timeout(&self) -> Duration {
        Duration::from_millis(self.confirm_timeout_ms)
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(crate) fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }
}

/// The type of the queues that outlive a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueType {
    /// On one node: fastest.
    Classic,
    /// Replicated: where the broker is a cluster.
    Quorum,
}

impl QueueType {
    /// As in the argument `x-queue-type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
        }
    }
}

/// A broker's URL. It holds a password, so `Debug`, `Display` and `Serialize` write `***` instead.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct AmqpUrl(String);

impl AmqpUrl {
    /// The URL as given; checked by [`Config::problems`].
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// Reads the parts. The error names no part of the URL.
    pub(crate) fn parse(&self) -> Result<AMQPUri, String> {
        self.0
            .parse()
            .map_err(|_| "not a URL of the form amqp://user:password@host:port/vhost".to_owned())
    }
}

impl fmt::Display for AmqpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The password ends at the last `@` of the authority, so that one with `@` in it stays
        // hidden, and the query may carry secrets too.
        let Some((scheme, rest)) = self.0.split_once("://") else {
            return f.write_str("***");
        };
        let rest = rest.split('?').next().unwrap_or_default();
        match rest.rsplit_once('@') {
            Some((userinfo, host)) => {
                let user = userinfo.split(':').next().unwrap_or_default();
                write!(f, "{scheme}://{user}:***@{host}")
            }
            None => write!(f, "{scheme}://{rest}"),
        }
    }
}

impl fmt::Debug for AmqpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AmqpUrl({self})")
    }
}

impl Serialize for AmqpUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_never_written() {
        for (url, shown) in [
            ("amqp://u:hunter2@h:1/%2f", "amqp://u:***@h:1/%2f"),
            ("amqp://u:hun@ter2@h/v?x=hunter2", "amqp://u:***@h/v"),
            ("amqp://h:1", "amqp://h:1"),
            ("hunter2", "***"),
        ] {
            let config = Config {
                url: AmqpUrl::new(url),
                ..Config::default()
            };
            assert_eq!(config.url.to_string(), shown);
            let written = serde_json::to_string(&config).expect("serialises");
            assert!(!written.contains("ter2") && !format!("{config:?}").contains("ter2"));
        }
    }

    #[test]
    fn every_problem_is_told_at_once_and_the_defaults_have_none() {
        assert!(Config::default().problems().is_empty());
        let config = Config {
            url: AmqpUrl::new("http://secret@x"),
            namespace: String::new(),
            node: "a b".to_owned(),
            heartbeat_s: 0,
            publish_window: 0,
            ..Config::default()
        };
        let problems = config.problems();
        assert_eq!(problems.len(), 5, "{problems:?}");
        assert!(!problems.concat().contains("secret"));
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(serde_json::from_str::<Config>(r#"{"command_queue_type":"quorum"}"#).is_ok());
        assert!(serde_json::from_str::<Config>(r#"{"colour":"red"}"#).is_err());
    }
}
