//! What is done about a difference without a person.

use inspector::{
    audit::{self, Entry},
    reconcile::{self, Difference, Remedy},
};
use serde_json::json;
use workers::pay::stripe::IntentId;

use super::books::{Books, patiently};
use crate::{failure::Failure, operator::intervention::refused};

impl Books {
    /// Looks once more, and does what may be done. The audit log has it before the provider hears of it.
    pub(super) async fn settle(
        &mut self,
        difference: &Difference,
        age_s: i64,
        actor: &str,
        reason: &str,
    ) -> Result<&'static str, Failure> {
        let Some(id) = difference.payment_intent.as_deref().and_then(IntentId::new) else {
            return Ok("left");
        };
        let Some(payment) = self.retrieve(id.as_str()).await? else {
            return Ok("left");
        };
        let ids = payment.order.into_iter().collect();
        let orders = reconcile::orders(&mut self.connection, ids).await;
        let orders = orders.map_err(refused)?;
        let now = self.now().await?;
        let Some(remedy) = reconcile::remedy(&payment, orders.first(), now, age_s) else {
            return Ok("left");
        };
        let (action, amount_minor) = match remedy {
            Remedy::Refund(minor) => ("reconcile.refund", minor),
            Remedy::Cancel => ("reconcile.cancel", payment.amount_minor),
        };
        let entry = Entry {
            actor: actor.to_owned(),
            action: action.to_owned(),
            subject: payment.order,
            reason: reason.to_owned(),
            detail: json!({
                "difference": difference.kind,
                "payment_intent": id.as_str(),
                "amount_minor": amount_minor,
                "currency": payment.currency,
            }),
        };
        audit::record(&mut self.connection, entry)
            .await
            .map_err(refused)?;
        // The same refund however often it is asked for, until there is one: the provider repeats the
        // answer of a key, and a refund that failed needs another.
        let before = patiently(async || self.client.refunds(&id).await).await?;
        let key = format!("reconcile/{id}/{}", before.len());
        let done = match remedy {
            Remedy::Refund(minor) => patiently(async || self.client.refund(&key, &id, minor).await)
                .await
                .map(|refund| match &*refund.status {
                    "succeeded" => "refunded",
                    "pending" | "requires_action" => "refund_pending",
                    _ => "failed",
                }),
            Remedy::Cancel => patiently(async || self.client.cancel(&key, &id).await)
                .await
                .map(|_| "cancelled"),
        };
        Ok(done.unwrap_or_else(|failure| {
            tracing::warn!(%failure, payment_intent = %id, "a difference could not be settled");
            "failed"
        }))
    }
}
