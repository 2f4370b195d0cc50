//! What the routes share, and the process around them.

use crate::{
    Config,
    catalogue::Catalogue,
    http::{Clients, Cors, Limits},
    orders::{Orders, forget_old_keys},
    routes,
    signals::Signals,
};
use database::Pool;
use std::{sync::Arc, time::Duration};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The state behind the routes.
pub struct App {
    /// As given.
    pub config: Config,
    /// Connections to PostgreSQL.
    pub pool: Pool,
    /// What is sold.
    pub catalogue: Arc<Catalogue>,
    pub(crate) orders: Orders,
    pub(crate) signals: Arc<Signals>,
    pub(crate) clients: Clients,
    pub(crate) cors: Cors,
    pub(crate) limits: Limits,
}

impl App {
    /// A state with nothing in it yet; [`Catalogue::run`] must run beside the routes. Orders start
    /// sagas by `client`, which are shown by `definitions`; streams end with `shutdown`.
    #[must_use]
    pub fn new(
        config: Config,
        pool: Pool,
        client: engine::Client,
        definitions: engine::definitions::Definitions,
        shutdown: CancellationToken,
    ) -> Arc<Self> {
        let signals = Arc::new(Signals::start(pool.clone(), client.clone()));
        Arc::new(Self {
            orders: Orders::new(
                &config,
                pool.clone(),
                client,
                definitions,
                Arc::clone(&signals),
                shutdown,
            ),
            signals,
            catalogue: Arc::new(Catalogue::new(pool.clone())),
            clients: Clients {
                trusted_proxies: config.trusted_proxies.clone(),
            },
            cors: Cors {
                origins: config.cors_origins.clone(),
            },
            limits: Limits::new(
                config.read_limit_per_minute,
                config.order_limit_per_minute,
                config.rate_limit_exempt.clone(),
            ),
            config,
            pool,
        })
    }
}

/// Serves the API on `listener` until `shutdown`, and what it needs in the background.
pub async fn run(app: Arc<App>, listener: TcpListener, shutdown: CancellationToken) {
    let catalogue = Arc::clone(&app.catalogue);
    let limits = runtime::http::Limits {
        max_connections: app.config.connections_max,
        max_body_bytes: app.config.body_max_bytes,
        drain_deadline: Duration::from_millis(app.config.drain_deadline_ms),
        ..runtime::http::Limits::default()
    };
    // In one task: if the refresher panics, the process must not go on with an ageing copy.
    tokio::join!(
        catalogue.run(shutdown.clone()),
        forget_old_keys(
            &app.pool,
            app.config.idempotency_keep_hours,
            shutdown.clone()
        ),
        runtime::http::serve(listener, routes(&app), limits, shutdown),
    );
}
