//! The small grammars of the configuration: service and method patterns, `HOST:PORT`, authorities, networks.
//!
//! Each function returns a value that cannot be wrong, or a message that says what would be right.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use http::uri::Authority;
use ipnet::IpNet;

/// `pkg.Service`, `pkg.*` (everything below the package) or `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServicePattern {
    /// One service by its full name.
    Exact(Box<str>),
    /// Every service whose full name starts with this prefix, which ends in a dot; empty for `*`.
    Prefix(Box<str>),
}

impl ServicePattern {
    /// Whether the pattern names the service.
    pub fn matches(&self, service: &str) -> bool {
        match self {
            Self::Exact(name) => &**name == service,
            Self::Prefix(prefix) => service.starts_with(&**prefix),
        }
    }
}

/// `*`, `pkg.*` or `pkg.Service`.
impl FromStr for ServicePattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a service pattern; write `*`, `pkg.*` or `pkg.Service`");
        if text == "*" {
            return Ok(Self::Prefix("".into()));
        }
        if let Some(package) = text.strip_suffix(".*") {
            return if is_full_name(package) { Ok(Self::Prefix(format!("{package}.").into())) } else { Err(wrong()) };
        }
        if is_full_name(text) { Ok(Self::Exact(text.into())) } else { Err(wrong()) }
    }
}

/// `*`, `pkg.*`, `pkg.Service/*`, `pkg.Service/Method`; longer ones are more specific.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodPattern {
    /// The text before a final `*`, or the whole.
    pub prefix: Box<str>,
    /// Whether the pattern ends in `*`.
    pub open: bool,
}

impl MethodPattern {
    /// Whether the pattern names `pkg.Service/Method`.
    pub fn matches(&self, method: &str) -> bool {
        if self.open { method.starts_with(&*self.prefix) } else { &*self.prefix == method }
    }

    /// Larger for a pattern that is more specific, among those that match the same method.
    pub(super) fn specificity(&self) -> (bool, usize) {
        (!self.open, self.prefix.len())
    }
}

/// `*`, `pkg.*`, `pkg.Service/*` or `pkg.Service/Method`.
impl FromStr for MethodPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let prefix = text.strip_suffix('*');
        let right = match (prefix, text.split_once('/')) {
            (Some(""), None) => true,
            (Some(prefix), None) => prefix.strip_suffix('.').is_some_and(is_full_name),
            (Some(_), Some((service, method))) => is_full_name(service) && method == "*",
            (None, Some((service, method))) => is_full_name(service) && is_identifier(method),
            (None, None) => false,
        };
        if right {
            return Ok(Self { prefix: prefix.unwrap_or(text).into(), open: prefix.is_some() });
        }
        Err(format!("{text:?} is not a method pattern; write `*`, `pkg.*`, `pkg.Service/*` or `pkg.Service/Method`"))
    }
}

impl fmt::Display for MethodPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.prefix, if self.open { "*" } else { "" })
    }
}

/// `*`, `pkg.*`, `pkg.Service.*`, `pkg.Service.Method`, or several with commas between, as selectors of
/// `google.api.HttpRule` are written.
pub(crate) fn selector(text: &str) -> Result<String, String> {
    let is_one = |one: &str| one == "*" || is_full_name(one.strip_suffix(".*").unwrap_or(one));
    let Some(wrong) = selectors(text).find(|one| !is_one(one)) else { return Ok(text.to_owned()) };
    let hint = if wrong.contains('/') { "; the method follows a dot here, not a slash" } else { "" };
    Err(format!("{wrong:?} is not a selector; write `pkg.Service.Method` or `pkg.*`{hint}"))
}

/// The selectors of a list.
pub(crate) fn selectors(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim)
}

/// An address to listen on.
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| match text.strip_prefix("localhost:") {
        Some(port) => format!("{text:?} is not an address to listen on; write 127.0.0.1:{port}"),
        None => format!("{text:?} is not an address to listen on; write IP:PORT, such as 127.0.0.1:8080"),
    })
}

/// `HOST:PORT` of something to connect to, where the host is a name, an IPv4 address or an IPv6 address in brackets.
pub(crate) fn host_port(text: &str) -> Result<Arc<str>, String> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let rest = rest.trim_matches('/');
        return Err(format!("{text:?} has a scheme; write HOST:PORT without `{scheme}://`, such as {rest}"));
    }
    let Some((host, port)) = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()) else {
        return Err(format!("{text:?} is not HOST:PORT, such as localhost:50051"));
    };
    if host.contains(':') && !host.starts_with('[') {
        return Err(format!("{text:?} is ambiguous; an IPv6 address stands in brackets, such as [::1]:50051"));
    }
    let is_host = match host.strip_prefix('[') {
        Some(address) => address.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => is_host_name(host),
    };
    if !is_host {
        return Err(format!("{host:?} is not a host name or an IP address"));
    }
    match port.parse::<u16>() {
        Ok(1..) if port.bytes().all(|byte| byte.is_ascii_digit()) => Ok(text.into()),
        Ok(_) | Err(_) => Err(format!("{port:?} is not a port; ports are 1 to 65535")),
    }
}

