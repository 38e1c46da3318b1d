//! Hashes of passwords, as other programs make them: Argon2, bcrypt and PBKDF2.
//!
//! To check one takes milliseconds, which is its purpose: never on a thread of the data path.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use argon2::{Argon2, PasswordHash as Phc, PasswordVerifier as _};
use aws_lc_rs::pbkdf2;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// The hash of a password. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Form);

#[derive(Clone, PartialEq, Eq)]
enum Form {
    /// `$argon2id$v=19$m=19456,t=2,p=1$salt$hash`, also `argon2i` and `argon2d`.
    Argon2(Box<str>),
    /// `$2b$12$…`, `$2y$…` or `$2a$…`.
    Bcrypt(Box<str>),
    /// `$pbkdf2-sha256$i=600000$salt$hash` or `sha512`, in base64 without padding.
    Pbkdf2 { sha512: bool, iterations: NonZeroU32, salt: Box<[u8]>, hash: Box<[u8]> },
}

impl PasswordHash {
    /// Whether that is the password. Takes as long as the hash was made to take, on this thread.
    pub fn verifies(&self, password: &[u8]) -> bool {
        match &self.0 {
            Form::Argon2(text) => {
                Phc::new(text).is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
            }
            // What is beyond 72 bytes would not count.
            Form::Bcrypt(text) => password.len() <= BCRYPT && bcrypt::verify(password, text).unwrap_or(false),
            Form::Pbkdf2 { sha512, iterations, salt, hash } => {
                let algorithm = if *sha512 { pbkdf2::PBKDF2_HMAC_SHA512 } else { pbkdf2::PBKDF2_HMAC_SHA256 };
                pbkdf2::verify(algorithm, *iterations, salt, password, hash).is_ok()
            }
        }
    }
}

impl FromStr for PasswordHash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "expected a hash of Argon2 ($argon2id$…), bcrypt ($2b$…) or PBKDF2 ($pbkdf2-sha256$i=…$salt$hash)"
                .to_owned()
        };
        if text.starts_with("$argon2") {
            let hash = Phc::new(text).map_err(|_| wrong())?;
            let params = argon2::Params::try_from(&hash).map_err(|_| wrong())?;
            let (memory, passes) = (params.m_cost(), params.t_cost());
            if hash.hash.is_none() {
                return Err("a hash of Argon2 has a salt and a hash".to_owned());
            }
            if memory > MAX_MEMORY || u64::from(memory) * u64::from(passes) > MAX_WORK {
                return Err(format!(
                    "a hash of Argon2 takes at most {MAX_MEMORY} KiB (m), and at most {MAX_WORK} KiB in all its passes \
                     together (m times t); this one takes {memory} KiB in each of {passes}"
                ));
            }
            return Ok(Self(Form::Argon2(text.into())));
        }
        if let Some(kind) = ["$pbkdf2-sha256$", "$pbkdf2-sha512$"].iter().find(|kind| text.starts_with(**kind)) {
            let rest = text.strip_prefix(*kind).unwrap_or_default();
            let parts: Vec<&str> = rest.split('$').collect();
            let [parameters, salt, hash] = parts.as_slice() else { return Err(wrong()) };
            let iterations = parameters.split(',').find_map(|parameter| parameter.strip_prefix("i="));
            let iterations = iterations.unwrap_or(parameters).parse::<NonZeroU32>().map_err(|_| wrong())?;
            let decode = |text: &str| STANDARD_NO_PAD.decode(text.replace('.', "+")).map_err(|_| wrong());
            let (salt, hash) = (decode(salt)?, decode(hash)?);
            if hash.len() < 16 || salt.len() < 8 || iterations.get() > MAX_ITERATIONS {
                return Err(format!(
                    "a hash of PBKDF2 has 16 bytes, its salt 8, and at most {MAX_ITERATIONS} iterations"
                ));
            }
            let sha512 = kind.contains("512");
            return Ok(Self(Form::Pbkdf2 { sha512, iterations, salt: salt.into(), hash: hash.into() }));
        }
        let cost = ["$2a$", "$2b$", "$2y$"].iter().find_map(|kind| text.strip_prefix(*kind)?.split_once('$'));
        let cost = cost.filter(|(_, rest)| rest.len() == 53).and_then(|(cost, _)| cost.parse::<u32>().ok());
        match cost {
            Some(4..=MAX_COST) => Ok(Self(Form::Bcrypt(text.into()))),
            Some(_) => Err(format!("the cost of a hash of bcrypt is 4 to {MAX_COST}")),
            None => Err(wrong()),
        }
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash")
    }
}

/// Bytes of a password that bcrypt looks at.
const BCRYPT: usize = 72;
/// About a second.
const MAX_COST: u32 = 16;
const MAX_ITERATIONS: u32 = 10_000_000;
/// In KiB.
const MAX_MEMORY: u32 = 1 << 20;
/// In KiB over all passes: some seconds, and what libsodium calls sensitive.
const MAX_WORK: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `argon2-cffi` and `passlib` of Python, of `correct horse`.
    const HASHES: &[&str] = include!("password/hashes.in");

    #[test]
    fn checks_what_other_programs_made() {
        for text in HASHES {
            let hash: PasswordHash = text.parse().expect("a hash");

            assert!(hash.verifies(b"correct horse"), "{text}");
            assert!(!hash.verifies(b"correct horse ") && !hash.verifies(b""), "{text}");
            assert_eq!(format!("{hash:?}"), "PasswordHash");
        }
    }

    #[test]
    fn takes_what_other_programs_make_for_secrets_of_worth() {
        for parameters in ["m=1048576,t=4,p=1", "m=65536,t=3,p=4", "m=64,t=1000,p=1"] {
            let text = format!("$argon2id$v=19${parameters}$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA");
            assert!(text.parse::<PasswordHash>().is_ok(), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_hash_and_what_would_take_too_long() {
        for text in [
            "",
            "secret",
            "$argon2id$",
            "$argon2id$v=19$m=4194304,t=3,p=4$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
            "$argon2id$v=19$m=1048576,t=5,p=4$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
            "$argon2id$v=19$m=65536,t=4294967295,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
            "$2b$31$aaaa",
            "$2b$12$short",
            "$pbkdf2-sha256$i=0$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
            "$pbkdf2-sha256$i=1000$c2FsdHNhbHQ",
            "$pbkdf2-sha256$i=1000$c2FsdHNhbHQ$YQ",
            "$1$abc$def",
            "$6$abc$def",
        ] {
            assert!(text.parse::<PasswordHash>().is_err(), "{text}");
        }
    }
}
