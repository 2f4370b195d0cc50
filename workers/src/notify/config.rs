//! The section `mail` of the configuration.

use runtime::Secret;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How mails leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransportKind {
    /// Each mail becomes a file in `mail.directory`.
    File,
    /// To the server of `mail.smtp_url`.
    Smtp,
}

/// The section `mail`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `file` or `smtp`.
    pub transport: TransportKind,
    /// Of the transport `file`: an existing directory. Start-up makes it, sending does not: one that
    /// is away is a mail server that is down.
    pub directory: PathBuf,
    /// Of the transport `smtp`: `smtps://USER:PASSWORD@HOST[:PORT]` (TLS from the first byte), or
    /// `smtp://…?tls=required` (STARTTLS), `?tls=opportunistic`, or without for no TLS at all.
    /// `mail.smtp_url_file` reads it from a file.
    pub smtp_url: Option<Secret>,
    /// The sender, `Name <address>`. Its domain is that of the Message-IDs, so all processes need
    /// the same.
    pub from: String,
    /// How long one mail may take in all, in milliseconds.
    pub timeout_ms: u64,
    /// How many mails are sent at the same time, over as many connections.
    pub connections_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            transport: TransportKind::File,
            directory: PathBuf::from(".guichet/mail"),
            smtp_url: None,
            from: "Guichet <tickets@guichet.example>".to_owned(),
            timeout_ms: 10_000,
            connections_max: 8,
        }
    }
}

impl Config {
    /// What is wrong with it, one sentence each, beginning with the key; empty when it is sound.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Err(error) = self.from.parse::<lettre::message::Mailbox>() {
            problems.push(format!("mail.from is not `Name <address>`: {error}"));
        }
        match (self.transport, &self.smtp_url) {
            (TransportKind::Smtp, None) => {
                problems.push("mail.smtp_url is missing: mail.transport is smtp".to_owned());
            }
            (TransportKind::Smtp, Some(url)) => {
                if let Err(error) = super::transport::smtp(url.expose(), self.timeout()) {
                    problems.push(format!("mail.smtp_url cannot be used: {error}"));
                }
            }
            (TransportKind::File, _) if self.directory.as_os_str().is_empty() => {
                problems.push("mail.directory is empty".to_owned());
            }
            (TransportKind::File, _) => {}
        }
        if !(100..=60_000).contains(&self.timeout_ms) {
            problems.push(format!(
                "mail.timeout_ms is {}: must be 100 to 60000",
                self.timeout_ms
            ));
        }
        if !(1..=256).contains(&self.connections_max) {
            problems.push(format!(
                "mail.connections_max is {}: must be 1 to 256",
                self.connections_max
            ));
        }
        problems
    }

    pub(super) fn timeout(&self) -> std::time::Duration {
        std::time::Duration::from_millis(self.timeout_ms)
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
    fn every_problem_is_told_at_once_and_no_password() {
        let config = Config {
            transport: TransportKind::Smtp,
            smtp_url: Some(Secret::new("http://user:hidden@host".to_owned())),
            from: "nobody".into(),
            timeout_ms: 1,
            connections_max: 0,
            ..Config::default()
        };
        let problems = config.problems();
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(!problems.concat().contains("hidden"));
        assert!(!format!("{config:?}").contains("hidden"));
    }
}
