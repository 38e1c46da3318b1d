//! Which pages of other origins may call a method from a browser: the `cors` section of a policy, resolved.
//!
//! Here is what an origin is and which ones a pattern names. What is answered because of it is `policy::cors`.
//!
//! **Invariant**: a pattern that names hosts below a domain matches whole labels, so that `https://*.example.com` means
//! neither `https://evilexample.com` nor `https://a.example.com.evil.org`.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;
use std::time::Duration;

use http::HeaderName;

/// What pages of other origins may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// Whose pages may call.
    pub origins: Origins,
    /// Request headers beside those that the protocols need.
    pub allow_headers: Names,
    /// Reply headers that pages may read, beside those that the protocols need.
    pub expose_headers: Names,
    /// Whether browsers send cookies and the like, and give replies to them to the page. Never with [`Origins::Any`] or
    /// [`Names::Any`].
    pub credentials: bool,
    /// How long a browser may keep the answer to a preflight. Whole seconds count. Default 10 min.
    pub max_age: Duration,
}

/// A set of origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Every one, also `null`.
    Any,
    /// Those that a pattern names; at least one pattern.
    Listed(Vec<OriginPattern>),
}

/// A set of header names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// Every one.
    Any,
    /// These.
    Listed(Vec<HeaderName>),
}

/// One origin, or all below a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginPattern {
    /// An origin as browsers write it
    /// ([RFC 6454 §6.2](https://www.rfc-editor.org/rfc/rfc6454#section-6.2)), or `null`.
    Exact(Box<str>),
    /// Every host with one label or more in front of a domain.
    Below {
        /// With `://`.
        scheme: Box<str>,
        /// The domain with a dot in front, and the port if it is not the scheme's own.
        suffix: Box<str>,
    },
}

/// How long browsers keep the answer to a preflight unless something else is said.
pub const DEFAULT_MAX_AGE: Duration = Duration::from_mins(10);

impl Origins {
    /// Whether the set has an origin, as an `origin` header names it.
    pub fn contain(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(patterns) => patterns.iter().any(|pattern| pattern.matches(origin)),
        }
    }
}

impl OriginPattern {
    /// Whether the pattern names an origin. Browsers write origins in one way only, so bytes are compared.
    pub fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Exact(only) => **only == *origin,
            Self::Below { scheme, suffix } => origin
                .strip_prefix(&**scheme)
                .and_then(|rest| rest.strip_suffix(&**suffix))
                .is_some_and(|labels| labels.split('.').all(is_label)),
        }
    }

    /// Whether the pattern takes in whole registries of domains, as far as can be told: `https://*.com`.
    pub(crate) fn is_broad(&self) -> bool {
        match self {
            Self::Exact(_) => false,
            Self::Below { suffix, .. } => {
                let domain = suffix.split(':').next().unwrap_or_default().trim_start_matches('.');
                !domain.contains('.') && domain != "localhost"
            }
        }
    }
}

/// `https://app.example.com`, `http://localhost:3000`, `https://*.example.com` or `null`.
impl FromStr for OriginPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "null" {
            return Ok(Self::Exact(text.into()));
        }
        let wrong =
            || format!("{text:?} is not an origin; write scheme, host and port, such as https://app.example.com");
        let (scheme, authority) = text.split_once("://").ok_or_else(wrong)?;
        if let Some((authority, _)) = authority.split_once(['/', '?', '#']) {
            return Err(format!("{text:?} is more than an origin; write {scheme}://{authority}"));
        }
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = split_port(authority).ok_or_else(wrong)?;
        let host = host.to_ascii_lowercase();
        let port = match port {
            Some(port) if default_port(&scheme) == Some(port) => String::new(),
            Some(port) => format!(":{port}"),
            None => String::new(),
        };
        if !is_scheme(&scheme) {
            return Err(wrong());
        }
        if let Some(domain) = host.strip_prefix("*.").filter(|domain| domain.split('.').all(is_label)) {
            return Ok(Self::Below {
                scheme: format!("{scheme}://").into(),
                suffix: format!(".{domain}{port}").into(),
            });
        }
        if host.contains('*') {
            return Err(format!(
                "{text:?}: a `*` stands for whole labels in front of a domain, such as https://*.example.com"
            ));
        }
        let is_host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
            None => host.split('.').all(is_label),
        };
        if is_host { Ok(Self::Exact(format!("{scheme}://{host}{port}").into())) } else { Err(wrong()) }
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(origin) => f.write_str(origin),
            Self::Below { scheme, suffix } => write!(f, "{scheme}*{suffix}"),
        }
    }
}

impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Listed(patterns) => {
                for (index, pattern) in patterns.iter().enumerate() {
                    f.write_str(if index > 0 { " " } else { "" })?;
                    pattern.fmt(f)?;
                }
                Ok(())
            }
        }
    }
}

/// The port that browsers leave out of an origin.
pub fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// Host and port; `None` when what follows the colon is no port.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    // The colons of an IPv6 address stand in its brackets.
    let Some((host, port)) = authority.rsplit_once(':').filter(|(_, port)| !port.contains(']')) else {
        return Some((authority, None));
    };
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    Some((host, Some(port.parse().ok().filter(|_| digits)?)))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

fn is_label(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> OriginPattern {
        text.parse().expect("a pattern")
    }

    #[test]
    fn origins_match_by_scheme_host_and_port() {
        let cases = [
            ("https://app.example.com", "https://app.example.com", true),
            ("https://app.example.com", "http://app.example.com", false),
            ("https://app.example.com", "https://app.example.com:8443", false),
            ("https://app.example.com", "https://app.example.com.evil.org", false),
            ("https://app.example.com", "https://evil.org/https://app.example.com", false),
            ("https://app.example.com", "null", false),
            ("HTTPS://App.Example.com:443", "https://app.example.com", true),
            ("http://localhost:80", "http://localhost", true),
            ("http://localhost:3000", "http://localhost:3000", true),
            ("http://localhost:3000", "http://localhost:30000", false),
            ("http://[::1]:3000", "http://[::1]:3000", true),
            ("capacitor://localhost", "capacitor://localhost", true),
            ("null", "null", true),
        ];

        for (text, origin, expected) in cases {
            assert_eq!(pattern(text).matches(origin), expected, "{text} {origin}");
        }
    }

    #[test]
    fn a_star_stands_for_whole_labels_before_the_domain() {
        for yes in ["https://a.example.com", "https://a.b.example.com", "https://a-1.example.com"] {
            assert!(pattern("https://*.example.com").matches(yes), "{yes}");
        }
        for no in [
            "https://example.com",
            "https://.example.com",
            "https://a..example.com",
            "https://evilexample.com",
            "https://a.example.com.evil.org",
            "https://evil.org?.example.com",
            "https://evil.org/.example.com",
            "https://evil.org#.example.com",
            "https://evil.org:1.example.com",
            "https://user@a.example.com",
            "https://a.example.com:8443",
            "http://a.example.com",
            "https://a.EXAMPLE.com",
            "null",
            "",
        ] {
            assert!(!pattern("https://*.example.com").matches(no), "{no}");
        }
        assert!(pattern("https://*.example.com:8443").matches("https://a.example.com:8443"));
        assert!(!pattern("https://*.example.com:8443").matches("https://a.example.com"));
    }

    #[test]
    fn says_what_an_origin_is() {
        for text in
            ["", "app.example.com", "://a", "https://", "https://a:b", "https://a:", "1a://b", "https://ä.de", "*"]
        {
            let message = text.parse::<OriginPattern>().expect_err(text);
            assert!(message.ends_with("such as https://app.example.com"), "{message}");
        }
        let cases = [
            ("https://a.com/", "\"https://a.com/\" is more than an origin; write https://a.com"),
            ("https://a.com/b?c", "\"https://a.com/b?c\" is more than an origin; write https://a.com"),
            (
                "https://a*.b.com",
                "\"https://a*.b.com\": a `*` stands for whole labels in front of a domain, such as https://*.example.com",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<OriginPattern>(), Err(expected.to_owned()));
        }
    }

    #[test]
    fn what_takes_in_a_registry_is_broad() {
        for (text, expected) in [
            ("https://*.com", true),
            ("https://*.a.com", false),
            ("http://*.localhost:3000", false),
            ("https://a", false),
        ] {
            assert_eq!(pattern(text).is_broad(), expected, "{text}");
        }
    }
}
