//! The configuration of every role: the sections that the crates define, side by side.
//!
//! One file and one environment serve all roles, so the whole is read and a misspelt key of any
//! section is a problem everywhere. Values are judged only in the sections that a role uses: the
//! payment simulator needs no secret of the gateway.

use std::path::Path;

use anyhow::anyhow;
use runtime::{
    Secret,
    config::{self, ConfigErrors},
};
use serde::{Deserialize, Serialize};

use crate::{crash, failure::Failure};

/// The variable that names the configuration's file.
pub(crate) const CONFIG_VARIABLE: &str = "GUICHET_CONFIG";

/// The variables that are none of a section.
const ALLOWED: &[&str] = if contract::crash::BUILT_IN {
    &[CONFIG_VARIABLE, crash::VARIABLE]
} else {
    &[CONFIG_VARIABLE]
};

/// All sections.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) log: runtime::telemetry::Config,
    pub(crate) admin: runtime::admin::Config,
    pub(crate) database: Database,
    pub(crate) amqp: bus::Config,
    pub(crate) gateway: gateway::Config,
    pub(crate) orchestrator: engine::Config,
    pub(crate) worker: workers::Config,
    pub(crate) fraud: workers::fraud_check::Config,
    pub(crate) pay: workers::pay::Config,
    pub(crate) issue: workers::issue::Config,
    pub(crate) mail: workers::notify::Config,
    pub(crate) psp: psp::Config,
}

/// The section `database`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Database {
    /// `postgres://user:password@host:port/database`.
    url: Secret,
    /// Connections of one process at most. 1 to 200.
    pool_max: usize,
    /// A statement that runs longer is cancelled by the server. 100 to 600,000.
    statement_timeout_ms: u64,
    /// How long a task waits for a free connection. 100 to 60,000.
    wait_timeout_ms: u64,
}

impl Default for Database {
    fn default() -> Self {
        let database::Config {
            pool_max,
            statement_timeout_ms,
            wait_timeout_ms,
            ..
        } = database::Config::new("", "");
        Self {
            url: Secret::default(),
            pool_max,
            statement_timeout_ms,
            wait_timeout_ms,
        }
    }
}

impl Database {
    /// For a process that calls itself `name` in the server's statistics.
    pub(crate) fn named(&self, name: &str) -> database::Config {
        database::Config {
            pool_max: self.pool_max,
            statement_timeout_ms: self.statement_timeout_ms,
            wait_timeout_ms: self.wait_timeout_ms,
            ..database::Config::new(self.url.expose(), format!("guichet {name}"))
        }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let scheme = url::Url::parse(self.url.expose()).map(|url| url.scheme().to_owned());
        if self.url.is_empty() {
            problems.push("url is missing: postgres://user:password@host:port/database".to_owned());
        } else if !matches!(scheme.as_deref(), Ok("postgres" | "postgresql")) {
            problems.push("url must be postgres://user:password@host:port/database".to_owned());
        }
        let wide = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        for (key, value, from, to) in [
            ("pool_max", wide(self.pool_max), 1, 200),
            (
                "statement_timeout_ms",
                self.statement_timeout_ms,
                100,
                600_000,
            ),
            ("wait_timeout_ms", self.wait_timeout_ms, 100, 60_000),
        ] {
            if !(from..=to).contains(&value) {
                problems.push(format!("{key} is {value}: must be {from} to {to}"));
            }
        }
        problems
    }
}

impl config::Sections for Config {
    fn problems(&self) -> Vec<(&'static str, Vec<String>)> {
        [
            ("log", self.log.problems()),
            ("database", self.database.problems()),
            ("amqp", self.amqp.problems()),
            ("gateway", self.gateway.problems()),
            ("orchestrator", self.orchestrator.problems()),
            ("worker", self.worker.problems()),
            ("fraud", self.fraud.problems()),
            ("pay", self.pay.problems()),
            ("issue", self.issue.problems()),
            ("mail", self.mail.problems()),
            ("psp", self.psp.problems()),
        ]
        .map(|(section, problems)| {
            // Some crates name the section, some do not.
            let prefix = format!("{section}.");
            let key = |problem: String| match problem.strip_prefix(&prefix) {
                Some(rest) => rest.to_owned(),
                None => problem,
            };
            (section, problems.into_iter().map(key).collect())
        })
        .to_vec()
    }
}

/// Reads it for somebody who uses these `sections` (and `log`, as everybody): the environment over the
/// file over the defaults.
///
/// # Errors
/// A usage failure with all problems, one a line.
pub(crate) fn load(file: Option<&Path>, sections: &[&str]) -> Result<Config, Failure> {
    read(file, config::environment(), sections)
        .map_err(|problems| Failure::usage(anyhow!("the configuration is wrong:\n{problems}")))
}

fn read(
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
    sections: &[&str],
) -> Result<Config, ConfigErrors> {
    let in_use = |section: &str| section == "log" || sections.contains(&section);
    config::load(file, env, ALLOWED, in_use)
}

/// What somebody who uses these sections is told of an environment.
#[cfg(test)]
pub(crate) fn problems_of(sections: &[&str], pairs: &[(&str, &str)]) -> Result<Config, String> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    read(None, pairs.iter().map(owned), sections).map_err(|problems| problems.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, String> {
        problems_of(&["database", "psp"], pairs)
    }

    #[test]
    fn only_the_sections_in_use_are_judged() {
        // The gateway's secret is missing too, and that is nobody's business here.
        let problems = read(&[]).expect_err("a database is needed");
        assert_eq!(problems.lines().count(), 1, "{problems}");
        assert!(problems.contains("url is missing"), "{problems}");
        let url = ("GUICHET_DATABASE_URL", "postgres://u:hidden@h/d");
        let config = read(&[url]).expect("sound");
        assert_eq!(config.database.named("x").url, "postgres://u:hidden@h/d");
        assert!(!format!("{config:?}").contains("hidden"));
    }

    #[test]
    fn a_misspelt_key_is_a_problem_everywhere_and_all_are_told() {
        let problems = read(&[
            ("GUICHET_DATABASE_URL", "mysql://hidden@h"),
            ("GUICHET_DATABASE_POOL_MAX", "0"),
            ("GUICHET_GATEWAY_ADRESS", "x"),
        ])
        .expect_err("three mistakes");
        assert_eq!(problems.lines().count(), 3, "{problems}");
        assert!(problems.contains("GUICHET_GATEWAY_ADRESS"), "{problems}");
        assert!(!problems.contains("hidden"), "{problems}");
    }
}
