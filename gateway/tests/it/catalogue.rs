//! Reading the catalogue of Paris 2024.

use crate::harness::{Gateway, SOON, app, config, eventually, json, problem};
use bus::testing::TestNamespace;
use chrono::{DateTime, Utc};
use database::testing::TestDatabase;
use diesel_async::SimpleAsyncConnection;
use serde_json::Value;
use std::{collections::HashSet, sync::Arc, time::Instant};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

fn data(list: &Value) -> &Vec<Value> {
    list["data"].as_array().unwrap()
}

async fn all(gateway: &Gateway, path: &str) -> Vec<Value> {
    let mut events = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = gateway.get(&format!("{path}{cursor}")).await;
        events.extend(data(&page).clone());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return events,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_each_event_once_in_every_order() {
    let gateway = Gateway::start().await;
    let amount = |event: &Value| event["price_from"]["amount"].as_i64().unwrap_or(i64::MAX);
    let start = |event: &Value| {
        event["starts_at"]
            .as_str()
            .unwrap()
            .parse::<DateTime<Utc>>()
            .unwrap()
    };
    for sort in ["starts_at", "price", "name"] {
        let up = all(&gateway, &format!("/v1/events?sort={sort}&limit=100")).await;
        let ids: HashSet<&str> = up
            .iter()
            .map(|event| event["id"].as_str().unwrap())
            .collect();
        assert_eq!((up.len(), ids.len()), (722, 722));
        let sorted = match sort {
            "starts_at" => up.is_sorted_by_key(start),
            "price" => up.is_sorted_by_key(amount),
            _ => up.is_sorted_by_key(|event| {
                gateway::catalogue::search::fold(event["name"].as_str().unwrap())
            }),
        };
        assert!(sorted, "{sort}");
        let mut down = all(&gateway, &format!("/v1/events?sort=-{sort}&limit=97")).await;
        down.reverse();
        assert_eq!(down, up, "-{sort}");
    }
    let default = gateway.get("/v1/events").await;
    assert_eq!(data(&default).len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_filter_finds_what_it_says() {
    let gateway = Gateway::start().await;
    let every = all(&gateway, "/v1/events?limit=100").await;
    let count = async |query: &str| {
        all(&gateway, &format!("/v1/events?limit=100&{query}"))
            .await
            .len()
    };
    let expect = |keep: &dyn Fn(&Value) -> bool| every.iter().filter(|event| keep(event)).count();

    assert_eq!(count("sport=ATH").await, 21);
    assert_eq!(count("sport=ath,SWM").await, 38);
    assert_eq!(count("sport=XXX").await, 0);
    assert_eq!(count("venue=STA").await, 25);
    assert_eq!(
        count("venue=STA&sport=RU7").await,
        expect(&|e| e["sport"]["code"] == "RU7")
    );
    // French and English, with and without accents, a town, a code, the beginnings of words.
    for q in ["ATHL%C3%89TISME", "athletisme", "athletics"] {
        assert_eq!(count(&format!("q={q}")).await, 21, "{q}");
    }
    assert_eq!(
        count("q=saint+denis").await,
        expect(&|e| e["venue"]["city"] == "Saint-Denis")
    );
    assert_eq!(count("q=ath20").await, 1);
    assert_eq!(count("q=chateau+eques").await, 12);
    assert_eq!(count("q=zzz").await, 0);

    let (first, last) = (
        every[100]["starts_at"].as_str().unwrap(),
        every[200]["starts_at"].as_str().unwrap(),
    );
    let between = |e: &Value| (first..=last).contains(&e["starts_at"].as_str().unwrap());
    assert_eq!(
        count(&format!("from={first}&to={last}")).await,
        expect(&between)
    );
    let day = &first[..10];
    let on_day = |e: &Value| e["starts_at"].as_str().unwrap().starts_with(day);
    assert_eq!(
        count(&format!("from={day}&to={day}")).await,
        expect(&on_day)
    );
    let offset: DateTime<chrono::FixedOffset> = first.parse().unwrap();
    let offset = offset
        .with_timezone(&chrono::FixedOffset::east_opt(7_200).unwrap())
        .to_rfc3339();
    assert!(offset.contains('+'), "unescaped, as people write it");
    assert_eq!(
        count(&format!("from={offset}&to={last}")).await,
        expect(&between)
    );

    let cheap = |e: &Value| {
        e["price_from"]["amount"]
            .as_i64()
            .is_some_and(|a| a <= 2_400)
    };
    assert_eq!(count("price_max=2400").await, expect(&cheap));
    assert_eq!(count("price_max=2399").await, 0);
    assert_eq!(count("currency=eur").await, 713);
    assert_eq!(count("currency=JPY").await, 0);
    assert_eq!(count("accessible=true").await, 713);
    assert_eq!(count("available=true").await, 713);
    assert_eq!(count("available=false").await, 9, "Tahiti");
    assert_eq!(count("available=false&accessible=true").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_must_meet_all_that_is_asked_of_it() {
    let gateway = Gateway::start().await;
    gateway
        .execute(
            "UPDATE stock SET taken = capacity FROM offers JOIN events ON events.id = event_id \
             WHERE offers.id = offer_id AND events.code = 'ARC01' AND accessible",
        )
        .await;
    let count =
        async |query: &str| data(&gateway.get(&format!("/v1/events?q=ARC01&{query}")).await).len();
    eventually(async || (count("available=true&accessible=true").await == 0).then_some(())).await;
    assert_eq!(count("available=false&accessible=true").await, 1);
    assert_eq!(count("available=true").await, 1);
    assert_eq!(count("available=true&accessible=false").await, 1);
    // The dearest offer is not accessible, so nothing dear and accessible is there.
    assert_eq!(
        count("available=false&price_max=2400&accessible=false").await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_shows_its_offers_and_what_remains_of_them() {
    let gateway = Gateway::start().await;
    let list = gateway.get("/v1/events?q=ATH20").await;
    let id = data(&list)[0]["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/events/{id}");
    let event = gateway.get(&path).await;
    let offers = event["offers"].as_array().unwrap();
    let shown: Vec<(&str, i64, bool)> = offers
        .iter()
        .map(|offer| {
            (
                offer["category"].as_str().unwrap(),
                offer["price"]["amount"].as_i64().unwrap(),
                offer["accessible"].as_bool().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("First", 98_000, false),
        ("A", 53_000, false),
        ("B", 29_000, false),
        ("C", 15_500, false),
        ("D", 8_500, false),
        ("D", 8_500, true),
    ];
    assert_eq!(shown, expected);
    assert_eq!(event["remaining"], 77_083);
    assert_eq!(event["tier"], "most_wanted");
    assert_eq!(
        event["price_from"],
        serde_json::json!({"amount": 8_500, "currency": "EUR"})
    );
    assert_eq!(event["published_starts_at"], "2024-08-10T17:00:00Z");
    assert_eq!(event["venue"]["city"], "Saint-Denis");

    let offer = offers[0]["id"].as_str().unwrap();
    let before = offers[0]["remaining"].as_i64().unwrap();
    gateway
        .execute(&format!(
            "UPDATE stock SET taken = taken + 7 WHERE offer_id = '{offer}'"
        ))
        .await;
    eventually(async || {
        (gateway.get(&path).await["offers"][0]["remaining"] == before - 7).then_some(())
    })
    .await;
    gateway
        .execute("UPDATE events SET status = 'cancelled' WHERE code = 'ATH20'")
        .await;
    let cancelled = eventually(async || {
        let event = gateway.get(&path).await;
        (event["status"] == "cancelled").then_some(event)
    })
    .await;
    assert_eq!(cancelled["available"], false);

    for unknown in [
        "/v1/events/nonsense",
        "/v1/events/0190e209-a000-7a5f-893c-000000000000",
    ] {
        let response = gateway.call("GET", unknown, &[]).await;
        assert_eq!(problem(&response)["code"], "not_found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_orders_need_is_found_by_the_offers_id() {
    let gateway = Gateway::start().await;
    let view = gateway.app.catalogue.view().await.unwrap();
    let event = view
        .snapshot
        .events
        .iter()
        .find(|event| event.code == "SWM02")
        .unwrap();
    let offer = &view.snapshot.offers[event.offers.start];
    let found = view.snapshot.offer(offer.id).unwrap();
    assert_eq!(
        (found.event_id, found.price.amount_minor),
        (event.id, 98_000)
    );
    assert_eq!((found.tier, found.starts_at), (event.tier, event.starts_at));
}

#[tokio::test(flavor = "multi_thread")]
async fn venues_and_sports_are_lists_by_code() {
    let gateway = Gateway::start().await;
    for (path, count) in [("/v1/venues", 40), ("/v1/sports", 45)] {
        let whole = gateway.get(path).await;
        assert_eq!(data(&whole).len(), count);
        assert!(data(&whole).is_sorted_by_key(|item| item["code"].as_str().unwrap().to_owned()));
        assert_eq!(whole["next_cursor"], Value::Null);
        assert_eq!(
            &all(&gateway, &format!("{path}?limit=7")).await,
            data(&whole)
        );
    }
    let response = gateway.call("GET", "/v1/sports?sport=ATH", &[]).await;
    assert_eq!(problem(&response)["code"], "query_invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_query_is_refused_and_names_each_parameter() {
    let gateway = Gateway::start().await;
    let long = "x".repeat(101);
    let path = format!(
        "/v1/events?colour=red&from=tomorrow&price_max=-1&currency=EURO&available=yes&sort=age\
         &limit=0&sport=A,,B&q={long}"
    );
    let response = gateway.call("GET", &path, &[]).await;
    let document = problem(&response);
    assert_eq!(
        (document["code"].as_str(), response.status().as_u16()),
        (Some("query_invalid"), 400)
    );
    let named: HashSet<&str> = document["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["pointer"].as_str().unwrap())
        .collect();
    let expected = [
        "?colour",
        "?from",
        "?price_max",
        "?currency",
        "?available",
        "?sort",
        "?limit",
        "?sport",
        "?q",
    ];
    assert_eq!(named, HashSet::from(expected));

    let page = gateway.get("/v1/events?sport=ATH&limit=2").await;
    let cursor = page["next_cursor"].as_str().unwrap();
    gateway
        .get(&format!("/v1/events?sport=ATH&limit=5&cursor={cursor}"))
        .await;
    for path in [
        format!("/v1/events?cursor={cursor}"),
        format!("/v1/events?sport=SWM&cursor={cursor}"),
        format!("/v1/events?sport=ATH&sort=price&cursor={cursor}"),
        "/v1/events?cursor=AAAA".to_owned(),
        "/v1/venues?cursor=AAAA".to_owned(),
    ] {
        let response = gateway.call("GET", &path, &[]).await;
        assert_eq!(problem(&response)["code"], "cursor_invalid", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_at_once_cause_one_look() {
    let gateway = Gateway::start().await;
    let asking = (0..200).map(|_| {
        let catalogue = Arc::clone(&gateway.app.catalogue);
        tokio::spawn(async move { catalogue.view().await.unwrap() })
    });
    let views = futures_util::future::join_all(asking).await;
    let views: Vec<_> = views.into_iter().map(Result::unwrap).collect();
    assert!(views.iter().all(|view| Arc::ptr_eq(view, &views[0])));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_the_last_copy_is_served() {
    let gateway = Gateway::start().await;
    let before = gateway.get("/v1/events?limit=1").await;
    let url: url::Url = gateway.database.url().parse().unwrap();
    let name = url.path().trim_start_matches('/');
    let server = std::env::var("GUICHET_DATABASE_URL").unwrap();
    let mut admin = database::connect(&database::Config::new(server, "test"))
        .await
        .unwrap();
    admin
        .batch_execute(&format!(
            "ALTER DATABASE {name} ALLOW_CONNECTIONS false; \
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = '{name}' AND usename = current_user"
        ))
        .await
        .unwrap();
    // Long enough that copies age beyond every bound.
    let begun = Instant::now();
    let mut slowest = std::time::Duration::ZERO;
    let mut pace = tokio::time::interval(std::time::Duration::from_millis(50));
    while begun.elapsed().as_secs() < 4 {
        pace.tick().await;
        let asked = Instant::now();
        assert_eq!(
            gateway.get("/v1/events?limit=1").await["data"],
            before["data"]
        );
        slowest = slowest.max(asked.elapsed());
    }
    assert!(
        slowest.as_secs() < 3,
        "nobody waits longer than the patience: {slowest:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_never_saw_its_database_says_so() {
    // Nobody listens on port 1.
    let nowhere = database::Config::new("postgres://nobody@127.0.0.1:1/none", "test");
    let (database, namespace) = (TestDatabase::create().await, TestNamespace::new());
    let stop = CancellationToken::new();
    let pool = database::pool(&nowhere).unwrap();
    let (app, _bus) = app(config(), &database, pool, &namespace, &stop).await;
    let catalogue = Arc::clone(&app.catalogue);
    let _guard = stop.clone().drop_guard();
    tokio::spawn(async move { catalogue.run(stop).await });
    let response = warp::test::request()
        .path("/v1/events")
        .reply(&gateway::routes(&app))
        .await;
    assert_eq!(response.status(), 503);
    assert_eq!(problem(&response)["code"], "unavailable");
    assert_eq!(response.headers()["retry-after"], "1");
    assert!(!app.catalogue.is_loaded());
    assert!(
        !json(&response)["detail"]
            .as_str()
            .unwrap()
            .contains("127.0.0.1")
    );
}

/// Readiness waits for the first copy, and nobody is sent to a gateway that is not ready: it must get
/// its copy without being asked.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_copy_is_tried_for_again_without_anyone_asking() {
    let (database, namespace) = (TestDatabase::create().await, TestNamespace::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut url: url::Url = database.url().parse().unwrap();
    let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let port = listener.local_addr().unwrap().port();
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(port)).unwrap();
    let pool = database::pool(&database::Config::new(url, "test")).unwrap();
    let stop = CancellationToken::new();
    let (app, _bus) = app(config(), &database, pool, &namespace, &stop).await;
    let _guard = stop.clone().drop_guard();
    let (catalogue, running) = (Arc::clone(&app.catalogue), Arc::clone(&app.catalogue));
    tokio::spawn(async move { running.run(stop).await });
    let loaded = tokio::spawn(async move { catalogue.loaded().await });
    // The first look is cut off; from then on the server is there.
    drop(listener.accept().await.unwrap());
    assert!(!loaded.is_finished() && !app.catalogue.is_loaded());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(&server).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
        }
    });
    let in_time = tokio::time::timeout(SOON, loaded).await;
    in_time.expect("it is loaded").unwrap();
    assert!(app.catalogue.is_loaded());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_catalogue_is_an_empty_list() {
    let database = TestDatabase::create().await;
    let namespace = TestNamespace::new();
    let stop = CancellationToken::new();
    let (app, _bus) = app(config(), &database, database.pool(), &namespace, &stop).await;
    let catalogue = Arc::clone(&app.catalogue);
    let _guard = stop.clone().drop_guard();
    tokio::spawn(async move { catalogue.run(stop).await });
    let response = warp::test::request()
        .path("/v1/events")
        .reply(&gateway::routes(&app))
        .await;
    assert_eq!(
        json(&response),
        serde_json::json!({"data": [], "next_cursor": null})
    );
}
