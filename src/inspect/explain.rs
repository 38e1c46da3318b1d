//! `portico explain`: what becomes of one request, and why.
//!
//! The request runs through the pipeline itself ([`Proxy::rehearse`]) up to the point where it would be sent; what is
//! printed here is what that found. Only the hints after a refusal are this command's own ([`nearby`]).

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{
    CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Method as HttpMethod, Request, Version};

use crate::cli::{Exit, Explain};
use crate::config::admission::Adaptive;
use crate::config::retry::{Codes, Hedge, Retry};
use crate::config::units::{Size, Span};
use crate::config::{AccessLog as AccessLogTo, Json, MethodSettings};
use crate::error::Reason;
use crate::grpc::status::Code;
use crate::grpc::timeout;
use crate::multipart;
use crate::proxy::coding;
use crate::proxy::rehearsal::{Matched, Rehearsal, Sent, Verdict};
use crate::proxy::worker::{Shared, Worker};
use crate::proxy::{Peer, Proxy};
use crate::schema::MessageId;
use crate::schema::http_rule::BodyRule;
use crate::snapshot::{Binding, Method, SchemaState, Snapshot, Source, Transcoding};
use crate::telemetry::Protocol;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Registry;
use crate::telemetry::trace::{RequestId, TraceParent};
use crate::transcode::{Input, Plans, ReplyPlan};

use super::{control, nearby, policies, print, snapshot, stream_kind};

/// Explains a request on standard output, also one that is refused.
///
/// # Errors
/// The schema is wrong, or standard output is closed.
pub fn explain(explain: Explain) -> Result<(), Exit> {
    let Explain { loaded, method, target, mut headers, body } = explain;
    let control = control()?;
    let source = Source::new(snapshot(loaded.config, &control)?);
    let snapshot = source.load();
    let mut lines = Lines(format!("{method} {target}\n\n"));
    if !body.is_empty() && !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        lines.put("note", "no content type was given, so it is application/x-www-form-urlencoded, as curl sends it");
    }
    if wants_websocket(&headers) && !headers.contains_key(SEC_WEBSOCKET_KEY) {
        shake_hands(&mut headers);
        lines.put("note", "no handshake was given, so it is one as browsers make it");
    }
    let asked = Asked { method, headers, body };
    match request(&asked, &target) {
        Err(error) => lines.put("refused", &format!("no HTTP request can have this target: {error}")),
        Ok(request) => {
            let query = request.uri().query().map(str::to_owned);
            let path = request.uri().path().to_owned();
            let proxy = proxy(Arc::clone(&source))?;
            let peer = peer(&snapshot);
            let rehearsal = control.block_on(proxy.rehearse(peer, request));
            Telling { snapshot: &snapshot, asked: &asked, path: &path, query: query.as_deref(), rehearsal }
                .tell(&mut lines);
        }
    }
    print(&lines.0)
}

fn wants_websocket(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Adds what browsers send for a WebSocket.
fn shake_hands(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("AAAAAAAAAAAAAAAAAAAAAA=="));
}

/// The request as it was typed.
struct Asked {
    method: HttpMethod,
    headers: HeaderMap,
    body: Bytes,
}

fn request(asked: &Asked, target: &str) -> Result<Request<Bytes>, http::Error> {
    // Only there it begins a WebSocket; to anything else the version makes no difference.
    let version = if wants_websocket(&asked.headers) { Version::HTTP_11 } else { Version::HTTP_2 };
    let mut request =
        Request::builder().method(asked.method.clone()).uri(target).version(version).body(asked.body.clone())?;
    *request.headers_mut() = asked.headers.clone();
    Ok(request)
}

/// A pipeline whose calls nobody hears of.
fn proxy(source: Arc<Source>) -> Result<Rc<Proxy>, Exit> {
    let registry = Registry::new(Arc::default());
    let log = AccessLog::start(&AccessLogTo::Off, registry.dropped_log_lines())
        .map_err(|error| Exit::Wrong(format!("error: {error}")))?;
    Ok(Proxy::new(Worker::new(source, Shared::default(), 1, registry.worker(), log.worker())))
}

/// A client on the same machine, at the first listener.
fn peer(snapshot: &Snapshot) -> Rc<Peer> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = snapshot.config.listeners.first().cloned();
    let listener = listener.unwrap_or_else(|| crate::config::Listener::on(address));
    Rc::new(Peer::new(address, listener.address, listener.tls.is_some(), Rc::new(listener)))
}

/// Text with a label in front of each paragraph.
struct Lines(String);

impl Lines {
    fn put(&mut self, label: &str, text: &str) {
        for (index, line) in text.lines().enumerate() {
            let label = if index == 0 { label } else { "" };
            self.0.push_str(format!("{label:<11}{line}").trim_end());
            self.0.push('\n');
        }
    }

