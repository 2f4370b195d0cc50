//! `GET /v1/events`, `/v1/events/{id}`, `/v1/venues`, `/v1/sports`.

use super::{
    model::{Event, EventWithOffers, Sport, Venue},
    select::EventQuery,
};
use crate::{
    App,
    http::{
        ApiError, Call, Limit, List, Reply, Route, answer,
        list::{PAGE_MAX, Paging, page_by_code},
        query::Query,
        request,
    },
    openapi::Problem,
    routes::with,
};
use chrono::Utc;
use contract::EventId;
use http::{Method, StatusCode};
use std::sync::Arc;
use utoipa::OpenApi;
use warp::{Filter, filters::BoxedFilter, reply::Response};

/// How long others may keep an answer: what remains changes all the time, places hardly ever.
const EVENTS_CACHE_S: u32 = 1;
const PLACES_CACHE_S: u32 = 60;

const fn read(name: &'static str) -> Route {
    Route {
        name,
        methods: &[Method::GET],
        limit: Some(Limit::Read),
    }
}

static EVENTS: Route = read("/v1/events");
static EVENT: Route = read("/v1/events/{id}");
static VENUES: Route = read("/v1/venues");
static SPORTS: Route = read("/v1/sports");

/// The routes of the catalogue.
pub(crate) fn routes(app: &Arc<App>) -> BoxedFilter<(Response,)> {
    let events = warp::path!("v1" / "events")
        .and(with(app))
        .and(request())
        .then(|app, request| answer(app, &EVENTS, request, events));
    let event = warp::path!("v1" / "events" / String)
        .and(with(app))
        .and(request())
        .then(|id, app, request| {
            answer(app, &EVENT, request, async |app, call| {
                event(app, call, id).await
            })
        });
    let venues = warp::path!("v1" / "venues")
        .and(with(app))
        .and(request())
        .then(|app, request| answer(app, &VENUES, request, venues));
    let sports = warp::path!("v1" / "sports")
        .and(with(app))
        .and(request())
        .then(|app, request| answer(app, &SPORTS, request, sports));
    event
        .or(events)
        .unify()
        .or(venues)
        .unify()
        .or(sports)
        .unify()
        .boxed()
}

/// What OpenAPI says of these routes.
#[derive(OpenApi)]
#[openapi(paths(events, event, venues, sports))]
pub(crate) struct Docs;

/// Events
///
/// The sessions of the Games, with filters, an order and pages. What is said of offers (`price_max`,
/// `currency`, `accessible`, `available`) must be true of one and the same offer of the event.
#[utoipa::path(
    get,
    path = "/v1/events",
    tag = "catalogue",
    params(
        ("q" = Option<String>, Query, description = "Words, each of which must begin a word of the \
            event's name, its sport, venue (in English or French), town or code; case and accents \
            do not matter. 100 characters at most."),
        ("sport" = Option<String>, Query, description = "Codes of sports, parted by commas."),
        ("venue" = Option<String>, Query, description = "Codes of venues, parted by commas."),
        ("from" = Option<String>, Query, description = "Starts at this RFC 3339 time or later; a \
            day stands for its beginning in UTC."),
        ("to" = Option<String>, Query, description = "Starts at this RFC 3339 time or earlier; a \
            day stands for its end in UTC."),
        ("price_max" = Option<i64>, Query, description = "Has an offer at this price or less, in \
            minor units of the offer's currency."),
        ("currency" = Option<String>, Query, description = "Has an offer in this currency (ISO \
            4217)."),
        ("available" = Option<bool>, Query, description = "Whether something of what is asked for \
            can be bought at the moment."),
        ("accessible" = Option<bool>, Query, description = "Has an offer for wheelchair users, or \
            one for others."),
        ("sort" = Option<String>, Query, description = "`starts_at` (default), `price` (the lowest \
            of the event; without offers last) or `name`; with `-` in front descending."),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "Events on the \
            page; 20 by default."),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before, with \
            the same filters and order."),
    ),
    responses(
        (status = 200, description = "A page of events.", body = List<Event>),
        (status = 400, description = "`query_invalid`, `cursor_invalid`", body = Problem,
            content_type = "application/problem+json"),
        (status = 429, description = "`rate_limited`", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "`unavailable`", body = Problem,
            content_type = "application/problem+json"),
    ),
)]
async fn events(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let query = EventQuery::parse(&call.query)?;
    let view = app.catalogue.view().await?;
    let now = Utc::now();
    let page = query.page(&view, now)?;
    let event = |index: usize| Event::of(&view, &view.snapshot.events[index], now);
    let data = page.events.into_iter().map(event).collect();
    let list = List {
        data,
        next_cursor: page.next_cursor,
    };
    Ok(Reply::json(StatusCode::OK, &list)?.cache_s(EVENTS_CACHE_S))
}

