//! Which headers go upstream, which come back, and what the gateway adds.
//!
//! The rules: what speaks of one connection is dropped; names that only a gateway may set are dropped unless a
//! trusted proxy sent them, and set again; everything else passes under its own name. REST callers may also write
//! metadata as `Grpc-Metadata-<name>`.

use std::net::IpAddr;

use bytes::{BufMut, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, Entry, HOST, TE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use ipnet::IpNet;
use smallvec::SmallVec;

use super::client::is_trusted;
use crate::config::Reply;
use crate::grpc;
use crate::grpc::metadata::{self, is_binary, is_hop_by_hop, is_http_only, is_of_edge, is_public, is_reserved};
use crate::grpc::status::{decode_binary, encode_binary};
use crate::telemetry::trace::{RequestId, TraceParent};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// What is set here, or left as a trusted proxy says it.
const FORWARDED: [HeaderName; 3] = [FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST];

/// What the gateway knows of the caller and tells the upstream.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The other end of the connection.
    pub peer: IpAddr,
    /// The same as [`ip_value`] writes it.
    pub peer_value: &'a HeaderValue,
    /// Whether the connection is TLS.
    pub tls: bool,
    /// Networks whose `x-forwarded-*` is believed.
    pub trusted: &'a [IpNet],
    /// The request's target; its authority stands in for `host` in HTTP/2.
    pub uri: &'a Uri,
    /// Passed on or made.
    pub request_id: &'a HeaderValue,
    /// Passed on or made.
    pub traceparent: &'a HeaderValue,
    /// Whether the trace begins here; what a client says of another one is then dropped.
    pub new_trace: bool,
}

/// Metadata that cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadHeader {
    /// Its name as the client wrote it.
    pub name: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// Turns the headers of a native gRPC request into those of the request upstream, in place.
pub fn native_request(headers: &mut HeaderMap, caller: &Caller<'_>) {
    remove_named(headers);
    remove_if(headers, |name| {
        let is_ours = is_hop_by_hop(name) || is_of_edge(name) || [CONTENT_LENGTH, grpc::TIMEOUT].contains(name);
        // These are set below.
        is_ours && *name != TE && !FORWARDED.contains(name)
    });
    let host = headers.remove(HOST);
    add_gateway_headers(headers, caller, is_trusted(caller.peer, caller.trusted), host);
    headers.insert(TE, HeaderValue::from_static("trailers"));
}

/// Gives what a REST request says with a prefix its own name, so that who judges a call sees what the service will see;
/// names that cannot be metadata are taken out.
pub fn take_off_prefix(headers: &mut HeaderMap) {
    // Allocates only for callers that write the prefix.
    let prefixed: SmallVec<[HeaderName; 4]> =
        headers.keys().filter(|name| name.as_str().starts_with(metadata::PREFIX)).cloned().collect();
    if prefixed.is_empty() {
        return;
    }
    let of_connection = connection_named(headers);
    for name in prefixed {
        let Entry::Occupied(entry) = headers.entry(&name) else { continue };
        let (_, values) = entry.remove_entry_mult();
        let values: SmallVec<[HeaderValue; 1]> = values.collect();
        let own =
            name.as_str().strip_prefix(metadata::PREFIX).and_then(|own| HeaderName::from_bytes(own.as_bytes()).ok());
        let Some(own) = own.filter(|own| !is_http_only(own) && !is_reserved(own)) else { continue };
        if of_connection.iter().any(|named| named == name.as_str()) {
            continue;
        }
        for value in values {
            headers.append(&own, value);
        }
    }
}

/// Makes the headers of a gRPC request out of those of a REST request, [without prefixes](take_off_prefix).
///
/// # Errors
/// A `-bin` header whose value is not base64.
pub fn rest_request(headers: &HeaderMap, caller: &Caller<'_>) -> Result<HeaderMap, BadHeader> {
    metadata(headers, caller, |_| true)
}

/// Makes the headers of a gRPC request out of those of a gRPC-Web or Connect request; what these protocols say of
/// themselves is left out.
///
/// # Errors
/// A `-bin` header whose value is not base64.
pub fn rpc_request(headers: &HeaderMap, caller: &Caller<'_>) -> Result<HeaderMap, BadHeader> {
    metadata(headers, caller, |name| !name.as_str().starts_with("connect-") && name.as_str() != "x-grpc-web")
}

