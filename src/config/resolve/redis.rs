//! The section `redis`: where it is, who the gateway is to it, and what holds while it does not answer.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::rate_store::{ON_FAILURE, TIMEOUT};
use super::{bounded, choose, each, existing_file, require};
use crate::config::file::{Redis as RawRedis, RedisSentinel, RedisTls};
use crate::config::pattern;
use crate::config::problem::Place as At;
use crate::config::read::{List, Located, Report};
use crate::config::redis::{Account, Identity, Place, Redis, Tls};
use crate::config::units::Span;

/// The Redis of a file.
pub(super) fn redis(raw: Option<Located<RawRedis>>, base: &Path, report: &mut Report<'_>) -> Option<Arc<Redis>> {
    let Located { value: raw, at } = raw?;
    let RawRedis { url, cluster, sentinel, username, password, tls, timeout, connect_timeout, on_failure, key_prefix } =
        raw;
    let account = account(username, password, report);
    let tls_at = tls.as_ref().map(|tls| tls.at.clone());
    let tls = tls.and_then(|tls| self::tls(tls, base, report));
    let mut span = |value: Option<Located<Span>>, default| {
        value.map_or_else(|| Duration::from_millis(default), |value| bounded(&value, TIMEOUT, report).0)
    };
    let (timeout, connect_timeout) = (span(timeout, 20), span(connect_timeout, 1000));
    let on_failure = on_failure.and_then(|word| choose(word, &ON_FAILURE, report)).unwrap_or_default();
    let key_prefix = match key_prefix {
        Some(prefix) => prefix.parse(report, |text| self::key_prefix(text)),
        None => Some("portico".into()),
    };
    let mut redis = Redis {
        place: Place::Cluster(Arc::new([])),
        account,
        tls,
        timeout,
        connect_timeout,
        on_failure,
        key_prefix: key_prefix.unwrap_or_default(),
    };
    match (url, cluster, sentinel) {
        (Some(url), None, None) => {
            let (at, parsed) = (url.at.clone(), url.parse(report, |text| Url::parse(text))?);
            parsed.into(&mut redis, &at, tls_at, report);
        }
        (None, Some(nodes), None) => redis.place = Place::Cluster(addresses(nodes, report)),
        (None, None, Some(sentinel)) => redis.place = self::sentinel(sentinel, report)?,
        (None, None, None) => report.problem(&at, "one of `url`, `cluster` and `sentinel` is needed"),
        (..) => report.problem(&at, "only one of `url`, `cluster` and `sentinel` can say where it is"),
    }
    Some(Arc::new(redis))
}

/// `redis[s]://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE]`, as its owners write it
/// (<https://www.iana.org/assignments/uri-schemes/prov/redis>).
struct Url {
    tls: bool,
    account: Option<Account>,
    address: Arc<str>,
    database: u16,
}

