//! Keys of one issuer ([RFC 7517 §5](https://www.rfc-editor.org/rfc/rfc7517#section-5)), and which of them a token may mean.

use std::sync::Arc;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use serde_json::Value;

use super::{Algorithm, Algorithms, Key, json};

/// The keys that there are, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeySet {
    keys: Vec<Arc<Key>>,
}

/// A set, and what is to be said of what was left out.
#[derive(Debug)]
pub struct Read {
    /// The keys that can be used; at least one.
    pub keys: KeySet,
    /// A sentence for each key that cannot.
    pub skipped: Vec<String>,
}

impl KeySet {
    /// Reads a JWK set, or one JWK. A key that is not understood is passed over: sets hold keys for other purposes too.
    ///
    /// # Errors
    /// It is no such thing, or none of its keys can be used with these algorithms.
    pub fn from_jwks(text: &[u8], allowed: Algorithms) -> Result<Read, String> {
        let set =
            json::object(text).map_err(|_| "it is not a JWK set: no JSON object, or a name stands twice".to_owned())?;
        let single = [Value::Object(set.clone())];
        let list = match set.get("keys") {
            Some(Value::Array(list)) => list.as_slice(),
            None if set.contains_key("kty") => &single,
            _ => return Err("it is not a JWK set: `keys` is no list".to_owned()),
        };
        if list.len() > MAX_KEYS {
            return Err(format!("it has {} keys, more than the limit of {MAX_KEYS}", list.len()));
        }
        let mut keys = Vec::new();
        let mut skipped = Vec::new();
        for (index, jwk) in list.iter().enumerate() {
            let read = match jwk {
                Value::Object(jwk) => Key::from_jwk(jwk),
                _ => Err("it is no object".to_owned()),
            };
            match read.and_then(|key| restricted(key, allowed)) {
                Ok(key) => keys.push(Arc::new(key)),
                Err(why) => skipped.push(format!("key {} is not used: {why}", index + 1)),
            }
        }
        if keys.is_empty() {
            let why = skipped.first().map_or(String::new(), |first| format!("; {first}"));
            return Err(format!("it has no key that can be used{why}"));
        }
        Ok(Read { keys: Self { keys }, skipped })
    }

    /// Reads public keys in PEM: `BEGIN PUBLIC KEY`, `BEGIN RSA PUBLIC KEY`, or those of certificates.
    ///
    /// # Errors
    /// There is none, or one that cannot be used.
    pub fn from_pem(text: &[u8], allowed: Algorithms) -> Result<Self, String> {
        let mut found: Vec<Vec<u8>> = Vec::new();
        for key in SubjectPublicKeyInfoDer::pem_slice_iter(text) {
            found.push(key.map_err(|_| "it is not PEM".to_owned())?.to_vec());
        }
        for certificate in CertificateDer::pem_slice_iter(text) {
            let certificate = certificate.map_err(|_| "it is not PEM".to_owned())?;
            found.push(public_key_of(&certificate)?);
        }
        if found.is_empty() {
            return Err("it holds no public key (BEGIN PUBLIC KEY or BEGIN CERTIFICATE)".to_owned());
        }
        let keys = found.iter().map(|der| Key::from_der(der).and_then(|key| restricted(key, allowed)).map(Arc::new));
        Ok(Self { keys: keys.collect::<Result<_, _>>()? })
    }

    /// The same as [`Self::from_jwks`] or [`Self::from_pem`], by what the text looks like.
    ///
    /// # Errors
    /// As they have.
    pub fn from_text(text: &[u8], allowed: Algorithms) -> Result<Read, String> {
        if text.trim_ascii_start().starts_with(b"{") {
            return Self::from_jwks(text, allowed);
        }
        Self::from_pem(text, allowed).map(|keys| Read { keys, skipped: Vec::new() })
    }

    /// These keys.
    pub fn of(keys: Vec<Key>) -> Self {
        Self { keys: keys.into_iter().map(Arc::new).collect() }
    }

    /// Takes over the keys of `before` that are the same, so that what was verified by them stays verified.
    #[must_use]
    pub fn sharing(mut self, before: &Self) -> Self {
        for key in &mut self.keys {
            if let Some(known) = before.keys.iter().find(|known| *known == key) {
                *key = Arc::clone(known);
            }
        }
        self
    }

    /// Whether it is one of them: this very one, see [`Self::sharing`].
    pub fn contains(&self, key: &Arc<Key>) -> bool {
        self.keys.iter().any(|known| Arc::ptr_eq(known, key))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The keys that a token may mean which names that key, or none, and that algorithm. A key without a name may be meant
    /// by any token.
    pub fn candidates<'s>(&'s self, id: Option<&'s str>, algorithm: Algorithm) -> impl Iterator<Item = &'s Arc<Key>> {
        let named = move |key: &Key| match (id, key.id()) {
            (Some(wanted), Some(known)) => wanted == known,
            (None, _) | (_, None) => true,
        };
        self.keys.iter().filter(move |key| named(key) && key.takes(algorithm))
    }

    /// Whether a key has that name.
    pub fn knows(&self, id: &str) -> bool {
        self.keys.iter().any(|key| key.id() == Some(id))
    }
}

fn restricted(mut key: Key, allowed: Algorithms) -> Result<Key, String> {
    if key.keep(|algorithm| allowed.contains(algorithm)) {
        Ok(key)
    } else {
        Err("none of its algorithms is allowed".to_owned())
    }
}

/// The public key of a certificate, as DER.
fn public_key_of(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, String> {
    let parsed =
        webpki::EndEntityCert::try_from(certificate).map_err(|_| "it holds a malformed certificate".to_owned())?;
    Ok(parsed.subject_public_key_info().to_vec())
}

/// Providers have a handful.
const MAX_KEYS: usize = 200;
