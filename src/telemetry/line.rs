//! What the access log says about one call, and how a line is written.
//!
//! Nothing a client sends can start a new line, forge a field or make a line long: everything is escaped, and what
//! has no bound of its own is cut. Queries are left out, since people put secrets there.

use std::time::{Duration, SystemTime};

use super::{Origin, Protocol, escape, timestamp};
use crate::config::LogFormat;
use crate::grpc::status::Code;

/// One call, when it has ended.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// When the head of the request was there.
    pub time: SystemTime,
    /// The client's, or made here.
    pub request_id: &'a str,
    /// 32 hexadecimal digits.
    pub trace_id: &'a str,
    /// The other end of the client's connection, address and port.
    pub peer: &'a str,
    /// What the client speaks.
    pub protocol: Protocol,
    /// `None` for native gRPC with a known method, where it is always `POST`.
    pub http_method: Option<&'a str>,
    /// As it came; a query is cut off. `None` for native gRPC with a known method, which says the same.
    pub path: Option<&'a str>,
    /// `pkg.Service/Method`, once it is known.
    pub method: Option<&'a str>,
    /// The upstream's name, once it is known.
    pub upstream: Option<&'a str>,
    /// The endpoint of the last attempt, `host:port`.
    pub endpoint: Option<&'a str>,
    /// As the client saw it.
    pub http_status: u16,
    /// The gRPC status of the call, whatever the client speaks.
    pub code: u32,
    /// Why the call failed.
    pub failure: Option<Failure<'a>>,
    /// From the head of the request to the end of the reply.
    pub duration: Duration,
    /// From the first attempt to the end of the upstream's reply.
    pub upstream_duration: Option<Duration>,
    /// Bytes of the body that came from the client.
    pub request_bytes: u64,
    /// Bytes of the body that went to the client.
    pub response_bytes: u64,
    /// How often the call was sent to an endpoint.
    pub attempts: u32,
    /// As it came.
    pub user_agent: Option<&'a [u8]>,
}

/// Why a call failed.
#[derive(Debug, Clone, Copy)]
pub struct Failure<'a> {
    /// Whose fault it is.
    pub origin: Origin,
    /// A word or a sentence.
    pub reason: &'a str,
    /// What the caller is not told.
    pub note: Option<&'a str>,
}

impl Entry<'_> {
    /// Appends the line with its end.
    pub(crate) fn write(&self, out: &mut Vec<u8>, format: LogFormat) {
        match format {
            LogFormat::Text => self.write_text(out),
            LogFormat::Json => self.write_json(out),
        }
        out.push(b'\n');
    }

    /// `time protocol what status code duration`, then `name=value` for the rest.
    fn write_text(&self, out: &mut Vec<u8>) {
        timestamp::write(out, self.time);
        out.push(b' ');
        out.extend_from_slice(self.protocol.name().as_bytes());
        match (self.path, self.method) {
            (Some(path), _) => {
                text(out, b" ", self.http_method.unwrap_or("-"), SHORT);
                text(out, b" ", without_query(path), PATH);
            }
            (None, method) => text(out, b" ", method.unwrap_or("-"), NAME),
        }
        number(out, b" ", self.http_status.into());
        out.push(b' ');
        self.write_code(out);
        millis(out, b" ", self.duration);
        out.extend_from_slice(b"ms");
        if let (Some(_), Some(method)) = (self.path, self.method) {
            text(out, b" method=", method, NAME);
        }
        if let Some(upstream) = self.upstream {
            text(out, b" upstream=", upstream, NAME);
        }
        if let Some(endpoint) = self.endpoint {
            text(out, b" endpoint=", endpoint, NAME);
        }
        if let Some(duration) = self.upstream_duration {
            millis(out, b" upstream_duration_ms=", duration);
        }
        number(out, b" attempts=", self.attempts.into());
        number(out, b" request_bytes=", self.request_bytes);
        number(out, b" response_bytes=", self.response_bytes);
        if let Some(failure) = self.failure {
            text(out, b" origin=", failure.origin.name(), SHORT);
            out.extend_from_slice(b" reason=");
            escape::quoted(out, escape::cut(failure.reason.as_bytes(), REASON));
            if let Some(note) = failure.note {
                out.extend_from_slice(b" note=");
                escape::quoted(out, escape::cut(note.as_bytes(), REASON));
            }
        }
        text(out, b" peer=", self.peer, SHORT);
        text(out, b" request_id=", self.request_id, SHORT);
        text(out, b" trace_id=", self.trace_id, SHORT);
        if let Some(agent) = self.user_agent {
            out.extend_from_slice(b" user_agent=");
            escape::quoted(out, escape::cut(agent, AGENT));
        }
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        timestamp::write(out, self.time);
        out.extend_from_slice(b"\",\"protocol\":\"");
        out.extend_from_slice(self.protocol.name().as_bytes());
        out.push(b'"');
        json(out, b",\"http_method\":", self.http_method, SHORT);
        json(out, b",\"path\":", self.path.map(without_query), PATH);
        json(out, b",\"method\":", self.method, NAME);
        json(out, b",\"upstream\":", self.upstream, NAME);
        json(out, b",\"endpoint\":", self.endpoint, NAME);
        number(out, b",\"http_status\":", self.http_status.into());
        out.extend_from_slice(b",\"code\":\"");
        self.write_code(out);
        out.push(b'"');
        json(out, b",\"origin\":", self.failure.map(|failure| failure.origin.name()), SHORT);
        json(out, b",\"reason\":", self.failure.map(|failure| failure.reason), REASON);
        json(out, b",\"note\":", self.failure.and_then(|failure| failure.note), REASON);
        millis(out, b",\"duration_ms\":", self.duration);
        if let Some(duration) = self.upstream_duration {
            millis(out, b",\"upstream_duration_ms\":", duration);
        }
        number(out, b",\"attempts\":", self.attempts.into());
        number(out, b",\"request_bytes\":", self.request_bytes);
        number(out, b",\"response_bytes\":", self.response_bytes);
        json(out, b",\"peer\":", Some(self.peer), SHORT);
        json(out, b",\"request_id\":", Some(self.request_id), SHORT);
        json(out, b",\"trace_id\":", Some(self.trace_id), SHORT);
        json(out, b",\"user_agent\":", self.user_agent, AGENT);
        out.push(b'}');
    }

    /// The name of the code, or its number outside the table.
    fn write_code(&self, out: &mut Vec<u8>) {
        match Code::from_number(self.code) {
            Some(code) => out.extend_from_slice(code.name().as_bytes()),
            None => number(out, b"", self.code.into()),
        }
    }
}

