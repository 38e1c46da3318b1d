//! Who may prove what in which way, and what methods ask for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::HeaderName;

use super::{require, token, value};
use crate::config::authentication::{ApiKeys, Basic, Kind, Places, Provider, Requirement, Rule};
use crate::config::file::authentication::{
    ApiKeys as RawApiKeys, Authentication, Basic as RawBasic, Demand, Requirement as RawRequirement,
};
use crate::config::problem::Place;
use crate::config::read::{List, Located, Report};
use crate::config::spelling::nearest;
use crate::config::{Change, Policy, accounts};
use crate::grpc::metadata;

/// Every provider of the file, kind by kind.
pub(super) fn providers(
    raw: Option<Located<Authentication>>,
    base: &Path,
    report: &mut Report<'_>,
) -> Vec<Arc<Provider>> {
    let Authentication { jwt, api_keys, basic, certificates, introspection } = value(raw);
    let mut providers: Vec<Arc<Provider>> = Vec::new();
    for Located { value: mut raw, at } in value(jwt).items {
        let name = provider_name(raw.name.take(), &at, &providers, report);
        let kind = token::jwt(raw, &at, base, report).map(|jwt| Kind::Jwt(Box::new(jwt)));
        add(name, kind, &mut providers);
    }
    for Located { value: mut raw, at } in value(api_keys).items {
        let name = provider_name(raw.name.take(), &at, &providers, report);
        let kind = api_keys_of(raw, &at, base, report).map(Kind::ApiKeys);
        add(name, kind, &mut providers);
    }
    for Located { value: mut raw, at } in value(basic).items {
        let name = provider_name(raw.name.take(), &at, &providers, report);
        let kind = basic_of(raw, &at, base, report).map(Kind::Basic);
        add(name, kind, &mut providers);
    }
    for Located { value: raw, at } in value(certificates).items {
        let name = provider_name(raw.name, &at, &providers, report);
        add(name, Some(Kind::Certificate), &mut providers);
    }
    for Located { value: mut raw, at } in value(introspection).items {
        let name = provider_name(raw.name.take(), &at, &providers, report);
        let kind = token::introspection(raw, &at, base, report).map(|it| Kind::Introspection(Box::new(it)));
        add(name, kind, &mut providers);
    }
    providers
}

fn add(name: Option<Arc<str>>, kind: Option<Kind>, providers: &mut Vec<Arc<Provider>>) {
    if let (Some(name), Some(kind)) = (name, kind) {
        providers.push(Arc::new(Provider { name, kind }));
    }
}

fn api_keys_of(raw: RawApiKeys, at: &Place, base: &Path, report: &mut Report<'_>) -> Option<ApiKeys> {
    let RawApiKeys { name: _, header, cookie, query, file } = raw;
    require(file.is_some(), "file", at, report);
    let from = places(header, HeaderName::from_static("x-api-key"), cookie, query, report);
    let file = sound_file(&file?, base, accounts::read_keys, report);
    Some(ApiKeys { from: from?, file })
}

fn basic_of(raw: RawBasic, at: &Place, base: &Path, report: &mut Report<'_>) -> Option<Basic> {
    let RawBasic { name: _, file, realm } = raw;
    require(file.is_some(), "file", at, report);
    let realm = realm.map_or_else(|| Some("portico".into()), |realm| realm.parse(report, |text| quotable(text)));
    let file = sound_file(&file?, base, accounts::read_users, report);
    Some(Basic { file, realm: realm? })
}

/// A file in which nothing is wrong; whoever uses it watches it.
pub(super) fn sound_file<T>(
    file: &Located<String>,
    base: &Path,
    read: impl Fn(&Path) -> Result<T, String>,
    report: &mut Report<'_>,
) -> PathBuf {
    let path = base.join(&file.value);
    if let Err(problem) = read(&path) {
        report.problem(&file.at, problem);
    }
    path
}

/// Text that can stand in the quotes of a header.
fn quotable(text: &str) -> Result<Box<str>, String> {
    let fits = |byte: u8| (b' '..=b'~').contains(&byte) && !matches!(byte, b'"' | b'\\');
    if text.bytes().all(fits) { Ok(text.into()) } else { Err(format!("{text:?} cannot stand in a header")) }
}

/// A name that no other provider has.
fn provider_name(
    name: Option<Located<String>>,
    section: &Place,
    providers: &[Arc<Provider>],
    report: &mut Report<'_>,
) -> Option<Arc<str>> {
    require(name.is_some(), "name", section, report);
    name?.parse(report, |name| {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(word) {
            return Err(format!("{name:?} is not a name; use letters, digits, `-`, `_` and `.`"));
        }
        if name == NONE {
            return Err("`none` is the word for no authentication; choose another name".to_owned());
        }
        if providers.iter().any(|provider| *provider.name == **name) {
            return Err(format!("another way to authenticate has the name {name} already"));
        }
        Ok(Arc::from(&**name))
    })
}

