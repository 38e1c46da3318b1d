//! What a request that reaches nothing may have meant.
//!
//! Small changes to the path are tried on the router itself, so that a hint always names something that is served; if
//! none helps, the template that looks most alike is named.

use http::Method as HttpMethod;

use crate::config::spelling;
use crate::error::{Error, Reason};
use crate::route::Miss;
use crate::schema::template::{Segment, Template};
use crate::snapshot::{Binding, Snapshot};

/// Sentences about what is served near a path; none for refusals that have nothing to do with the route.
pub(super) fn hints(snapshot: &Snapshot, method: &HttpMethod, path: &str, error: &Error) -> Vec<String> {
    if error.reason() == Reason::MethodNotAllowed {
        let allow = error.allow().and_then(|allow| allow.to_str().ok()).unwrap_or_default();
        let methods = allow.split(", ").filter(|name| !["HEAD", "OPTIONS"].contains(name));
        let methods = methods.filter_map(|name| HttpMethod::from_bytes(name.as_bytes()).ok());
        return methods.filter_map(|method| reached(snapshot, &method, path)).collect();
    }
    if !matches!(error.reason(), Reason::RouteNotFound | Reason::MethodUnknown) {
        return Vec::new();
    }
    if let Some(hint) = changed(snapshot, method, path) {
        return vec![hint];
    }
    if let Some(name) = nearest_name(snapshot, path) {
        return vec![format!("the method nearest in name is {name}")];
    }
    match nearest_template(snapshot, path) {
        Some(binding) => vec![format!("the route nearest to it is {}", route(snapshot, binding))],
        None => vec!["`portico routes` lists what is served".to_owned()],
    }
}

fn route(snapshot: &Snapshot, binding: &Binding) -> String {
    format!("{} {} of {}", binding.http_method, binding.template, snapshot.methods[binding.method].name)
}

/// What a method and path reach, if anything.
fn reached(snapshot: &Snapshot, method: &HttpMethod, path: &str) -> Option<String> {
    if method == HttpMethod::POST
        && let Some(index) = snapshot.method_at(path)
    {
        return Some(format!("POST {path} calls {}", snapshot.methods[index].name));
    }
    let found = snapshot.router.find(method, path).ok()?;
    Some(format!("{method} {path} takes the route {}", route(snapshot, &snapshot.bindings[*found.target])))
}

/// Tries the slips that are made most often.
fn changed(snapshot: &Snapshot, method: &HttpMethod, path: &str) -> Option<String> {
    let mut tries: Vec<(String, String)> = Vec::new();
    let trimmed = path.trim_end_matches('/');
    if trimmed != path && !trimmed.is_empty() {
        tries.push(("a trailing slash makes another path".into(), trimmed.to_owned()));
    } else {
        tries.push(("without the trailing slash it is another path".into(), format!("{path}/")));
    }
    if path.contains("//") {
        let single = path.split('/').filter(|segment| !segment.is_empty()).collect::<Vec<_>>().join("/");
        tries.push(("an empty segment makes another path".into(), format!("/{single}")));
    }
    let lower = path.to_ascii_lowercase();
    if lower != path {
        tries.push(("letter case matters in paths".into(), lower));
    }
    for prefix in prefixes(snapshot) {
        tries.push((format!("the prefix {prefix} is missing"), format!("{prefix}{path}")));
    }
    for (position, _) in path.match_indices('/').skip(1).take(MAX_PREFIX) {
        let (prefix, rest) = path.split_at(position);
        tries.push((format!("no route begins with {prefix}"), rest.to_owned()));
    }
    tries.into_iter().find_map(|(why, path)| {
        let hint = reached(snapshot, method, &path).or_else(|| match snapshot.router.find(method, &path) {
            Err(Miss::MethodNotAllowed(allow)) => {
                Some(format!("{path} is served for {}", allow.0.to_str().unwrap_or_default()))
            }
            Ok(_) | Err(Miss::NotFound | Miss::Options(_) | Miss::BadPath(_)) => None,
        })?;
        Some(format!("{why}: {hint}"))
    })
}

/// First segments of templates, such as `/v1`.
fn prefixes(snapshot: &Snapshot) -> Vec<String> {
    let first = |binding: &Binding| {
        let segment = binding.template.split('/').nth(1)?;
        (!segment.contains(['{', '*', ':'])).then(|| format!("/{segment}"))
    };
    let mut prefixes: Vec<String> = snapshot.bindings.iter().filter_map(first).collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    prefixes.truncate(MAX_TRIES);
    prefixes
}

