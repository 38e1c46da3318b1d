//! Every way to make the same call, with what a refusal says in each.
#![allow(dead_code, reason = "a toolbox: not every test run uses every tool")]

use http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::client::{Reply, Version, request};
use super::gateway::TestGateway;
use super::rpc::{self, Ending};
use super::websocket::Socket;

const SAY: &str = "/portico.test.v1.Echo/Say";
const REPEAT: &str = "/portico.test.v1.Echo/Repeat";

/// What came of one call.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Of gRPC, whatever the protocol.
    pub(crate) code: u64,
    /// Of HTTP.
    pub(crate) status: u16,
    /// Of the reply's head.
    pub(crate) headers: HeaderMap,
    /// Where gRPC ends, in the protocols that have such a place.
    pub(crate) trailers: HeaderMap,
    /// The error, where it is JSON.
    pub(crate) body: Value,
}

/// One way to call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    Rpc(Version, rpc::Dialect, &'static str),
    Rest(Version, &'static str),
    Socket(Version),
}

/// Every way to call a unary method, and one with a stream.
pub(crate) fn ways() -> Vec<Way> {
    let mut ways = Vec::new();
    for version in Version::BOTH {
        for path in [SAY, REPEAT] {
            ways.extend(rpc::dialects(version, path).map(|dialect| Way::Rpc(version, dialect, path)));
        }
        ways.extend(["/test/v1/say", "/test/v1/repeat"].map(|path| Way::Rest(version, path)));
        ways.push(Way::Socket(version));
    }
    assert!(ways.len() >= 30);
    ways
}

impl Way {
    pub(crate) async fn call(self, gateway: &TestGateway, headers: &[(&str, &str)]) -> Outcome {
        self.say(gateway, headers, "hi").await
    }

    pub(crate) async fn say(self, gateway: &TestGateway, headers: &[(&str, &str)], text: &str) -> Outcome {
        match self {
            Self::Rpc(version, dialect, path) => {
                let mut client = gateway.client(version).await;
                let told = dialect.call(&mut client, path, headers, &[json!({"text": text})]).await;
                Outcome {
                    code: told.code as u64,
                    status: told.reply.status.as_u16(),
                    headers: told.reply.headers,
                    trailers: told.trailers,
                    body: if dialect.ending == Ending::EndStream { told.end["error"].clone() } else { told.end },
                }
            }
            Self::Rest(version, path) => {
                let mut client = gateway.client(version).await;
                let headers = [headers, &[("accept", "application/json")]].concat();
                plain(client.send(request(Method::GET, &format!("{path}/{text}"), &headers, "")).await)
            }
            Self::Socket(version) => {
                match Socket::ask(gateway.address, version, &format!("/test/v1/repeat/{text}"), headers).await {
                    Ok(socket) => {
                        let (headers, trailers) = (socket.headers, HeaderMap::new());
                        Outcome { code: 0, status: 200, headers, trailers, body: Value::Null }
                    }
                    Err(refusal) => {
                        let body: Value = serde_json::from_slice(&refusal.body).expect("a refusal is JSON");
                        let code = body["code"].as_u64().expect("a code");
                        let (status, headers) = (refusal.status, refusal.headers);
                        Outcome { code, status, headers, trailers: HeaderMap::new(), body }
                    }
                }
            }
        }
    }

    /// The HTTP status of a refusal that is this one in REST.
    pub(crate) fn status(self, rest: u16) -> u16 {
        match self {
            Self::Rpc(_, dialect, _) if dialect.ending == Ending::Unary => rest,
            Self::Rpc(..) => 200,
            Self::Rest(..) | Self::Socket(_) => rest,
        }
    }
}

pub(crate) fn plain(reply: Reply) -> Outcome {
    let body = if reply.status == 200 { Value::Null } else { reply.json() };
    let code = body["code"].as_u64().unwrap_or(0);
    Outcome { code, status: reply.status.as_u16(), headers: reply.headers, trailers: HeaderMap::new(), body }
}

pub(crate) fn text<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).map_or("", |value| value.to_str().expect("text"))
}
