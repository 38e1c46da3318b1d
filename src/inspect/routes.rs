//! `portico routes`: which request reaches which method.

use std::cmp::Ordering;

use crate::cli::Exit;
use http::HeaderName;

use crate::config::units::{OptionalSpan, Size, Span};
use crate::config::{Compression, Config, Json, Loaded, MethodSettings};
use crate::schema::http_rule::BodyRule;
use crate::schema::template::{Segment, Template};
use crate::snapshot::{Binding, Method, Snapshot};

use super::check::notice_line;
use super::table::Table;
use super::{control, error_lines, policies, print, snapshot, stream_kind};

/// Lists every route on standard output.
///
/// # Errors
/// What is left out, in conflict or missing; the table is printed nevertheless.
pub fn routes(loaded: Loaded) -> Result<(), Exit> {
    let snapshot = snapshot(loaded.config, &control()?)?;
    print(&table(&snapshot))?;
    let errors: Vec<String> = snapshot.notices.iter().filter(|notice| !notice.is_warning()).map(notice_line).collect();
    if errors.is_empty() { Ok(()) } else { Err(Exit::Wrong(error_lines(&errors))) }
}

/// A line of the table before it is text.
struct Row<'s> {
    order: (usize, Vec<Place>),
    http_method: &'s str,
    path: String,
    body: String,
    method: &'s Method,
}

/// A segment as it is sorted: literals by name, before `*`, before `**`.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Literal(Vec<u8>),
    Any,
    Rest,
}

fn table(snapshot: &Snapshot) -> String {
    let mut rows: Vec<Row<'_>> = snapshot.bindings.iter().map(|binding| row(snapshot, binding)).collect();
    let bound = |index: usize| snapshot.bindings.iter().any(|binding| binding.method == index);
    let unbound = snapshot.methods.iter().enumerate().filter(|(index, _)| !bound(*index));
    rows.extend(unbound.map(|(_, method)| Row {
        order: (usize::MAX, vec![Place::Literal(method.name.as_bytes().to_vec())]),
        http_method: "POST",
        path: method.path.to_string(),
        body: "*".into(),
        method,
    }));
    rows.sort_by(|left, right| left.order.cmp(&right.order).then_with(|| by_verb(left.http_method, right.http_method)));

    let mut table = Table::with_heading(&["HTTP", "PATH", "BODY", "METHOD", "STREAM", "UPSTREAM", "SETTINGS"]);
    for row in rows {
        table.row([
            row.http_method.to_owned(),
            row.path,
            row.body,
            row.method.name.to_string(),
            stream_kind(row.method).to_owned(),
            snapshot.upstreams[row.method.upstream].config.name.to_string(),
            settings(row.method, &snapshot.config).join(", "),
        ]);
    }
    let mut text = table.to_string();
    if !snapshot.methods.is_empty() {
        text.push_str(
            "\nEvery method is also served at POST /pkg.Service/Method: with JSON, as gRPC, gRPC-Web and Connect.\n",
        );
    }
    text
}

fn row<'s>(snapshot: &'s Snapshot, binding: &'s Binding) -> Row<'s> {
    let template = Template::parse(&binding.template);
    let mut order: Vec<Place> = Vec::new();
    if let Ok(template) = &template {
        order.extend(template.segments().iter().map(|segment| match segment {
            Segment::Literal(bytes) => Place::Literal(bytes.to_vec()),
            Segment::Any => Place::Any,
            Segment::Rest => Place::Rest,
        }));
        order.extend(template.verb().map(|verb| Place::Literal([b":", verb].concat())));
    }
    Row {
        order: (0, order),
        http_method: &binding.http_method,
        path: binding.template.to_string(),
        body: match &binding.body {
            BodyRule::None => String::new(),
            BodyRule::Whole => "*".into(),
            BodyRule::Field(name) => name.to_string(),
        },
        method: &snapshot.methods[binding.method],
    }
}

