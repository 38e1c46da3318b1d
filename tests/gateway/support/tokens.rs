//! Tokens, good and bad, put together by hand, and a server that publishes keys.
#![allow(dead_code, reason = "a toolbox: not every test run uses every tool")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

pub(crate) const ISSUER: &str = "https://issuer.example.com";

/// A private key.
pub(crate) enum Private {
    Rsa(Box<RsaKeyPair>),
    Ec(EcdsaKeyPair, &'static str),
    Ed(Ed25519KeyPair),
    Secret(Vec<u8>),
    /// No signature at all.
    Nothing,
}

impl Private {
    pub(crate) fn rsa() -> Self {
        Self::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).expect("a key")))
    }

    pub(crate) fn p256() -> Self {
        Self::ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, "P-256")
    }

    pub(crate) fn ec(algorithm: &'static EcdsaSigningAlgorithm, curve: &'static str) -> Self {
        Self::Ec(EcdsaKeyPair::generate(algorithm).expect("a key"), curve)
    }

    pub(crate) fn ed25519() -> Self {
        Self::Ed(Ed25519KeyPair::generate().expect("a key"))
    }

    /// The public half as a JWK.
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::Rsa(pair) => {
                // `RSAPublicKey` of PKCS#1 with 2048 bits: nine bytes, the modulus, two bytes, the exponent.
                let der = pair.public_key().as_ref();
                let (n, e) = (&der[9..265], &der[267..]);
                json!({"kty": "RSA", "kid": kid, "n": encode(n), "e": encode(e)})
            }
            Self::Ec(pair, curve) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({"kty": "EC", "crv": curve, "kid": kid, "x": encode(x), "y": encode(y)})
            }
            Self::Ed(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": encode(pair.public_key().as_ref())})
            }
            Self::Secret(_) | Self::Nothing => unreachable!("it has no public half"),
        }
    }

    fn sign(&self, message: &[u8], how: &'static dyn RsaEncoding) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(how, &random, message, &mut signature).expect("a signature");
                signature
            }
            Self::Ec(pair, _) => pair.sign(&random, message).expect("a signature").as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Secret(secret) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec(),
            Self::Nothing => Vec::new(),
        }
    }

    /// A token of these texts, as they are.
    pub(crate) fn token(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
        let signature = self.sign(message.as_bytes(), &signature::RSA_PKCS1_SHA256);
        format!("{message}.{}", encode(&signature))
    }

    /// A token that is good if the key and `alg` are.
    pub(crate) fn good(&self, alg: &str, kid: &str) -> String {
        self.token(&json!({"alg": alg, "kid": kid}).to_string(), &claims(json!({})).to_string())
    }
}

/// Good claims with these in place of theirs; `null` takes one out.
#[allow(clippy::needless_pass_by_value, reason = "so that tests can write it down in place")]
pub(crate) fn claims(other: Value) -> Value {
    let mut claims = json!({"iss": ISSUER, "aud": "api", "sub": "ann", "exp": now() + 3600});
    for (name, value) in other.as_object().into_iter().flatten() {
        if value.is_null() {
            claims.as_object_mut().expect("a map").remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("a small number")
}

/// A server of HTTP/1.1 that answers every request alike, and counts them.
pub(crate) struct Publisher {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

struct State {
    answer: Mutex<Publication>,
    requests: AtomicUsize,
    seen: Mutex<Vec<String>>,
}

/// What a publisher answers.
#[derive(Debug, Clone)]
pub(crate) struct Publication {
    pub(crate) status: &'static str,
    pub(crate) headers: String,
    pub(crate) body: String,
    /// Before anything of it.
    pub(crate) delay: Duration,
}

impl Publication {
    pub(crate) fn of(body: &Value) -> Self {
        Self { status: "200 OK", headers: String::new(), body: body.to_string(), delay: Duration::ZERO }
    }

    /// A set of these keys.
    pub(crate) fn keys(keys: &[Value]) -> Self {
        Self::of(&json!({"keys": keys}))
    }
}

impl Publisher {
    pub(crate) async fn start(first: Publication) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state =
            Arc::new(State { answer: Mutex::new(first), requests: AtomicUsize::new(0), seen: Mutex::default() });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !is_whole(&request) && stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {}
                    state.requests.fetch_add(1, Ordering::SeqCst);
                    state.seen.lock().expect("no panic").push(String::from_utf8_lossy(&request).into_owned());
                    let answer = state.answer.lock().expect("no panic").clone();
                    let later = tokio::time::Instant::now() + answer.delay;
                    tokio::time::sleep_until(later).await;
                    let head = format!(
                        "HTTP/1.1 {}\r\n{}content-length: {}\r\n\r\n",
                        answer.status,
                        answer.headers,
                        answer.body.len()
                    );
                    stream.write_all((head + &answer.body).as_bytes()).await.ok();
                });
            }
        });
        Self { address, state }
    }

    pub(crate) fn answer(&self, answer: Publication) {
        *self.state.answer.lock().expect("no panic") = answer;
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Their texts.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.state.seen.lock().expect("no panic").clone()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/jwks.json", self.address)
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}
