//! `POST /v1/psp/webhook`: what the payment provider says happened, in Stripe's format.
//!
//! Nothing of it is believed but that it is worth a look. A webhook comes late, twice, out of order or
//! never, and whoever learns its secret could say anything; so an event about a payment becomes a
//! nudge for the order's step `pay`, which asks the provider itself. An order that is not there needs
//! none. Of what our own request caused, which is what is told of most payments, it is said so: who made
//! the request knows, see [`engine::Cause`]. The 2xx follows the commit, so the provider repeats whatever
//! we did not keep.

mod signature;

use crate::{
    App,
    http::{ApiError, Call, Reply, Route, about, answer, body::decode, query::Query, request},
    openapi::Problem,
    routes::with,
};
use chrono::Utc;
use contract::{Command, OrderId, ProblemCode, StepName};
use engine::{Cause, NewSignal, What};
use http::{Method, StatusCode};
use runtime::metrics::{self, IntCounterVec};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::{Arc, LazyLock};
use utoipa::{OpenApi, ToSchema};
use uuid::Uuid;
use warp::{Filter, filters::BoxedFilter, reply::Response};

static WEBHOOK: Route = Route {
    name: "/v1/psp/webhook",
    methods: &[Method::POST],
    limit: None,
};
static EVENTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counters(
        "guichet_psp_events_received_total",
        "Events of the payment provider by what became of them",
        &["outcome"],
    )
});

/// The events that say that a customer who was waited for has done something, or that it is over.
const WORTH_A_LOOK: [&str; 5] = [
    "payment_intent.succeeded",
    // What is captured by a step of its own is authorised.
    "payment_intent.amount_capturable_updated",
    "payment_intent.payment_failed",
    "payment_intent.processing",
    "payment_intent.canceled",
];

/// The routes of the payment provider.
pub(crate) fn routes(app: &Arc<App>) -> BoxedFilter<(Response,)> {
    warp::path!("v1" / "psp" / "webhook")
        .and(with(app))
        .and(request())
        .then(|app, request| answer(app, &WEBHOOK, request, webhook))
        .boxed()
}

/// What OpenAPI says of these routes.
#[derive(OpenApi)]
#[openapi(
    paths(webhook),
    tags((name = "provider", description = "For the payment provider.")),
)]
pub(crate) struct Docs;

/// The part of an event that is read.
#[derive(Deserialize)]
struct Event {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    data: Data,
    /// Older versions of the API have a text here.
    #[serde(default)]
    request: Value,
}

#[derive(Deserialize)]
struct Data {
    object: Object,
}

#[derive(Deserialize)]
struct Object {
    /// Other users of the same account keep there what they like.
    #[serde(default)]
    metadata: Value,
}

impl Event {
    /// The order whose payment is worth a look, if it is one of ours.
    fn order(&self) -> Option<OrderId> {
        if !WORTH_A_LOOK.contains(&self.kind.as_str()) {
            return None;
        }
        let id = self.data.object.metadata.get("order_id")?;
        id.as_str()?.parse().ok()
    }

    /// What caused it. An event without a request's id came about by itself, whatever key it bears: the
    /// customer acted, or his bank.
    fn cause(&self, order: OrderId) -> Cause {
        let text = |name: &str| self.request.get(name).and_then(Value::as_str);
        let effect = Command::effect_key(order.into(), &StepName::PAY);
        let key = text("idempotency_key").and_then(|key| key.strip_prefix(&effect));
        let is_ours = key.is_some_and(|rest| rest.starts_with('/'));
        if text("id").is_some_and(|id| !id.is_empty()) && is_ours {
            Cause::OwnRequest
        } else {
            Cause::Outside
        }
    }
}

/// The answer to an event.
#[derive(Debug, Serialize, ToSchema)]
struct Received {
    /// Always true: it needs not be sent again.
    received: bool,
}

/// Take an event of the payment provider
///
/// Events in Stripe's format, signed by its header `Stripe-Signature`. An event of a kind or about a
/// payment that is none of ours is taken too, and has no effect.
#[utoipa::path(
    post,
    path = "/v1/psp/webhook",
    tag = "provider",
    params(("Stripe-Signature" = String, Header, description = "`t=<seconds>,v1=<hexadecimal digits>`")),
    request_body(content = serde_json::Value, description = "The event."),
    responses(
        (status = 200, description = "Taken.", body = Received),
        (status = 400, description = "`signature_invalid`, `body_not_json`", body = Problem,
            content_type = "application/problem+json"),
        (status = 404, description = "`not_found`: no secret is configured.", body = Problem,
            content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large`", body = Problem,
            content_type = "application/problem+json"),
        (status = 422, description = "`wrong_type`", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "`overloaded`, `unavailable`: send it again.", body = Problem,
            content_type = "application/problem+json"),
    ),
)]
async fn webhook(app: Arc<App>, mut call: Call) -> Result<Reply, ApiError> {
    Query::parse(&call.query).finish()?;
    let secret = &app.config.psp_webhook_secret;
    if secret.is_empty() {
        return Err(ApiError::not_found());
    }
    let header = call.headers.get("stripe-signature").cloned();
    let body = call.bytes().await?;
    let header = header.as_ref().and_then(|value| value.to_str().ok());
    let now_s = Utc::now().timestamp();
    if !signature::is_valid(secret, header.unwrap_or_default(), &body, now_s) {
        EVENTS.with_label_values(&["signature_invalid"]).inc();
        return Err(ApiError::new(
            ProblemCode::SignatureInvalid,
            "The header Stripe-Signature is missing, wrong, or more than five minutes old.",
        ));
    }
    let event: Event = decode(&body)?;
    let outcome = match event.order() {
        Some(order) => {
            about(order);
            match app.signals.tell(look(order, &event)).await? {
                true => "told",
                false => "not_waited_for",
            }
        }
        None => "ignored",
    };
    EVENTS.with_label_values(&[outcome]).inc();
    Reply::json(StatusCode::OK, &Received { received: true })
}

fn look(order: OrderId, event: &Event) -> NewSignal {
    NewSignal {
        // The same event is the same signal, however often it comes.
        id: Uuid::new_v5(&order.0, format!("provider/{}", event.id).as_bytes()),
        saga: order.into(),
        what: What::Nudge(StepName::PAY, event.cause(order)),
    }
}
