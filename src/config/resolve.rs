//! From what was typed to a [`Config`]: defaults filled in, ranges, names and files checked, sections compared.
//!
//! Every part reports what is wrong with it and goes on, so that one run shows everything. Only [`config`] decides
//! whether the result counts: with a single problem there is no configuration.

mod admission;
mod authentication;
mod authorization;
mod cors;
mod listener;
mod method;
mod protection;
mod rate_limit;
mod rate_store;
mod redis;
mod retry;
mod rule;
mod tls;
mod token;
pub(super) mod upstream;

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::contents::no_file;
use crate::config::file::{
    AccessLog as RawAccessLog, Admin, Drain, File, Serve as RawServe, Telemetry as RawTelemetry,
};
use crate::config::problem::Place;
use crate::config::read::{List, Located, Report, Switch};
use crate::config::shown::Shown;
use crate::config::spelling::nearest;
use crate::config::units::{OptionalSpan, Span};
use crate::config::{
    AccessLog, Config, DEFAULT_ADMIN, DEFAULT_DRAIN_TIMEOUT, Listener, LogFormat, MethodSettings, Serve, Telemetry,
    pattern,
};
use crate::grpc::status::Code;

/// Resolves a whole file, whose relative paths start at `base`; `None` when anything was reported.
pub(crate) fn config(file: File, base: &Path, report: &mut Report<'_>) -> Option<Config> {
    let listeners = listener::listeners(file.listeners, base, report);
    let admin = admin(file.admin, &listeners, report);
    let upstreams = upstream::upstreams(file.upstreams, base, report);
    let http_rules = rule::rules(file.http_rules, report);
    let mut defaults = MethodSettings::default();
    defaults.apply(&method::json(file.json, report));
    let at = file.authentication.as_ref().map(|section| section.at.clone());
    let authentication = authentication::providers(file.authentication, base, report);
    let authorizers = authorization::authorizers(file.authorization, &upstreams, report);
    let known = authorization::Known { providers: &authentication, authorizers: &authorizers };
    let redis = redis::redis(file.redis, base, report);
    let mut limiting = value(file.rate_limiting);
    let stores = rate_store::Stores::new(redis.clone(), limiting.services.take(), &upstreams, report);
    let policies = method::policies(file.policies, &known, &stores, report);
    authentication::unused(&authentication, &policies, at.as_ref(), report);
    let (drain_timeout, drain_delay) = drain(file.drain, report);
    let config = Config {
        listeners: listeners.into_iter().map(|listener| listener.value).collect(),
        admin,
        next_free_admin_port: false,
        upstreams,
        http_rules,
        serve: serve(file.serve),
        error_details: value(file.errors).details.is_none_or(|details| details.value),
        identity_headers: authorization::identity_headers(&authorizers, &policies),
        authentication,
        authorizers,
        defaults,
        policies,
        shedding: admission::shedding(file.admission, report),
        rate_limiting: rate_limit::limiting(limiting, &stores, report),
        redis,
        telemetry: telemetry(file.telemetry, base, report),
        drain_timeout,
        drain_delay,
        watch: value(file.reload).watch.is_none_or(|watch| watch.value),
        shown: Shown::default(),
        files: Vec::new(),
        workers: workers(file.workers, report),
    };
    report.problems.is_empty().then_some(config)
}

fn admin(
    admin: Option<Located<Switch<Admin>>>,
    listeners: &[Located<Listener>],
    report: &mut Report<'_>,
) -> Option<SocketAddr> {
    let address = match admin.map(|admin| admin.value) {
        Some(Switch::Off) => return None,
        None => return Some(DEFAULT_ADMIN),
        Some(Switch::On(Admin { address })) => address,
    };
    let Some(address) = address else { return Some(DEFAULT_ADMIN) };
    let at = address.at.clone();
    let address = address.parse(report, |text| pattern::listen_address(text))?;
    if address.port() != 0
        && let Some(taken) = listeners.iter().find(|listener| listener.value.address == address)
    {
        report.problem(&at, format!("{address} is already the address of {}", taken.at.path));
    }
    if !address.ip().is_loopback() {
        report.warn(&at, "the admin address asks nobody for a password and is reachable from other machines");
    }
    Some(address)
}

/// How long the end may take, and how long it waits to begin.
fn drain(drain: Option<Located<Drain>>, report: &mut Report<'_>) -> (Duration, Duration) {
    let Drain { timeout, delay } = value(drain);
    let timeout = timeout.map_or(DEFAULT_DRAIN_TIMEOUT, |timeout| bounded(&timeout, DRAIN_TIMEOUT, report).0);
    (timeout, delay.map_or(Duration::ZERO, |delay| bounded(&delay, DRAIN_DELAY, report).0))
}

fn serve(serve: Option<Located<RawServe>>) -> Serve {
    let serve = value(serve);
    Serve { reflection: value_or(serve.reflection, true), health: value_or(serve.health, true) }
}

fn workers(workers: Option<Located<u64>>, report: &mut Report<'_>) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    workers.map_or_else(cores, |workers| to_usize(bounded(&workers, WORKERS, report)))
}