/// Where a credential stands.
pub(super) fn places(
    header: Option<Located<String>>,
    default: HeaderName,
    cookie: Option<Located<String>>,
    query: Option<Located<String>>,
    report: &mut Report<'_>,
) -> Option<Places> {
    let header = match header {
        None => default,
        Some(header) => header.parse(report, |text| credential_header(text))?,
    };
    if let Some(query) = &query {
        report.warn(&query.at, "a credential in a query is seen by every proxy and kept in histories");
    }
    let word = |text: Option<Located<String>>, report: &mut Report<'_>| match text {
        None => Some(None),
        Some(text) => text.parse(report, |text| token(text)).map(Some),
    };
    Some(Places { header, cookie: word(cookie, report)?, query: word(query, report)? })
}

fn credential_header(text: &str) -> Result<HeaderName, String> {
    let name: HeaderName = text.parse().map_err(|_| format!("{text:?} is not the name of a header"))?;
    let taken = metadata::is_hop_by_hop(&name)
        || metadata::is_reserved(&name)
        || metadata::is_binary(&name)
        || ["cookie", "host", "content-type", "content-length"].contains(&name.as_str());
    if taken { Err(format!("{text:?} has another meaning")) } else { Ok(name) }
}

/// A token of HTTP ([RFC 9110 §5.6.2](https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2)), as the names of cookies are.
fn token(text: &str) -> Result<Box<str>, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() || !text.bytes().all(fits) {
        return Err(format!("{text:?} is not a name; use letters, digits and some of !#$%&'*+-.^_`|~"));
    }
    Ok(text.into())
}

/// What a policy asks of callers.
pub(super) fn requirement(
    raw: Option<Located<Demand>>,
    providers: &[Arc<Provider>],
    report: &mut Report<'_>,
) -> Change<Arc<Requirement>> {
    let Some(Located { value: demand, at }) = raw else { return Change::Inherited };
    let (demand, optional) = match demand {
        Demand::Name(name) if name == NONE => return Change::Cleared,
        Demand::Section(section) if section.optional.is_some() => {
            let RawRequirement { any_of, all_of, optional } = *section;
            if any_of.is_some() || all_of.is_some() {
                report.problem(&at, "`optional` stands alone; write the others inside it");
            }
            match optional {
                Some(inner) => (inner.value, true),
                None => return Change::Inherited,
            }
        }
        demand => (demand, false),
    };
    match rule(demand, &at, providers, report) {
        Some(rule) => Change::To(Arc::new(Requirement::new(rule, optional, providers))),
        // Reported, so that there will be no configuration.
        None => Change::Inherited,
    }
}

fn rule(demand: Demand, at: &Place, providers: &[Arc<Provider>], report: &mut Report<'_>) -> Option<Rule> {
    match demand {
        Demand::Name(name) => {
            let found = providers.iter().position(|provider| *provider.name == *name).map(Rule::Provider);
            if found.is_none() {
                report.problem(at, unknown(&name, providers));
            }
            found
        }
        Demand::Any(list) => rules(list, at, providers, report).map(Rule::Any),
        Demand::Section(section) => match *section {
            RawRequirement { any_of: Some(list), all_of: None, optional: None } => {
                rules(list.value, &list.at, providers, report).map(Rule::Any)
            }
            RawRequirement { any_of: None, all_of: Some(list), optional: None } => {
                rules(list.value, &list.at, providers, report).map(Rule::All)
            }
            _ => {
                report.problem(at, "exactly one of `any_of` and `all_of` says which of them are needed");
                None
            }
        },
    }
}

fn rules(list: List<Demand>, at: &Place, providers: &[Arc<Provider>], report: &mut Report<'_>) -> Option<Vec<Rule>> {
    if list.written == 0 {
        report.problem(at, "at least one name is needed; `authenticate: none` is for none");
    }
    let rules: Vec<_> = list.items.into_iter().map(|item| rule(item.value, &item.at, providers, report)).collect();
    rules.into_iter().collect()
}

fn unknown(name: &str, providers: &[Arc<Provider>]) -> String {
    let known: Vec<&str> = providers.iter().map(|provider| &*provider.name).collect();
    match nearest(name, &known) {
        Some(near) => format!("nothing below `authentication` has the name {name:?}; did you mean {near:?}?"),
        None if known.is_empty() => format!("nothing below `authentication` has the name {name:?}"),
        None => format!("nothing below `authentication` has the name {name:?}; known are {}", known.join(", ")),
    }
}

/// Warns of providers that no policy names.
pub(super) fn unused(
    providers: &[Arc<Provider>],
    policies: &[Policy],
    section: Option<&Place>,
    report: &mut Report<'_>,
) {
    let asked = policies.iter().filter_map(|policy| match &policy.settings.authenticate {
        Change::To(requirement) => Some(requirement.rule.providers()),
        Change::Inherited | Change::Cleared => None,
    });
    let used: Vec<usize> = asked.flatten().collect();
    for (index, provider) in providers.iter().enumerate() {
        if let Some(at) = section.filter(|_| !used.contains(&index)) {
            report.warn(at, format!("no policy asks for {}: it keeps nobody out", provider.name));
        }
    }
}

const NONE: &str = "none";
