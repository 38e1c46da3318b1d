//! A key that signatures are checked with, out of a JWK ([RFC 7517](https://www.rfc-editor.org/rfc/rfc7517)), PEM or a secret.
//!
//! A key knows its algorithms: those that its type has, less all but its own `alg` if it names one.

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ParsedPublicKey, RsaPublicKeyComponents};
use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

use super::algorithm::{Algorithm, Family, Means};

/// What a signature is checked with.
pub struct Key {
    id: Option<Box<str>>,
    forms: Vec<(Algorithm, Form)>,
    /// What it was made of, so that two keys can be told apart.
    material: Box<[u8]>,
}

enum Form {
    Public(Box<ParsedPublicKey>),
    Secret(Box<hmac::Key>),
}

impl Key {
    /// A key of a set; secrets are none of those.
    ///
    /// # Errors
    /// In words: it is of an unknown type, not for signatures, too weak, or malformed.
    pub fn from_jwk(jwk: &Map<String, Value>) -> Result<Self, String> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        if text("use").is_some_and(|usage| usage != "sig") {
            return Err("it is not for signatures (use)".to_owned());
        }
        if let Some(operations) = jwk.get("key_ops").and_then(Value::as_array)
            && !operations.iter().any(|operation| operation == "verify")
        {
            return Err("it is not for verifying (key_ops)".to_owned());
        }
        let named = match jwk.get("alg") {
            None => None,
            Some(name) => {
                let name = name.as_str().unwrap_or_default();
                Some(name.parse::<Algorithm>().map_err(|_| format!("its algorithm {name:?} is not known"))?)
            }
        };
        let bytes = |name: &str| -> Result<Vec<u8>, String> {
            let text = text(name).ok_or_else(|| format!("`{name}` is missing"))?;
            LENIENT.decode(text).map_err(|_| format!("`{name}` is not base64url"))
        };
        let mut key = match (text("kty"), text("crv")) {
            (Some("RSA"), _) => Self::rsa(&bytes("n")?, &bytes("e")?)?,
            (Some("EC"), Some("P-256")) => Self::point(Family::P256, 32, &bytes("x")?, &bytes("y")?)?,
            (Some("EC"), Some("P-384")) => Self::point(Family::P384, 48, &bytes("x")?, &bytes("y")?)?,
            (Some("EC"), Some("P-521")) => Self::point(Family::P521, 66, &bytes("x")?, &bytes("y")?)?,
            (Some("OKP"), Some("Ed25519")) => Self::public(Family::Ed25519, &bytes("x")?)?,
            (kind, curve) => {
                return Err(format!("its type {} {} is not known", kind.unwrap_or("?"), curve.unwrap_or_default()));
            }
        };
        if let Some(named) = named {
            key.forms.retain(|(algorithm, _)| *algorithm == named);
            if key.forms.is_empty() {
                return Err(format!("its algorithm {} is of another type of key", named.name()));
            }
        }
        key.id = text("kid").map(Into::into);
        Ok(key)
    }

    /// A public key in the form that certificates have it, or PKCS#1 of RSA.
    ///
    /// # Errors
    /// In words: it is of an unknown type, or too weak.
    pub fn from_der(der: &[u8]) -> Result<Self, String> {
        // A key is only read by the algorithm that it is for: the type stands in it.
        for family in [Family::P256, Family::P384, Family::P521, Family::Ed25519] {
            // 32 bytes alone would be read as a key of Ed25519.
            if der.len() > 40
                && let Ok(key) = Self::public(family, der)
            {
                return Ok(key);
            }
        }
        Self::public(Family::Rsa, der).map_err(|_| {
            "it is no RSA key of 2048 to 8192 bits, and no key of P-256, P-384, P-521 or Ed25519".to_owned()
        })
    }

    /// A secret that both sides know.
    ///
    /// # Errors
    /// In words: it is shorter than the hash of the algorithm.
    pub fn from_secret(secret: &[u8], algorithm: Algorithm) -> Result<Self, String> {
        let Means::Secret(means) = algorithm.means() else {
            return Err(format!("{} takes no secret", algorithm.name()));
        };
        let shortest = algorithm.shortest_secret();
        if secret.len() < shortest {
            return Err(format!(
                "the secret has {} bytes; {} needs {shortest} at least",
                secret.len(),
                algorithm.name()
            ));
        }
        let form = Form::Secret(Box::new(hmac::Key::new(means, secret)));
        Ok(Self { id: None, forms: vec![(algorithm, form)], material: secret.into() })
    }

    fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, String> {
        let strip = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
        let (n, e) = (strip(modulus), strip(exponent));
        let bits = n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize);
        if !(2048..=8192).contains(&bits) {
            return Err(format!("it has {bits} bits, which is not 2048 to 8192"));
        }
        // An exponent of one signs everything; an even one is none.
        if e.last().is_none_or(|last| last % 2 == 0) || e == [1] || e.len() > 8 {
            return Err("its exponent is no good one".to_owned());
        }
        let material = [n.as_slice(), &[0], &e].concat().into();
        let components = RsaPublicKeyComponents { n, e };
        let mut forms = Vec::new();
        for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| algorithm.family() == Family::Rsa) {
            let Means::Rsa(means) = algorithm.means() else { continue };
            let parsed = components.to_parsed_public_key(means).map_err(|_| "it is no RSA key".to_owned())?;
            forms.push((algorithm, Form::Public(Box::new(parsed))));
        }
        Ok(Self { id: None, forms, material })
    }

    /// A point that is not on its curve is no key.
    fn point(family: Family, length: usize, x: &[u8], y: &[u8]) -> Result<Self, String> {
        if x.len() != length || y.len() != length {
            return Err("its coordinates have a wrong length".to_owned());
        }
        Self::public(family, &[&[4], x, y].concat())
    }

    fn public(family: Family, bytes: &[u8]) -> Result<Self, String> {
        let wrong = || "it is not on its curve, or malformed".to_owned();
        let mut forms = Vec::new();
        let mut material: Box<[u8]> = Box::default();
        for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| algorithm.family() == family) {
            let parsed = match algorithm.means() {
                Means::Public(means) => ParsedPublicKey::new(means, bytes),
                Means::Rsa(means) => ParsedPublicKey::new(means, bytes),
                Means::Secret(_) => return Err(wrong()),
            };
            let parsed = parsed.map_err(|_| wrong())?;
            material = parsed.as_ref().into();
            forms.push((algorithm, Form::Public(Box::new(parsed))));
        }
        Ok(Self { id: None, forms, material })
    }

    /// Leaves only these algorithms; `false` when none is left.
    pub fn keep(&mut self, wanted: impl Fn(Algorithm) -> bool) -> bool {
        self.forms.retain(|(algorithm, _)| wanted(*algorithm));
        !self.forms.is_empty()
    }

    /// `kid`.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether it signs by that algorithm.
    pub fn takes(&self, algorithm: Algorithm) -> bool {
        self.forms.iter().any(|(known, _)| *known == algorithm)
    }

    /// Whether that is its signature of the message by that algorithm, which must be its own.
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let form = self.forms.iter().find(|(known, _)| *known == algorithm);
        form.is_some_and(|(_, form)| match form {
            Form::Public(key) => key.verify_sig(message, signature).is_ok(),
            Form::Secret(key) => hmac::verify(key, message, signature).is_ok(),
        })
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let algorithms = |key: &Self| key.forms.iter().map(|(algorithm, _)| *algorithm).collect::<Vec<_>>();
        self.id == other.id && self.material == other.material && algorithms(self) == algorithms(other)
    }
}

impl Eq for Key {}

/// Without what it is made of.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithms: Vec<_> = self.forms.iter().map(|(algorithm, _)| algorithm.name()).collect();
        f.debug_struct("Key").field("id", &self.id).field("algorithms", &algorithms).finish_non_exhaustive()
    }
}

/// Some write padding into their keys.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
