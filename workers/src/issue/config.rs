//! The section `issue` of the configuration.

use super::code::{BadKey, Signatory};
use runtime::Secret;
use serde::{Deserialize, Serialize};

/// What issuing tickets needs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The Ed25519 private key that signs tickets: PKCS#8 in PEM, or a seed of 32 bytes as 64
    /// hexadecimal digits or base64. There is no default: whoever has the key makes tickets.
    pub signing_key: Secret,
}

impl Config {
    /// What is wrong with the configuration, one line for each problem; empty when it is fine.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        if self.signing_key.is_empty() {
            return vec!["issue.signing_key: is required to issue tickets".to_owned()];
        }
        let read = self.signatory();
        read.err()
            .map(|error| format!("issue.signing_key: {error}"))
            .into_iter()
            .collect()
    }

    /// The key.
    ///
    /// # Errors
    /// It is none; [`Config::problems`] says so too.
    pub fn signatory(&self) -> Result<Signatory, BadKey> {
        Signatory::read(self.signing_key.expose())
    }
}
