//! What an external authorizer is asked, and what its answer means: `envoy.service.auth.v3`
//! ([external_auth.proto](https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/auth/v3/external_auth.proto)).
//!
//! Pure: who asks is `proxy::ask`. An authorizer is asked of the method, not of the path that meant it, so that its verdict
//! is the same for a call in any protocol; what the client sent stands in headers of its own, as behind Envoy's transcoder.
//!
//! **Invariant**: an answer changes nothing but the headers that the configuration lets it change, and no value in it can
//! start another header. An answer that breaks a rule is no answer.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, SET_COOKIE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::authorize::Facts;
use super::client;
use super::identity::{self, Identities};
use crate::config::authorization::Authorizer;
use crate::grpc::metadata;
use crate::grpc::status::Code;
use crate::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use crate::pb::envoy::config::core::v3::{Address, HeaderValueOption, Metadata, SocketAddress};
use crate::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use crate::pb::envoy::service::auth::v3::check_response::HttpResponse;
use crate::pb::envoy::service::auth::v3::{
    AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
};
use crate::pb::google::protobuf::{ListValue, NullValue, Struct, Timestamp, Value, value::Kind};

/// Where calls are asked.
pub const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
/// Under which name the authorizer finds the claims in `metadata_context.filter_metadata`.
const IDENTITY: &str = "portico.identity";
/// Changes of headers in one answer.
const MAX_CHANGES: usize = 64;
/// Bytes of a header's value in an answer.
const MAX_VALUE: usize = 16 << 10;
/// Bytes of a refusal's body.
const MAX_BODY: usize = 64 << 10;

/// What is known of the connection and the request beside [`Facts`].
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// The call's identifier.
    pub request_id: &'a str,
    /// Of the client's end of the connection.
    pub port: u16,
    /// Of the listener.
    pub local: std::net::SocketAddr,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// `HTTP/1.1` or `HTTP/2`.
    pub version: &'a str,
    /// Nanoseconds within the second of [`Facts::time`].
    pub nanos: i32,
}

/// What an authorizer says.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The call passes, with these changes.
    Allowed(Changes),
    /// It does not.
    Denied(Box<Refusal>),
}

/// What an authorizer changes of a call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// For the upstream.
    request: Vec<Change>,
    /// Out of the request.
    remove: Vec<HeaderName>,
    /// For the reply.
    pub reply: HeaderMap,
}

#[derive(Debug, Clone, PartialEq)]
struct Change {
    name: HeaderName,
    value: HeaderValue,
    action: HeaderAppendAction,
}

/// How a call is refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// For callers of HTTP.
    pub status: StatusCode,
    /// For callers of gRPC.
    pub code: Code,
    /// For callers of HTTP.
    pub headers: HeaderMap,
    /// The authorizer's words; empty when it has none.
    pub body: String,
}

/// Asks for a call.
pub fn question(authorizer: &Authorizer, facts: &Facts<'_>, around: &Circumstances<'_>) -> CheckRequest {
    let client = client::ip(facts.headers, facts.peer, facts.trusted);
    // The port is known only of who is at the other end of the connection.
    let port = if client == facts.peer.to_canonical() { around.port } else { 0 };
    let address = |address: String, port: u16| {
        Some(Address { socket_address: Some(SocketAddress { address, port_value: port.into() }) })
    };
    let http = HttpRequest {
        id: around.request_id.to_owned(),
        method: "POST".to_owned(),
        headers: headers(facts),
        path: format!("/{}", facts.method),
        host: facts.host.to_owned(),
        scheme: around.scheme.to_owned(),
        // The body has not been read.
        size: -1,
        protocol: around.version.to_owned(),
    };
    let context = authorizer.context.iter().map(|(key, value)| (key.to_string(), value.to_string()));
    let claims = facts.identities.iter().map(|identity| (identity.source().to_owned(), object(identity.claims())));
    let claims = Struct { fields: claims.collect() };
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(Peer {
                address: address(client.to_string(), port),
                principal: principal(facts.identities),
                ..Peer::default()
            }),
            destination: Some(Peer {
                address: address(around.local.ip().to_string(), around.local.port()),
                service: facts.method.split('/').next().unwrap_or_default().to_owned(),
                ..Peer::default()
            }),
            request: Some(Request {
                time: Some(Timestamp { seconds: facts.time, nanos: around.nanos }),
                http: Some(http),
            }),
            context_extensions: context.collect(),
            metadata_context: Some(Metadata { filter_metadata: [(IDENTITY.to_owned(), claims)].into() }),
        }),
    }
}

