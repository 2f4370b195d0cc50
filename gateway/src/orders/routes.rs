//! `POST /v1/orders`, `GET /v1/orders/{id}`, its `/stream`, and `POST` to its `/cancel`.

use super::{
    cancel::Cancellation,
    intake::Taken,
    key,
    request::OrderRequest,
    show::{Order, PlacedOrder},
    store::NewOrder,
    stream,
};
use crate::{
    App,
    http::{ApiError, Call, Limit, Reply, Route, about, answer, query::Query, request},
    openapi::Problem,
    routes::with,
};
use chrono::DateTime;
use contract::{
    OrderId, ProblemCode,
    crash::{self, Gateway, Point},
};
use http::{HeaderValue, Method, StatusCode, header};
use std::sync::Arc;
use utoipa::OpenApi;
use warp::{Filter, filters::BoxedFilter, reply::Response};

static ORDERS: Route = Route {
    name: "/v1/orders",
    methods: &[Method::POST],
    limit: Some(Limit::Order),
};
static ORDER: Route = Route {
    name: "/v1/orders/{id}",
    methods: &[Method::GET],
    limit: Some(Limit::Read),
};
static STREAM: Route = Route {
    name: "/v1/orders/{id}/stream",
    methods: &[Method::GET],
    limit: Some(Limit::Read),
};

static CANCEL: Route = Route {
    name: "/v1/orders/{id}/cancel",
    methods: &[Method::POST],
    limit: Some(Limit::Order),
};

/// The routes of orders.
pub(crate) fn routes(app: &Arc<App>) -> BoxedFilter<(Response,)> {
    let place = warp::path!("v1" / "orders")
        .and(with(app))
        .and(request())
        .then(|app, request| answer(app, &ORDERS, request, place));
    let show = warp::path!("v1" / "orders" / String)
        .and(with(app))
        .and(request())
        .then(|id, app, request| {
            answer(app, &ORDER, request, async |app, call| {
                show(app, call, id).await
            })
        });
    let stream = warp::path!("v1" / "orders" / String / "stream")
        .and(with(app))
        .and(request())
        .then(|id, app, request| {
            answer(app, &STREAM, request, async |app, call| {
                follow(app, call, id).await
            })
        });
    let cancel = warp::path!("v1" / "orders" / String / "cancel")
        .and(with(app))
        .and(request())
        .then(|id, app, request| {
            answer(app, &CANCEL, request, async |app, call| {
                cancel(app, call, id).await
            })
        });
    place
        .or(show)
        .unify()
        .or(stream)
        .unify()
        .or(cancel)
        .unify()
        .boxed()
}

/// What OpenAPI says of these routes.
#[derive(OpenApi)]
#[openapi(
    paths(place, show, follow, cancel),
    tags((name = "orders", description = "Buying tickets.")),
)]
pub(crate) struct Docs;

/// Place an order
///
/// All lines or none. The answer says that the order was accepted; whether it is sold is known a
/// moment later, at `Location` or in its stream. Repeat an order whose answer you did not get, with
/// the same key: it is placed once, and answered the same, also while new orders are refused.
#[utoipa::path(
    post,
    path = "/v1/orders",
    tag = "orders",
    params(("Idempotency-Key" = String, Header, min_length = 16, max_length = 255,
        description = "A random text that is yours alone, such as a version 4 UUID (the keys of all guests are \
            one space); the same when you repeat the order. It is kept for 48 hours or longer.")),
    request_body = OrderRequest,
    responses(
        (status = 202, description = "Accepted.", body = PlacedOrder,
            headers(("Location" = String, description = "Where the order is."))),
        (status = 400, description = "`idempotency_key_missing`, `idempotency_key_invalid`, \
            `body_not_json`, `query_invalid`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large`", body = Problem,
            content_type = "application/problem+json"),
        (status = 415, description = "`content_type_unsupported`", body = Problem,
            content_type = "application/problem+json"),
        (status = 422, description = "`idempotency_key_reused`, `unknown_field`, `wrong_type`, \
            `quantity_out_of_range`, `offer_unknown`, `mixed_currencies`, `event_past`, \
            `event_not_on_sale`, `validation_failed`", body = Problem,
            content_type = "application/problem+json"),
        (status = 429, description = "`rate_limited`", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "`overloaded`, `unavailable`, `payment_unavailable`: repeat with the \
            same key.",
            body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn place(app: Arc<App>, mut call: Call) -> Result<Reply, ApiError> {
    Query::parse(&call.query).finish()?;
    let key = key::of(&call.headers)?;
    let intake = &app.orders.intake;
    let bound = intake.admit(key).await?;
    let (_, wanted) = call.json::<OrderRequest>().await?;
    let request_hash = wanted.hash();
    let id = OrderId::new();
    let now = DateTime::from_timestamp_millis(id.created_at_ms()).unwrap_or_default();
    let mut ours = None;
    let taken = match bound {
        Some(bound) => bound.taken_by(&request_hash),
        None => {
            let view = app.catalogue.view().await;
            match view.and_then(|view| wanted.validate(&view.snapshot, now)) {
                Ok(order) => {
                    ours = Some(order.priced());
                    let new = NewOrder {
                        id,
                        key,
                        request_hash,
                        order,
                        client: call.client,
                        trace_id: call.trace.trace_number(),
                    };
                    intake.take(new).await?
                }
                // What was accepted stays accepted, though its event may be over by now.
                Err(refusal) => intake.bound_or(key, refusal).await?.taken_by(&request_hash),
            }
        }
    };
    match taken {
        Taken::As(taken_id) => {
            about(taken_id);
            let priced = match ours.filter(|_| taken_id == id) {
                Some(priced) => priced,
                None => app.orders.priced(&app.pool, taken_id).await?,
            };
            crash::at(Point::Gateway(Gateway::BeforeAnswer));
            let placed = PlacedOrder::of(taken_id, app.orders.tokens.of(taken_id), priced);
            let location = HeaderValue::try_from(format!("/v1/orders/{taken_id}"));
            let location = location.expect("a UUID is legal in a header");
            Ok(Reply::json(StatusCode::ACCEPTED, &placed)?.header(header::LOCATION, location))
        }
        Taken::KeyReused => Err(ApiError::new(
            ProblemCode::IdempotencyKeyReused,
            "This Idempotency-Key was used for another order; choose a new key.",
        )),
    }
}

/// An order
///
/// To whoever has its token; to everyone else there is none.
#[utoipa::path(
    get,
    path = "/v1/orders/{id}",
    tag = "orders",
    params(
        ("id" = uuid::Uuid, Path, description = "The order's id."),
        ("token" = Option<String>, Query, description = "Its `access_token`, unless it is sent as \
            `Authorization: Bearer …`."),
        ("redirect_status" = Option<String>, Query, description = "Handed on from the address at which \
            the customer came back from the payment provider, as are `payment_intent` and \
            `payment_intent_client_secret`: has the payment looked at now, also without a token."),
    ),
    responses(
        (status = 200, description = "The order.", body = Order),
        (status = 404, description = "`not_found`", body = Problem,
            content_type = "application/problem+json"),
        (status = 429, description = "`rate_limited`", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "`unavailable`", body = Problem,
            content_type = "application/problem+json"),
    ),
)]
async fn show(app: Arc<App>, call: Call, id: String) -> Result<Reply, ApiError> {
    let mut query = Query::parse(&call.query);
    let text = |text: &str| Ok(text.to_owned());
    let _: Option<String> = query.take("payment_intent", text);
    let _: Option<String> = query.take("payment_intent_client_secret", text);
    let returned: Option<String> = query.take("redirect_status", text);
    // Whoever comes straight from the provider's page has no token, and says nothing that is believed.
    if let (Some(_), Ok(id)) = (&returned, id.parse()) {
        app.orders.returned(&app.pool, id).await;
    }
    let id = opened(&app, &call, query, &id)?;
    Reply::json(StatusCode::OK, &app.orders.show(&app.pool, id).await?)
}

