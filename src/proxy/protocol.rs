//! Which protocol a request speaks.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

use crate::telemetry::Protocol;

/// Tells native gRPC from everything else by its content type (PROTOCOL-HTTP2 "Content-Type").
pub(crate) fn classify(headers: &HeaderMap) -> Protocol {
    match headers.get(CONTENT_TYPE) {
        Some(value) if is_grpc(value.as_bytes()) => Protocol::Grpc,
        _ => Protocol::Rest,
    }
}

/// Whether a content type is `application/grpc`, alone or with a `+codec` or parameters.
pub(crate) fn is_grpc(content_type: &[u8]) -> bool {
    const NAME: &[u8] = b"application/grpc";
    content_type.len() >= NAME.len()
        && content_type[..NAME.len()].eq_ignore_ascii_case(NAME)
        && matches!(content_type.get(NAME.len()), None | Some(b'+' | b';' | b' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_native_grpc_is_grpc() {
        for yes in ["application/grpc", "application/grpc+proto", "application/grpc;x=1", "Application/GRPC"] {
            assert!(is_grpc(yes.as_bytes()), "{yes}");
        }
        for no in ["application/grpc-web", "application/grpc-web+proto", "application/json", "application/grp", ""] {
            assert!(!is_grpc(no.as_bytes()), "{no}");
        }
    }
}
