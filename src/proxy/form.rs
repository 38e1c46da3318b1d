//! How the messages of a stream stand in the body of a REST reply.

use bytes::{BufMut as _, BytesMut};
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue};

use crate::media;

/// What a client can be sent, by its `accept` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The elements of one array. Also what clients get that ask for none of these.
    Array,
    /// One message in each line: <https://github.com/ndjson/ndjson-spec>.
    Lines,
    /// Server-sent events: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.
    Events,
    /// [RFC 7464](https://www.rfc-editor.org/rfc/rfc7464).
    Sequence,
    /// The data of `google.api.HttpBody` messages, one behind the other.
    Raw,
}

impl Form {
    /// The form that the client wants most; of equals, the one that it names first.
    pub(crate) fn wanted(headers: &HeaderMap) -> Self {
        let ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
        let wanted = ranges.filter_map(|range| {
            let (essence, parameters) = media::split(range);
            Some((Self::named(essence)?, quality(parameters)))
        });
        let best =
            wanted.filter(|(_, quality)| *quality > 0).reduce(|best, next| if next.1 > best.1 { next } else { best });
        best.map_or(Self::Array, |(form, _)| form)
    }

    fn named(media: &str) -> Option<Self> {
        let named = [
            ("application/json", Self::Array),
            ("application/x-ndjson", Self::Lines),
            ("application/ndjson", Self::Lines),
            ("text/event-stream", Self::Events),
            ("application/json-seq", Self::Sequence),
        ];
        named.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(media)).map(|(_, form)| form)
    }

    /// The reply's content type; raw data has that of its first message.
    pub(crate) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Array => "application/json",
            Self::Lines => "application/x-ndjson",
            Self::Events => "text/event-stream",
            Self::Sequence => "application/json-seq",
            Self::Raw => "application/octet-stream",
        })
    }

    /// What stands before the message, or error, with that number, counted from 1.
    pub(crate) fn before(self, number: u64, out: &mut BytesMut) {
        match self {
            Self::Array => out.put_u8(if number == 1 { b'[' } else { b',' }),
            Self::Lines | Self::Raw => {}
            Self::Events => {
                out.put_slice(b"id: ");
                out.put_slice(itoa::Buffer::new().format(number).as_bytes());
                out.put_slice(b"\ndata: ");
            }
            Self::Sequence => out.put_u8(0x1e),
        }
    }

    /// What stands behind it.
    pub(crate) fn after(self, out: &mut BytesMut) {
        match self {
            Self::Array | Self::Raw => {}
            Self::Lines | Self::Sequence => out.put_u8(b'\n'),
            Self::Events => out.put_slice(b"\n\n"),
        }
    }

    /// The end of a reply of so many messages.
    pub(crate) fn end(self, messages: u64, out: &mut BytesMut) {
        match self {
            Self::Array => out.put_slice(if messages == 0 { b"[]" } else { b"]" }),
            Self::Events => out.put_slice(b"event: end\ndata: {}\n\n"),
            Self::Lines | Self::Sequence | Self::Raw => {}
        }
    }

    /// The end of a reply that failed behind so many messages; `status` is a `google.rpc.Status` as JSON. Returns whether
    /// the form has words for it.
    pub(crate) fn failure(self, messages: u64, status: &[u8], out: &mut BytesMut) -> bool {
        match self {
            Self::Raw => return false,
            Self::Events => out.put_slice(b"event: error\ndata: "),
            Self::Array | Self::Lines | Self::Sequence => self.before(messages + 1, out),
        }
        out.put_slice(b"{\"error\":");
        out.put_slice(status);
        out.put_u8(b'}');
        self.after(out);
        if self == Self::Array {
            out.put_u8(b']');
        }
        true
    }
}

/// Thousandths, [RFC 9110 §12.4.2](https://www.rfc-editor.org/rfc/rfc9110#section-12.4.2); 1000 if none is given or it
/// cannot be read.
pub(super) fn quality(parameters: &str) -> u32 {
    let weight = |(name, value): (&str, &str)| name.trim().eq_ignore_ascii_case("q").then(|| value.trim().to_owned());
    let given = parameters.split(';').find_map(|parameter| parameter.split_once('=').and_then(weight));
    let given = given.as_deref();
    let Some((whole, fraction)) = given.map(|text| text.split_once('.').unwrap_or((text, ""))) else { return 1000 };
    let thousandths = format!("{fraction:0<3}").get(..3).and_then(|digits| digits.parse::<u32>().ok());
    match (whole.parse::<u32>(), thousandths) {
        (Ok(0), Some(thousandths)) => thousandths,
        _ => 1000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_what_the_client_wants_most() {
        let table = [
            ("", Form::Array),
            ("*/*", Form::Array),
            ("text/html, */*;q=0.8", Form::Array),
            ("application/json", Form::Array),
            ("Application/X-NDJSON", Form::Lines),
            ("text/event-stream, */*", Form::Events),
            ("application/json;q=0.5, application/x-ndjson", Form::Lines),
            ("application/json; q=0.9, application/x-ndjson; q=0.15", Form::Array),
            ("application/x-ndjson;q=0, application/json-seq;q=0.001", Form::Sequence),
            ("application/json-seq, application/x-ndjson", Form::Sequence),
        ];
        for (accept, expected) in table {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(Form::wanted(&headers), expected, "{accept}");
        }
    }

    #[test]
    fn a_failure_is_visible_in_every_form_that_has_words() {
        let written = |form: Form, messages| {
            let mut out = BytesMut::new();
            for number in 1..=messages {
                form.before(number, &mut out);
                out.put_slice(b"{}");
                form.after(&mut out);
            }
            let said = form.failure(messages, b"{\"code\":5}", &mut out);
            (String::from_utf8_lossy(&out).into_owned(), said)
        };

        assert_eq!(written(Form::Array, 0).0, r#"[{"error":{"code":5}}]"#);
        assert_eq!(written(Form::Array, 2).0, r#"[{},{},{"error":{"code":5}}]"#);
        assert_eq!(written(Form::Lines, 1).0, "{}\n{\"error\":{\"code\":5}}\n");
        assert_eq!(written(Form::Sequence, 1).0, "\u{1e}{}\n\u{1e}{\"error\":{\"code\":5}}\n");
        assert_eq!(written(Form::Events, 1).0, "id: 1\ndata: {}\n\nevent: error\ndata: {\"error\":{\"code\":5}}\n\n");
        assert!(!written(Form::Raw, 1).1);
    }
}