/// Whom the client's certificate names, where a policy asks for one.
fn principal(identities: &Identities) -> String {
    let certificate = identities.iter().find(|identity| identity.kind() == identity::Kind::Certificate);
    let sub = certificate.and_then(|identity| identity.claims().get("sub")?.as_str());
    sub.unwrap_or_default().to_owned()
}

/// Names in lower case, values of one name joined by commas, as Envoy tells them.
fn headers(facts: &Facts<'_>) -> std::collections::HashMap<String, String> {
    let mut all = std::collections::HashMap::with_capacity(facts.headers.keys_len() + 6);
    for name in facts.headers.keys() {
        let values = facts.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        let joined = values.fold(String::new(), |mut joined, value| {
            if !joined.is_empty() {
                joined.push(',');
            }
            joined.push_str(&value);
            joined
        });
        all.insert(name.as_str().to_owned(), joined);
    }
    let target = match facts.query {
        "" => facts.path.to_owned(),
        query => format!("{}?{query}", facts.path),
    };
    for (name, value) in [
        (":authority", facts.host),
        (":method", "POST"),
        ("x-envoy-original-method", facts.http_method),
        ("x-envoy-original-path", &target),
        ("x-portico-protocol", facts.protocol),
    ] {
        all.insert(name.to_owned(), value.to_owned());
    }
    all.insert(":path".to_owned(), format!("/{}", facts.method));
    all
}

fn object(map: &serde_json::Map<String, serde_json::Value>) -> Value {
    let fields = map.iter().map(|(name, value)| (name.clone(), claim(value))).collect();
    Value { kind: Some(Kind::StructValue(Struct { fields })) }
}

fn claim(json: &serde_json::Value) -> Value {
    let kind = match json {
        serde_json::Value::Object(map) => return object(map),
        serde_json::Value::Null => Kind::NullValue(NullValue::NullValue.into()),
        serde_json::Value::Bool(truth) => Kind::BoolValue(*truth),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => Kind::StringValue(text.clone()),
        serde_json::Value::Array(items) => Kind::ListValue(ListValue { values: items.iter().map(claim).collect() }),
    };
    Value { kind: Some(kind) }
}

/// What an answer means.
///
/// # Errors
/// It breaks a rule, and is no answer.
pub fn judge(authorizer: &Authorizer, answer: CheckResponse) -> Result<Verdict, String> {
    let status = answer.status.unwrap_or_default();
    match (status.code, answer.http_response) {
        (0, None) => Ok(Verdict::Allowed(Changes::default())),
        (0, Some(HttpResponse::OkResponse(ok))) => changes(authorizer, ok).map(Verdict::Allowed),
        // A body for a refusal beside the status OK: whoever wrote that meant one of them.
        (0, Some(HttpResponse::DeniedResponse(_) | HttpResponse::ErrorResponse(_))) => {
            Err("the status is OK beside a refusal".to_owned())
        }
        (_, Some(HttpResponse::ErrorResponse(_))) => Err("it says that it could not decide".to_owned()),
        (code, Some(HttpResponse::DeniedResponse(denied))) => refusal(code, denied),
        (code, None | Some(HttpResponse::OkResponse(_))) => refusal(code, DeniedHttpResponse::default()),
    }
}

fn changes(authorizer: &Authorizer, ok: OkHttpResponse) -> Result<Changes, String> {
    if !ok.query_parameters_to_set.is_empty() || !ok.query_parameters_to_remove.is_empty() {
        return Err("it changes the query, which has been read".to_owned());
    }
    let count = ok.headers.len() + ok.headers_to_remove.len() + ok.response_headers_to_add.len();
    if count > MAX_CHANGES {
        return Err(format!("{count} changes of headers exceed the limit of {MAX_CHANGES}"));
    }
    let mut changes = Changes::default();
    for option in ok.headers {
        let change = change(option)?;
        if !authorizer.headers.contains(&change.name) {
            return Err(format!("it sets {}, which `headers` does not name", change.name));
        }
        changes.request.push(change);
    }
    for name in ok.headers_to_remove {
        let name = header_name(&name)?;
        if metadata::is_hop_by_hop(&name) || metadata::is_reserved(&name) || name.as_str().starts_with("content-") {
            return Err(format!("it removes {name}, which belongs to the protocol"));
        }
        changes.remove.push(name);
    }
    for option in ok.response_headers_to_add {
        let Change { name, value, action: _ } = change(option)?;
        if !authorizer.reply_headers.contains(&name) {
            return Err(format!("it adds {name} to the reply, which `reply_headers` does not name"));
        }
        changes.reply.append(name, value);
    }
    Ok(changes)
}

