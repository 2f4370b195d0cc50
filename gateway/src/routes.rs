//! All routes, in groups: each area's are boxed, which keeps types and compile times small, and misses
//! cut early.

use crate::{
    App, catalogue,
    http::{ApiError, Limit, Route, answer, request},
    openapi, orders, provider,
};
use std::{convert::Infallible, sync::Arc};
use warp::{Filter, Rejection, filters::BoxedFilter, reply::Response};

static UNKNOWN: Route = Route {
    name: "(unknown)",
    methods: &[],
    limit: Some(Limit::Read),
};

/// The whole API. Nothing is rejected: what no route takes is a 404 with a problem document.
pub fn routes(
    app: &Arc<App>,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + use<> {
    orders::routes(app)
        .or(catalogue::routes(app))
        .unify()
        .or(provider::routes(app))
        .unify()
        .or(openapi::routes(app))
        .unify()
        .or(unknown(app))
        .unify()
        .recover(never)
        .unify()
}

/// Hands the state to a handler.
pub(crate) fn with(
    app: &Arc<App>,
) -> impl Filter<Extract = (Arc<App>,), Error = Infallible> + Clone + use<> {
    let app = Arc::clone(app);
    warp::any().map(move || Arc::clone(&app))
}

fn unknown(app: &Arc<App>) -> BoxedFilter<(Response,)> {
    warp::any()
        .and(with(app))
        .and(request())
        .then(|app, request| {
            answer(app, &UNKNOWN, request, async |_, _| {
                Err(ApiError::not_found())
            })
        })
        .boxed()
}

/// `unknown` takes whatever comes, so this is only reached by a defect in a route above: one that took
/// the body and then rejected. It is answered without any detail.
async fn never(rejection: Rejection) -> Result<Response, Infallible> {
    tracing::error!(?rejection, "a route rejected after its path matched");
    let mut response = Response::default();
    *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
    Ok(response)
}