    fn gap(&mut self) {
        if !self.0.ends_with("\n\n") {
            self.0.push('\n');
        }
    }
}

struct Telling<'a> {
    snapshot: &'a Snapshot,
    asked: &'a Asked,
    path: &'a str,
    query: Option<&'a str>,
    rehearsal: Rehearsal,
}

impl Telling<'_> {
    fn tell(&self, lines: &mut Lines) {
        self.tell_route(lines);
        self.tell_policies(lines);
        if let (Some(method), Some(matched)) = (self.method(), &self.rehearsal.matched) {
            lines.gap();
            self.tell_sources(method, matched, lines);
        }
        match &self.rehearsal.verdict {
            Verdict::Sent(sent) => {
                self.tell_message(sent, lines);
                lines.gap();
                self.tell_settings(sent, lines);
                lines.gap();
                self.tell_sent(sent, lines);
            }
            Verdict::Local => lines.put("answered", "by the gateway itself, for all its upstreams"),
            Verdict::Options(allow) => {
                lines.put("answered", &format!("HTTP 204, allow: {}", allow.to_str().unwrap_or_default()));
            }
            Verdict::Preflight(headers) => {
                let text: Vec<String> = headers.iter().map(|(name, value)| shown(name, value)).collect();
                lines.put(
                    "answered",
                    &format!("HTTP 204 to the browser, which asks whether a page may call\n{}", text.join("\n")),
                );
            }
            Verdict::Refused(error) => {
                lines.gap();
                let (code, reason) = (Code::from_number(error.number()).map_or("", Code::name), error.reason().name());
                let status = match self.rehearsal.protocol {
                    Protocol::Grpc => format!("grpc-status {} ({code})", error.number()),
                    Protocol::Rest | Protocol::GrpcWeb | Protocol::Connect | Protocol::WebSocket => {
                        format!("HTTP {}, code {} ({code})", error.http().as_u16(), error.number())
                    }
                };
                lines.put("refused", &format!("{status}, reason {reason}\n{}", error.message()));
                if let Some(note) = error.note() {
                    lines.put("because", note);
                }
                for hint in nearby::hints(self.snapshot, &self.asked.method, self.path, error) {
                    lines.put("hint", &hint);
                }
            }
        }
    }

    fn method(&self) -> Option<&Method> {
        Some(&self.snapshot.methods[self.rehearsal.method?])
    }

    fn binding(&self) -> Option<&Binding> {
        Some(&self.snapshot.bindings[self.rehearsal.matched.as_ref()?.binding?])
    }

    fn tell_route(&self, lines: &mut Lines) {
        match (self.rehearsal.protocol, self.binding(), self.method()) {
            (Protocol::Grpc, ..) => lines.put("route", "native gRPC"),
            (Protocol::WebSocket, Some(binding), _) => {
                lines.put("route", &format!("WebSocket at {}, the path of {}", binding.template, binding.http_method));
            }
            (Protocol::WebSocket, None, Some(_)) if self.rehearsal.matched.is_some() => {
                lines.put("route", "WebSocket at the method's own name");
            }
            (_, Some(binding), _) => {
                let body = match &binding.body {
                    BodyRule::None => "no body".to_owned(),
                    BodyRule::Whole => "body: \"*\"".to_owned(),
                    BodyRule::Field(field) => format!("body: \"{field}\""),
                };
                let by_get = self.asked.method == HttpMethod::HEAD && binding.http_method == "GET";
                let head = if by_get { "; HEAD is answered as GET, without a body" } else { "" };
                lines.put("route", &format!("{} {}, {body}{head}", binding.http_method, binding.template));
            }
            (_, None, Some(_)) if self.rehearsal.matched.is_some() => {
                lines.put("route", "the method's own name, body: \"*\"");
            }
            (_, None, Some(_) | None) => {}
        }
        if let Some(method) = self.method() {
            let stream = stream_kind(method);
            let stream = if stream.is_empty() { String::new() } else { format!(", {stream}") };
            lines.put("method", &format!("{}{stream}", method.name));
        }
        if let Some(index) = self.rehearsal.upstream {
            if self.rehearsal.method.is_none() {
                lines.put("method", "known to no schema; only this upstream can be meant");
                if let Some(name) = nearby::nearest_name(self.snapshot, self.path) {
                    lines.put("hint", &format!("the known method nearest in name is {name}"));
                }
            }
            let upstream = &self.snapshot.upstreams[index].config;
            lines.put("upstream", &format!("{} at {}", upstream.name, upstream.endpoints));
        }
    }

    /// What the method's policies ask of callers, and who this one is.
    fn tell_policies(&self, lines: &mut Lines) {
        let unknown;
        let settings = match self.method() {
            Some(method) => &*method.settings,
            None if self.rehearsal.upstream.is_some() => {
                unknown = self.snapshot.config.method(self.path.trim_start_matches('/'));
                &unknown
            }
            None => return,
        };
        for (label, text) in policies::long(settings, &self.snapshot.config) {
            lines.put(label, &text);
        }
        if !self.rehearsal.callers.is_empty() {
            lines.put("caller", &format!("known to {}", self.rehearsal.callers.join(", ")));
        }
    }

    /// What path, query and body say, each as the part of the message that it alone would make.
    fn tell_sources(&self, method: &Method, matched: &Matched, lines: &mut Lines) {
        let plan: &Transcoding = self.binding().map_or(&method.direct, |binding| &binding.plan);
        let captures: Vec<_> = matched.captures.iter().map(|text| text.as_str().into()).collect();
        let content_type = self.asked.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let path = Input { captures: &captures, ..Input::default() };
        let bound = plan.request.bound_headers(&self.asked.headers);
        let headers = Input { headers: Some(&bound), ..Input::default() };
        let query = Input { query: self.query, ..Input::default() };
        // What cannot be decompressed is what the request is refused for, and that is told further down.
        let content = coding::of(&self.asked.headers)
            .and_then(|encoding| coding::decode(encoding, self.asked.body.clone(), method.settings.max_request_message))
            .unwrap_or_default();
        let body = Input { body: &content, content_type, ..Input::default() };
        let read = !matches!(&self.rehearsal.verdict, Verdict::Refused(error)
            if matches!(error.reason(), Reason::UnsupportedMediaType | Reason::UnsupportedEncoding));
        let given = [
            ("from path", path, !captures.is_empty()),
            ("from headers", headers, !bound.is_empty()),
            ("from query", query, self.query.is_some_and(|query| !query.is_empty())),
            ("from body", body, read && !content.is_empty()),
        ];
        let encode = |input: &Input<'_>| {
            let mut message = BytesMut::new();
            plan.request.encode(input, method.settings.json, &mut message).ok().map(|()| message)
        };
        for (label, input, _) in given.into_iter().filter(|(.., given)| *given) {
            // What cannot be read is what the request is refused for, and that is told further down.
            if let Some((_, json)) = encode(&input).and_then(|part| self.as_json(method, &part)) {
                lines.put(label, &json);
            }
        }
        let together = Input { captures: &captures, headers: Some(&bound), query: self.query, ..body };
        if let Verdict::Sent(Sent { message: Some(message), .. }) = &self.rehearsal.verdict
            && encode(&together).is_some_and(|given| given != message)
        {
            lines.put("note", "update_mask is made of the fields in the body: a PATCH request without one");
        }
    }

    fn tell_message(&self, sent: &Sent, lines: &mut Lines) {
        match (&sent.message, self.method()) {
            (Some(message), Some(method)) => {
                if let Some((name, json)) = self.as_json(method, message) {
                    lines.put("message", &format!("{name}\n{json}"));
                }
            }
            (None, Some(method)) if self.rehearsal.protocol == Protocol::WebSocket => {
                let first = "the first message of the WebSocket";
                lines.put(
                    "message",
                    if method.client_streaming { "one for each message of the WebSocket" } else { first },
                );
            }
            (None, Some(method)) if !method.client_streaming => {
                lines.put("message", "the client's own, unchanged; exactly one");
            }
            (None, Some(method)) if method.client_streaming && self.rehearsal.protocol == Protocol::Rest => {
                lines.put("message", self.pieces(method));
            }
            (None | Some(_), _) => lines.put("message", "the client's own, unchanged"),
        }
    }

    /// What becomes of a body that is read as it comes.
    fn pieces(&self, method: &Method) -> &'static str {
        let plan = self.binding().map_or(&method.direct, |binding| &binding.plan);
        let content_type = self.asked.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if plan.request.takes_http_body() {
            "one for each piece of the body, as it comes"
        } else if content_type.is_some_and(|media| multipart::boundary(media).is_some()) {
            "made of the parts of the form, as they come"
        } else {
            "one for each JSON value of the body, as it comes"
        }
    }

    /// The name of a method's request message, and such a message as JSON with the names of the `.proto` file.
    fn as_json(&self, method: &Method, message: &[u8]) -> Option<(String, String)> {
        let SchemaState::Loaded(plans) = &self.snapshot.upstreams[method.upstream].schema else { return None };
        let input = input_of(plans, method)?;
        let names = Json { preserve_proto_names: true, ..Json::default() };
        let mut json = BytesMut::new();
        ReplyPlan::compile(plans, input, None).ok()?.decode(message, names, usize::MAX, &mut json).ok()?;
        Some((plans.schema().message(input).name.to_string(), String::from_utf8(json.to_vec()).ok()?))
    }

    fn tell_settings(&self, sent: &Sent, lines: &mut Lines) {
        let defaults = &self.snapshot.config.defaults;
        let settings = self.method().map_or(defaults, |method| &*method.settings);
        let unary = self.method().is_some_and(|method| stream_kind(method).is_empty());
        let own = if unary {
            settings
                .unary_timeout
                .map_or_else(|| "none".to_owned(), |whole| format!("{} for the whole call", Span(whole)))
        } else {
            let whole = settings.stream_timeout.map(|whole| format!(", {} for the whole stream", Span(whole)));
            format!("{} without a message{}", Span(settings.stream_idle), whole.unwrap_or_default())
        };
        let tighter =
            sent.deadline.filter(|deadline| !unary || settings.unary_timeout.is_none_or(|whole| *deadline < whole));
        let client = tighter.map(|deadline| format!("; the client waits for {deadline:?}")).unwrap_or_default();
        lines.put("timeout", &format!("{own}{client}"));
        tell_attempts(sent, settings, lines);
        let (request, response) = (settings.max_request_message as u64, settings.max_response_message as u64);
        lines.put("limits", &format!("{} per request message, {} per reply", Size(request), Size(response)));
        let name = self.method().map_or_else(|| self.path.trim_start_matches('/'), |method| &method.name);
        let limits = self.snapshot.config.rate_limits(name);
        if !limits.is_empty() {
            let limits: Vec<String> = limits.iter().map(|limit| limit.to_string()).collect();
            lines.put("rates", &limits.join("\n"));
        }
        if let Some(most) = settings.admission.max_concurrent {
            lines.put("admission", &format!("{most} calls at once"));
        }
        if let Some(Adaptive { min, max }) = settings.admission.adaptive {
            lines.put("admission", &format!("{min} to {max} calls at once, by how long they take"));
        }
        let named = || self.snapshot.config.cors(self.path.trim_start_matches('/'));
        if let Some(cors) = self.method().map_or_else(named, |method| method.cors.as_ref()) {
            lines.put("cors", &format!("pages of {}", cors.origins));
        }
        if self.rehearsal.protocol != Protocol::Grpc {
            let options = super::routes::json_options(settings.json);
            let text = if options.is_empty() { "as by default".to_owned() } else { options.join(", ") };
            lines.put("json", &text);
        }
    }

    fn tell_sent(&self, sent: &Sent, lines: &mut Lines) {
        let mut text = format!("POST {}\n", sent.path);
        let mut headers = sent.headers.clone();
        if let Some(deadline) = sent.deadline {
            headers.insert(crate::grpc::TIMEOUT, timeout::grpc_value(deadline));
        }
        for (name, value) in &headers {
            let made =
                [RequestId::HEADER, TraceParent::HEADER].contains(name) && self.asked.headers.get(name) != Some(value);
            let value =
                if made { "(a new one for each call)".into() } else { String::from_utf8_lossy(value.as_bytes()) };
            text.push_str(&format!("{name}: {value}\n"));
        }
        lines.put("sent", &text);
    }
}