fn without_query(path: &str) -> &str {
    path.split_once('?').map_or(path, |(path, _)| path)
}

fn text(out: &mut Vec<u8>, name: &[u8], value: &str, limit: usize) {
    out.extend_from_slice(name);
    escape::word(out, escape::cut(value.as_bytes(), limit));
}

fn json(out: &mut Vec<u8>, name: &[u8], value: Option<impl AsRef<[u8]>>, limit: usize) {
    if let Some(value) = value {
        out.extend_from_slice(name);
        escape::json(out, escape::cut(value.as_ref(), limit));
    }
}

fn number(out: &mut Vec<u8>, name: &[u8], value: u64) {
    out.extend_from_slice(name);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Milliseconds with three decimals.
fn millis(out: &mut Vec<u8>, name: &[u8], duration: Duration) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    number(out, name, micros / 1000);
    let rest = micros % 1000;
    number(
        out,
        if rest < 10 {
            b".00"
        } else if rest < 100 {
            b".0"
        } else {
            b"."
        },
        rest,
    );
}

// Bytes of a value before escaping.
const SHORT: usize = 128;
const NAME: usize = 512;
const PATH: usize = 2048;
const REASON: usize = 512;
const AGENT: usize = 256;

#[cfg(test)]
pub(crate) mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    /// A REST call that went well.
    pub(crate) fn entry() -> Entry<'static> {
        Entry {
            time: UNIX_EPOCH + Duration::from_millis(1_795_460_021_007),
            request_id: "7f3c2a9d5b8e4f60a1c2d3e4f5061728",
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736",
            peer: "192.0.2.7:50412",
            protocol: Protocol::Rest,
            http_method: Some("GET"),
            path: Some("/v1/shelves/1/books?page_size=2"),
            method: Some("portico.library.v1.Library/ListBooks"),
            upstream: Some("library"),
            endpoint: Some("127.0.0.1:50051"),
            http_status: 200,
            code: 0,
            failure: None,
            duration: Duration::from_micros(1_942),
            upstream_duration: Some(Duration::from_micros(1_007)),
            request_bytes: 0,
            response_bytes: 412,
            attempts: 1,
            user_agent: Some(b"curl/8.14.1"),
        }
    }

    fn written(entry: &Entry<'_>, format: LogFormat) -> String {
        let mut out = Vec::new();
        entry.write(&mut out, format);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn writes_text_for_people() {
        assert_eq!(
            written(&entry(), LogFormat::Text),
            "2026-11-23T18:53:41.007Z rest GET /v1/shelves/1/books 200 OK 1.942ms \
             method=portico.library.v1.Library/ListBooks upstream=library endpoint=127.0.0.1:50051 \
             upstream_duration_ms=1.007 attempts=1 request_bytes=0 response_bytes=412 peer=192.0.2.7:50412 \
             request_id=7f3c2a9d5b8e4f60a1c2d3e4f5061728 trace_id=4bf92f3577b34da6a3ce929d0e0e4736 \
             user_agent=\"curl/8.14.1\"\n"
        );
    }

    #[test]
    fn writes_json_for_machines() {
        assert_eq!(
            written(&entry(), LogFormat::Json),
            concat!(
                r#"{"time":"2026-11-23T18:53:41.007Z","protocol":"rest","http_method":"GET","#,
                r#""path":"/v1/shelves/1/books","method":"portico.library.v1.Library/ListBooks","#,
                r#""upstream":"library","endpoint":"127.0.0.1:50051","http_status":200,"code":"OK","#,
                r#""duration_ms":1.942,"upstream_duration_ms":1.007,"attempts":1,"request_bytes":0,"#,
                r#""response_bytes":412,"peer":"192.0.2.7:50412","#,
                r#""request_id":"7f3c2a9d5b8e4f60a1c2d3e4f5061728","#,
                r#""trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","user_agent":"curl/8.14.1"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn leaves_out_what_a_call_does_not_have() {
        let entry = Entry {
            protocol: Protocol::Grpc,
            http_method: None,
            path: None,
            upstream: None,
            endpoint: None,
            code: 14,
            failure: Some(Failure { origin: Origin::Gateway, reason: "no endpoint answers", note: None }),
            duration: Duration::from_micros(1_000_001),
            upstream_duration: None,
            attempts: 0,
            user_agent: None,
            ..entry()
        };

        assert_eq!(
            written(&entry, LogFormat::Text),
            "2026-11-23T18:53:41.007Z grpc portico.library.v1.Library/ListBooks 200 UNAVAILABLE 1000.001ms \
             attempts=0 request_bytes=0 response_bytes=412 origin=gateway reason=\"no endpoint answers\" \
             peer=192.0.2.7:50412 request_id=7f3c2a9d5b8e4f60a1c2d3e4f5061728 \
             trace_id=4bf92f3577b34da6a3ce929d0e0e4736\n"
        );
        let read: serde_json::Value = serde_json::from_str(&written(&entry, LogFormat::Json)).unwrap();
        assert_eq!(read["reason"], "no endpoint answers");
        assert_eq!(read["duration_ms"], 1000.001);
        assert!(read.get("path").is_none() && read.get("upstream_duration_ms").is_none());
    }

    #[test]
    fn keeps_codes_outside_the_table_as_numbers() {
        let line = written(&Entry { code: 1010, ..entry() }, LogFormat::Json);

        assert!(line.contains(r#""code":"1010""#), "{line}");
    }

    #[test]
    fn cannot_be_forged_by_a_client() {
        let entry = Entry {
            path: Some("/a\r\n2026 rest GET /forged\u{2028}\"?token=secret"),
            user_agent: Some(b"x\" admin=\"1\n{\"time\":1}\xff\xfe\x1b[31m"),
            ..entry()
        };

        let text = written(&entry, LogFormat::Text);
        assert_eq!(text.lines().count(), 1);
        assert!(text.contains(r" /a\x0d\x0a2026\x20rest\x20GET\x20/forged\xe2\x80\xa8\x22 200 "), "{text}");
        assert!(text.contains(r#"user_agent="x\x22 admin=\x221\x0a{\x22time\x22:1}\xff\xfe\x1b[31m""#), "{text}");
        assert!(!text.contains("secret"));
        let json = written(&entry, LogFormat::Json);
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json.lines().count(), 1);
        assert_eq!(read["path"], "/a\r\n2026 rest GET /forged\u{2028}\"");
        assert_eq!(read["user_agent"], "x\" admin=\"1\n{\"time\":1}\u{FFFD}\u{FFFD}\u{1b}[31m");
    }

    #[test]
    fn has_only_fields_that_the_documentation_lists() {
        let documentation = include_str!("../../docs/operations.md");
        let (_, section) = documentation.split_once("\n## Access log\n").unwrap();
        let entry = Entry { failure: Some(Failure { origin: Origin::Client, reason: "", note: None }), ..entry() };

        let line = written(&entry, LogFormat::Json);

        let read: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&line).unwrap();
        for name in read.keys() {
            let row = section.lines().find(|row| row.starts_with("| `") && row.contains(&format!("`{name}`")));
            assert!(row.is_some(), "docs/operations.md does not list {name}");
        }
    }

    #[test]
    fn cuts_what_is_long() {
        let long = "é".repeat(100_000);
        let entry = Entry {
            path: Some(&long),
            method: Some(&long),
            failure: Some(Failure { origin: Origin::Client, reason: &long, note: None }),
            user_agent: Some(long.as_bytes()),
            ..entry()
        };

        let text = written(&entry, LogFormat::Text);
        let read: serde_json::Value = serde_json::from_str(&written(&entry, LogFormat::Json)).unwrap();
        assert!(text.len() < 16 << 10, "{}", text.len());
        assert_eq!(read["path"].as_str().unwrap().len(), PATH);
    }
}
