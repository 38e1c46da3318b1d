//! What callers must be, and who else decides on calls.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::{bounded, choose, each, require, value};
use crate::config::authentication::Provider;
use crate::config::authorization::{Authorization, Authorizer, Conditions, Demand, Forwarded, Rule, Test};
use crate::config::claim::ClaimPath;
use crate::config::file::authorization::{
    Authorization as RawAuthorization, Authorizer as RawAuthorizer, Conditions as RawConditions,
    Forwarded as RawForwarded, Rule as RawRule, Rules, Scalar, TestSection, Tests,
};
use crate::config::problem::Place;
use crate::config::read::{List, Located, Report};
use crate::config::spelling::nearest;
use crate::config::units::Span;
use crate::config::{Change, MethodPattern, Policy, Upstream, pattern};
use crate::expression::Program;
use crate::grpc::metadata;

/// Whose names rules may use.
pub(super) struct Known<'k> {
    pub(super) providers: &'k [Arc<Provider>],
    pub(super) authorizers: &'k [Arc<Authorizer>],
}

/// Every authorizer of the file, in its order.
pub(super) fn authorizers(
    raw: Option<Located<RawAuthorization>>,
    upstreams: &[Upstream],
    report: &mut Report<'_>,
) -> Vec<Arc<Authorizer>> {
    let mut authorizers: Vec<Arc<Authorizer>> = Vec::new();
    for Located { value: raw, at } in value(value(raw).external).items {
        let RawAuthorizer { name, upstream, timeout, on_failure, headers, reply_headers, context } = raw;
        require(name.is_some(), "name", &at, report);
        require(upstream.is_some(), "upstream", &at, report);
        let name = name.and_then(|name| {
            name.parse(report, |name| {
                let is_taken = authorizers.iter().any(|known| *known.name == **name);
                if is_taken { Err(format!("another authorizer has the name {name} already")) } else { Ok(name.clone()) }
            })
        });
        let upstream = upstream.and_then(|upstream| {
            upstream.parse(report, |name| {
                let names: Vec<&str> = upstreams.iter().map(|upstream| &*upstream.name).collect();
                names.iter().position(|known| known == name).ok_or_else(|| unknown("upstream", name, &names))
            })
        });
        let timeout = timeout.map_or(TIMEOUT, |timeout| bounded(&timeout, TIMEOUTS, report).0);
        let allow_on_failure = on_failure.is_some_and(|word| {
            let at = word.at.clone();
            let allow = choose(word, &[("deny", false), ("allow", true)], report).unwrap_or_default();
            if allow {
                report.warn(&at, "when the authorizer does not answer, every caller passes");
            }
            allow
        });
        let (Some(name), Some(upstream)) = (name, upstream) else { continue };
        authorizers.push(Arc::new(Authorizer {
            name: name.into(),
            upstream,
            timeout,
            allow_on_failure,
            headers: each(headers, report, |name| request_header(name)),
            reply_headers: each(reply_headers, report, |name| reply_header(name)),
            context: value(context)
                .entries
                .into_iter()
                .map(|(key, value)| (key.value.into(), value.value.into()))
                .collect(),
        }));
    }
    authorizers
}

/// What a policy says of its callers.
pub(super) fn authorization(
    raw: Option<Located<Rules>>,
    known: &Known<'_>,
    report: &mut Report<'_>,
) -> Change<Arc<Authorization>> {
    let Some(Located { value: raw, at }) = raw else { return Change::Inherited };
    let rules = match raw {
        Rules::None => return Change::Cleared,
        Rules::Listed(rules) => rules,
    };
    if rules.written == 0 {
        report.problem(&at, "at least one rule is needed; `authorize: none` takes back what was inherited");
    }
    let mut authorization = Authorization::default();
    for rule in rules.items {
        add(rule, known, &mut authorization, report);
    }
    Change::To(Arc::new(authorization))
}