fn telemetry(telemetry: Option<Located<RawTelemetry>>, base: &Path, report: &mut Report<'_>) -> Telemetry {
    let RawAccessLog { format, path } = value(value(telemetry).access_log);
    let format = format
        .and_then(|format| choose(format, &[("text", LogFormat::Text), ("json", LogFormat::Json)], report))
        .unwrap_or(LogFormat::Text);
    let access_log = match path {
        None => AccessLog::Stdout(format),
        Some(path) => match path.value.as_str() {
            "-" => AccessLog::Stdout(format),
            "off" => AccessLog::Off,
            file => {
                let file = base.join(file);
                if !file.parent().is_some_and(|folder| folder == Path::new("") || folder.is_dir()) {
                    report.problem(&path.at, format!("the folder of {} does not exist", file.display()));
                }
                AccessLog::File(file, format)
            }
        },
    };
    Telemetry { access_log }
}

// === What the parts share ===

/// The value of a key, or its default.
fn value<T: Default>(located: Option<Located<T>>) -> T {
    located.map(|located| located.value).unwrap_or_default()
}

fn value_or<T>(located: Option<Located<T>>, default: T) -> T {
    located.map_or(default, |located| located.value)
}

/// The items of a list, each turned into what it means; those that are wrong are reported and left out.
fn each<T, U>(
    list: Option<Located<List<T>>>,
    report: &mut Report<'_>,
    mut parse: impl FnMut(&T) -> Result<U, String>,
) -> Vec<U> {
    value(list).items.into_iter().filter_map(|item| item.parse(report, &mut parse)).collect()
}

/// Reports a required key that is missing, unless something that was meant to be it has been reported already.
fn require(present: bool, key: &str, section: &Place, report: &mut Report<'_>) {
    if !present && !report.unread.contains(&section.path_of(key)) {
        report.problem(section, format!("`{key}` is missing"));
    }
}

/// Whether some key of the section was given and could not be read, so that nothing is said of its absence.
fn has_unread(section: &Place, report: &Report<'_>) -> bool {
    let inside = section.path_of("");
    report.unread.iter().any(|path| path.starts_with(&inside))
}

/// Holds a value to its range; outside, it is reported and the nearest bound stands in.
fn bounded<T: Copy + Ord + Display>(value: &Located<T>, range: RangeInclusive<T>, report: &mut Report<'_>) -> T {
    let (least, most) = (*range.start(), *range.end());
    if !range.contains(&value.value) {
        report.problem(&value.at, format!("{} is out of range; allowed are {least} to {most}", value.value));
    }
    value.value.clamp(least, most)
}

/// A duration in its range, or none.
fn optional(value: &Located<OptionalSpan>, range: RangeInclusive<Span>, report: &mut Report<'_>) -> Option<Duration> {
    let span = Span(value.value.0?);
    Some(bounded(&Located { value: span, at: value.at.clone() }, range, report).0)
}

/// Codes of gRPC by their names in lower case.
fn codes(list: Located<List<String>>, report: &mut Report<'_>) -> Vec<Code> {
    if list.value.written == 0 {
        report.problem(&list.at, "at least one code is needed, such as unavailable");
    }
    let names: Vec<String> = (1..).map_while(Code::from_number).map(|code| code.name().to_lowercase()).collect();
    let choices: Vec<(&str, Code)> = names.iter().map(String::as_str).zip((1..).map_while(Code::from_number)).collect();
    list.value.items.into_iter().filter_map(|name| choose(name, &choices, report)).collect()
}

/// A bound on clients: like [`bounded`], with a warning above the default, which is what an edge can bear.
fn limit<T: Copy + Ord + Display>(
    value: Option<Located<T>>,
    range: RangeInclusive<T>,
    default: T,
    report: &mut Report<'_>,
) -> T {
    let Some(value) = value else { return default };
    if value.value > default && range.contains(&value.value) {
        report.warn(&value.at, format!("{} is looser than the safe default of {default}", value.value));
    }
    bounded(&value, range, report)
}

/// One of some words.
fn choose<T: Copy>(word: Located<String>, choices: &[(&str, T)], report: &mut Report<'_>) -> Option<T> {
    word.parse(report, |word| {
        if let Some((_, choice)) = choices.iter().find(|(name, _)| name == word) {
            return Ok(*choice);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        Err(match nearest(word, &names) {
            Some(near) => format!("{word:?} is unknown; did you mean `{near}`?"),
            None => format!("{word:?} is unknown; there are {}", names.join(", ")),
        })
    })
}

/// A file that must be there, relative to the configuration's folder; it is watched with the configuration.
fn existing_file(path: &Located<String>, base: &Path, report: &mut Report<'_>) -> PathBuf {
    let file = unwatched_file(path, base, report);
    report.files.push(file.clone());
    file
}

/// A file that must be there and that somebody else watches.
fn unwatched_file(path: &Located<String>, base: &Path, report: &mut Report<'_>) -> PathBuf {
    let file = base.join(&path.value);
    if let Some(problem) = no_file(&file) {
        report.problem(&path.at, problem);
    }
    file
}

/// A folder that must be there, relative to the configuration's folder.
fn existing_folder(path: &Located<String>, base: &Path, report: &mut Report<'_>) -> PathBuf {
    let folder = base.join(&path.value);
    if !folder.is_dir() {
        report.problem(&path.at, format!("the folder {} does not exist", folder.display()));
    }
    folder
}

/// Saturates; every range ends far below.
fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Saturates; every range ends below.
fn to_u32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

const DRAIN_DELAY: RangeInclusive<Span> = Span(Duration::ZERO)..=Span(Duration::from_mins(10));
const DRAIN_TIMEOUT: RangeInclusive<Span> = Span(Duration::from_secs(1))..=Span(Duration::from_hours(24));
/// Data-plane threads.
pub(crate) const WORKERS: RangeInclusive<u64> = 1..=1024;
