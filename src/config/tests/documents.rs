//! What is written about the configuration holds: the reference names every key, every YAML block loads, the examples
//! load, and the errors are shown as they are.

use std::fs;

use super::*;
use crate::config::file;
use crate::config::file::{authentication, authorization};
use crate::config::from_str;

fn repository(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn document(path: &str) -> String {
    fs::read_to_string(repository(path)).expect("a document")
}

/// The fenced blocks of a document: language and text.
fn blocks(document: &str) -> Vec<(&str, &str)> {
    let fenced = document.split("```").skip(1).step_by(2);
    fenced.filter_map(|block| block.split_once('\n')).collect()
}

/// Headings of the reference, what their keys begin with, and the keys.
const SECTIONS: &[(&str, &str, &[&str])] = &[
    ("## `listeners`", "", file::Listener::KEYS),
    ("### `listeners[].tls`", "", file::Tls::KEYS),
    ("### `listeners[].tls`", "", file::Certificate::KEYS),
    ("### `listeners[].limits`", "", file::Limits::KEYS),
    ("## `admin`", "", file::Admin::KEYS),
    ("## `upstreams`", "", file::Upstream::KEYS),
    ("### `upstreams[].load_balancing`", "", file::EndpointSection::KEYS),
    ("### `upstreams[].load_balancing`", "", file::LoadBalancing::KEYS),
    ("### `upstreams[].schema`", "", file::Schema::KEYS),
    ("### `upstreams[].schema`", "reflection.", file::Reflection::KEYS),
    ("### `upstreams[].tls`", "", file::UpstreamTls::KEYS),
    ("### `upstreams[].connections`", "", file::Connections::KEYS),
    ("### `upstreams[].health_check`", "", file::HealthCheck::KEYS),
    ("### `upstreams[].health_check`", "grpc.", file::GrpcProbe::KEYS),
    ("### `upstreams[].outlier_detection`", "", file::OutlierDetection::KEYS),
    ("### `upstreams[].circuit_breaker`", "", file::CircuitBreaker::KEYS),
    ("### `upstreams[].circuit_breaker`", "per_endpoint.", file::EndpointBreaker::KEYS),
    ("## `http_rules`", "", file::HttpRule::KEYS),
    ("## `http_rules`", "", file::CustomPattern::KEYS),
    ("## `json`", "", file::Json::KEYS),
    ("## `serve`", "", file::Serve::KEYS),
    ("## `errors`", "", file::Errors::KEYS),
    ("## `authentication`", "", authentication::Authentication::KEYS),
    ("### `authentication.jwt[]`", "", authentication::Jwt::KEYS),
    ("### `authentication.jwt[]`", "jwks.", authentication::Jwks::KEYS),
    ("### `authentication.jwt[]`", "", authentication::Secret::KEYS),
    ("### `authentication.basic[]`", "", authentication::Basic::KEYS),
    ("### `authentication.basic[]`", "", authentication::UserFile::KEYS),
    ("### `authentication.basic[]`", "", authentication::UserEntry::KEYS),
    ("## `authentication`", "", authentication::Certificates::KEYS),
    ("### `authentication.introspection[]`", "", authentication::Introspection::KEYS),
    ("### `authentication.api_keys[]`", "", authentication::ApiKeys::KEYS),
    ("### `authentication.api_keys[]`", "", authentication::KeyFile::KEYS),
    ("### `authentication.api_keys[]`", "", authentication::KeyEntry::KEYS),
    ("### `policies[].authenticate`", "", authentication::Requirement::KEYS),
    ("## `authorization`", "", authorization::Authorization::KEYS),
    ("### `authorization.external[]`", "", authorization::Authorizer::KEYS),
    ("### `policies[].authorize`", "", authorization::Rule::KEYS),
    ("### `policies[].authorize`", "", authorization::Conditions::KEYS),
    ("### `policies[].authorize`", "", authorization::TestSection::KEYS),
    ("### `policies[].identity`", "", authorization::Forwarded::KEYS),
    ("## `policies`", "", file::Policy::KEYS),
    ("## `policies`", "timeout.", file::Timeout::KEYS),
    ("## `policies`", "limits.", file::MessageLimits::KEYS),
    ("## `policies`", "compression.", file::Compression::KEYS),
    ("## `policies`", "reply.", file::Reply::KEYS),
    ("### `policies[].cors`", "", file::Cors::KEYS),
    ("### `policies[].rate_limits`", "", file::RateLimit::KEYS),
    ("### `policies[].rate_limits`", "tiers.", file::Tiers::KEYS),
    ("### `policies[].rate_limits`", "", file::TierSection::KEYS),
    ("## `rate_limiting`", "", file::RateLimiting::KEYS),
    ("### `policies[].admission`", "", file::Admission::KEYS),
    ("### `policies[].admission`", "adaptive.", file::Adaptive::KEYS),
    ("## `admission`", "", file::Shedding::KEYS),
    ("### `policies[].retry`", "", file::Retry::KEYS),
    ("### `policies[].retry`", "backoff.", file::Backoff::KEYS),
    ("### `policies[].hedge`", "", file::Hedge::KEYS),
    ("### `rate_limiting.services[]`", "", file::RateLimitService::KEYS),
    ("## `redis`", "", file::Redis::KEYS),
    ("### `redis.sentinel`", "", file::RedisSentinel::KEYS),
    ("### `redis.tls`", "", file::RedisTls::KEYS),
    ("## `telemetry`", "", file::Telemetry::KEYS),
    ("## `telemetry`", "access_log.", file::AccessLog::KEYS),
    ("## `drain`", "", file::Drain::KEYS),
    ("## `reload`", "", file::Reload::KEYS),
    ("## `workers`", "", &[]),
];

#[test]
fn every_key_is_in_the_reference() {
    let reference = document("docs/configuration.md");

    for key in file::File::KEYS {
        assert!(SECTIONS.iter().any(|(heading, ..)| *heading == format!("## `{key}`")), "{key} has no section");
    }
    for &(heading, prefix, keys) in SECTIONS {
        let (_, section) = reference.split_once(&format!("\n{heading}\n")).expect("a heading");
        let section = section.split("\n##").next().unwrap_or_default();
        for key in keys {
            let named = section.contains(&format!("`{prefix}{key}`")) || section.contains(&format!("`{prefix}{key}."));
            assert!(named, "{prefix}{key} is not below {heading}");
        }
    }
}

#[test]
fn every_block_of_the_reference_loads() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("protos")).expect("a folder");
    for file in ["inventory.proto", "library.binpb"] {
        fs::write(folder.path().join(file), "").expect("a file");
    }
    for file in ["partners.yaml", "office.yaml"] {
        fs::copy(repository("examples/credentials").join(file), folder.path().join(file)).expect("a copy");
    }
    identity(folder.path());
    let reference = document("docs/configuration.md");

    let mut loaded = 0;
    for (language, block) in blocks(&reference).into_iter().filter(|(language, _)| *language == "yaml") {
        let added = if block.contains("upstreams:") { "" } else { UPSTREAM };
        match from_str(&format!("{block}{added}"), "docs/configuration.md", folder.path()) {
            Ok(Loaded { warnings, .. }) => assert_eq!(warnings, [], "{language} {block}"),
            Err(errors) => panic!("{block}\n{errors}"),
        }
        loaded += 1;
    }
    assert!(loaded >= 12, "{loaded} blocks");
}

