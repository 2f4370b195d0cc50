//! The section `pay` of the configuration.

use super::{
    SetupError,
    stripe::{Client, Settings},
};
use contract::OrderId;
use runtime::Secret;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use url::Url;

/// The section `pay`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the provider's API is, without `/v1`: `https://api.stripe.com`, or the simulator.
    pub provider_url: String,
    /// The provider's secret key; `pay.secret_key_file` reads it from a file. The default is for the
    /// simulator, which takes any test key.
    pub secret_key: Secret,
    /// Where the customer comes back to after authenticating a payment; `{order_id}` is filled in. A page of the
    /// shop, which knows his order's token and hands `redirect_status` on to the gateway. The default is the
    /// gateway itself: it has the payment looked at, and without a token shows nothing.
    pub return_url: String,
    /// How long connecting to the provider may take, in milliseconds.
    pub connect_timeout_ms: u64,
    /// How long one request to the provider may take in all, in milliseconds. Beyond it the outcome
    /// is not known and has to be asked for.
    pub timeout_ms: u64,
    /// How many idle connections to the provider are kept.
    pub idle_connections_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            provider_url: "http://127.0.0.1:8082".to_owned(),
            secret_key: Secret::new("sk_test_guichet".to_owned()),
            return_url: "http://127.0.0.1:8080/v1/orders/{order_id}".to_owned(),
            connect_timeout_ms: 2_000,
            timeout_ms: 10_000,
            idle_connections_max: 64,
        }
    }
}

impl Config {
    /// What is wrong with it, one sentence each, beginning with the key; empty when it is sound.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let key = self.secret_key.expose();
        match self.provider_url.parse::<Url>() {
            Ok(url) if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() => {
                problems.push("pay.provider_url is not an http or https address".to_owned());
            }
            // A live key over plain HTTP is given away.
            Ok(url) if url.scheme() == "http" && !key.starts_with("sk_test_") => {
                problems.push(
                    "pay.provider_url must be https: only keys that begin with sk_test_ may go over http"
                        .to_owned(),
                );
            }
            Ok(_) => {}
            Err(error) => problems.push(format!("pay.provider_url is not an address: {error}")),
        }
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) {
            problems.push("pay.secret_key is empty or has characters that no key has".to_owned());
        }
        let filled = self.return_url.replace("{order_id}", "x");
        if !filled
            .parse::<Url>()
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
        {
            problems.push("pay.return_url is not an http or https address".to_owned());
        }
        for (name, value, range) in [
            ("connect_timeout_ms", self.connect_timeout_ms, 50..=30_000),
            ("timeout_ms", self.timeout_ms, 100..=80_000),
        ] {
            if !range.contains(&value) {
                let (low, high) = range.into_inner();
                problems.push(format!("pay.{name} is {value}: must be {low} to {high}"));
            }
        }
        if self.idle_connections_max > 1_024 {
            problems.push(format!(
                "pay.idle_connections_max is {}: must be at most 1024",
                self.idle_connections_max
            ));
        }
        problems
    }

    /// A client of the provider; it is not spoken to yet.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn client(&self) -> Result<Client, SetupError> {
        Ok(Client::new(&self.settings()?, self.secret_key.expose())?)
    }

    /// How to reach the provider.
    ///
    /// # Errors
    /// [`Self::provider_url`] is no address; [`Self::problems`] says so too.
    fn settings(&self) -> Result<Settings, url::ParseError> {
        Ok(Settings {
            url: self.provider_url.parse()?,
            connect_timeout: Duration::from_millis(self.connect_timeout_ms),
            timeout: Duration::from_millis(self.timeout_ms),
            idle_connections_max: self.idle_connections_max,
        })
    }

    pub(super) fn return_url_of(&self, order: OrderId) -> String {
        self.return_url.replace("{order_id}", &order.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_sound() {
        assert_eq!(Config::default().problems(), Vec::<String>::new());
    }

    #[test]
    fn a_live_key_never_goes_over_plain_http() {
        let mut config = Config {
            secret_key: Secret::new("sk_live_hidden".to_owned()),
            ..Config::default()
        };
        assert_eq!(config.problems().len(), 1);
        assert!(!config.problems()[0].contains("hidden"));
        config.provider_url = "https://api.stripe.com".to_owned();
        assert_eq!(config.problems(), Vec::<String>::new());
        assert!(!format!("{config:?}").contains("hidden"));
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let config = Config {
            provider_url: "ftp://x".into(),
            secret_key: Secret::new("a b".to_owned()),
            return_url: "javascript:alert(1)".into(),
            connect_timeout_ms: 0,
            timeout_ms: 1,
            idle_connections_max: 9_999,
        };
        assert_eq!(config.problems().len(), 6);
    }
}