/// Metadata out of headers, of those that pass.
fn metadata(
    headers: &HeaderMap,
    caller: &Caller<'_>,
    passes: impl Fn(&HeaderName) -> bool,
) -> Result<HeaderMap, BadHeader> {
    let named = connection_named(headers);
    let mut metadata = HeaderMap::with_capacity(headers.len() + 8);
    for (name, value) in headers {
        let is_metadata = !is_http_only(name) && !is_reserved(name) && metadata::is_name(name);
        if !is_metadata || !passes(name) || named.iter().any(|named| named == name.as_str()) {
            continue;
        }
        if is_binary(name) {
            append_binary(&mut metadata, name, value)
                .map_err(|problem| BadHeader { name: name.to_string(), problem })?;
        } else if value.as_bytes().iter().all(|byte| (0x20..=0x7e).contains(byte)) {
            // Other bytes are legal in HTTP and illegal in gRPC metadata: a server would refuse the whole call.
            metadata.append(name, value.clone());
        }
    }
    join_cookies(&mut metadata);
    let trusted = is_trusted(caller.peer, caller.trusted);
    if trusted {
        for name in &FORWARDED {
            for value in headers.get_all(name) {
                metadata.append(name, value.clone());
            }
        }
    }
    add_gateway_headers(&mut metadata, caller, trusted, headers.get(HOST).cloned());
    metadata.insert(TE, HeaderValue::from_static("trailers"));
    metadata.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(metadata)
}

/// Appends a `-bin` value as gRPC writes it, or says what is wrong with it. Several may be joined by commas (PROTOCOL-HTTP2
/// "Binary-Header"), which not every server takes apart.
fn append_binary(metadata: &mut HeaderMap, name: &HeaderName, value: &HeaderValue) -> Result<(), &'static str> {
    for (index, element) in value.as_bytes().split(|byte| *byte == b',').enumerate() {
        // A value of nothing but commas would make a thousand headers.
        if index == MAX_JOINED {
            return Err("more than 32 values are joined");
        }
        let bytes = decode_binary(element.trim_ascii()).ok_or("value is not base64")?;
        metadata.append(name, encode_binary(&bytes));
    }
    Ok(())
}

/// Values of one `-bin` header.
const MAX_JOINED: usize = 32;

/// Puts the pieces together into which HTTP/2 clients may cut a `cookie` (RFC 9113 §8.2.3).
fn join_cookies(metadata: &mut HeaderMap) {
    let mut pieces = metadata.get_all(COOKIE).iter();
    let (Some(first), Some(_)) = (pieces.next(), pieces.next()) else { return };
    let mut whole = BytesMut::from(first.as_bytes());
    for piece in metadata.get_all(COOKIE).iter().skip(1) {
        whole.put_slice(b"; ");
        whole.put_slice(piece.as_bytes());
    }
    if let Ok(whole) = HeaderValue::from_maybe_shared(whole.freeze()) {
        metadata.insert(COOKIE, whole);
    }
}

fn add_gateway_headers(headers: &mut HeaderMap, caller: &Caller<'_>, trusted: bool, host: Option<HeaderValue>) {
    let chain = if trusted { forwarded_chain(headers, caller.peer_value) } else { caller.peer_value.clone() };
    headers.insert(FORWARDED_FOR, chain);
    if !(trusted && headers.contains_key(&FORWARDED_PROTO)) {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(if caller.tls { "https" } else { "http" }));
    }
    if !(trusted && headers.contains_key(&FORWARDED_HOST)) {
        let host = match caller.uri.authority() {
            Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
            None => host,
        };
        match host {
            Some(host) => headers.insert(FORWARDED_HOST, host),
            None => headers.remove(FORWARDED_HOST),
        };
    }
    headers.insert(RequestId::HEADER, caller.request_id.clone());
    headers.insert(TraceParent::HEADER, caller.traceparent.clone());
    if caller.new_trace {
        headers.remove(TraceParent::STATE);
    }
}

/// What a trusted proxy says of those before it, and the proxy.
fn forwarded_chain(headers: &HeaderMap, peer: &HeaderValue) -> HeaderValue {
    let mut chain = BytesMut::with_capacity(64);
    for value in headers.get_all(&FORWARDED_FOR) {
        chain.put_slice(value.as_bytes());
        chain.put_slice(b", ");
    }
    chain.put_slice(peer.as_bytes());
    HeaderValue::from_maybe_shared(chain.freeze()).unwrap_or_else(|_| peer.clone())
}

