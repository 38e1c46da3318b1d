//! How long the client is willing to wait.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use crate::error::{Error, Reason};
use crate::grpc;
use crate::grpc::timeout;

/// Seconds, as Connect's and Envoy's relatives send them.
const SERVER_TIMEOUT: HeaderName = HeaderName::from_static("x-server-timeout");
/// Seconds, as HTTP clients send them.
const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("request-timeout");

/// Milliseconds: <https://connectrpc.com/docs/protocol#unary-request>.
const CONNECT_TIMEOUT: HeaderName = HeaderName::from_static("connect-timeout-ms");

/// The least of `grpc-timeout`, `x-server-timeout` and `request-timeout`.
///
/// # Errors
/// One of them is malformed; a deadline that cannot be read must not become no deadline.
pub(crate) fn requested(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    let grpc =
        read(headers, &grpc::TIMEOUT, timeout::parse_grpc, "one to eight digits and a unit of H, M, S, m, u or n")?;
    let server = read(headers, &SERVER_TIMEOUT, timeout::parse_seconds, "seconds such as 1.5")?;
    let request = read(headers, &REQUEST_TIMEOUT, timeout::parse_seconds, "seconds such as 1.5")?;
    Ok([grpc, server, request].into_iter().flatten().min())
}

/// `connect-timeout-ms`, which calls of Connect may have beside those.
///
/// # Errors
/// It is malformed.
pub(crate) fn of_connect(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    read(headers, &CONNECT_TIMEOUT, timeout::parse_millis, "one to ten digits")
}

fn read(
    headers: &HeaderMap,
    name: &HeaderName,
    parse: fn(&[u8]) -> Option<Duration>,
    expected: &str,
) -> Result<Option<Duration>, Error> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    match parse(value.as_bytes()) {
        Some(duration) => Ok(Some(duration)),
        None => Err(Error::new(Reason::InvalidHeader, format!("header {name} is {value:?}, expected {expected}"))),
    }
}