/// A server on the command line: `HOST:PORT`, or the same as a URL, of which `https` stands for TLS and has a port of its own.
/// Returns the address and whether it is TLS.
pub(crate) fn upstream_target(text: &str) -> Result<(Arc<str>, bool), String> {
    let Some(rest) = text.strip_prefix("https://") else {
        let rest = text.strip_prefix("http://").map_or(text, |rest| rest.trim_end_matches('/'));
        return host_port(rest).map(|address| (address, false));
    };
    let rest = rest.trim_end_matches('/');
    let has_port = rest.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    let address = if has_port { host_port(rest) } else { host_port(&format!("{rest}:443")) };
    address.map(|address| (address, true))
}

/// What to send as `:authority`: a host, with or without a port.
pub(crate) fn authority(text: &str) -> Result<Arc<str>, String> {
    match text.parse::<Authority>() {
        Ok(authority) if !text.contains('@') && !authority.host().is_empty() => Ok(text.into()),
        Ok(_) | Err(_) => Err(format!("{text:?} is not an authority; write HOST or HOST:PORT")),
    }
}

/// A network (`10.0.0.0/8`) or a single address.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map(|network| network.trunc())
        .map_err(|_| format!("{text:?} is not a network or an address, such as 10.0.0.0/8 or 192.0.2.1"))
}

/// The name of an upstream, which is shown in logs and metrics.
pub(crate) fn upstream_name(text: &str) -> Result<Arc<str>, String> {
    let is_right = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    if (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(is_right) {
        return Ok(text.into());
    }
    Err(format!("{text:?} is not a name; names have 1 to {MAX_NAME} letters, digits and `-_.:`"))
}

/// Identifiers joined by dots, as protobuf names packages, services and methods.
fn is_full_name(text: &str) -> bool {
    text.split('.').all(is_identifier)
}

fn is_identifier(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && text.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
}

fn is_host_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

const MAX_NAME: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn method_patterns_match_what_they_name() {
        let cases = [
            ("*", "a.B/C", true),
            ("a.*", "a.B/C", true),
            ("a.*", "ab.B/C", false),
            ("a.B/*", "a.B/C", true),
            ("a.B/*", "a.Bc/C", false),
            ("a.B/C", "a.B/C", true),
            ("a.B/C", "a.B/Cd", false),
            ("B/C", "B/C", true),
        ];

        for (pattern, method, expected) in cases {
            let pattern: MethodPattern = pattern.parse().expect("a pattern");
            assert_eq!(pattern.matches(method), expected, "{pattern:?} {method}");
        }
    }

    #[test]
    fn refuses_other_method_patterns() {
        for text in ["", "a", "a.B", "a*", "a.B*", "a.B/C*", "*/C", "a..b/C", "/C", "a.B/", "a.B/C/D", "1a.B/C", ".*"] {
            assert!(text.parse::<MethodPattern>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn service_patterns_match_what_they_name() {
        for (pattern, service, expected) in
            [("*", "a.B", true), ("a.*", "a.b.C", true), ("a.*", "ab.C", false), ("a.B", "a.B", true)]
        {
            let pattern: ServicePattern = pattern.parse().expect("a pattern");
            assert_eq!(pattern.matches(service), expected, "{pattern:?} {service}");
        }
        for text in ["", "a*", "a.B*", ".*", "a/B", "a.B/*"] {
            assert!(text.parse::<ServicePattern>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn host_port_says_what_would_be_right() {
        for text in ["localhost:50051", "10.0.0.1:1", "[::1]:65535", "my_service.ns.svc:80"] {
            assert_eq!(host_port(text).as_deref(), Ok(text));
        }
        let cases = [
            ("localhost", r#""localhost" is not HOST:PORT, such as localhost:50051"#),
            (":50051", r#"":50051" is not HOST:PORT, such as localhost:50051"#),
            ("localhost:0", r#""0" is not a port; ports are 1 to 65535"#),
            ("localhost:65536", r#""65536" is not a port; ports are 1 to 65535"#),
            ("localhost:+5", r#""+5" is not a port; ports are 1 to 65535"#),
            ("a b:1", r#""a b" is not a host name or an IP address"#),
            ("::1:50051", r#""::1:50051" is ambiguous; an IPv6 address stands in brackets, such as [::1]:50051"#),
            ("http://a:1/", r#""http://a:1/" has a scheme; write HOST:PORT without `http://`, such as a:1"#),
        ];
        for (text, expected) in cases {
            assert_eq!(host_port(text), Err(expected.to_owned()));
        }
    }

    #[test]
    fn servers_on_the_command_line_may_be_urls() {
        for (text, address, tls) in [
            ("localhost:50051", "localhost:50051", false),
            ("http://localhost:50051/", "localhost:50051", false),
            ("https://api.example.com:8443", "api.example.com:8443", true),
            ("https://api.example.com/", "api.example.com:443", true),
            ("https://[::1]", "[::1]:443", true),
            ("https://[::1]:1", "[::1]:1", true),
        ] {
            assert_eq!(upstream_target(text), Ok((address.into(), tls)), "{text}");
        }
        for text in ["https://", "https://a:0", "ftp://a:1", "http://a", "https://a/b"] {
            assert!(upstream_target(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks_take_single_addresses_and_drop_host_bits() {
        assert_eq!(network("10.1.2.3/8").map(|network| network.to_string()), Ok("10.0.0.0/8".to_owned()));
        assert_eq!(network("::1").map(|network| network.to_string()), Ok("::1/128".to_owned()));
        assert!(network("10.0.0.0/33").is_err());
    }
}
