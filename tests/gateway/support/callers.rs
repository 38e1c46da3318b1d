//! The same call in every protocol, with what each says of a refusal, so that answers can be compared.
#![allow(dead_code, reason = "a toolbox: not every test run uses every tool")]

use http::{HeaderMap, Method};
use serde_json::json;

use super::client::{Version, request};
use super::gateway::TestGateway;
use super::rpc::{self, Ending};
use super::websocket::Socket;

const SAY: &str = "/portico.test.v1.Echo/Say";
const REPEAT: &str = "/portico.test.v1.Echo/Repeat";

/// How a call in one protocol ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Of gRPC, whatever the protocol.
    pub(crate) code: usize,
    pub(crate) message: String,
    /// `WWW-Authenticate`.
    pub(crate) challenge: Option<String>,
    /// Headers that the backend saw, if it was called.
    pub(crate) seen: Option<HeaderMap>,
}

/// Makes a unary call, or one with a stream, in every protocol over every version of HTTP that it has.
pub(crate) async fn everywhere(gateway: &TestGateway, headers: &[(&str, &str)]) -> Vec<(String, Outcome)> {
    let mut outcomes = Vec::new();
    for version in Version::BOTH {
        let mut client = gateway.client(version).await;
        for path in [SAY, REPEAT] {
            for dialect in rpc::dialects(version, path) {
                let told = dialect.call(&mut client, path, headers, &[json!({"text": "hi"})]).await;
                let name = format!("{} {version:?} {path}", dialect.media);
                if told.code == 16 {
                    let expected = if dialect.ending == Ending::Unary { 401 } else { 200 };
                    assert_eq!(told.reply.status.as_u16(), expected, "{name}");
                }
                let seen = told.messages.first().map(|message| metadata(&message["metadata"]));
                let challenge = challenge(&told.reply.headers);
                outcomes.push((name, Outcome { code: told.code, message: told.message, challenge, seen }));
            }
        }
        for path in ["/test/v1/say/hi", "/test/v1/repeat/hi"] {
            let mut headers = headers.to_vec();
            headers.push(("accept", "application/json"));
            let reply = client.send(request(Method::GET, path, &headers, "")).await;
            outcomes
                .push((format!("REST {version:?} {path}"), rest(reply.status.as_u16(), &reply.headers, &reply.body)));
        }
        let name = format!("WebSocket {version:?}");
        let outcome = match Socket::ask(gateway.address, version, "/test/v1/repeat/hi", headers).await {
            Ok(_) => Outcome { code: 0, message: String::new(), challenge: None, seen: None },
            Err(refusal) => rest(refusal.status, &refusal.headers, &refusal.body),
        };
        outcomes.push((name, outcome));
    }
    assert!(outcomes.len() >= 30, "{} ways", outcomes.len());
    outcomes
}

fn rest(status: u16, headers: &HeaderMap, body: &[u8]) -> Outcome {
    if headers.get("content-type").is_some_and(|value| value.as_bytes().starts_with(b"text/plain")) {
        // The words of an external authorizer, which have no code beside the status.
        let code = if status == 401 { 16 } else { 7 };
        let message = String::from_utf8_lossy(body).into_owned();
        return Outcome { code, message, challenge: challenge(headers), seen: None };
    }
    let body: serde_json::Value = serde_json::from_slice(body).expect("the body is JSON");
    if status == 200 {
        let message = if body.is_array() { &body[0] } else { &body };
        let seen = Some(metadata(&message["metadata"]));
        return Outcome { code: 0, message: String::new(), challenge: None, seen };
    }
    let code = body["code"].as_u64().and_then(|code| usize::try_from(code).ok()).expect("a code");
    assert_eq!(
        status,
        match code {
            16 => 401,
            7 => 403,
            14 => 503,
            _ => status,
        },
        "{body}"
    );
    let message = body["message"].as_str().expect("a message").to_owned();
    Outcome { code, message, challenge: challenge(headers), seen: None }
}

fn challenge(headers: &HeaderMap) -> Option<String> {
    Some(headers.get("www-authenticate")?.to_str().expect("text").to_owned())
}

fn metadata(json: &serde_json::Value) -> HeaderMap {
    use base64::Engine as _;
    let mut headers = HeaderMap::new();
    for entry in json.as_array().into_iter().flatten() {
        let value = base64::engine::general_purpose::STANDARD.decode(entry["value"].as_str().unwrap_or_default());
        // Of the pseudo-headers nothing is asked here.
        let Ok(name) = entry["name"].as_str().expect("a name").parse::<http::HeaderName>() else { continue };
        headers.append(name, value.expect("base64").as_slice().try_into().expect("a value"));
    }
    headers
}

/// Every protocol must let the call through.
pub(crate) async fn granted(gateway: &TestGateway, headers: &[(&str, &str)], what: &str) {
    for (name, outcome) in everywhere(gateway, headers).await {
        assert_eq!((outcome.code, outcome.challenge), (0, None), "{what}: {name}: {}", outcome.message);
    }
}

/// Every protocol must refuse the call, in the same words.
pub(crate) async fn refused(gateway: &TestGateway, headers: &[(&str, &str)], challenge: &str, what: &str) {
    let message = if challenge.contains("error=") {
        "the credentials of the request are not valid"
    } else {
        "this method asks for credentials, and the request has none"
    };
    let expected = Outcome { code: 16, message: message.into(), challenge: Some(challenge.into()), seen: None };
    for (name, outcome) in everywhere(gateway, headers).await {
        assert_eq!(outcome, expected, "{what}: {name}");
    }
}
