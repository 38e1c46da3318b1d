//! HTTP rules: `google.api.HttpRule` as YAML.
//!
//! Only the form is judged here. Whether a template is well formed and its fields exist is known to the routes, which
//! read annotations by the same code.

use super::{has_unread, require, value};
use crate::config::file::HttpRule as RawRule;
use crate::config::pattern;
use crate::config::problem::Place;
use crate::config::read::{List, Located, Report};
use crate::pb::google::api::http_rule::Pattern;
use crate::pb::google::api::{CustomHttpPattern, HttpRule};

/// The rules of a file, in its order.
pub(super) fn rules(list: Option<Located<List<RawRule>>>, report: &mut Report<'_>) -> Vec<HttpRule> {
    let mut rules = Vec::new();
    let mut seen: Vec<(String, Place)> = Vec::new();
    for raw in value(list).items {
        require(raw.value.selector.is_some(), "selector", &raw.at, report);
        if let Some(selector) = &raw.value.selector {
            for one in pattern::selectors(&selector.value) {
                match seen.iter().find(|(first, _)| first == one) {
                    Some((_, first)) => report.problem(
                        &selector.at,
                        format!("{one:?} is already {}; use `additional_bindings` there", first.path),
                    ),
                    None => seen.push((one.to_owned(), selector.at.clone())),
                }
            }
        }
        rules.extend(rule(raw, report));
    }
    rules
}

fn rule(raw: Located<RawRule>, report: &mut Report<'_>) -> Option<HttpRule> {
    let Located { value: mut raw, at } = raw;
    let pattern = pattern(&mut raw, &at, report);
    let selector = raw.selector.and_then(|selector| selector.parse(report, |text| pattern::selector(text)));
    let mut additional_bindings = Vec::new();
    for binding in value(raw.additional_bindings).items {
        for (key, misplaced) in [
            ("selector", binding.value.selector.as_ref().map(|key| &key.at)),
            ("additional_bindings", binding.value.additional_bindings.as_ref().map(|key| &key.at)),
        ] {
            if let Some(at) = misplaced {
                report.problem(at, format!("an additional binding has no `{key}` of its own"));
            }
        }
        additional_bindings.extend(rule(binding, report));
    }
    Some(HttpRule {
        selector: selector.unwrap_or_default(),
        pattern: Some(pattern?),
        body: value(raw.body),
        response_body: value(raw.response_body),
        additional_bindings,
    })
}

fn pattern(raw: &mut RawRule, at: &Place, report: &mut Report<'_>) -> Option<Pattern> {
    let before = report.problems.len();
    let mut patterns: Vec<Pattern> = Vec::new();
    let mut verb = |path: Option<Located<String>>, verb: fn(String) -> Pattern, report: &mut Report<'_>| {
        patterns.extend(path.and_then(|path| path.parse(report, |text| template(text)).map(verb)));
    };
    verb(raw.get.take(), Pattern::Get, report);
    verb(raw.put.take(), Pattern::Put, report);
    verb(raw.post.take(), Pattern::Post, report);
    verb(raw.delete.take(), Pattern::Delete, report);
    verb(raw.patch.take(), Pattern::Patch, report);
    if let Some(custom) = raw.custom.take() {
        require(custom.value.kind.is_some(), "kind", &custom.at, report);
        require(custom.value.path.is_some(), "path", &custom.at, report);
        let kind = custom.value.kind.and_then(|kind| kind.parse(report, |text| kind_of(text)));
        let path = custom.value.path.and_then(|path| path.parse(report, |text| template(text)));
        if let (Some(kind), Some(path)) = (kind, path) {
            patterns.push(Pattern::Custom(CustomHttpPattern { kind, path }));
        }
    }
    match patterns.len() {
        1 => {}
        0 if report.problems.len() > before => {}
        0 if has_unread(at, report) => {}
        0 => report.problem(at, format!("one of {VERBS} is needed")),
        _ => report.problem(at, format!("only one of {VERBS} can stand in a rule; use `additional_bindings`")),
    }
    patterns.pop()
}

fn template(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is not a path template; it starts with `/`, such as /v1/{{name=shelves/*}}"))
}

/// An HTTP method, or `*` for any.
fn kind_of(text: &str) -> Result<String, String> {
    match http::Method::from_bytes(text.as_bytes()) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("{text:?} is not an HTTP method; write one such as HEAD, or `*` for any")),
    }
}

const VERBS: &str = "`get`, `put`, `post`, `delete`, `patch` and `custom`";
