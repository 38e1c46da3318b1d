//! Which pages of other origins may call.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::{bounded, each, require, value_or};
use crate::config::Change;
use crate::config::cors::{Cors, DEFAULT_MAX_AGE, Names, OriginPattern, Origins};
use crate::config::file::Cors as RawCors;
use crate::config::problem::Place;
use crate::config::read::{Clearable, List, Located, Report};
use crate::config::units::Span;

/// What a policy says of other origins.
pub(super) fn cors(raw: Option<Located<Clearable<RawCors>>>, report: &mut Report<'_>) -> Change<Arc<Cors>> {
    let Some(Located { value: raw, at }) = raw else { return Change::Inherited };
    let RawCors { allow_origins, allow_headers, expose_headers, allow_credentials, max_age } = match raw {
        Clearable::None => return Change::Cleared,
        Clearable::Some(raw) => raw,
    };
    require(allow_origins.is_some(), "allow_origins", &at, report);
    let credentials = value_or(allow_credentials, false);
    let origins = allow_origins.map(|list| origins(list, credentials, report));
    let allow_headers = names(allow_headers, credentials, report);
    let expose_headers = names(expose_headers, credentials, report);
    let max_age = max_age.map_or(DEFAULT_MAX_AGE, |span| bounded(&span, MAX_AGE, report).0);
    match origins {
        Some(origins) => Change::To(Arc::new(Cors { origins, allow_headers, expose_headers, credentials, max_age })),
        // Reported, so that there will be no configuration.
        None => Change::Inherited,
    }
}

fn origins(list: Located<List<String>>, credentials: bool, report: &mut Report<'_>) -> Origins {
    if list.value.written == 0 {
        report.problem(&list.at, "at least one origin is needed; `cors: none` takes back what was inherited");
    }
    if is_any(&list, credentials, "every site could act in the name of its visitors", report) {
        return Origins::Any;
    }
    let mut broad: Vec<Place> = Vec::new();
    let mut patterns = Vec::new();
    for item in list.value.items {
        let at = item.at.clone();
        let Some(pattern) = item.parse(report, |text| text.parse::<OriginPattern>()) else { continue };
        broad.extend(pattern.is_broad().then_some(at));
        patterns.push(pattern);
    }
    for at in broad {
        report.warn(&at, "whoever has a host below this domain may call");
    }
    Origins::Listed(patterns)
}

fn names(list: Option<Located<List<String>>>, credentials: bool, report: &mut Report<'_>) -> Names {
    let Some(list) = list else { return Names::Listed(Vec::new()) };
    if is_any(&list, credentials, "browsers take it for the name of a header", report) {
        return Names::Any;
    }
    let parse = |text: &String| {
        text.parse::<HeaderName>().map_err(|_| format!("{text:?} is not the name of a header, such as x-tenant"))
    };
    Names::Listed(each(Some(list), report, parse))
}

/// Whether the list is `"*"`, which excludes anything beside it, and credentials.
fn is_any(list: &Located<List<String>>, credentials: bool, why: &str, report: &mut Report<'_>) -> bool {
    let Some(star) = list.value.items.iter().find(|item| item.value == "*") else { return false };
    if list.value.written > 1 {
        report.problem(&star.at, "`*` takes in the others of the list; write it alone or leave it out");
    }
    if credentials {
        report.problem(&star.at, format!("`*` cannot stand beside `allow_credentials`: {why}"));
    }
    true
}

const MAX_AGE: RangeInclusive<Span> = Span(Duration::ZERO)..=Span(Duration::from_hours(24));
