//! Issuers of tokens: their keys, their rules, and the servers that are asked.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::header::AUTHORIZATION;

use super::authentication::{places, sound_file};
use super::{bounded, existing_file, require};
use crate::config::accounts;
use crate::config::authentication::{Audiences, Introspection, Jwks, Jwt, Keys, Server};
use crate::config::contents;
use crate::config::file::authentication::{
    Audiences as RawAudiences, Introspection as RawIntrospection, Jwks as RawJwks, Jwt as RawJwt, Secret as RawSecret,
};
use crate::config::problem::Place;
use crate::config::read::{List, Located, Report};
use crate::config::tls::{ClientFiles, ClientTls, HTTP_1_1};
use crate::config::units::Span;
use crate::config::url::Url;
use crate::jose::algorithm::Family;
use crate::jose::{Algorithm, Algorithms, Key, KeySet};

/// An issuer whose tokens are verified here.
pub(super) fn jwt(raw: RawJwt, at: &Place, base: &Path, report: &mut Report<'_>) -> Option<Jwt> {
    let RawJwt { name: _, issuer, audiences, jwks, secret, algorithms, leeway, types, header, cookie, query } = raw;
    require(issuer.is_some(), "issuer", at, report);
    require(audiences.is_some(), "audiences", at, report);
    let from = places(header, AUTHORIZATION, cookie, query, report);
    let leeway = leeway.map_or(LEEWAY, |leeway| whole_seconds(&leeway, Duration::from_mins(5), report));
    let types = types.map(|list| {
        if list.value.written == 0 {
            report.problem(&list.at, "at least one type is needed; without `types` every one is taken");
        }
        list.value.items.iter().map(|item| kind(&item.value)).collect()
    });
    let algorithms = algorithms.and_then(|list| self::algorithms(list, secret.is_some(), report));
    let keys = match (jwks, secret) {
        (Some(jwks), None) => {
            let allowed = algorithms.unwrap_or_else(public_algorithms);
            self::jwks(jwks, allowed, base, report).map(|keys| (keys, allowed))
        }
        (None, Some(secret)) => {
            let allowed = algorithms.unwrap_or_else(|| Algorithms::from_iter([Algorithm::HS256]));
            self::secret(secret, allowed, base, report).map(|keys| (keys, allowed))
        }
        (None, None) => {
            report.problem(at, "one of `jwks` and `secret` says what tokens are verified by");
            None
        }
        (Some(_), Some(_)) => {
            // The public key would be a secret that everybody knows.
            report.problem(at, "only one of `jwks` and `secret` can be given");
            None
        }
    };
    let audiences = self::audiences(audiences, report);
    let (keys, algorithms) = keys?;
    Some(Jwt { issuer: issuer?.value.into(), audiences: audiences?, algorithms, leeway, types, from: from?, keys })
}

/// An issuer that is asked about its tokens.
pub(super) fn introspection(
    raw: RawIntrospection,
    at: &Place,
    base: &Path,
    report: &mut Report<'_>,
) -> Option<Introspection> {
    let RawIntrospection {
        name: _,
        url,
        client_id,
        client_secret,
        issuer,
        audiences,
        cache,
        timeout,
        ca,
        header,
        cookie,
        query,
    } = raw;
    require(url.is_some(), "url", at, report);
    let from = places(header, AUTHORIZATION, cookie, query, report);
    if client_id.is_some() != client_secret.is_some() {
        report.problem(at, "`client_id` and `client_secret` are given together, or neither of them");
    }
    let authorization = client_id.zip(client_secret).and_then(|(id, secret)| {
        // RFC 6749 §2.3.1: both as a form would write them.
        let text = format!("{}:{}", form(&id.value), form(&secret.value));
        let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(text))).ok()?;
        value.set_sensitive(true);
        Some(value)
    });
    let cache = cache.map_or(CACHE, |cache| whole_seconds(&cache, Duration::from_hours(1), report));
    let audiences = match audiences {
        None => Some(Audiences::Any),
        audiences => self::audiences(audiences, report),
    };
    let server = server(url?, timeout, Duration::from_secs(2), ca, base, report);
    Some(Introspection {
        server: server?,
        authorization,
        cache,
        issuer: issuer.map(|issuer| issuer.value.into()),
        audiences: audiences?,
        from: from?,
    })
}

fn jwks(raw: Located<RawJwks>, allowed: Algorithms, base: &Path, report: &mut Report<'_>) -> Option<Keys> {
    let Located { value: RawJwks { url, file, inline, refresh, min_interval, timeout, ca }, at } = raw;
    let only_url = refresh.is_some() || min_interval.is_some() || timeout.is_some() || ca.is_some();
    match (url, file, inline) {
        (Some(url), None, None) => {
            let min_interval = min_interval.map_or(MIN_INTERVAL, |span| bounded(&span, INTERVAL, report).0);
            let refresh = refresh.map_or_else(
                || REFRESH.max(min_interval),
                |refresh| bounded(&refresh, Span(min_interval)..=Span(Duration::from_hours(24)), report).0,
            );
            let server = server(url, timeout, Duration::from_secs(5), ca, base, report)?;
            Some(Keys::Url(Jwks { server, refresh, min_interval }))
        }
        (None, Some(file), None) if !only_url => {
            let read = |path: &Path| accounts::read_key_set(path, allowed);
            Some(Keys::File(sound_file(&file, base, read, report)))
        }
        (None, None, Some(inline)) if !only_url => {
            let read = inline.parse(report, |text| KeySet::from_text(text.as_bytes(), allowed))?;
            Some(Keys::Fixed(read.keys))
        }
        (None, Some(_), None) | (None, None, Some(_)) => {
            report.problem(&at, "`refresh`, `min_interval`, `timeout` and `ca` are for keys that are fetched by `url`");
            None
        }
        _ => {
            report.problem(&at, "exactly one of `url`, `file` and `inline` says where the keys are");
            None
        }
    }
}