/// An event with its offers
#[utoipa::path(
    get,
    path = "/v1/events/{id}",
    tag = "catalogue",
    params(("id" = uuid::Uuid, Path, description = "The event's id.")),
    responses(
        (status = 200, description = "The event.", body = EventWithOffers),
        (status = 404, description = "`not_found`", body = Problem,
            content_type = "application/problem+json"),
        (status = 429, description = "`rate_limited`", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "`unavailable`", body = Problem,
            content_type = "application/problem+json"),
    ),
)]
async fn event(app: Arc<App>, call: Call, id: String) -> Result<Reply, ApiError> {
    Query::parse(&call.query).finish()?;
    let id: EventId = id.parse().map_err(|_| ApiError::not_found())?;
    let view = app.catalogue.view().await?;
    let event = view.snapshot.event(id).ok_or_else(ApiError::not_found)?;
    let body = EventWithOffers::of(&view, event, Utc::now());
    Ok(Reply::json(StatusCode::OK, &body)?.cache_s(EVENTS_CACHE_S))
}

/// Venues
///
/// Where events take place, by code.
#[utoipa::path(
    get,
    path = "/v1/venues",
    tag = "catalogue",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "Venues on the \
            page; 100 by default."),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before."),
    ),
    responses(
        (status = 200, description = "A page of venues.", body = List<Venue>),
        (status = 400, description = "`query_invalid`, `cursor_invalid`", body = Problem,
            content_type = "application/problem+json"),
        (status = 429, description = "`rate_limited`", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "`unavailable`", body = Problem,
            content_type = "application/problem+json"),
    ),
)]
async fn venues(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let paging = only_paging(&call)?;
    let view = app.catalogue.view().await?;
    let all = &view.snapshot.venues;
    let (begin, end, next_cursor) = page_by_code(all, |venue| &venue.code, "venues", &paging)?;
    let data = all[begin..end]
        .iter()
        .map(|venue| Venue::of(venue))
        .collect();
    Ok(Reply::json(StatusCode::OK, &List { data, next_cursor })?.cache_s(PLACES_CACHE_S))
}

/// Sports
///
/// What is contested, by code.
#[utoipa::path(
    get,
    path = "/v1/sports",
    tag = "catalogue",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "Sports on the \
            page; 100 by default."),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before."),
    ),
    responses(
        (status = 200, description = "A page of sports.", body = List<Sport>),
        (status = 400, description = "`query_invalid`, `cursor_invalid`", body = Problem,
            content_type = "application/problem+json"),
        (status = 429, description = "`rate_limited`", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "`unavailable`", body = Problem,
            content_type = "application/problem+json"),
    ),
)]
async fn sports(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let paging = only_paging(&call)?;
    let view = app.catalogue.view().await?;
    let all = &view.snapshot.sports;
    let (begin, end, next_cursor) = page_by_code(all, |sport| &sport.code, "sports", &paging)?;
    let data = all[begin..end]
        .iter()
        .map(|sport| Sport::of(sport))
        .collect();
    Ok(Reply::json(StatusCode::OK, &List { data, next_cursor })?.cache_s(PLACES_CACHE_S))
}

fn only_paging(call: &Call) -> Result<Paging, ApiError> {
    let mut query = Query::parse(&call.query);
    let paging = Paging::from_query(&mut query, PAGE_MAX);
    query.finish()?;
    Ok(paging)
}