/// Follow an order
///
/// Server-sent events of the type `order`: each change of the status, then the stream ends. Come back
/// with `Last-Event-ID` to get what was missed.
#[utoipa::path(
    get,
    path = "/v1/orders/{id}/stream",
    tag = "orders",
    params(
        ("id" = uuid::Uuid, Path, description = "The order's id."),
        ("token" = Option<String>, Query, description = "Its `access_token`, unless it is sent as \
            `Authorization: Bearer …`."),
        ("Last-Event-ID" = Option<i32>, Header, description = "The last event that was received."),
    ),
    responses(
        (status = 200, description = "The stream.", content_type = "text/event-stream", body = String),
        (status = 404, description = "`not_found`", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "`overloaded`, `unavailable`", body = Problem,
            content_type = "application/problem+json"),
    ),
)]
async fn follow(app: Arc<App>, call: Call, id: String) -> Result<Reply, ApiError> {
    let id = opened(&app, &call, Query::parse(&call.query), &id)?;
    let after = call
        .headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let shared = Arc::clone(&app);
    stream::open(shared, &app.orders, id, after.unwrap_or(0)).await
}

/// Cancel an order
///
/// Until it is confirmed. The answer says that the cancellation was asked for; the order says what
/// came of it: `cancelled` with the reason `customer_cancelled`, or `confirmed` if that came first.
/// Asking again is the same as asking once. The request has no body.
#[utoipa::path(
    post,
    path = "/v1/orders/{id}/cancel",
    tag = "orders",
    params(
        ("id" = uuid::Uuid, Path, description = "The order's id."),
        ("token" = Option<String>, Query, description = "Its `access_token`, unless it is sent as \
            `Authorization: Bearer …`."),
    ),
    responses(
        (status = 202, description = "Asked for.", body = Cancellation),
        (status = 404, description = "`not_found`", body = Problem,
            content_type = "application/problem+json"),
        (status = 409, description = "`order_confirmed`", body = Problem,
            content_type = "application/problem+json"),
        (status = 429, description = "`rate_limited`", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "`overloaded`, `unavailable`: ask again.", body = Problem,
            content_type = "application/problem+json"),
    ),
)]
async fn cancel(app: Arc<App>, call: Call, id: String) -> Result<Reply, ApiError> {
    let id = opened(&app, &call, Query::parse(&call.query), &id)?;
    let asked = app.orders.cancel(&app.pool, id).await?;
    Reply::json(StatusCode::ACCEPTED, &asked)
}

/// The order's id, if the caller has its token. Whoever has not is told nothing.
fn opened(app: &App, call: &Call, mut query: Query, id: &str) -> Result<OrderId, ApiError> {
    let asked: Option<String> = query.take("token", |text| Ok(text.to_owned()));
    query.finish()?;
    let bearer = call
        .headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim_start());
    let id: OrderId = id.parse().map_err(|_| ApiError::not_found())?;
    let token = bearer.or(asked.as_deref()).unwrap_or_default();
    if app.orders.tokens.opens(id, token) {
        about(id);
        Ok(id)
    } else {
        Err(ApiError::not_found())
    }
}
