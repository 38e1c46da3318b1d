//! Settings per method: policies and JSON.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::HeaderName;
use http::header::DATE;

use super::authorization::Known;
use super::rate_store::Stores;
use super::{
    admission, authentication, authorization, bounded, choose, cors, each, limit, optional, rate_limit, require, retry,
    to_usize, value,
};
use crate::config::file::{Compression as RawCompression, Json, Policy as RawPolicy};
use crate::config::problem::Place;
use crate::config::read::{List, Located, Report, Switch, Table};
use crate::config::units::{OptionalSpan, Size, Span};
use crate::config::{BoundHeaders, Change, MethodPattern, MethodSettings, PartialCompression, PartialSettings, Policy};
use crate::encoding::Encoding;
use crate::grpc::metadata;

/// The policies of a file, in its order.
pub(super) fn policies(
    list: Option<Located<List<RawPolicy>>>,
    known: &Known<'_>,
    stores: &Stores,
    report: &mut Report<'_>,
) -> Vec<Policy> {
    let mut policies = Vec::new();
    let mut seen: Vec<(MethodPattern, Place)> = Vec::new();
    let mut all_limits = rate_limit::Limits::new(stores, known.authorizers);
    for raw in value(list).items {
        let RawPolicy { r#match, timeout, json, limits, compression, reply, request_headers, .. } = raw.value;
        let RawPolicy {
            reply_headers,
            cors,
            rate_limits,
            authenticate,
            authorize,
            identity,
            retry,
            hedge,
            admission,
            ..
        } = raw.value;
        let reply = value(reply);
        require(r#match.is_some(), "match", &raw.at, report);
        let (timeout, limits) = (value(timeout), value(limits));
        let given = Given {
            stream_idle: timeout.stream_idle.as_ref().map(|span| span.at.clone()),
            retry: retry.as_ref().map(|section| section.at.clone()),
            hedge: hedge.as_ref().map(|section| section.at.clone()),
        };
        let defaults = MethodSettings::default();
        let mut message = |value: Option<Located<Size>>, default: usize| {
            value.map(|value| to_usize(limit(Some(value), MESSAGE, Size(default as u64), report).0))
        };
        let max_request_message = message(limits.request_message, defaults.max_request_message);
        let max_response_message = message(limits.response_message, defaults.max_response_message);
        let settings = PartialSettings {
            unary_timeout: timeout.unary.map(|span| unary_timeout(&span, report)),
            stream_idle: timeout.stream_idle.map(|span| bounded(&span, TIMEOUT, report).0),
            stream_timeout: timeout.stream.map(|span| optional(&span, TIMEOUT, report)),
            retry: retry::retry(retry, report),
            hedge: retry::hedge(hedge, report),
            max_request_message,
            max_response_message,
            compression: compression.and_then(|compression| self::compression(compression, report)),
            reply_status_metadata: reply
                .status_metadata
                .and_then(|name| name.parse(report, |name| metadata_name(name))),
            reply_metadata: reply.headers.map(|list| each(Some(list), report, |name| reply_header(name)).into()),
            request_headers: request_headers.map(|table| bound(table, request_header, report)),
            reply_headers: reply_headers.map(|table| bound(table, reply_header, report)),
            authenticate: authentication::requirement(authenticate, known.providers, report),
            authorize: authorization::authorization(authorize, known, report),
            identity: authorization::forwarded(identity, report),
            admission: admission::admission(admission, report),
            ..self::json(json, report)
        };
        endless_times(&settings, &given, report);
        let cors = cors::cors(cors, report);
        let pattern = r#match.as_ref().map_or("", |pattern| pattern.value.as_str());
        let rate_limits = all_limits.of(rate_limits, pattern, report);
        let Some(pattern) = r#match else { continue };
        let at = pattern.at.clone();
        let Some(matches) = pattern.parse(report, |text| text.parse::<MethodPattern>()) else { continue };
        match seen.iter().find(|(first, _)| *first == matches) {
            Some((_, first)) => report.problem(&at, format!("the pattern is already that of {}", first.path)),
            None => seen.push((matches.clone(), at)),
        }
        policies.push(Policy { matches, settings, cors, rate_limits });
    }
    all_limits.check(&policies, report);
    policies
}

/// Where a policy says what takes less than its whole calls.
struct Given {
    stream_idle: Option<Place>,
    retry: Option<Place>,
    hedge: Option<Place>,
}

/// Warns of times that are never over before the whole call is, by the same policy.
fn endless_times(settings: &PartialSettings, given: &Given, report: &mut Report<'_>) {
    let mut warn = |at: &Option<Place>, key: &str, time: Option<Duration>, whole: Option<Duration>, call: &str| {
        if let (Some(at), Some(time), Some(whole)) = (at, time, whole.filter(|whole| time >= Some(*whole))) {
            let text = format!("{key}{} has no effect: the whole {call} has {}", Span(time), Span(whole));
            report.warn(at, text);
        }
    };
    warn(&given.stream_idle, "", settings.stream_idle, settings.stream_timeout.flatten(), "stream");
    let unary = settings.unary_timeout.flatten();
    if let Change::To(retry) = &settings.retry {
        warn(&given.retry, "`per_try_timeout` of ", retry.per_try_timeout, unary, "call");
    }
    if let Change::To(hedge) = &settings.hedge {
        warn(&given.hedge, "`delay` of ", Some(hedge.delay), unary, "call");
    }
}

fn unary_timeout(given: &Located<OptionalSpan>, report: &mut Report<'_>) -> Option<Duration> {
    let Some(span) = given.value.0 else {
        report.warn(&given.at, "a unary call whose client gives no deadline may now last for ever");
        return None;
    };
    Some(bounded(&Located { value: Span(span), at: given.at.clone() }, TIMEOUT, report).0)
}

fn compression(given: Located<Switch<RawCompression>>, report: &mut Report<'_>) -> Option<PartialCompression> {
    let RawCompression { min_size, encodings } = match given.value {
        Switch::Off => return Some(PartialCompression::Off),
        Switch::On(given) => given,
    };
    let encodings = encodings.map(|list| {
        if list.value.written == 0 {
            report.problem(&list.at, "at least one encoding is needed; `compression: off` is for none");
        }
        let mut encodings = Vec::new();
        for name in list.value.items {
            let at = name.at.clone();
            let Some(encoding) = choose(name, &ENCODINGS.map(|encoding| (encoding.name(), encoding)), report) else {
                continue;
            };
            if encodings.contains(&encoding) {
                report.problem(&at, format!("{} is given twice", encoding.name()));
            }
            encodings.push(encoding);
        }
        encodings.into()
    });
    Some(PartialCompression::On {
        min_size: min_size.map(|size| to_usize(bounded(&size, MESSAGE, report).0)),
        encodings,
    })
}

/// Headers with the fields that they are bound to.
fn bound(
    table: Located<Table>,
    name: impl Fn(&str) -> Result<HeaderName, String>,
    report: &mut Report<'_>,
) -> BoundHeaders {
    let mut bound: Vec<(HeaderName, Box<str>)> = Vec::new();
    for (header, field) in table.value.entries {
        let at = header.at.clone();
        let Some(header) = header.parse(report, |text| name(text)) else { continue };
        if bound.iter().any(|(known, _)| *known == header) {
            report.problem(&at, "the header is given twice");
        }
        let word =
            |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !field.value.split('.').all(word) {
            report.problem(&field.at, format!("{:?} is not a field; write its names joined by dots", field.value));
        }
        bound.push((header, field.value.into()));
    }
    bound.into()
}

/// A header of a request that may set a field.
fn request_header(text: &str) -> Result<HeaderName, String> {
    let name = header_name(text)?;
    if metadata::is_hop_by_hop(&name) {
        return Err(format!("{text:?} speaks of one connection and means nothing to a service"));
    }
    Ok(name)
}

/// A name of metadata with a text as its value.
fn metadata_name(text: &str) -> Result<HeaderName, String> {
    let name = header_name(text)?;
    if metadata::is_binary(&name) || metadata::is_reserved(&name) || metadata::is_hop_by_hop(&name) {
        return Err(format!("{text:?} cannot be the name of metadata that holds a status; such as x-http-code can"));
    }
    Ok(name)
}

/// A header that a service may set, which are all but those that the gateway answers for.
fn reply_header(text: &str) -> Result<HeaderName, String> {
    let name = header_name(text)?;
    let of_content = name.as_str().starts_with("content-")
        && !matches!(name.as_str(), "content-disposition" | "content-language" | "content-location");
    if of_content
        || metadata::is_hop_by_hop(&name)
        || metadata::is_reserved(&name)
        || name.as_str().starts_with("access-control-")
        || name == DATE
    {
        return Err(format!("{text:?} is set by the gateway alone"));
    }
    Ok(name)
}

fn header_name(text: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| format!("{text:?} is not the name of a header"))
}

/// What a `json` section changes.
pub(super) fn json(json: Option<Located<Json>>, report: &mut Report<'_>) -> PartialSettings {
    let json = value(json);
    let on = |key: Option<Located<bool>>| key.map(|key| key.value);
    PartialSettings {
        ignore_unknown_fields: json
            .unknown_fields
            .and_then(|word| choose(word, &[("reject", false), ("ignore", true)], report)),
        int64_as_number: on(json.int64_as_number),
        emit_defaults: on(json.emit_defaults),
        preserve_proto_names: on(json.preserve_proto_names),
        enums_as_numbers: on(json.enums_as_numbers),
        stream_envelope: on(json.stream_envelope),
        ..PartialSettings::default()
    }
}

/// What REST replies may be compressed with. Clients disagree on what `deflate` is.
const ENCODINGS: [Encoding; 3] = [Encoding::Zstd, Encoding::Br, Encoding::Gzip];
const TIMEOUT: RangeInclusive<Span> = Span(Duration::from_millis(1))..=Span(Duration::from_hours(24));
const MESSAGE: RangeInclusive<Size> = Size(1)..=Size(1 << 30);
