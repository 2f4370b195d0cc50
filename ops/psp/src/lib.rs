//! A payment-provider simulator that speaks the subset of Stripe's API that Guichet uses: PaymentIntents with
//! automatic and manual capture and with authentication, refunds, charges, payment methods and events, behind
//! Stripe's idempotency keys and error shapes, so that Stripe's own client libraries can drive it.
//!
//! What it does beyond Stripe is under `/_sim`, without authentication: its ledger of money movements
//! (`/_sim/ledger`), planned faults (`/_sim/faults`) and the page on which payers authenticate.
//!
//! How a request runs: it is read (module `call`) without looking at any state; its idempotency key and the
//! planned faults are looked up; the pure `step` decides; the change and its answer are appended to the
//! ledger's file in one write; memory follows; the answer goes out. All state is behind one lock that is held
//! for some microseconds and never across an await, so requests take effect one after the other. A request
//! that has to wait first (latency, a slow fault) waits in a task of its own: as at a real provider it takes
//! effect even if its client has given up.
//!
//! Where it is more lenient than Stripe: a payment method may be used for several payments without a
//! customer, parameters that have no meaning here are tolerated, and amounts have one minimum (50) in every
//! currency. Plans of faults and webhooks that still wait are not in the file and end with the process.
//!
//! It guarantees by not knowing orders, tickets or any other part of Guichet that its ledger is independent
//! evidence of what was charged.

mod beside;
mod call;
mod cards;
mod config;
mod error;
mod execute;
mod faults;
mod form;
mod http_api;
mod id;
mod intent;
mod journal;
mod keys;
mod list;
mod observe;
mod pages;
mod refund;
mod server;
mod sim_api;
mod step;
#[cfg(test)]
mod step_properties;
mod store;
mod view;
mod webhooks;

use std::path::PathBuf;

pub use config::Config;
pub use server::run;

/// Why the simulator could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration has problems, all of which are listed.
    #[error("the configuration of the payment simulator is wrong: {}", .0.join("; "))]
    Config(Vec<String>),
    /// The ledger's file could not be opened, read or written.
    #[error("the ledger {path} cannot be used")]
    Ledger {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process writes the ledger.
    #[error("the ledger {path} is in use by another process")]
    LedgerInUse {
        /// The file.
        path: PathBuf,
    },
    /// The file exists and is no ledger. It was left as it is.
    #[error("{path} is not a ledger of the payment simulator; it was left as it is")]
    LedgerForeign {
        /// The file.
        path: PathBuf,
    },
    /// A record in the middle of the file cannot be read. The file was left as it is.
    #[error("the ledger {path} is corrupt at line {line} (byte {offset}): {reason}")]
    LedgerCorrupt {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// Where the line starts, in bytes.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The client that sends webhooks could not be made.
    #[error("the webhook client cannot be made")]
    WebhookClient(#[source] reqwest::Error),
    /// The listener has no address.
    #[error("the listener cannot be used")]
    Listener(#[source] std::io::Error),
}
