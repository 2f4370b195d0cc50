//! A gateway with a database of its own, called without a socket.

use ::http::{Response, StatusCode};
use bus::{Bus, testing::TestNamespace};
use bytes::Bytes;
use contract::Incarnation;
use database::{Pool, testing::TestDatabase};
use diesel_async::SimpleAsyncConnection;
use gateway::{
    App, Config,
    catalogue::{LoadOptions, Source, load},
};
use runtime::http::PeerAddr;
use serde_json::Value;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A deadline for what should happen soon, far above what it takes.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Gateway {
    pub(crate) app: Arc<App>,
    pub(crate) database: TestDatabase,
    pub(crate) namespace: TestNamespace,
    pub(crate) bus: Bus,
    _stop: DropGuard,
}

impl Gateway {
    /// With Paris 2024 on sale and no limits.
    pub(crate) async fn start() -> Self {
        Self::with(Config {
            rate_limit_exempt: vec!["0.0.0.0/0".parse().unwrap()],
            ..config()
        })
        .await
    }

    pub(crate) async fn with(config: Config) -> Self {
        let database = TestDatabase::create().await;
        let mut connection = database.connection().await;
        let source = Source::embedded().unwrap();
        load(&mut connection, &source, LoadOptions::default())
            .await
            .unwrap();
        let stop = CancellationToken::new();
        let namespace = TestNamespace::new();
        let (app, bus) = app(config, &database, database.pool(), &namespace, &stop).await;
        let (catalogue, stopped) = (Arc::clone(&app.catalogue), stop.clone());
        tokio::spawn(async move { catalogue.run(stopped).await });
        Self {
            app,
            database,
            namespace,
            bus,
            _stop: stop.drop_guard(),
        }
    }

    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Response<Bytes> {
        let peer = PeerAddr("198.51.100.1:4000".parse().unwrap());
        let mut request = warp::test::request()
            .method(method)
            .path(path)
            .extension(peer);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.reply(&gateway::routes(&self.app)).await
    }

    /// The JSON of an answer that must be 200.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let response = self.call("GET", path, &[]).await;
        let body = String::from_utf8_lossy(response.body()).into_owned();
        assert_eq!(response.status(), StatusCode::OK, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    pub(crate) async fn post(
        &self,
        path: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> Response<Bytes> {
        let mut request = warp::test::request().method("POST").path(path).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.reply(&gateway::routes(&self.app)).await
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.database
            .connection()
            .await
            .batch_execute(sql)
            .await
            .unwrap();
    }
}

/// The state behind the routes, reading by `pool` and starting sagas in `database`.
pub(crate) async fn app(
    config: Config,
    database: &TestDatabase,
    pool: Pool,
    namespace: &TestNamespace,
    stop: &CancellationToken,
) -> (Arc<App>, Bus) {
    let definitions = engine::definitions::Definitions::ours();
    let mut connection = database.connection().await;
    engine::definitions::register(&mut connection, &definitions)
        .await
        .unwrap();
    let incarnation = Incarnation(database::incarnation(&mut connection).await.unwrap());
    let bus = Bus::start(namespace.config(), incarnation, stop.child_token());
    let client = engine::Client::new(&database.pool(), bus.clone(), &definitions, 1)
        .await
        .unwrap();
    let app = App::new(config, pool, client, definitions, stop.child_token());
    (app, bus)
}

pub(crate) fn config() -> Config {
    Config {
        order_token_secret: "x".repeat(32).into(),
        ..Config::default()
    }
}

pub(crate) fn json(response: &Response<Bytes>) -> Value {
    serde_json::from_slice(response.body()).unwrap()
}

/// The problem document of a refusal: its code, and that it is complete.
pub(crate) fn problem(response: &Response<Bytes>) -> Value {
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    let document = json(response);
    assert_eq!(document["status"], response.status().as_u16());
    for field in ["type", "title", "detail", "code", "trace_id"] {
        assert!(
            document[field]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{field}: {document}"
        );
    }
    document
}

/// Polls until `what` gives something, or fails at the deadline.
pub(crate) async fn eventually<T>(mut what: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = what().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {SOON:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
