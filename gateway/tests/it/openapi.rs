//! The published document is the one the routes make. `UPDATE=1 cargo test -p gateway openapi` writes
//! it anew.

use crate::harness::Gateway;
use std::path::Path;

#[test]
fn the_document_in_the_repository_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/openapi.yaml");
    let made = gateway::openapi::document().to_yaml().unwrap();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == made,
        "schemas/openapi.yaml is not what the routes say; run with UPDATE=1"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_path_is_served() {
    let gateway = Gateway::start().await;
    let document = gateway.get("/v1/openapi.json").await;
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() >= 4);
    for path in paths.keys() {
        let path = path.replace("{id}", "0190e209-a000-7a5f-893c-1e5c53a7dc16");
        let response = gateway.call("OPTIONS", &path, &[]).await;
        assert_eq!(response.status(), 204, "{path}");
    }
}
