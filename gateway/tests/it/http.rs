//! What every route has in common.

use crate::harness::{Gateway, app, config, problem};
use gateway::Config;
use std::{sync::Arc, time::Duration};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn what_no_route_takes_is_a_problem_with_the_callers_trace() {
    let gateway = Gateway::start().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for path in [
        "/",
        "/v1",
        "/v1/nothing",
        "/v1/events/a/b",
        "/v2/events",
        "//",
        "/v1/events%2F",
    ] {
        let response = gateway.call("GET", path, &[("traceparent", trace)]).await;
        let document = problem(&response);
        assert_eq!(
            (response.status().as_u16(), document["code"].as_str()),
            (404, Some("not_found"))
        );
        assert_eq!(document["trace_id"], "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(document["type"], "urn:guichet:problem:not_found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_is_not_taken_is_told_which_are() {
    let gateway = Gateway::start().await;
    for method in ["POST", "DELETE", "PUT", "BREW"] {
        let response = gateway.call(method, "/v1/events", &[]).await;
        assert_eq!(problem(&response)["code"], "method_not_allowed", "{method}");
        assert_eq!(response.headers()["allow"], "GET, HEAD, OPTIONS");
    }
    let response = gateway.call("OPTIONS", "/v1/events", &[]).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["allow"]),
        (204, &"GET, HEAD, OPTIONS".parse().unwrap())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn head_is_get_without_the_body() {
    let gateway = Gateway::start().await;
    let get = gateway.call("GET", "/v1/sports", &[]).await;
    let head = gateway.call("HEAD", "/v1/sports", &[]).await;
    assert_eq!(head.status(), 200);
    assert!(head.body().is_empty());
    assert_eq!(
        head.headers()["content-length"],
        get.body().len().to_string().as_str()
    );
    assert_eq!(head.headers()["content-type"], "application/json");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_bears_the_headers_that_keep_browsers_safe() {
    let gateway = Gateway::start().await;
    for path in ["/v1/events", "/v1/openapi.json", "/nothing"] {
        let response = gateway.call("GET", path, &[]).await;
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        assert_eq!(response.headers()["referrer-policy"], "no-referrer");
        assert!(
            response.headers()["content-security-policy"]
                .to_str()
                .unwrap()
                .contains("'none'")
        );
        assert!(response.headers().contains_key("cache-control"));
    }
    let response = gateway.call("GET", "/nothing", &[]).await;
    assert_eq!(response.headers()["cache-control"], "no-store");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_may_read_only_if_configured() {
    let origin = "https://tickets.example";
    let gateway = Gateway::with(Config {
        cors_origins: vec![origin.to_owned()],
        ..config()
    })
    .await;
    for (path, status) in [("/v1/sports", 200), ("/nothing", 404)] {
        let response = gateway.call("GET", path, &[("origin", origin)]).await;
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["access-control-allow-origin"], origin);
        assert_eq!(response.headers()["vary"], "origin");
    }
    let other = [("origin", "https://evil.example")];
    let response = gateway.call("GET", "/v1/sports", &other).await;
    assert!(
        !response
            .headers()
            .contains_key("access-control-allow-origin")
    );
    // What a cache keeps for nobody's page is not given to one of another origin.
    for headers in [&other[..], &[]] {
        let response = gateway.call("GET", "/v1/sports", headers).await;
        assert_eq!(response.headers()["vary"], "origin");
    }
    let preflight = [("origin", origin), ("access-control-request-method", "GET")];
    let response = gateway.call("OPTIONS", "/v1/sports", &preflight).await;
    assert_eq!(response.status(), 204);
    assert_eq!(
        response.headers()["access-control-allow-methods"],
        "GET, HEAD, OPTIONS"
    );
    let headers = response.headers()["access-control-allow-headers"]
        .to_str()
        .unwrap();
    assert!(headers.contains("idempotency-key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_learns_its_limit_and_is_refused_beyond_it() {
    let gateway = Gateway::with(Config {
        read_limit_per_minute: 2,
        trusted_proxies: vec!["198.51.100.0/24".parse().unwrap()],
        ..config()
    })
    .await;
    let first = gateway.call("GET", "/v1/sports", &[]).await;
    assert_eq!(first.status(), 200);
    assert_eq!(first.headers()["ratelimit-policy"], "\"read\";q=2;w=60");
    assert_eq!(first.headers()["ratelimit"], "\"read\";r=1;t=30");
    assert_eq!(gateway.call("GET", "/nothing", &[]).await.status(), 404);
    let refused = gateway.call("GET", "/v1/sports", &[]).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(problem(&refused)["code"], "rate_limited");
    let retry: u32 = refused.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=30).contains(&retry));
    assert_eq!(
        refused.headers()["ratelimit"],
        format!("\"read\";r=0;t={retry}").as_str()
    );
    // The peer is a proxy of ours: another client of it has a limit of its own.
    let other = [("x-forwarded-for", "203.0.113.5")];
    assert_eq!(
        gateway.call("GET", "/v1/sports", &other).await.status(),
        200
    );
    assert_eq!(
        gateway.call("GET", "/v1/openapi.json", &[]).await.status(),
        200,
        "not limited"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_on_a_socket_and_stops_when_asked() {
    let gateway = Gateway::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let (database, namespace) = (&gateway.database, &gateway.namespace);
    let (app, _bus) = app(config(), database, database.pool(), namespace, &stop).await;
    let serving = tokio::spawn(gateway::run(Arc::clone(&app), listener, stop.clone()));
    let client = reqwest::Client::new();
    let response = client
        .get(format!("{base}/v1/events?sport=ATH"))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let list: serde_json::Value = response.json().await.unwrap();
    assert_eq!(list["data"].as_array().unwrap().len(), 20);
    let head = client
        .head(format!("{base}/v1/sports"))
        .send()
        .await
        .unwrap();
    assert!(
        head.content_length().unwrap_or(0) > 1_000 || head.headers().contains_key("content-length")
    );
    let chunked = client
        .post(format!("{base}/v1/events"))
        .body("x".repeat(200_000))
        .send()
        .await
        .unwrap();
    assert_eq!(chunked.status(), 405);
    drop(client);
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(15), serving)
        .await
        .unwrap()
        .unwrap();
}
