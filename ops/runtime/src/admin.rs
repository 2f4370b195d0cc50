//! The admin listener of a process: `/livez`, `/readyz`, `/metrics`, `/version`.
//!
//! It is for the operator's network: it has no authentication, says nothing about customers, and
//! listens on the loopback unless told otherwise.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use warp::{Filter, Rejection, Reply};

use crate::health::Readiness;
use crate::http::Limits;
use crate::metrics;

/// Connections of its own: a crowded public listener hides nothing.
const CONNECTIONS_MAX: usize = 64;
/// Longer than the usual pause between two scrapes, which then share a connection.
const HEAD_WITHIN: Duration = Duration::from_secs(60);
/// For open connections at a stop.
const DRAIN_WITHIN: Duration = Duration::from_secs(1);

/// The section `admin`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen. Port 0, the default, is a free port.
    pub addr: SocketAddr,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            addr: (Ipv4Addr::LOCALHOST, 0).into(),
        }
    }
}

/// What `/version` answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Version {
    /// The version of the release.
    pub version: &'static str,
    /// The commit it was built from, if `GUICHET_COMMIT` was set when it was built.
    pub commit: Option<&'static str>,
}

impl Version {
    /// That of this binary.
    pub const CURRENT: Self = Self {
        version: env!("CARGO_PKG_VERSION"),
        commit: option_env!("GUICHET_COMMIT"),
    };
}

/// Listens on `addr` and answers until `shutdown`; returns the address, whose port may have been free
/// to choose.
///
/// Give it a token that trips when the role has ended, not when it begins to stop: the drain is worth
/// watching, and `/readyz` says 503 meanwhile because [`Readiness`] watches the other token.
///
/// # Errors
/// If the address cannot be listened on.
pub async fn serve(
    addr: SocketAddr,
    role: &'static str,
    readiness: Readiness,
    shutdown: CancellationToken,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(addr).await?;
    let addr = listener.local_addr()?;
    let limits = Limits {
        max_connections: CONNECTIONS_MAX,
        max_body_bytes: 0,
        header_read_timeout: HEAD_WITHIN,
        drain_deadline: DRAIN_WITHIN,
        ..Limits::default()
    };
    let routes = routes(role, readiness).recover(|_| async { Ok(not_found()) });
    tokio::spawn(crate::http::serve(listener, routes, limits, shutdown));
    tracing::info!(%addr, "admin listener");
    Ok(addr)
}

fn routes(
    role: &'static str,
    readiness: Readiness,
) -> impl Filter<Extract = (impl Reply,), Error = Rejection> + Clone {
    // Answering at all is what it proves: the runtime turns and has descriptors and memory left.
    let live = warp::path!("livez").map(|| "ok\n".into_response());
    let ready = warp::path!("readyz").map(move || {
        let report = readiness.report();
        let status = if report.ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        warp::reply::with_status(warp::reply::json(&report), status).into_response()
    });
    let metrics = warp::path!("metrics").map(|| {
        let kind = ("content-type", "text/plain; version=0.0.4; charset=utf-8");
        warp::reply::with_header(metrics::render(), kind.0, kind.1).into_response()
    });
    let version = warp::path!("version").map(move || {
        let Version { version, commit } = Version::CURRENT;
        let body = serde_json::json!({"role": role, "version": version, "commit": commit});
        warp::reply::json(&body).into_response()
    });
    warp::get().and(
        live.or(ready)
            .unify()
            .or(metrics)
            .unify()
            .or(version)
            .unify(),
    )
}

fn not_found() -> impl Reply {
    let text = "GET /livez, /readyz, /metrics or /version\n";
    warp::reply::with_status(text, StatusCode::NOT_FOUND)
}
