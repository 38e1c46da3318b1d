//! The algorithms of signatures ([RFC 7518 §3.1](https://www.rfc-editor.org/rfc/rfc7518#section-3.1)).

use std::str::FromStr;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA512, RsaParameters, VerificationAlgorithm,
};

/// How a token is signed. `none` is no algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names of RFC 7518 and RFC 8037")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    ES512,
    EdDSA,
    HS256,
    HS384,
    HS512,
}

/// Whose keys an algorithm takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// RSA, of 2048 to 8192 bits.
    Rsa,
    /// The curve P-256.
    P256,
    /// The curve P-384.
    P384,
    /// The curve P-521.
    P521,
    /// The curve Ed25519.
    Ed25519,
    /// A secret that both sides know.
    Secret,
}

/// What an algorithm checks a signature by.
pub(super) enum Means {
    Rsa(&'static RsaParameters),
    Public(&'static dyn VerificationAlgorithm),
    Secret(hmac::Algorithm),
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::ES512,
        Self::EdDSA,
        Self::HS256,
        Self::HS384,
        Self::HS512,
    ];

    /// As tokens and keys write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::ES512 => "ES512",
            Self::EdDSA => "EdDSA",
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
        }
    }

    /// Whose keys it takes.
    pub fn family(self) -> Family {
        match self {
            Self::RS256 | Self::RS384 | Self::RS512 | Self::PS256 | Self::PS384 | Self::PS512 => Family::Rsa,
            Self::ES256 => Family::P256,
            Self::ES384 => Family::P384,
            Self::ES512 => Family::P521,
            Self::EdDSA => Family::Ed25519,
            Self::HS256 | Self::HS384 | Self::HS512 => Family::Secret,
        }
    }

    pub(super) fn means(self) -> Means {
        match self {
            Self::RS256 => Means::Rsa(&RSA_PKCS1_2048_8192_SHA256),
            Self::RS384 => Means::Rsa(&RSA_PKCS1_2048_8192_SHA384),
            Self::RS512 => Means::Rsa(&RSA_PKCS1_2048_8192_SHA512),
            Self::PS256 => Means::Rsa(&RSA_PSS_2048_8192_SHA256),
            Self::PS384 => Means::Rsa(&RSA_PSS_2048_8192_SHA384),
            Self::PS512 => Means::Rsa(&RSA_PSS_2048_8192_SHA512),
            Self::ES256 => Means::Public(&ECDSA_P256_SHA256_FIXED),
            Self::ES384 => Means::Public(&ECDSA_P384_SHA384_FIXED),
            Self::ES512 => Means::Public(&ECDSA_P521_SHA512_FIXED),
            Self::EdDSA => Means::Public(&ED25519),
            Self::HS256 => Means::Secret(hmac::HMAC_SHA256),
            Self::HS384 => Means::Secret(hmac::HMAC_SHA384),
            Self::HS512 => Means::Secret(hmac::HMAC_SHA512),
        }
    }

    /// Bytes that a secret has at least: those of the hash
    /// ([RFC 7518 §3.2](https://www.rfc-editor.org/rfc/rfc7518#section-3.2)).
    pub(super) fn shortest_secret(self) -> usize {
        match self {
            Self::HS384 => 48,
            Self::HS512 => 64,
            _ => 32,
        }
    }
}

/// No algorithm has that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownAlgorithm;

/// Exactly as written: names of algorithms have a case.
impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == text).ok_or(UnknownAlgorithm)
    }
}

/// A set of algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Algorithms(u16);

impl Algorithms {
    /// Every one.
    pub const ALL: Self = Self((1 << Algorithm::ALL.len()) - 1);

    /// Whether it is among them.
    pub fn contains(self, algorithm: Algorithm) -> bool {
        self.0 & 1 << algorithm as u16 != 0
    }

    /// One after the other.
    pub fn iter(self) -> impl Iterator<Item = Algorithm> {
        Algorithm::ALL.into_iter().filter(move |algorithm| self.contains(*algorithm))
    }
}

impl FromIterator<Algorithm> for Algorithms {
    fn from_iter<I: IntoIterator<Item = Algorithm>>(algorithms: I) -> Self {
        Self(algorithms.into_iter().fold(0, |set, algorithm| set | 1 << algorithm as u16))
    }
}