fn secret(raw: Located<RawSecret>, allowed: Algorithms, base: &Path, report: &mut Report<'_>) -> Option<Keys> {
    let Located { value: RawSecret { text, base64, file }, at } = raw;
    let secret = match (text, base64, file) {
        (Some(text), None, None) => text.value.into_bytes(),
        (None, Some(text), None) => {
            let decoded = STANDARD.decode(text.value.trim());
            let Ok(decoded) = decoded else {
                report.problem(&text.at, "the secret is not base64");
                return None;
            };
            decoded
        }
        (None, None, Some(file)) => {
            let path = base.join(&file.value);
            report.files.push(path.clone());
            let read = file.parse(report, |_| contents::read(&path, MAX_SECRET))?;
            // Whoever writes such a file by hand ends its line.
            read.trim_ascii_end().to_vec()
        }
        _ => {
            report.problem(&at, "exactly one of `text`, `base64` and `file` says what the secret is");
            return None;
        }
    };
    let keys: Result<Vec<_>, _> = allowed.iter().map(|algorithm| Key::from_secret(&secret, algorithm)).collect();
    match keys {
        Ok(keys) => Some(Keys::Fixed(KeySet::of(keys))),
        Err(problem) => {
            report.problem(&at, problem);
            None
        }
    }
}

fn server(
    url: Located<String>,
    timeout: Option<Located<Span>>,
    default: Duration,
    ca: Option<Located<String>>,
    base: &Path,
    report: &mut Report<'_>,
) -> Option<Server> {
    let timeout = timeout.map_or(default, |span| bounded(&span, TIMEOUT, report).0);
    let at = url.at.clone();
    let url: Url = url.parse(report, |text| text.parse())?;
    let place = ca.as_ref().map_or(&at, |ca| &ca.at).clone();
    let before = report.problems.len();
    let ca = ca.map(|ca| existing_file(&ca, base, report));
    if report.problems.len() > before {
        return None;
    }
    let tls = if url.is_secure() {
        match ClientTls::read(ClientFiles { ca: ca.as_deref(), ..ClientFiles::default() }, HTTP_1_1) {
            Ok((tls, _)) => Some(tls),
            Err(bad) => {
                report.problem(&place, bad.message());
                return None;
            }
        }
    } else {
        None
    };
    Some(Server { url, tls, timeout })
}

fn audiences(raw: Option<Located<RawAudiences>>, report: &mut Report<'_>) -> Option<Audiences> {
    let raw = raw?;
    match raw.value {
        RawAudiences::Any => {
            report.warn(&raw.at, "tokens that were issued for other services are taken too");
            Some(Audiences::Any)
        }
        RawAudiences::Of(list) if list.written == 0 => {
            report.problem(&raw.at, "at least one audience is needed; `any` is for tokens of every audience");
            None
        }
        RawAudiences::Of(list) => Some(Audiences::Of(list.items.into_iter().map(|item| item.value.into()).collect())),
    }
}

/// Names of algorithms, all of one kind.
fn algorithms(list: Located<List<String>>, secret: bool, report: &mut Report<'_>) -> Option<Algorithms> {
    if list.value.written == 0 {
        report.problem(&list.at, "at least one algorithm is needed");
    }
    let mut found = Vec::new();
    for item in list.value.items {
        let at = item.at.clone();
        let parsed: Option<Algorithm> = item.parse(report, |text| {
            text.parse().map_err(|_| {
                let known: Vec<&str> = Algorithm::ALL.iter().map(|algorithm| algorithm.name()).collect();
                format!("{text:?} is not known; there are {}", known.join(", "))
            })
        });
        let Some(algorithm) = parsed else { continue };
        if (algorithm.family() == Family::Secret) != secret {
            let needs =
                if secret { "a public key, and a secret is given" } else { "a `secret`, and public keys are given" };
            report.problem(&at, format!("{} takes {needs}", algorithm.name()));
        }
        found.push(algorithm);
    }
    (!found.is_empty()).then(|| found.into_iter().collect())
}

fn public_algorithms() -> Algorithms {
    Algorithm::ALL.into_iter().filter(|algorithm| algorithm.family() != Family::Secret).collect()
}

/// `typ` as tokens are compared by it.
fn kind(text: &str) -> Box<str> {
    let text = text.to_ascii_lowercase();
    text.strip_prefix("application/").unwrap_or(&text).into()
}

/// A duration to `most`. Times in tokens are seconds, and so is what is added to them.
fn whole_seconds(span: &Located<Span>, most: Duration, report: &mut Report<'_>) -> Duration {
    if span.value.0.subsec_millis() != 0 {
        report.problem(&span.at, format!("whole seconds are needed; found {}", span.value));
    }
    bounded(span, Span(Duration::ZERO)..=Span(most), report).0
}

/// As `application/x-www-form-urlencoded` has it.
fn form(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// In bytes.
const MAX_SECRET: u32 = 64 << 10;
const LEEWAY: Duration = Duration::from_secs(30);
const CACHE: Duration = Duration::from_mins(1);
const REFRESH: Duration = Duration::from_mins(10);
const MIN_INTERVAL: Duration = Duration::from_secs(10);
const INTERVAL: RangeInclusive<Span> = Span(Duration::from_millis(100))..=Span(Duration::from_hours(1));
const TIMEOUT: RangeInclusive<Span> = Span(Duration::from_millis(10))..=Span(Duration::from_mins(1));
