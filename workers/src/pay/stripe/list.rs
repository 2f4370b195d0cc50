//! What the provider lists: pages, newest first, each asked for by the last id of the one before.

use super::{Classified, Client, Intent, IntentId, Operation, Refund, classify};
use reqwest::Method;
use serde::Deserialize;

/// Objects of a page: as many as the provider gives.
const PAGE: usize = 100;

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Page<T> {
    /// The objects, newest first.
    pub data: Vec<T>,
    /// Whether there are older ones.
    #[serde(default)]
    pub has_more: bool,
}

impl Client {
    /// The refunds of an intent, newest first.
    ///
    /// # Errors
    /// As [`Client::create`]. [`Classified::Ambiguous`] too when there are more than a page of them: then
    /// it cannot be said what was given back.
    pub async fn refunds(&self, id: &IntentId) -> Result<Vec<Refund>, Classified> {
        let path = format!("/v1/refunds?payment_intent={id}&limit={PAGE}");
        let page: Page<Refund> = self.list(&path).await?;
        if page.has_more {
            return Err(Classified::Ambiguous);
        }
        Ok(page.data)
    }

    /// A page of the intents made since a time (seconds since 1970), their charges expanded; `after` is the
    /// last one of the page before.
    ///
    /// # Errors
    /// As [`Client::create`].
    pub async fn intents(
        &self,
        since: i64,
        after: Option<&IntentId>,
    ) -> Result<Page<Intent>, Classified> {
        let after = after.map_or_else(String::new, |id| format!("&starting_after={id}"));
        let path = format!(
            "/v1/payment_intents?limit={PAGE}&created[gte]={since}&expand[]=data.latest_charge{after}"
        );
        self.list(&path).await
    }

    async fn list<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Page<T>, Classified> {
        let sending = self.send(Method::GET, path, None, None);
        let listed = self.timed(Operation::Retrieve, sending).await;
        listed.map_err(|failure| classify(Operation::Retrieve, failure.answer))
    }
}
