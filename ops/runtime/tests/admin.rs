//! The admin listener over a real socket.

use std::net::{Ipv4Addr, SocketAddr};

use runtime::admin;
use runtime::health::Readiness;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

async fn get(addr: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).await.expect("listening");
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("UTF-8");
    let status = answer["HTTP/1.1 ".len()..][..3].parse().expect("a status");
    let body = answer.split_once("\r\n\r\n").expect("a head").1;
    (status, body.to_owned())
}

#[tokio::test]
async fn tells_life_readiness_metrics_and_version() {
    let stop = CancellationToken::new();
    let readiness = Readiness::new(stop.clone());
    let bus = readiness.check("bus");
    let end = CancellationToken::new();
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    let addr = admin::serve(any, "worker", readiness, end.clone())
        .await
        .expect("a free port");

    assert_eq!(get(addr, "/livez").await, (200, "ok\n".to_owned()));
    let (status, body) = get(addr, "/readyz").await;
    let expected = r#"{"ready":false,"checks":{"bus":{"ready":false,"reason":"starting"}}}"#;
    assert_eq!((status, body.as_str()), (503, expected));
    bus.ready();
    let (status, body) = get(addr, "/readyz").await;
    let expected = r#"{"ready":true,"checks":{"bus":{"ready":true}}}"#;
    assert_eq!((status, body.as_str()), (200, expected));

    let (status, body) = get(addr, "/metrics").await;
    assert_eq!(status, 200);
    assert!(body.contains("\nprocess_resident_memory_bytes "), "{body}");
    assert!(body.contains("\nguichet_http_open_connections "), "{body}");
    let (status, body) = get(addr, "/version").await;
    let version: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, &version["role"]), (200, &"worker".into()));
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(get(addr, "/").await.0, 404);

    stop.cancel();
    assert_eq!(get(addr, "/livez").await.0, 200);
    let (status, body) = get(addr, "/readyz").await;
    assert_eq!(status, 503);
    assert!(body.contains("stopping"), "{body}");

    let taken = admin::serve(addr, "worker", Readiness::new(stop), end).await;
    taken.expect_err("the port is taken");
}