impl Url {
    /// Messages never quote what may hold a password.
    fn parse(text: &str) -> Result<Self, String> {
        let shape = "write redis://HOST:PORT, or rediss:// for TLS, with USER:PASSWORD@ before and /DATABASE behind";
        let (tls, rest) = match text.split_once("://") {
            Some(("redis", rest)) => (false, rest),
            Some(("rediss", rest)) => (true, rest),
            _ => return Err(format!("this is not the URL of a Redis; {shape}")),
        };
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, rest),
        };
        let (address, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = match database {
            "" => 0,
            number => {
                number.parse().map_err(|_| format!("what follows the port is not the number of a database; {shape}"))?
            }
        };
        let has_port = address.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let address = if has_port { address.to_owned() } else { format!("{address}:{PORT}") };
        let account = user.map(Self::account).transpose()?;
        let address = pattern::host_port(&address).map_err(|_| format!("there is no HOST, or no PORT; {shape}"))?;
        Ok(Self { tls, account, address, database })
    }

    fn account(text: &str) -> Result<Account, String> {
        let decode = |text: &str| -> Result<Arc<str>, String> {
            let decoded = percent_decoded(text).ok_or("the user or the password is not percent-encoded UTF-8")?;
            Ok(decoded.into())
        };
        let (user, password) =
            text.split_once(':').ok_or("the password is missing; write USER:PASSWORD@ or :PASSWORD@")?;
        let username = (!user.is_empty()).then(|| decode(user)).transpose()?;
        Ok(Account { username, password: decode(password)? })
    }

    fn into(self, redis: &mut Redis, at: &At, tls: Option<At>, report: &mut Report<'_>) {
        redis.place = Place::Server { address: self.address, database: self.database };
        match tls {
            Some(tls) if !self.tls => report.problem(&tls, "`tls` goes with `url: rediss://…`"),
            Some(_) => {}
            None if self.tls => redis.tls = Some(Tls { authorities: None, identity: None }),
            None => {}
        }
        match (self.account, &redis.account) {
            (Some(_), Some(_)) => report.problem(at, "the URL and `password` both say who the gateway is"),
            (Some(account), None) => redis.account = Some(account),
            (None, _) => {}
        }
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |byte: u8| (byte as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            decoded.push((digit(bytes.next()?)? << 4) | digit(bytes.next()?)?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

fn account(
    username: Option<Located<String>>,
    password: Option<Located<String>>,
    report: &mut Report<'_>,
) -> Option<Account> {
    match (username, password) {
        (username, Some(password)) => {
            Some(Account { username: username.map(|username| username.value.into()), password: password.value.into() })
        }
        (Some(username), None) => {
            report.problem(&username.at, "`username` goes with `password`");
            None
        }
        (None, None) => None,
    }
}

fn sentinel(raw: Located<RedisSentinel>, report: &mut Report<'_>) -> Option<Place> {
    let RedisSentinel { endpoints, master, username, password } = raw.value;
    require(endpoints.is_some(), "endpoints", &raw.at, report);
    require(master.is_some(), "master", &raw.at, report);
    let account = account(username, password, report);
    Some(Place::Sentinel { endpoints: addresses(endpoints?, report), master: master?.value.into(), account })
}

fn addresses(list: Located<List<String>>, report: &mut Report<'_>) -> Arc<[Arc<str>]> {
    if list.value.written == 0 {
        report.problem(&list.at, "at least one address is needed");
    }
    each(Some(list), report, |text| pattern::host_port(text)).into()
}

fn tls(raw: Located<RedisTls>, base: &Path, report: &mut Report<'_>) -> Option<Tls> {
    let RedisTls { ca, certificate, key } = raw.value;
    if certificate.is_some() != key.is_some() {
        report.problem(&raw.at, "`certificate` and `key` go together");
    }
    let mut file = |path: Option<Located<String>>, holds: fn(&[u8]) -> bool, what: &str| {
        let path = path?;
        let before = report.problems.len();
        let file = existing_file(&path, base, report);
        if report.problems.len() > before {
            return None;
        }
        match fs::read(&file) {
            Ok(text) if holds(&text) => Some(Arc::from(text)),
            Ok(_) => {
                report.problem(&path.at, format!("{} holds no {what} in PEM", file.display()));
                None
            }
            Err(error) => {
                report.problem(&path.at, format!("{} cannot be read: {error}", file.display()));
                None
            }
        }
    };
    let authorities = file(ca, holds_certificates, "certificate");
    let certificate = file(certificate, holds_certificates, "certificate");
    let identity =
        certificate.zip(file(key, holds_key, "private key")).map(|(certificate, key)| Identity { certificate, key });
    Some(Tls { authorities, identity })
}

fn holds_certificates(text: &[u8]) -> bool {
    let mut certificates = CertificateDer::pem_slice_iter(text).peekable();
    certificates.peek().is_some() && certificates.all(|certificate| certificate.is_ok())
}

fn holds_key(text: &[u8]) -> bool {
    PrivateKeyDer::from_pem_slice(text).is_ok()
}

/// Braces would decide in which slot of a cluster a key is.
fn key_prefix(text: &str) -> Result<Arc<str>, String> {
    let is_right = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    if (1..=MAX_PREFIX).contains(&text.len()) && text.bytes().all(is_right) {
        return Ok(text.into());
    }
    Err(format!("{text:?} cannot begin keys; prefixes have 1 to {MAX_PREFIX} letters, digits and `-_.:`"))
}

const PORT: u16 = 6379;
const MAX_PREFIX: usize = 64;
