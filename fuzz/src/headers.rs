//! What stands in the headers and frames of gRPC.

use http::HeaderValue;
use portico::grpc::frame::Scanner;
use portico::grpc::{status, timeout};

/// Frames are judged the same, however the bytes are cut.
///
/// The first byte of an input bounds the messages, the second says how the rest is cut.
pub fn frames(input: &[u8]) {
    let [limit, cut, stream @ ..] = input else { return };
    let limit = usize::from(*limit);
    let mut whole = Scanner::new(limit);
    let expected = whole.scan(stream);

    let mut cut_up = Scanner::new(limit);
    let scanned = stream.chunks(usize::from(*cut).max(1)).try_for_each(|chunk| cut_up.scan(chunk));

    assert_eq!(scanned, expected);
    assert_eq!(cut_up.messages(), whole.messages());
    if expected.is_ok() {
        assert_eq!(cut_up.finish(), whole.finish());
        assert_eq!(cut_up.is_between_messages(), whole.finish().is_ok());
        assert!(whole.messages() <= (stream.len() / 5) as u64);
    }
}

/// Values of headers: whatever was written can be read.
pub fn headers(input: &[u8]) {
    let binary = status::encode_binary(input);
    assert_eq!(status::decode_binary(binary.as_bytes()).as_deref(), Some(input));
    if let Some(bytes) = status::decode_binary(input) {
        assert!(bytes.len() <= input.len());
    }
    if let Ok(text) = std::str::from_utf8(input) {
        assert_eq!(status::decode_message(&status::encode_message(text)), text);
    }
    if let Some(duration) = timeout::parse_grpc(input) {
        let written = timeout::grpc_value(duration);
        let again = timeout::parse_grpc(written.as_bytes()).expect("what was written can be read");
        assert!(again <= duration, "{duration:?} became {again:?}");
    }
    let _ = timeout::parse_seconds(input);
    let Ok(value) = HeaderValue::from_bytes(input) else { return };
    assert!(status::decode_message(&value).len() <= 3 * input.len());
    if let Some(number) = status::parse_status(&value) {
        assert_eq!(status::parse_status(&status::status_value(number)), Some(number));
        let _ = status::Code::from_number(number).map(|code| code.http());
    }
}
