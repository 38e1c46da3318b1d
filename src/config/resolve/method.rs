//! Settings per method: policies and JSON.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{bounded, choose, cors, limit, require, to_usize, value};
use crate::config::file::{Json, Policy as RawPolicy};
use crate::config::problem::Place;
use crate::config::read::{List, Located, Report};
use crate::config::units::{OptionalSpan, Size, Span};
use crate::config::{MethodPattern, MethodSettings, PartialSettings, Policy};

/// The policies of a file, in its order.
pub(super) fn policies(list: Option<Located<List<RawPolicy>>>, report: &mut Report<'_>) -> Vec<Policy> {
    let mut policies = Vec::new();
    let mut seen: Vec<(MethodPattern, Place)> = Vec::new();
    for raw in value(list).items {
        let RawPolicy { r#match, timeout, json, limits, cors } = raw.value;
        require(r#match.is_some(), "match", &raw.at, report);
        let (timeout, limits) = (value(timeout), value(limits));
        let defaults = MethodSettings::default();
        let mut message = |value: Option<Located<Size>>, default: usize| {
            value.map(|value| to_usize(limit(Some(value), MESSAGE, Size(default as u64), report).0))
        };
        let max_request_message = message(limits.request_message, defaults.max_request_message);
        let max_response_message = message(limits.response_message, defaults.max_response_message);
        let settings = PartialSettings {
            unary_timeout: timeout.unary.map(|span| unary_timeout(&span, report)),
            stream_idle: timeout.stream_idle.map(|span| bounded(&span, TIMEOUT, report).0),
            max_request_message,
            max_response_message,
            ..self::json(json, report)
        };
        let cors = cors::cors(cors, report);
        let Some(pattern) = r#match else { continue };
        let at = pattern.at.clone();
        let Some(matches) = pattern.parse(report, |text| text.parse::<MethodPattern>()) else { continue };
        match seen.iter().find(|(first, _)| *first == matches) {
            Some((_, first)) => report.problem(&at, format!("the pattern is already that of {}", first.path)),
            None => seen.push((matches.clone(), at)),
        }
        policies.push(Policy { matches, settings, cors });
    }
    policies
}

fn unary_timeout(given: &Located<OptionalSpan>, report: &mut Report<'_>) -> Option<Duration> {
    let Some(span) = given.value.0 else {
        report.warn(&given.at, "a unary call whose client gives no deadline may now last for ever");
        return None;
    };
    Some(bounded(&Located { value: Span(span), at: given.at.clone() }, TIMEOUT, report).0)
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
        ..PartialSettings::default()
    }
}

const TIMEOUT: RangeInclusive<Span> = Span(Duration::from_millis(1))..=Span(Duration::from_hours(24));
const MESSAGE: RangeInclusive<Size> = Size(1)..=Size(1 << 30);
