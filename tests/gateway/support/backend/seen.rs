//! The head of a request as a backend got it.

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;

use super::pb;

/// What came before the messages.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// `:authority`, empty if there was none.
    pub(crate) authority: String,
    /// `:path` with its query.
    pub(crate) path: String,
    /// `:method`.
    pub(crate) method: http::Method,
    /// Everything else.
    pub(crate) headers: HeaderMap,
}

impl Seen {
    pub(crate) fn of<B>(request: &http::Request<B>) -> Self {
        Self {
            authority: request.uri().authority().map(ToString::to_string).unwrap_or_default(),
            path: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
            method: request.method().clone(),
            headers: request.headers().clone(),
        }
    }

    /// As the echo service tells it.
    pub(crate) fn metadata(&self) -> Vec<pb::Header> {
        let pseudo = [(":authority", &self.authority), (":path", &self.path)];
        let pseudo = pseudo.into_iter().map(|(name, value)| header(name, value.as_bytes()));
        let headers = self.headers.iter().map(|(name, value)| match name.as_str().ends_with("-bin") {
            true => header(name.as_str(), &BASE64.decode(value).unwrap_or_else(|_| value.as_bytes().to_vec())),
            false => header(name.as_str(), value.as_bytes()),
        });
        pseudo.chain(headers).collect()
    }
}

fn header(name: &str, value: &[u8]) -> pb::Header {
    pb::Header { name: name.into(), value: value.into() }
}

/// Takes base64 with and without padding, writes it without, as gRPC does.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