fn add(rule: Located<RawRule>, known: &Known<'_>, all: &mut Authorization, report: &mut Report<'_>) {
    let Located { value: raw, at } = rule;
    let RawRule { name, scopes, claims, headers, methods, providers, client_ip, cel, any_of, deny, external } = raw;
    let own = RawConditions { scopes, claims, headers, methods, providers, client_ip, cel };
    let forms = [!own.is_empty(), any_of.is_some(), deny.is_some(), external.is_some()];
    match forms.into_iter().filter(|given| *given).count() {
        1 => {}
        0 => {
            let message = "a rule needs conditions, `any_of`, `deny` or `external`";
            // What could not be read has been reported.
            if !super::has_unread(&at, report) {
                report.problem(&at, message);
            }
            return;
        }
        _ => report.problem(&at, "conditions, `any_of`, `deny` and `external` are rules each; make a list of them"),
    }
    let name: Box<str> = name.map_or_else(|| at.path.as_str().into(), |name| name.value.into());
    if let Some(external) = external {
        let names: Vec<&str> = known.authorizers.iter().map(|authorizer| &*authorizer.name).collect();
        let found = external.parse(report, |name| {
            names.iter().position(|known| known == name).ok_or_else(|| unknown("authorizer", name, &names))
        });
        all.external.extend(found);
        return;
    }
    let demand = if let Some(deny) = deny {
        conditions(deny.value, &deny.at, known, report).map(Demand::Deny)
    } else if let Some(any) = any_of {
        if any.value.written == 0 {
            report.problem(&any.at, "at least one alternative is needed");
        }
        let alternatives = any.value.items.into_iter().filter_map(|one| conditions(one.value, &one.at, known, report));
        Some(Demand::Any(alternatives.collect()))
    } else {
        conditions(own, &at, known, report).map(Demand::Require)
    };
    all.rules.extend(demand.map(|demand| Arc::new(Rule { name, demand })));
}

impl RawConditions {
    fn is_empty(&self) -> bool {
        let Self { scopes, claims, headers, methods, providers, client_ip, cel } = self;
        scopes.is_none()
            && claims.is_none()
            && headers.is_none()
            && methods.is_none()
            && providers.is_none()
            && client_ip.is_none()
            && cel.is_none()
    }
}

fn conditions(raw: RawConditions, at: &Place, known: &Known<'_>, report: &mut Report<'_>) -> Option<Conditions> {
    if raw.is_empty() && !super::has_unread(at, report) {
        report.problem(at, "at least one condition is needed");
        return None;
    }
    let RawConditions { scopes, claims, headers, methods, providers, client_ip, cel } = raw;
    let names: Vec<&str> = known.providers.iter().map(|provider| &*provider.name).collect();
    let conditions = Conditions {
        scopes: each(not_empty(scopes, report), report, |scope| scope_token(scope)),
        claims: tests(claims, report, |text| text.parse::<ClaimPath>()),
        headers: tests(headers, report, header_name),
        methods: each(not_empty(methods, report), report, |text| text.parse::<MethodPattern>()),
        providers: each(not_empty(providers, report), report, |name| {
            let index = names.iter().position(|known| *known == name.as_str());
            index
                .map(|index| Arc::clone(&known.providers[index].name))
                .ok_or_else(|| unknown("way to authenticate", name, &names))
        }),
        client_ip: each(not_empty(client_ip, report), report, |text| pattern::network(text)),
        cel: cel.and_then(|cel| cel.parse(report, |text| Program::compile(text).map_err(|fault| fault.to_string()))),
    };
    Some(conditions)
}

/// A list that means something.
fn not_empty<T>(list: Option<Located<List<T>>>, report: &mut Report<'_>) -> Option<Located<List<T>>> {
    if let Some(list) = list.as_ref().filter(|list| list.value.written == 0) {
        report.problem(&list.at, "the list is empty, so that nobody would pass");
    }
    list
}

fn tests<T>(
    raw: Option<Located<Tests>>,
    report: &mut Report<'_>,
    name: impl Fn(&str) -> Result<T, String>,
) -> Vec<(T, Test)> {
    let Some(Located { value: Tests(raw), at }) = raw else { return Vec::new() };
    if raw.is_empty() {
        report.problem(&at, "at least one test is needed");
    }
    let mut tests = Vec::new();
    for (key, section) in raw {
        let name = key.parse(report, |text| name(text));
        let found = test(section, report);
        let Some(name) = name else { continue };
        tests.extend(found.map(|test| (name, test)));
    }
    tests
}