/// An address for a header. An IPv4 address mapped into IPv6 is written, and trusted, as the IPv4 address that it is.
pub fn ip_value(ip: IpAddr) -> HeaderValue {
    HeaderValue::try_from(ip.to_canonical().to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// Removes from a gRPC reply what speaks of one connection, in place. Metadata passes untouched.
pub fn native_reply(headers: &mut HeaderMap) {
    remove_named(headers);
    remove_if(headers, is_hop_by_hop);
}

/// Leaves one status in the trailers of a gRPC reply, in place: the first, by which the call is judged here. Clients
/// differ in which of several they believe.
pub fn only_status(trailers: &mut HeaderMap) {
    for name in [grpc::STATUS, grpc::MESSAGE, grpc::DETAILS] {
        let mut values = trailers.get_all(&name).iter();
        if let (Some(first), Some(_)) = (values.next(), values.next()) {
            let first = first.clone();
            trailers.insert(name, first);
        }
    }
}

/// Copies reply metadata, initial or trailing, into the headers or trailers of a reply that is no gRPC.
pub fn rest_reply(metadata: &HeaderMap, into: &mut HeaderMap) {
    for (name, value) in metadata {
        if is_public(name) {
            into.append(name, value.clone());
        }
    }
}

/// [`rest_reply`] of initial metadata, or of an error's, by which the service may steer the reply.
pub fn steered_reply(metadata: &HeaderMap, settings: &Reply, into: &mut HeaderMap) {
    for (name, value) in metadata {
        if (is_public(name) || settings.headers.contains(name)) && settings.status_metadata.as_ref() != Some(name) {
            into.append(name, value.clone());
        }
    }
}

/// [`rest_reply`] of trailing metadata, where nothing of a reply can be steered any more.
pub fn steered_trailers(metadata: &HeaderMap, settings: &Reply, into: &mut HeaderMap) {
    for (name, value) in metadata {
        if is_public(name) && settings.status_metadata.as_ref() != Some(name) {
            into.append(name, value.clone());
        }
    }
}

/// The status that the service wants a successful REST reply to have; 200 if it says none that a reply can have.
pub fn steered_status(metadata: &HeaderMap, settings: &Reply) -> StatusCode {
    let said = settings.status_metadata.as_ref().and_then(|name| metadata.get(name));
    let Some(said) = said else { return StatusCode::OK };
    match StatusCode::from_bytes(said.as_bytes()) {
        Ok(status) if (200..600).contains(&status.as_u16()) => status,
        Ok(_) | Err(_) => {
            tracing::debug!(value = ?said, "metadata that should hold an HTTP status does not");
            StatusCode::OK
        }
    }
}

/// Removes the headers that `connection` names.
fn remove_named(headers: &mut HeaderMap) {
    for name in connection_named(headers) {
        headers.remove(&name);
    }
}

/// Removes the headers of which that holds. Walking the names once takes a quarter of what looking for each takes, which is
/// parsed and hashed for that; allocates only where there are many.
pub(super) fn remove_if(headers: &mut HeaderMap, is_it: impl Fn(&HeaderName) -> bool) {
    let found: SmallVec<[HeaderName; 4]> = headers.keys().filter(|name| is_it(name)).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

/// Headers that `connection` declares to be of this connection only (RFC 9110 §7.6.1).
fn connection_named(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller<'a>(uri: &'a Uri, id: &'a HeaderValue, trusted: &'a [IpNet]) -> Caller<'a> {
        static PEER: HeaderValue = HeaderValue::from_static("203.0.113.9");
        let peer = IpAddr::from([203, 0, 113, 9]);
        Caller { peer, peer_value: &PEER, tls: false, trusted, uri, request_id: id, traceparent: id, new_trace: false }
    }

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn rest(pairs: &[(&'static str, &'static str)], trusted: &[IpNet]) -> Result<HeaderMap, BadHeader> {
        let (uri, id) = (Uri::from_static("/x"), HeaderValue::from_static("id"));
        let mut headers = map(pairs);
        take_off_prefix(&mut headers);
        rest_request(&headers, &caller(&uri, &id, trusted))
    }

    #[test]
    fn addresses_are_written_as_what_they_are() {
        for (ip, text) in
            [("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("2001:db8:0::1", "2001:db8::1")]
        {
            assert_eq!(ip_value(ip.parse().unwrap()), text);
        }
    }

    #[test]
    fn metadata_is_taken_raw_and_with_prefix() {
        let metadata = rest(&[("x-tenant", "a"), ("grpc-metadata-color", "red")], &[]).unwrap();

        assert_eq!(metadata["x-tenant"], "a");
        assert_eq!(metadata["color"], "red");
    }

    #[test]
    fn prefix_does_not_smuggle_names_that_belong_to_the_gateway() {
        let metadata = rest(
            &[
                ("grpc-metadata-grpc-timeout", "1H"),
                ("grpc-metadata-te", "gzip"),
                ("grpc-metadata-x-forwarded-for", "10.0.0.1"),
                ("grpc-metadata-host", "evil"),
                ("grpc-metadata-content-type", "text/plain"),
            ],
            &[],
        )
        .unwrap();

        assert!(!metadata.contains_key("grpc-timeout") && !metadata.contains_key("host"));
        assert_eq!(metadata["te"], "trailers");
        assert_eq!(metadata["content-type"], "application/grpc");
        assert_eq!(metadata["x-forwarded-for"], "203.0.113.9");
    }

    #[test]
    fn binary_metadata_is_normalised_and_checked() {
        assert_eq!(rest(&[("x-key-bin", "AAE=")], &[]).unwrap()["x-key-bin"], "AAE");
        let several = rest(&[("x-key-bin", "AAE=, AAI=,,AA")], &[]).unwrap();
        assert_eq!(several.get_all("x-key-bin").iter().collect::<Vec<_>>(), ["AAE", "AAI", "", "AA"]);
        const TOO_MANY: &str = ",,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,";
        for bad in ["***", "AAE=,***", ",*", TOO_MANY] {
            assert_eq!(rest(&[("x-key-bin", bad)], &[]).unwrap_err().name, "x-key-bin");
        }
    }

    #[test]
    fn names_and_values_that_metadata_cannot_have_do_not_pass() {
        let sent = [("x!a", "1"), ("x'b", "1"), ("x-c", "\t"), ("x_d.e-1", "kept"), ("x~f-bin", "AA")];

        let metadata = rest(&sent, &[]).unwrap();

        assert_eq!(metadata["x_d.e-1"], "kept");
        for (name, _) in sent.iter().filter(|(name, _)| *name != "x_d.e-1") {
            assert!(!metadata.contains_key(*name), "{name}");
        }
    }

    #[test]
    fn cookies_that_came_in_pieces_are_one() {
        let metadata = rest(&[("cookie", "a=1"), ("x-b", "2"), ("cookie", "c=3; d=4")], &[]).unwrap();

        assert_eq!(metadata.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; c=3; d=4"]);
    }

    #[test]
    fn forwarded_headers_are_believed_only_from_trusted_proxies() {
        let sent = [("x-forwarded-for", "10.9.8.7"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "h")];

        let alone = rest(&sent, &[]).unwrap();
        let trusted = rest(&sent, &["203.0.113.0/24".parse().unwrap()]).unwrap();

        assert_eq!(
            (&alone["x-forwarded-for"], &alone["x-forwarded-proto"]),
            (&"203.0.113.9".parse().unwrap(), &"http".parse().unwrap())
        );
        assert!(!alone.contains_key("x-forwarded-host"));
        assert_eq!(trusted["x-forwarded-for"], "10.9.8.7, 203.0.113.9");
        assert_eq!(trusted["x-forwarded-proto"], "https");
        assert_eq!(trusted["x-forwarded-host"], "h");
    }

    #[test]
    fn headers_named_by_connection_do_not_pass() {
        let uri = Uri::from_static("/x");
        let id = HeaderValue::from_static("id");
        let mut headers =
            map(&[("connection", "close, X-Secret"), ("x-secret", "1"), ("te", "trailers"), ("x-kept", "1")]);

        native_request(&mut headers, &caller(&uri, &id, &[]));

        assert!(!headers.contains_key("x-secret") && !headers.contains_key("connection"));
        assert_eq!(headers["x-kept"], "1");
    }

    #[test]
    fn replies_keep_what_steers_a_browser_inside() {
        let mut out = HeaderMap::new();

        rest_reply(
            &map(&[("x-a", "1"), ("set-cookie", "x"), ("location", "/"), ("grpc-status", "0"), ("content-type", "x")]),
            &mut out,
        );

        assert_eq!(out, map(&[("x-a", "1")]));
    }

    #[test]
    fn a_status_is_one_that_a_reply_can_have() {
        let settings = Reply { status_metadata: Some(HeaderName::from_static("x-code")), ..Reply::default() };
        for (said, expected) in [("201", 201), ("599", 599), ("101", 200), ("600", 200), ("+20", 200), ("", 200)] {
            assert_eq!(steered_status(&map(&[("x-code", said)]), &settings).as_u16(), expected, "{said}");
            assert_eq!(steered_status(&map(&[("x-code", said)]), &Reply::default()).as_u16(), 200);
        }
    }
}
