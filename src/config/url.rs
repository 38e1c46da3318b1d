//! The address of a server that the gateway itself asks: `https://login.example.com/jwks.json`.
//!
//! Clear text is for servers on the same machine alone: what such a server says decides who is let in.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::Uri;

/// An `https` URL, or an `http` one of the same machine.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    secure: bool,
    host: Box<str>,
    port: u16,
    /// With the query; begins with `/`.
    target: Box<str>,
}

impl Url {
    /// Whether it is `https`.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// A name, or an IP address; of version 6 in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The value of the header `host`.
    pub fn authority(&self) -> String {
        let default = if self.secure { 443 } else { 80 };
        if self.port == default { self.host.to_string() } else { self.address() }
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        &self.target
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // None of these is quoted: people put secrets in URLs.
        let wrong = || "this is not a URL such as https://login.example.com/jwks.json".to_owned();
        if text.contains('#') {
            return Err("this URL has a fragment, which is never sent".to_owned());
        }
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        if authority.as_str().contains('@') {
            return Err("a URL here has no user and no password in it".to_owned());
        }
        let host = authority.host().to_ascii_lowercase();
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if is_loopback(&host) => false,
            Some("http") => return Err("this URL is in clear text; use https, but on the same machine".to_owned()),
            Some(_) | None => return Err(wrong()),
        };
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let target = uri.path_and_query().map_or("/", |target| target.as_str()).into();
        Ok(Self { secure, host: host.into(), port, target })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        // Without the query, in which some put secrets.
        write!(f, "{scheme}://{}{}", self.authority(), self.target.split('?').next().unwrap_or_default())
    }
}

/// As it is shown.
impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_urls_apart() {
        for (text, shown, address, target) in [
            ("https://login.example.com", "https://login.example.com/", "login.example.com:443", "/"),
            (
                "https://Login.example.com:8443/a?b=c",
                "https://login.example.com:8443/a",
                "login.example.com:8443",
                "/a?b=c",
            ),
            ("http://127.0.0.1:80/keys", "http://127.0.0.1/keys", "127.0.0.1:80", "/keys"),
            ("http://[::1]:81/keys", "http://[::1]:81/keys", "[::1]:81", "/keys"),
            ("http://localhost/keys", "http://localhost/keys", "localhost:80", "/keys"),
        ] {
            let url: Url = text.parse().expect("a URL");
            assert_eq!(format!("{url:?}"), shown, "the page of the configuration has it");
            assert_eq!((url.to_string().as_str(), url.address().as_str(), url.target()), (shown, address, target));
        }
    }

    #[test]
    fn refuses_clear_text_and_what_is_no_url() {
        for text in [
            "http://login.example.com/keys",
            "http://127.0.0.1.example.com/",
            "http://localhost.example.com/",
            "ftp://localhost/",
            "login.example.com",
            "/keys",
            "https://",
            "https://user:password@example.com/",
            "https://example.com/#x",
            "https://exa mple/",
            "",
        ] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
    }
}
