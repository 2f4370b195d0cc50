//! Orders: taken, shown, streamed.
//!
//! Taking one is a race that clients are invited to run: whoever does not hear an answer sends the
//! same order again, with the same key, perhaps to another gateway, perhaps while the first is still
//! being written. The unique insert of the key decides, in the transaction that writes the order and
//! starts its saga: one wins, and the others answer what he answered, made of the same stored rows.
//! Only what was accepted binds the key. After the commit the answer is 202 whatever the bus does.

mod cancel;
mod forget;
mod intake;
mod key;
mod read;
mod request;
mod routes;
mod show;
mod store;
mod stream;
mod token;
mod watch;

pub(crate) use forget::run as forget_old_keys;
pub(crate) use routes::{Docs, routes};

use crate::{Config, http::ApiError, signals::Signals};
use contract::ProblemCode;
use database::Pool;
use intake::Intake;
use std::sync::Arc;
use token::Tokens;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use watch::Watch;

/// After how many seconds somebody who met too much work is invited to come back.
const OVERLOADED_AGAIN_S: u32 = 2;

/// What the routes of orders share.
pub(crate) struct Orders {
    pub(crate) intake: Intake,
    pub(crate) tokens: Tokens,
    pub(crate) watch: Watch,
    pub(crate) definitions: engine::definitions::Definitions,
    pub(crate) signals: Arc<Signals>,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) shutdown: CancellationToken,
}

impl Orders {
    /// Starts what they need in the background, on the current runtime. Streams end when `shutdown`
    /// is cancelled.
    #[must_use]
    pub(crate) fn new(
        config: &Config,
        pool: Pool,
        client: engine::Client,
        definitions: engine::definitions::Definitions,
        signals: Arc<Signals>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            watch: Watch::start(client.events(), shutdown.clone()),
            intake: Intake::start(pool, client, config),
            tokens: Tokens::new(&config.order_token_secret),
            definitions,
            signals,
            streams: Arc::new(Semaphore::new(config.streams_max)),
            shutdown,
        }
    }
}

/// Something is at its limit; nothing was written.
fn overloaded(detail: &str) -> ApiError {
    ApiError::new(ProblemCode::Overloaded, detail).retry_after_s(OVERLOADED_AGAIN_S)
}
