//! The step `notify`: sends the buyer his tickets.
//!
//! E-mail has no protocol that makes a mail come once: between a server's taking it and our noting
//! that it did, there is always room for a kill. So a mail is sent at least once, each time with the
//! same Message-ID, by which mail readers and servers fold repeats. (Of the transport `file` the
//! second file takes the place of the first.)
//!
//! A mail server that is down is no reason to refuse: the verdict is `retry`, for as long as it takes,
//! and the tickets stay sold. Only what can never be sent (an address that is none, a recipient whom the
//! server refuses for good) is `rejected`, which puts the order before a person; it is not undone. He may
//! correct the address ([`CORRECTABLE`]), and the mail is sent there. The order keeps what its customer
//! wrote.
//!
//! The mail is in the order's language; all the languages are in `locales/`.

mod compose;
mod config;
mod language;
mod read;
mod render;
mod text;
mod transport;

pub use compose::{ComposeError, compose};
pub use config::{Config, TransportKind};
pub use language::Language;
pub use render::{Confirmation, Name, Rendered, Ticket, render};
pub use transport::{SendError, SetupError, Transport};

use crate::{
    Error,
    kit::{Claim, OutsideStep, Verdict},
    ledger::Ledger,
};
use contract::{Correctable, SagaId, StepKind, StepName, correction::Field, is_email};
use database::Connection;
use lettre::message::Mailbox;
use serde_json::json;
use std::{collections::HashMap, time::SystemTime};

/// What a person may correct: where the mail goes.
pub const CORRECTABLE: Correctable = Correctable {
    step: StepName::NOTIFY,
    kind: StepKind::Do,
    fields: &[Field {
        name: "email",
        expects: "an e-mail address",
        is_good: is_email,
    }],
};

/// The step.
#[derive(Debug)]
pub struct Notify {
    transport: Transport,
    from: Mailbox,
}

/// Why the step cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The sender is none.
    #[error("mail.from is not `Name <address>`")]
    From(#[from] lettre::address::AddressError),
    /// Mails cannot be sent at all.
    #[error(transparent)]
    Transport(#[from] SetupError),
}

impl Notify {
    /// Makes the step, and the directory of the transport `file`.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn new(config: &Config) -> Result<Self, StartError> {
        Ok(Self {
            transport: Transport::open(config)?,
            from: config.from.parse()?,
        })
    }

    /// Sends the mail of an order.
    async fn send(&self, order: &Confirmation) -> Verdict {
        if order.tickets.is_empty() {
            // Issued, but not to be seen yet from here, or all revoked since.
            return Verdict::retry(
                "tickets_missing",
                "The order has no valid ticket to be sent.",
            );
        }
        let message = match compose(order, &self.from, SystemTime::now()) {
            Ok(message) => message,
            Err(ComposeError::Recipient) => {
                return Verdict::rejected("recipient_invalid", "The address cannot be written to.");
            }
            Err(error @ ComposeError::Parts(_)) => {
                tracing::error!(order_id = %order.order_id, %error, "a mail cannot be put together");
                return Verdict::rejected("mail_invalid", "The mail cannot be put together.");
            }
        };
        match self.transport.send(order.order_id.0, &message).await {
            Ok(()) => Verdict::Done(Some(json!({ "tickets": order.tickets.len() }))),
            Err(error @ SendError::Transient(_)) => {
                tracing::warn!(order_id = %order.order_id, %error, "a mail waits");
                Verdict::retry("mail_unavailable", "The mail could not be sent now.")
            }
            Err(error @ SendError::Refused { status }) => {
                tracing::warn!(order_id = %order.order_id, %error, "a mail is given up");
                let message = format!("The mail server refused the mail (SMTP {status}).");
                Verdict::rejected("mail_refused", &message)
            }
        }
    }
}

impl OutsideStep for Notify {
    type Input = Confirmation;

    fn name(&self) -> StepName {
        StepName::NOTIFY
    }

    /// Enough that no connection stands idle while the next mails are claimed, and so few that nobody waits
    /// for a connection longer than a few mails take: that would look like a mail server that is away.
    fn at_once_max(&self) -> usize {
        4 * self.transport.connections_max()
    }

    async fn load(
        &self,
        connection: &mut Connection,
        claims: &[Claim],
    ) -> Result<HashMap<SagaId, Confirmation>, Error> {
        read::confirmations(connection, claims.iter().map(Claim::order_id)).await
    }

    async fn act(&self, _: &Claim, order: &Confirmation, _: &Ledger) -> Result<Verdict, Error> {
        Ok(self.send(order).await)
    }

    /// A mail cannot be called back. No definition asks for it: what follows the pivot only goes
    /// forward.
    async fn undo(&self, _: &Claim, _: &Confirmation, _: &Ledger) -> Result<Verdict, Error> {
        Ok(Verdict::rejected(
            "mail_is_out",
            "A mail that was sent cannot be called back.",
        ))
    }

    async fn probe(&self, _: &Claim, _: &Confirmation, _: &Ledger) -> Result<Verdict, Error> {
        Ok(Verdict::unknown(
            "mail_not_known",
            "Nobody can say whether a mail has left.",
        ))
    }
}