fn refusal(code: i32, denied: DeniedHttpResponse) -> Result<Verdict, String> {
    let said = denied.status.map_or(0, |status| status.code);
    let status = match said {
        0 => None,
        said => Some(
            u16::try_from(said)
                .ok()
                .and_then(|said| StatusCode::from_u16(said).ok())
                .filter(|status| (300..600).contains(&status.as_u16()))
                .ok_or_else(|| format!("it refuses by HTTP status {said}"))?,
        ),
    };
    let named = u32::try_from(code).ok().and_then(Code::from_number).filter(|code| *code != Code::Ok);
    // Authorizers say PERMISSION_DENIED of everything, and by the status what they mean.
    let code = status.and_then(code_of).or(named).unwrap_or(Code::PermissionDenied);
    let status = status.unwrap_or(match code {
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        _ => StatusCode::FORBIDDEN,
    });
    if denied.headers.len() > MAX_CHANGES {
        return Err(format!("{} headers exceed the limit of {MAX_CHANGES}", denied.headers.len()));
    }
    if denied.body.len() > MAX_BODY {
        return Err(format!("a body of {} bytes exceeds the limit of {MAX_BODY}", denied.body.len()));
    }
    let mut headers = HeaderMap::new();
    for option in denied.headers {
        let Change { name, value, action: _ } = change(option)?;
        // A refusal has no reply of an upstream to protect; what frames it is still the gateway's.
        let passes =
            metadata::is_public(&name) || [LOCATION, SET_COOKIE, WWW_AUTHENTICATE, CONTENT_TYPE].contains(&name);
        if passes && name != CONTENT_LENGTH {
            headers.append(name, value);
        }
    }
    Ok(Verdict::Denied(Box::new(Refusal { status, code, headers, body: denied.body })))
}

/// The code whose status it is.
fn code_of(status: StatusCode) -> Option<Code> {
    Some(match status.as_u16() {
        400 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        409 => Code::Aborted,
        429 => Code::ResourceExhausted,
        503 => Code::Unavailable,
        504 => Code::DeadlineExceeded,
        _ => return None,
    })
}

fn change(option: HeaderValueOption) -> Result<Change, String> {
    let action = match option.append.map(|append| append.value) {
        Some(true) => HeaderAppendAction::AppendIfExistsOrAdd,
        Some(false) => HeaderAppendAction::OverwriteIfExistsOrAdd,
        None => match option.append_action() {
            // Unset, which in this protocol overwrites.
            HeaderAppendAction::AppendIfExistsOrAdd => HeaderAppendAction::OverwriteIfExistsOrAdd,
            other => other,
        },
    };
    let header = option.header.ok_or("it names no header")?;
    let name = header_name(&header.key)?;
    let bytes = if header.raw_value.is_empty() { header.value.into_bytes() } else { header.raw_value };
    if bytes.len() > MAX_VALUE {
        return Err(format!("{name} of {} bytes exceeds the limit of {MAX_VALUE}", bytes.len()));
    }
    // Metadata is printable ASCII; and a line break would start a header of its own.
    if !bytes.iter().all(|byte| (0x20..=0x7e).contains(byte)) {
        return Err(format!("the value of {name} has characters that no header can have"));
    }
    let value = HeaderValue::from_maybe_shared(bytes::Bytes::from(bytes));
    value.map(|value| Change { name, value, action }).map_err(|error| error.to_string())
}

fn header_name(text: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| format!("{text:?} is not the name of a header"))
}

impl Changes {
    /// Changes the headers of a request.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for Change { name, value, action } in &self.request {
            let exists = headers.contains_key(name);
            match action {
                HeaderAppendAction::AppendIfExistsOrAdd => {
                    headers.append(name, value.clone());
                }
                HeaderAppendAction::AddIfAbsent if exists => {}
                HeaderAppendAction::OverwriteIfExists if !exists => {}
                HeaderAppendAction::AddIfAbsent
                | HeaderAppendAction::OverwriteIfExists
                | HeaderAppendAction::OverwriteIfExistsOrAdd => {
                    headers.insert(name, value.clone());
                }
            }
        }
    }
}