/// When the call is sent again, or to several endpoints.
fn tell_attempts(sent: &Sent, settings: &MethodSettings, lines: &mut Lines) {
    let names = |codes: Codes| codes.iter().map(|code| code.name().to_lowercase()).collect::<Vec<_>>().join(", ");
    if let Some(retry) = &sent.retry {
        let Retry { retries, on, base_backoff, max_backoff, per_try_timeout, buffer } = **retry;
        let each = per_try_timeout.map(|time| format!("; {} for each attempt but the last", Span(time)));
        lines.put(
            "retry",
            &format!(
                "up to {retries} more attempts after {}; waits of up to {}, growing to {}; requests of up to {}{}",
                names(on),
                Span(base_backoff),
                Span(max_backoff),
                Size(buffer as u64),
                each.unwrap_or_default()
            ),
        );
    }
    match (&sent.hedge, &settings.hedge) {
        (Some(hedge), _) => {
            let Hedge { attempts, delay, non_fatal, assume_idempotent: _ } = **hedge;
            let replaced = if settings.retry.is_some() { "; no retry beside it" } else { "" };
            lines.put(
                "hedge",
                &format!(
                    "up to {attempts} attempts, one each {} without a reply; not ended by {}{replaced}",
                    Span(delay),
                    names(non_fatal)
                ),
            );
        }
        (None, Some(_)) => lines.put("hedge", "none: only for unary methods that are known to be idempotent"),
        (None, None) => {}
    }
}

fn shown(name: &HeaderName, value: &HeaderValue) -> String {
    format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))
}

fn input_of(plans: &Plans, method: &Method) -> Option<MessageId> {
    let mut methods = plans.schema().services().iter().flat_map(|service| &service.methods);
    methods.find(|known| known.name == method.name).map(|known| known.input)
}
