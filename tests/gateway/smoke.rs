//! The shortest way through everything.

use http::{Method, StatusCode};
use serde_json::json;

use crate::support::backend;
use crate::support::client::Version;
use crate::support::gateway::TestGateway;

#[tokio::test]
async fn json_goes_in_and_comes_out_over_both_versions_of_http() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;

    for version in Version::BOTH {
        let mut client = gateway.client(version).await;

        let reply = client.json(Method::POST, "/portico.test.v1.Echo/Say", r#"{"text": "hello"}"#).await;

        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        assert_eq!(reply.json()["text"], json!("hello"));
    }
}
