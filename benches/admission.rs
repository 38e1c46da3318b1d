//! Time to find out who calls, per request: `cargo bench --bench admission`.
//!
//! What a call pays whose credentials were seen before, beside what the first one pays.

#![allow(
    clippy::print_stdout,
    clippy::panic,
    reason = "a benchmark prints its figures, and ends when it measures nonsense"
)]

use std::hint::black_box;
use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, Uri};
use portico::config;
use portico::credentials::{Authenticator, Credentials, Presented};
use portico::policy::authenticate::{Finding, Verdict, judge};
use tokio::time::Instant;

/// Calls per measurement; the best of [`ROUNDS`] counts.
const CALLS: u32 = 100_000;
const ROUNDS: usize = 7;
const NOW: u64 = 1_800_000_000;

fn main() {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let folder = tempfile::tempdir().expect("a folder");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"the key of a partner");
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(folder.path().join("keys.yaml"), format!("keys: [ {{ name: a, hash: \"sha256:{hex}\" }} ]"))
        .expect("a file");
    let config = configuration(&key, folder.path());
    let credentials = Credentials::default();
    let fresh = || -> Vec<Authenticator> {
        config.authentication.iter().map(|provider| Authenticator::new(credentials.get(provider))).collect()
    };
    let token = token(&key);
    println!("a token of {} bytes", token.len());

    let bearer = headers("authorization", &format!("Bearer {token}"));
    let api_key = headers("x-api-key", "the key of a partner");
    let requirement = config.method("a.B/C").authenticate.expect("the policy asks for something");
    let known = fresh();
    for (label, headers) in [("token, seen before", &bearer), ("API key", &api_key)] {
        let best = measure(CALLS, || {
            let presented = presented(headers);
            let verdict = judge(&requirement, &mut |provider| known[provider].find(&presented));
            assert!(matches!(black_box(verdict), Verdict::Granted(_)), "{label}");
        });
        println!("{label:<24} {best:>8.0} ns");
    }
    let first = measure(200, || {
        let verifier = fresh();
        assert!(matches!(black_box(verifier[0].find(&presented(&bearer))), Finding::Granted(_)));
    });
    println!("{:<24} {first:>8.0} ns", "token, the first time");
}

fn measure(calls: u32, mut call: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        (0..calls).for_each(|_| call());
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / f64::from(calls));
    }
    best
}

fn presented(headers: &HeaderMap) -> Presented<'_> {
    static HERE: std::sync::LazyLock<Uri> = std::sync::LazyLock::new(|| Uri::from_static("/a.B/C"));
    Presented { headers: black_box(headers), uri: &HERE, certificate: None, now: NOW }
}

fn headers(name: &'static str, value: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("user-agent", HeaderValue::from_static("grpc-go/1.80.0"));
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert(name, HeaderValue::from_str(value).expect("a value"));
    headers
}

fn configuration(key: &EcdsaKeyPair, folder: &Path) -> config::Config {
    let (x, y) = key.public_key().as_ref()[1..].split_at(32);
    let jwk = format!(
        "{{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"k\",\"x\":\"{}\",\"y\":\"{}\"}}",
        URL_SAFE_NO_PAD.encode(x),
        URL_SAFE_NO_PAD.encode(y)
    );
    let text = format!(
        "upstreams: [ {{ name: a, endpoints: [\"127.0.0.1:1\"] }} ]
authentication:
  jwt: [ {{ name: staff, issuer: i, audiences: [api], jwks: {{ inline: '{jwk}' }} }} ]
  api_keys: [ {{ name: partners, file: keys.yaml }} ]
policies: [ {{ match: \"*\", authenticate: [staff, partners] }} ]"
    );
    match config::from_str(&text, "bench.yaml", folder) {
        Ok(loaded) => loaded.config,
        Err(errors) => panic!("{errors}"),
    }
}

/// As long as those of the usual providers.
fn token(key: &EcdsaKeyPair) -> String {
    let groups: Vec<String> = (0..12).map(|number| format!("\"group-{number}-of-the-company\"")).collect();
    let claims = format!(
        "{{\"iss\":\"i\",\"aud\":[\"api\",\"other\"],\"sub\":\"0f4e7a1c-1b1f-4d0e-9a55-4f3e1c5d7a90\",\"exp\":{},\"iat\":{NOW},\"groups\":[{}]}}",
        NOW + 3600,
        groups.join(",")
    );
    let header = URL_SAFE_NO_PAD.encode("{\"alg\":\"ES256\",\"typ\":\"JWT\",\"kid\":\"k\"}");
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let signature = key.sign(&SystemRandom::new(), message.as_bytes()).expect("a signature");
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}
