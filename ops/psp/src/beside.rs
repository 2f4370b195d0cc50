//! What happens to payments without a call of the API: the payer's answer on the bank's page, and a refund
//! whose time has come.

use std::sync::Arc;

use crate::error::StripeError;
use crate::id;
use crate::intent::Intent;
use crate::refund::settled;
use crate::step::{Command, step};
use crate::store::{Answer, Change, Event, Store};

impl Store {
    /// Ends one refund whose time has come; `None` if there is none, or it cannot be written.
    pub(crate) fn settle_refund(&mut self, clock_ms: i64) -> Option<Vec<Event>> {
        let now_ms = self.now_ms(clock_ms);
        let refund = Arc::clone(self.books().refund_due(now_ms)?);
        let transition = settled(self.books().intent(&refund.intent)?, &refund)?;
        let mut change = Change::new(now_ms, id::fresh("req", rand::random()));
        change.moved(transition, None);
        match self.commit(change, None, &Answer::new(204, Vec::new())) {
            Ok(events) => Some(events),
            Err(error) => {
                tracing::error!(%error, "the ledger could not be written; a refund stays as it is");
                None
            }
        }
    }

    /// Settles an authentication: the payer's answer on the bank's page. `Err` if the intent does not wait for one.
    pub(crate) fn authenticate(
        &mut self,
        intent: &Intent,
        approved: bool,
        request_id: String,
        clock_ms: i64,
    ) -> Result<Vec<Event>, StripeError> {
        let now_ms = self.now_ms(clock_ms);
        let transition = step(intent, Command::Authenticate { approved }, now_ms / 1000)?;
        let mut change = Change::new(now_ms, request_id);
        change.moved(transition, None);
        let nothing = Answer::new(204, Vec::new());
        self.commit(change, None, &nothing).map_err(|error| {
            tracing::error!(%error, "the ledger could not be written; the authentication had no effect");
            StripeError::api("The simulator's ledger cannot be written.")
        })
    }
}
