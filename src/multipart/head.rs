//! What the headers of a part say, and the boundary in the content type of the whole.

use super::MultipartError;
use crate::media;

/// The headers of a part, as far as they mean anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// What the part is called in its form.
    pub name: String,
    /// Whether it has the name of a file, which itself means nothing here.
    pub is_file: bool,
    /// Its content type, as it was sent.
    pub content_type: Option<String>,
}

/// Headers of one part. More are refused.
const MAX_HEADERS: usize = 16;

impl Head {
    /// Reads the headers of part `part`, up to their empty line.
    pub(super) fn parse(part: u64, text: &[u8]) -> Result<Self, MultipartError> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let Ok(httparse::Status::Complete((_, headers))) = httparse::parse_headers(text, &mut headers) else {
            return Err(MultipartError::BadHead(part));
        };
        let value = |wanted: &str| {
            let mut found = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(wanted));
            let only = found.next().filter(|_| found.next().is_none());
            only.map(|header| std::str::from_utf8(header.value).map_err(|_| MultipartError::BadHead(part))).transpose()
        };
        let disposition = value("content-disposition")?.ok_or(MultipartError::NoName(part))?;
        let (kind, rest) = disposition.split_once(';').unwrap_or((disposition, ""));
        if !kind.trim().eq_ignore_ascii_case("form-data") {
            return Err(MultipartError::NoName(part));
        }
        let name = parameter(rest, "name").filter(|name| !name.is_empty()).ok_or(MultipartError::NoName(part))?;
        // RFC 7578 §4.7: nobody sends these, and nobody should.
        let encoding = value("content-transfer-encoding")?.unwrap_or("binary").trim();
        if !["7bit", "8bit", "binary"].iter().any(|plain| encoding.eq_ignore_ascii_case(plain)) {
            return Err(MultipartError::Encoded { part, name, encoding: encoding.to_owned() });
        }
        let is_file = parameter(rest, "filename").is_some() || parameter(rest, "filename*").is_some();
        Ok(Self { name, is_file, content_type: value("content-type")?.map(str::to_owned) })
    }
}

/// The boundary that a content type gives; `None` if that is not `multipart/form-data`.
///
/// # Errors
/// It has none, or one that is not allowed.
pub fn boundary(content_type: &str) -> Option<Result<String, MultipartError>> {
    let (essence, rest) = media::split(content_type);
    if !essence.eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let is_allowed = |text: &String| {
        let plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        plain && (1..=70).contains(&text.len()) && !text.ends_with(' ')
    };
    Some(parameter(rest, "boundary").filter(is_allowed).ok_or(MultipartError::Boundary))
}

/// The value of the first parameter of that name, without its quotes.
fn parameter(mut text: &str, wanted: &str) -> Option<String> {
    loop {
        let (name, rest) = text.trim_start_matches([';', ' ', '\t']).split_once('=')?;
        let (value, rest) = match rest.trim_start().strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let end = rest.find(';').unwrap_or(rest.len());
                let (value, rest) = rest.split_at_checked(end)?;
                (value.trim().to_owned(), rest)
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        text = rest;
    }
}

/// A text up to its closing quote, and what follows that; `None` without one.
///
/// A quote inside is `\"`, or `%22` as browsers write it, and so are ends of lines
/// (<https://html.spec.whatwg.org/multipage/form-control-infrastructure.html#multipart-form-data>). Other backslashes are
/// their own: names of files on Windows have them.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text;
    loop {
        let at = rest.find(['"', '\\', '%'])?;
        let (before, special) = rest.split_at_checked(at)?;
        value.push_str(before);
        let (plain, length) = match special.get(..3).unwrap_or(special) {
            end if end.starts_with('"') => return Some((value, special.get(1..)?)),
            escaped if escaped.starts_with("\\\"") => ('"', 2),
            escaped if escaped.starts_with("\\\\") => ('\\', 2),
            "%22" => ('"', 3),
            "%0D" | "%0d" => ('\r', 3),
            "%0A" | "%0a" => ('\n', 3),
            other => (other.chars().next()?, 1),
        };
        value.push(plain);
        rest = special.get(length..)?;
    }
}