/// In the order in which people list them, the others by name behind.
fn by_verb(left: &str, right: &str) -> Ordering {
    const ORDER: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];
    let place = |name: &str| ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len());
    place(left).cmp(&place(right)).then_with(|| left.cmp(right))
}

/// What a method has that is not as usual.
fn settings(method: &Method, config: &Config) -> Vec<String> {
    let mut list = differences(&method.settings, &MethodSettings::default());
    list.extend(policies::short(&method.settings, config));
    let limits = config.rate_limits(&method.name).len();
    list.extend((limits > 0).then(|| format!("rate_limits {limits}")));
    list.extend(method.cors.as_ref().map(|cors| format!("cors {}", cors.origins)));
    list
}

/// Settings that are not as usual, by their keys in the configuration.
fn differences(settings: &MethodSettings, usual: &MethodSettings) -> Vec<String> {
    let mut list = Vec::new();
    let mut note = |differs: bool, text: String| list.extend(differs.then_some(text));
    let &MethodSettings {
        unary_timeout,
        stream_idle,
        stream_timeout,
        max_request_message,
        max_response_message,
        json,
        ..
    } = settings;
    let MethodSettings { compression, reply, request_headers, reply_headers, .. } = settings;
    note(unary_timeout != usual.unary_timeout, format!("timeout.unary {}", OptionalSpan(unary_timeout)));
    note(stream_idle != usual.stream_idle, format!("timeout.stream_idle {}", Span(stream_idle)));
    note(stream_timeout != usual.stream_timeout, format!("timeout.stream {}", OptionalSpan(stream_timeout)));
    list.extend(settings.retry.iter().map(|retry| {
        let codes: Vec<_> = retry.on.iter().map(|code| code.name().to_lowercase()).collect();
        format!("retry {} on {}", retry.retries, codes.join(" "))
    }));
    list.extend(settings.hedge.iter().map(|hedge| format!("hedge {} after {}", hedge.attempts, Span(hedge.delay))));
    let mut note = |differs: bool, text: String| list.extend(differs.then_some(text));
    let size = |bytes: usize| Size(bytes as u64);
    note(
        max_request_message != usual.max_request_message,
        format!("limits.request_message {}", size(max_request_message)),
    );
    note(
        max_response_message != usual.max_response_message,
        format!("limits.response_message {}", size(max_response_message)),
    );
    list.extend(json_options(json));
    if *compression != usual.compression {
        list.push(compression_text(compression));
    }
    for (key, bound) in [("request_headers", request_headers), ("reply_headers", reply_headers)] {
        list.extend(bound.iter().map(|(name, field)| format!("{key} {name}: {field}")));
    }
    list.extend(reply.status_metadata.iter().map(|name| format!("reply.status_metadata {name}")));
    if !reply.headers.is_empty() {
        let names: Vec<_> = reply.headers.iter().map(HeaderName::as_str).collect();
        list.push(format!("reply.headers {}", names.join(" ")));
    }
    list
}

fn compression_text(compression: &Compression) -> String {
    if !compression.enabled {
        return "compression off".to_owned();
    }
    let names: Vec<_> = compression.encodings.iter().map(|encoding| encoding.name()).collect();
    format!("compression {} from {}", names.join(" "), Size(compression.min_size as u64))
}

/// The JSON options that are on; every one is off by default.
pub(super) fn json_options(json: Json) -> Vec<String> {
    let Json {
        ignore_unknown_fields,
        int64_as_number,
        emit_defaults,
        preserve_proto_names,
        enums_as_numbers,
        stream_envelope,
    } = json;
    let options = [
        (ignore_unknown_fields, "json.unknown_fields ignore"),
        (int64_as_number, "json.int64_as_number"),
        (emit_defaults, "json.emit_defaults"),
        (preserve_proto_names, "json.preserve_proto_names"),
        (enums_as_numbers, "json.enums_as_numbers"),
        (stream_envelope, "json.stream_envelope"),
    ];
    options.into_iter().filter(|(on, _)| *on).map(|(_, name)| name.to_owned()).collect()
}
