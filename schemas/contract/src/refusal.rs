//! Why an order was refused: stable codes with a sentence for the customer.

use serde::{Deserialize, Serialize};

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $message:literal;)+) => {
        /// The reason of a refusal or cancellation. The set grows; a reader keeps unknown codes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Refusal {
            $($(#[$doc])* #[serde(rename = $code)] $name,)+
        }

        impl Refusal {
            /// All of them, for documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The stable code.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// One sentence for the customer.
            #[must_use]
            pub fn message(self) -> &'static str {
                match self { $(Self::$name => $message,)+ }
            }

            /// The refusal with this code.
            #[must_use]
            pub fn from_code(code: &str) -> Option<Self> {
                match code { $($code => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

refusals! {
    /// Fewer places are left than asked for.
    SoldOut = "sold_out", "Fewer places are left than you asked for.";
    /// The offer or its event is not on sale.
    NotOnSale = "not_on_sale", "This event is not on sale.";
    /// The event was cancelled before the ticket could be issued.
    EventCancelled = "event_cancelled", "The event was cancelled.";
    /// A purchase limit of the account, e-mail or event would be exceeded.
    LimitExceeded = "limit_exceeded", "This order exceeds a purchase limit.";
    /// The fraud rules refused the order.
    FraudRefused = "fraud_refused", "This order could not be accepted.";
    /// A reviewer refused the order.
    ReviewRejected = "review_rejected", "This order was refused after a review.";
    /// The review took longer than it may.
    ReviewExpired = "review_expired", "The review of this order was not finished in time.";
    /// The payment method was declined.
    CardDeclined = "card_declined", "The payment was declined.";
    /// The card lacks the funds.
    InsufficientFunds = "insufficient_funds", "The payment was declined: insufficient funds.";
    /// The card expired.
    ExpiredCard = "expired_card", "The payment was declined: the card has expired.";
    /// The payment method is unknown to the provider, or cannot be used.
    PaymentMethodInvalid = "payment_method_invalid", "This payment method cannot be used.";
    /// The customer did not authenticate the payment.
    AuthenticationFailed = "authentication_failed", "The payment was not authenticated.";
    /// The payment could not be made in time.
    PaymentUnavailable = "payment_unavailable", "The payment could not be made in time.";
    /// The order took longer than it may.
    DeadlineExceeded = "deadline_exceeded", "The order could not be completed in time.";
    /// A step kept failing.
    StepFailed = "step_failed", "The order could not be completed.";
    /// The customer cancelled.
    CustomerCancelled = "customer_cancelled", "You cancelled this order.";
    /// An operator ended the order.
    OperatorEnded = "operator_ended", "This order was ended by the organiser.";
    /// The way in which the order was processed was withdrawn.
    DefinitionWithdrawn = "definition_withdrawn",
        "This order could not be completed because of a change on our side. Please order again.";
    /// The effect was already undone when the command arrived.
    Undone = "undone", "This order was already being cancelled.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_lead_back_to_their_refusal() {
        for &refusal in Refusal::ALL {
            assert_eq!(Refusal::from_code(refusal.code()), Some(refusal));
            assert!(
                refusal.code().len() <= 40,
                "the saga row keeps 40 characters"
            );
        }
    }
}