#[test]
fn every_block_of_the_guides_loads() {
    let guides = document("docs/rate-limits.md") + &document("docs/overload.md");
    let mut loaded = 0;
    for (_, block) in blocks(&guides).into_iter().filter(|(language, _)| *language == "yaml") {
        let added = if block.contains("upstreams:") { "" } else { UPSTREAM };
        if let Err(errors) = from_str(&format!("{block}{added}"), "a guide", Path::new("")) {
            panic!("{block}\n{errors}");
        }
        loaded += 1;
    }
    assert!(loaded >= 4, "{loaded} blocks");
}

#[test]
fn every_example_loads() {
    // Beside them stands what they name and the repository must not hold: a private key.
    let folder = tempfile::tempdir().expect("a folder");
    identity(folder.path());
    fs::create_dir(folder.path().join("credentials")).expect("a folder");
    for inside in ["", "credentials"] {
        for entry in fs::read_dir(repository("examples").join(inside)).expect("the examples") {
            let example = entry.expect("an example");
            if example.path().is_file() {
                fs::copy(example.path(), folder.path().join(inside).join(example.file_name())).expect("a copy");
            }
        }
    }
    let mut loaded = 0;
    for entry in fs::read_dir(folder.path()).expect("the copies") {
        let path = entry.expect("a copy").path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            if let Err(errors) = crate::config::load(&path) {
                panic!("{errors}");
            }
            loaded += 1;
        }
    }
    assert!(loaded >= 4, "{loaded} examples");
}

#[test]
fn broken_configurations_are_shown_as_check_shows_them() {
    let document = document("docs/errors.md");
    let section =
        document.split("\n## ").find(|section| section.starts_with("A wrong configuration")).expect("a section");
    let blocks = blocks(section);
    let pairs: Vec<_> = blocks.chunks_exact(2).collect();

    for pair in &pairs {
        let [("yaml", text), ("text", expected)] = pair else { panic!("not a pair: {pair:?}") };
        let Err(errors) = from_str(text, "portico.yaml", Path::new("")) else { panic!("accepted: {text}") };
        assert_eq!(format!("{errors}\n"), *expected);
    }
    assert_eq!(pairs.len(), 5);
}
