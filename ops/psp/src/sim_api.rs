//! What the simulator serves beyond Stripe's API, under `/_sim`: ledger, faults, the payer's page.

use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Method, StatusCode};
use serde::Serialize;
use url::form_urlencoded;
use warp::reply::{Reply, Response};

use crate::error::StripeError;
use crate::execute::refuse;
use crate::faults::{Plan, Planned};
use crate::form::Params;
use crate::http_api::{Incoming, json};
use crate::intent::{Intent, Status};
use crate::pages;
use crate::server::Simulator;

/// How many ledger entries are rendered before the lock is let go for a moment.
const ENTRIES_AT_A_TIME: usize = 1_000;

/// Answers a request whose path begins with `/_sim`.
pub(crate) fn handle(simulator: &Simulator, incoming: &Incoming) -> Response {
    let segments: Vec<&str> = incoming.path.split('/').skip(2).collect();
    let answered = match (incoming.method.as_str(), segments.as_slice()) {
        ("GET", ["ledger"]) => ledger(simulator, incoming),
        ("GET", ["faults"]) => Ok(plans(simulator)),
        ("POST", ["faults"]) => plan(simulator, incoming),
        ("DELETE", ["faults"]) => {
            simulator.state().faults.clear();
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        ("DELETE", ["faults", id]) => match simulator.state().faults.delete(id) {
            true => Ok(StatusCode::NO_CONTENT.into_response()),
            false => Err(StripeError::missing("fault", id, "id")),
        },
        ("GET" | "POST", ["authenticate", id]) => Ok(authenticate(simulator, incoming, id)),
        (method, _) => Err(StripeError::unknown_url(method, &incoming.path)),
    };
    answered.unwrap_or_else(|error| {
        let answer = refuse(&error, None, simulator.viewer());
        json(answer.status, answer.body)
    })
}

/// The ledger: `?reference=` for one order, `?after=` a sequence number and `?limit=` for a part.
fn ledger(simulator: &Simulator, incoming: &Incoming) -> Result<Response, StripeError> {
    let mut params = Params::read(incoming.query.as_bytes())?;
    let reference = params.text("reference")?;
    let after = params.integer("after")?.unwrap_or(0);
    let limit = params.integer("limit")?.unwrap_or(i64::MAX);
    params.finish()?;
    let (Ok(after), Ok(limit)) = (usize::try_from(after), usize::try_from(limit)) else {
        return Err(StripeError::invalid("after and limit cannot be negative."));
    };
    let mut body = b"{\"entries\":[".to_vec();
    let mut shown = 0;
    let mut next = after;
    // Entries are only ever added and never change, so reading them in several goes reads one state: that
    // of the end.
    loop {
        let state = simulator.state();
        let books = state.store.books();
        let more = match &reference {
            Some(reference) => {
                let all = books.entries_of(reference).iter();
                let wanted = all.map(|at| *at as usize).filter(|at| *at >= next);
                wanted.take(ENTRIES_AT_A_TIME).collect::<Vec<_>>()
            }
            None => (next..books
                .entry_count()
                .min(next.saturating_add(ENTRIES_AT_A_TIME)))
                .collect(),
        };
        let Some(last) = more.last().copied() else {
            break;
        };
        next = last + 1;
        for at in more {
            if shown == limit {
                break;
            }
            if let Some(entry) = books.entry(at) {
                write(&mut body, shown > 0, &entry);
                shown += 1;
            }
        }
        if shown == limit {
            break;
        }
    }
    body.extend_from_slice(b"]}");
    Ok(json(200, body))
}

fn write(body: &mut Vec<u8>, comma: bool, entry: &impl Serialize) {
    if comma {
        body.push(b',');
    }
    body.extend(serde_json::to_vec(entry).unwrap_or_default());
}

#[derive(Serialize)]
struct Plans<'a> {
    data: &'a [Planned],
}

fn plans(simulator: &Simulator) -> Response {
    let state = simulator.state();
    let plans = Plans {
        data: state.faults.plans(),
    };
    json(200, serde_json::to_vec(&plans).unwrap_or_default())
}

fn plan(simulator: &Simulator, incoming: &Incoming) -> Result<Response, StripeError> {
    let plan: Plan = serde_json::from_slice(&incoming.body)
        .map_err(|error| StripeError::invalid(format!("Invalid plan: {error}")))?;
    let mut state = simulator.state();
    let planned = state.faults.plan(plan)?;
    Ok(json(201, serde_json::to_vec(planned).unwrap_or_default()))
}

/// The page of the payer's bank, and the answer given on it.
fn authenticate(simulator: &Simulator, incoming: &Incoming, id: &str) -> Response {
    let Some(intent) = known(simulator, id, &incoming.query) else {
        return page(StatusCode::NOT_FOUND, pages::unknown());
    };
    if intent.status != Status::RequiresAction {
        return back(&intent);
    }
    if incoming.method == Method::GET {
        return page(StatusCode::OK, pages::question(&intent));
    }
    let approved = match value(&incoming.body, "decision").as_deref() {
        Some("approve") => true,
        Some("refuse") => false,
        _ => return page(StatusCode::BAD_REQUEST, pages::question(&intent)),
    };
    // Refused only if someone else was quicker, and then what counts is how it stands now.
    if let Err(error) = simulator.authenticate(&intent, approved) {
        tracing::debug!(error = error.message, "an authentication came too late");
    }
    match known(simulator, id, &incoming.query) {
        Some(intent) => back(&intent),
        None => page(StatusCode::NOT_FOUND, pages::unknown()),
    }
}

/// The intent, for whoever has its secret.
fn known(simulator: &Simulator, id: &str, query: &str) -> Option<Arc<Intent>> {
    let secret = value(query.as_bytes(), "client_secret")?;
    let state = simulator.state();
    let intent = state.store.books().intent(id)?;
    (*intent.client_secret == *secret).then(|| Arc::clone(intent))
}

fn value(encoded: &[u8], name: &str) -> Option<String> {
    form_urlencoded::parse(encoded)
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

/// Sends the browser back to the shop, or says how the payment stands.
fn back(intent: &Intent) -> Response {
    let location = pages::return_to(intent).and_then(|url| HeaderValue::from_str(&url).ok());
    let Some(location) = location else {
        return page(StatusCode::OK, pages::standing(intent));
    };
    let mut response = StatusCode::SEE_OTHER.into_response();
    response.headers_mut().insert(LOCATION, location);
    response
}

fn page(status: StatusCode, html: String) -> Response {
    let mut response = Response::new(html.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    headers.insert(CONTENT_TYPE, html);
    let policy =
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";
    headers.insert("content-security-policy", HeaderValue::from_static(policy));
    headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    response
}