fn test(raw: Located<TestSection>, report: &mut Report<'_>) -> Option<Test> {
    let Located { value: raw, at } = raw;
    let TestSection { equals, one_of, contains, contains_any, contains_all, exists } = raw;
    let one = |scalar: Option<Located<Scalar>>| scalar.map(|scalar| vec![scalar.value.0]);
    let mut several = |list: Option<Located<List<Scalar>>>| {
        let list = not_empty(list, report)?;
        Some(list.value.items.into_iter().map(|item| item.value.0).collect::<Vec<_>>())
    };
    let found = [
        one(equals).map(Test::OneOf),
        several(one_of).map(Test::OneOf),
        one(contains).map(Test::ContainsAny),
        several(contains_any).map(Test::ContainsAny),
        several(contains_all).map(Test::ContainsAll),
        exists.map(|exists| Test::Exists(exists.value)),
    ];
    let mut found = found.into_iter().flatten();
    match (found.next(), found.next()) {
        (Some(test), None) => Some(test),
        (None, _) => {
            if !super::has_unread(&at, report) {
                report.problem(&at, format!("one of {} is needed", TestSection::KEYS.join(", ")));
            }
            None
        }
        (Some(_), Some(_)) => {
            report.problem(&at, format!("only one of {} can be asked", TestSection::KEYS.join(", ")));
            None
        }
    }
}

/// What the upstream learns of callers.
pub(super) fn forwarded(raw: Option<Located<RawForwarded>>, report: &mut Report<'_>) -> Option<Arc<Forwarded>> {
    let RawForwarded { headers, lists, credentials } = raw?.value;
    let mut named: Vec<(HeaderName, ClaimPath)> = Vec::new();
    for (header, claim) in value(headers).entries {
        let at = header.at.clone();
        let header = header.parse(report, |name| request_header(name));
        let claim = claim.parse(report, |text| text.parse::<ClaimPath>());
        let (Some(header), Some(claim)) = (header, claim) else { continue };
        if named.iter().any(|(known, _)| *known == header) {
            report.problem(&at, "the header is given twice");
        }
        named.push((header, claim));
    }
    let joined = lists.and_then(|word| choose(word, &[("json", false), ("joined", true)], report));
    let kept = credentials.and_then(|word| choose(word, &[("keep", true), ("remove", false)], report));
    Some(Arc::new(Forwarded { headers: named, joined: joined.unwrap_or_default(), credentials: kept.unwrap_or(true) }))
}

/// Every header by which some upstream learns who calls.
pub(super) fn identity_headers(authorizers: &[Arc<Authorizer>], policies: &[Policy]) -> Arc<[HeaderName]> {
    let told = policies.iter().filter_map(|policy| policy.settings.identity.as_ref());
    let told = told.flat_map(|forwarded| forwarded.headers.iter().map(|(name, _)| name));
    let all = told.chain(authorizers.iter().flat_map(|authorizer| &authorizer.headers));
    let mut names: Vec<HeaderName> = all.cloned().collect();
    names.sort_unstable_by(|left, right| left.as_str().cmp(right.as_str()));
    names.dedup();
    names.into()
}

/// A header that tells an upstream who calls: none that a protocol or the gateway itself has a meaning for.
fn request_header(text: &str) -> Result<HeaderName, String> {
    let name = header_name(text)?;
    let is_taken = metadata::is_reserved(&name)
        || metadata::is_http_only(&name)
        || matches!(name.as_str(), "authorization" | "cookie" | "traceparent" | "tracestate" | "x-request-id")
        || name.as_str().starts_with("connect-");
    if is_taken {
        return Err(format!("{text:?} has a meaning of its own; use another name, such as x-user"));
    }
    Ok(name)
}

/// A header that an authorizer may add to replies.
fn reply_header(text: &str) -> Result<HeaderName, String> {
    let name = header_name(text)?;
    let is_taken = metadata::is_reserved(&name)
        || metadata::is_hop_by_hop(&name)
        || ["content-", "access-control-"].iter().any(|prefix| name.as_str().starts_with(prefix));
    if is_taken {
        return Err(format!("{text:?} is set by the gateway alone"));
    }
    Ok(name)
}

fn header_name(text: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| format!("{text:?} is not the name of a header"))
}

/// `scope-token` of [RFC 6749 §3.3](https://www.rfc-editor.org/rfc/rfc6749#section-3.3).
fn scope_token(text: &str) -> Result<Box<str>, String> {
    let is_right = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    if !text.is_empty() && text.bytes().all(is_right) {
        return Ok(text.into());
    }
    Err(format!("{text:?} is not a scope; each item of the list is one, without spaces"))
}

fn unknown(noun: &str, name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(near) => format!("there is no {noun} {name:?}; did you mean `{near}`?"),
        None if known.is_empty() => format!("there is no {noun} {name:?}; none is configured"),
        None => format!("there is no {noun} {name:?}; there are {}", known.join(", ")),
    }
}

const TIMEOUT: Duration = Duration::from_millis(200);
const TIMEOUTS: RangeInclusive<Span> = Span(Duration::from_millis(1))..=Span(Duration::from_mins(1));