/// The method whose name is closest, for a path of the form `/pkg.Service/Method`.
pub(super) fn nearest_name<'s>(snapshot: &'s Snapshot, path: &str) -> Option<&'s str> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    if !service.contains('.') {
        return None;
    }
    let names = || snapshot.methods.iter().filter_map(|method| method.name.split_once('/'));
    let services: Vec<&str> = names().map(|(service, _)| service).collect();
    let service = spelling::nearest(service, &services)?;
    let methods: Vec<&str> = names().filter(|(owner, _)| *owner == service).map(|(_, method)| method).collect();
    let method = spelling::nearest(method, &methods)?;
    let is_it = |name: &&str| name.split_once('/') == Some((service, method));
    snapshot.methods.iter().map(|method| &*method.name).find(is_it)
}

/// The binding whose template looks most like the path, if one does.
fn nearest_template<'s>(snapshot: &'s Snapshot, path: &str) -> Option<&'s Binding> {
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    if segments.len() > MAX_SEGMENTS {
        return None;
    }
    let measured = snapshot.bindings.iter().filter_map(|binding| {
        let template = Template::parse(&binding.template).ok()?;
        Some((distance(&template, &segments), binding))
    });
    let (cost, binding) = measured.min_by_key(|(cost, _)| *cost)?;
    // At least half of the path has to look alike.
    (cost <= segments.len() * OTHER / 2).then_some(binding)
}

/// A segment that is one slip away.
const SIMILAR: usize = 1;
/// A segment that is missing, too many, or another one.
const OTHER: usize = 4;

/// Edits between a template and a path, by segments.
fn distance(template: &Template, path: &[&str]) -> usize {
    let (mut path, mut verb_cost) = (path.to_vec(), 0);
    if let Some(verb) = template.verb() {
        let verb = String::from_utf8_lossy(verb);
        verb_cost = match path.last().and_then(|last| last.rsplit_once(':')) {
            Some((rest, given)) => {
                let cost = word(&verb, given);
                path.pop();
                path.push(rest);
                cost
            }
            None => OTHER,
        };
    }
    let mut above: Vec<usize> = (0..=path.len()).map(|missing| missing * OTHER).collect();
    for segment in template.segments() {
        let skipped = if *segment == Segment::Rest { 0 } else { OTHER };
        let mut current = vec![above[0] + skipped];
        for (column, given) in path.iter().enumerate() {
            let (cost, more) = match segment {
                Segment::Literal(text) => (word(&String::from_utf8_lossy(text), given), OTHER),
                Segment::Any if given.is_empty() => (OTHER, OTHER),
                Segment::Any => (0, OTHER),
                Segment::Rest => (0, 0),
            };
            let best = (above[column] + cost).min(above[column + 1] + skipped).min(current[column] + more);
            current.push(best);
        }
        above = current;
    }
    above.last().copied().unwrap_or(0) + verb_cost
}

fn word(known: &str, given: &str) -> usize {
    if known == given {
        0
    } else if spelling::nearest(given, &[known]).is_some() {
        SIMILAR
    } else {
        OTHER
    }
}

/// Segments that may stand before a known path.
const MAX_PREFIX: usize = 3;
/// Prefixes that are tried before a path.
const MAX_TRIES: usize = 32;
/// Longer paths are not compared.
const MAX_SEGMENTS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(template: &str, path: &str) -> usize {
        let path: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        distance(&Template::parse(template).unwrap(), &path)
    }

    #[test]
    fn distance_counts_segments_that_differ() {
        assert_eq!(cost("/v1/{name=shelves/*}", "/v1/shelves/1"), 0);
        assert_eq!(cost("/v1/{name=shelves/*}", "/v1/shelfs/1"), SIMILAR);
        assert_eq!(cost("/v1/{name=shelves/*}", "/v1/shelves"), OTHER);
        assert_eq!(cost("/v1/{name=files/**}", "/v1/files/a/b/c"), 0);
        assert_eq!(cost("/v1/{name=books/*}:return", "/v1/books/1:returns"), SIMILAR);
        assert_eq!(cost("/v1/{name=books/*}:return", "/v1/books/1"), OTHER);
    }
}
