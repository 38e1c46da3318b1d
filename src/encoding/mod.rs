//! The codings that messages and bodies are compressed with: gzip, deflate, br and zstd.
//!
//! Pure: bytes in, bytes out. What is negotiated, and what is said to a peer of another mind, is of the protocols
//! above. [`inflate()`] and [`compress()`] take what is here whole; [`Inflater`] and [`Compressor`] take it in pieces.
//!
//! **Invariant**: what comes out of compressed input is bounded by the caller's limit, whatever the input claims, and
//! input that ends early or goes on behind its end is refused.

mod compress;
mod inflate;

pub use compress::{Compressor, compress};
pub use inflate::{InflateError, Inflater, inflate, inflated};

/// A coding, named as in the IANA registry of
/// [HTTP content codings](https://www.iana.org/assignments/http-parameters/http-parameters.xhtml#content-coding), which
/// gRPC, gRPC-Web and Connect share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// [RFC 1952](https://www.rfc-editor.org/rfc/rfc1952), of any number of members.
    Gzip,
    /// The zlib format, [RFC 1950](https://www.rfc-editor.org/rfc/rfc1950). Without its header it is read too, as
    /// browsers do: [RFC 9110 §8.4.1.2](https://www.rfc-editor.org/rfc/rfc9110#section-8.4.1.2).
    Deflate,
    /// [RFC 7932](https://www.rfc-editor.org/rfc/rfc7932).
    Br,
    /// [RFC 8878](https://www.rfc-editor.org/rfc/rfc8878), of any number of frames.
    Zstd,
}

impl Encoding {
    /// The coding of that name; names are without case, and `x-gzip` is gzip
    /// ([RFC 9110 §8.4.1.3](https://www.rfc-editor.org/rfc/rfc9110#section-8.4.1.3)).
    pub fn parse(token: &str) -> Option<Self> {
        let is = |name: &str| token.eq_ignore_ascii_case(name);
        if is("x-gzip") {
            return Some(Self::Gzip);
        }
        [Self::Identity, Self::Gzip, Self::Deflate, Self::Br, Self::Zstd].into_iter().find(|known| is(known.name()))
    }

    /// Its name in headers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Br => "br",
            Self::Zstd => "zstd",
        }
    }
}

/// Bytes that are written at once: what a coding may need beside the output itself.
const CHUNK: usize = 16 << 10;

#[cfg(test)]
mod tests;
