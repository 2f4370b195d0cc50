//! The OpenAPI 3.1 document: made of the routes' own annotations, served at `/v1/openapi.json`, and
//! kept in `schemas/openapi.yaml`, which a test compares.

use crate::{
    App, catalogue,
    http::{Reply, Route, answer, request},
    orders, provider,
    routes::with,
};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, LazyLock};
use utoipa::{OpenApi, ToSchema};
use warp::{Filter, filters::BoxedFilter, reply::Response};

static ROUTE: Route = Route {
    name: "/v1/openapi.json",
    methods: &[Method::GET],
    limit: None,
};
static JSON: LazyLock<Bytes> =
    LazyLock::new(|| serde_json::to_vec(&document()).unwrap_or_default().into());

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Guichet",
        description = "Tickets for events where demand is far above supply. Times are RFC 3339, ids \
            UUIDv7, money in minor units. Errors are problem documents (RFC 9457) with a stable \
            `code`. Lists have pages: give `next_cursor` as `cursor`. Unknown fields and unknown \
            query parameters are refused.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(Money, Problem, FieldProblem)),
    tags((name = "catalogue", description = "What is sold, where and when, at which prices.")),
)]
struct Base;

/// Money in minor units: `{"amount": 12500, "currency": "EUR"}` is 125 €.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Money {
    /// Minor units of the currency.
    #[schema(example = 12500)]
    pub amount: i64,
    /// ISO 4217 code.
    #[schema(example = "EUR", pattern = "^[A-Z]{3}$")]
    pub currency: String,
}

/// What went wrong (RFC 9457).
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:guichet:problem:<code>`
    #[serde(rename = "type")]
    pub kind: String,
    /// The same sentence for every problem of the kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong this time, and what to do.
    pub detail: String,
    /// The stable code programs may rely on.
    pub code: String,
    /// Quote it when asking for help.
    pub trace_id: String,
    /// Each field or parameter that is wrong.
    #[serde(default)]
    pub errors: Vec<FieldProblem>,
}

/// A field or parameter that was refused.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FieldProblem {
    /// JSON pointer into the body, or `?name` of a query parameter.
    pub pointer: String,
    /// The stable code.
    pub code: String,
    /// What is wrong.
    pub detail: String,
}

/// The whole document.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = Base::openapi();
    document.merge(catalogue::Docs::openapi());
    document.merge(orders::Docs::openapi());
    document.merge(provider::Docs::openapi());
    document
}

pub(crate) fn routes(app: &Arc<App>) -> BoxedFilter<(Response,)> {
    warp::path!("v1" / "openapi.json")
        .and(with(app))
        .and(request())
        .then(|app, request| {
            answer(app, &ROUTE, request, async |_, _| {
                let reply = Reply::bytes(StatusCode::OK, "application/json", JSON.clone());
                Ok(reply.cache_s(300))
            })
        })
        .boxed()
}
