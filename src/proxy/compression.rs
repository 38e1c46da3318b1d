//! Replies of REST, compressed for clients that accept it: [RFC 9110 §12.5.3](https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3).
//!
//! Which encodings there are, and from what size on, the settings of the method say. **Invariant**: no more than
//! [`PIECE`] bytes are compressed before other calls of the worker have their turn.

use std::io;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, VARY};
use http::{HeaderMap, HeaderValue};

use super::call::Call;
use super::form::quality;
use crate::encoding::{self, Compressor, Encoding};
use crate::media;

/// What is compressed at once.
const PIECE: usize = 64 << 10;

/// What a client says of encodings, in thousandths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Accepted {
    gzip: Option<u32>,
    br: Option<u32>,
    zstd: Option<u32>,
    identity: Option<u32>,
    /// `*`: all that are not named.
    others: Option<u32>,
}

impl Accepted {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut accepted = Self::default();
        let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        for coding in values.flat_map(|value| value.split(',')) {
            let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
            let name = name.trim();
            let place = match Encoding::parse(name) {
                Some(Encoding::Gzip) => &mut accepted.gzip,
                Some(Encoding::Br) => &mut accepted.br,
                Some(Encoding::Zstd) => &mut accepted.zstd,
                Some(Encoding::Identity) => &mut accepted.identity,
                None if name == "*" => &mut accepted.others,
                Some(Encoding::Deflate) | None => continue,
            };
            *place = Some(quality(parameters));
        }
        accepted
    }

    /// The best of those offered; of equals the first.
    fn choose(self, offered: &[Encoding]) -> Encoding {
        let weighed = offered.iter().map(|encoding| (*encoding, self.weight(*encoding)));
        let best = weighed.reduce(|best, next| if next.1 > best.1 { next } else { best });
        best.filter(|(_, weight)| *weight > 0 && *weight >= self.identity.unwrap_or(0))
            .map_or(Encoding::Identity, |(encoding, _)| encoding)
    }

    fn weight(self, encoding: Encoding) -> u32 {
        let named = match encoding {
            Encoding::Gzip => self.gzip,
            Encoding::Br => self.br,
            Encoding::Zstd => self.zstd,
            Encoding::Identity | Encoding::Deflate => None,
        };
        named.or(self.others).unwrap_or(0)
    }

    /// Whether the client takes nothing that is not compressed.
    fn refuses_identity(self) -> bool {
        self.identity.or_else(|| self.others.filter(|weight| *weight == 0)) == Some(0)
    }
}

/// Compresses a body that is all here, if that is to be, and says so in its head.
pub(super) async fn whole(call: &Call, headers: &mut HeaderMap, content: Bytes) -> Bytes {
    let Some(encoding) = chosen(call, headers, Some(content.len())) else { return content };
    let mut out = BytesMut::with_capacity(content.len() / 4);
    let compressed = if content.len() <= PIECE {
        encoding::compress(encoding, &content, &mut out)
    } else {
        in_pieces(encoding, &content, &mut out).await
    };
    settled(encoding, headers, compressed, content, out)
}

/// [`whole`] for an error, whose size the limit on the headers of upstreams bounds.
pub(super) fn at_once(call: &Call, headers: &mut HeaderMap, content: Bytes) -> Bytes {
    let Some(encoding) = chosen(call, headers, Some(content.len())) else { return content };
    let mut out = BytesMut::with_capacity(content.len() / 4);
    let compressed = encoding::compress(encoding, &content, &mut out);
    settled(encoding, headers, compressed, content, out)
}

/// The encoding of a body of that size; without a size, of a stream. Says in the head that the reply depends on what the
/// client accepts, also when it is sent as it is.
fn chosen(call: &Call, headers: &mut HeaderMap, size: Option<usize>) -> Option<Encoding> {
    let settings = &call.settings().compression;
    if !settings.enabled || size == Some(0) || !can_be_compressed(headers) {
        return None;
    }
    vary(headers);
    let accepted = call.accepted;
    let is_small = size.is_some_and(|size| size < settings.min_size);
    let chosen = accepted.choose(&settings.encodings);
    Some(chosen).filter(|chosen| *chosen != Encoding::Identity && (!is_small || accepted.refuses_identity()))
}

async fn in_pieces(encoding: Encoding, content: &[u8], out: &mut BytesMut) -> io::Result<()> {
    let mut compressor = Compressor::new(encoding)?;
    for piece in content.chunks(PIECE) {
        compressor.push(piece, out)?;
        tokio::task::yield_now().await;
    }
    compressor.finish(out)
}

/// Without memory for a context the content goes out as it is.
fn settled(
    encoding: Encoding,
    headers: &mut HeaderMap,
    compressed: io::Result<()>,
    content: Bytes,
    out: BytesMut,
) -> Bytes {
    match compressed {
        Ok(()) => {
            mark(headers, encoding);
            out.freeze()
        }
        Err(error) => {
            tracing::debug!(%error, encoding = encoding.name(), "reply cannot be compressed");
            content
        }
    }
}

fn mark(headers: &mut HeaderMap, encoding: Encoding) {
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
    // A strong tag stands for the very bytes, which are others now: RFC 9110 §8.8.1.
    if let Some(tag) = headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\""))
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat())
    {
        headers.insert(ETAG, weak);
    }
}

fn vary(headers: &mut HeaderMap) {
    let mut names = headers.get_all(VARY).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    if !names
        .any(|name| matches!(name.trim_ascii(), b"*") || name.trim_ascii().eq_ignore_ascii_case(b"accept-encoding"))
    {
        headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// Whether the body is not compressed yet, by its coding or by its nature, and may be changed on its way.
fn can_be_compressed(headers: &HeaderMap) -> bool {
    let fixed = headers.get_all(CACHE_CONTROL).iter().any(|value| {
        value.as_bytes().split(|byte| *byte == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
    });
    let media = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    !fixed && !headers.contains_key(CONTENT_ENCODING) && is_plain(media)
}

/// Whether content of that type is worth compressing; of types that say nothing it is not known.
fn is_plain(media: &str) -> bool {
    // What nearly all replies are.
    if media == "application/json" {
        return true;
    }
    let essence = media::essence(media).to_ascii_lowercase();
    let (family, kind) = essence.split_once('/').unwrap_or((&essence, ""));
    let archives = ["zip", "gzip", "zstd", "br", "bzip", "bzip2", "xz", "7z-compressed", "rar-compressed", "compress"];
    match family {
        "image" => matches!(kind, "svg+xml" | "bmp" | "x-ms-bmp"),
        "font" => matches!(kind, "ttf" | "otf" | "collection" | "sfnt"),
        "video" | "audio" | "multipart" => false,
        "application" => {
            let named = kind.strip_prefix("x-").unwrap_or(kind);
            !(archives.contains(&named)
                || kind.ends_with("+zip")
                || kind.ends_with("+gzip")
                || kind.ends_with("+zstd")
                || kind.starts_with("vnd.openxmlformats-")
                || matches!(kind, "octet-stream" | "pdf" | "java-archive" | "wasm+gzip" | "vnd.rar" | ""))
        }
        _ => true,
    }
}

/// The body of a stream on its way into an encoding. What was pushed can be read whole by the client when it came.
#[derive(Debug)]
pub(super) struct Packer {
    encoding: Encoding,
    /// Made with the first piece: a quiet stream needs none.
    compressor: Option<Compressor>,
    /// Not yet compressed.
    waiting: Bytes,
    /// Whether nothing comes behind that.
    is_last: bool,
    /// Whether the end came out.
    is_over: bool,
    /// Whether others have their turn first.
    rests: bool,
}

impl Packer {
    /// What packs the stream with this head, if it is to be; the head then says so.
    pub(super) fn of(call: &Call, headers: &mut HeaderMap) -> Option<Self> {
        let encoding = chosen(call, headers, None)?;
        mark(headers, encoding);
        Some(Self { encoding, compressor: None, waiting: Bytes::new(), is_last: false, is_over: false, rests: false })
    }

    /// Takes the next piece, when [`Self::poll_pack`] has nothing left of the one before.
    pub(super) fn push(&mut self, data: Bytes, is_last: bool) {
        self.waiting = data;
        self.is_last = is_last;
    }

    /// Whether nothing more will come out.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// The next piece in the encoding, `None` when all that was pushed came out.
    pub(super) fn poll_pack(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        while !self.waiting.is_empty() || self.is_last {
            if std::mem::take(&mut self.rests) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let out = self.pack()?;
            self.rests = !self.waiting.is_empty();
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(out)));
            }
        }
        Poll::Ready(None)
    }

    fn pack(&mut self) -> io::Result<Bytes> {
        let mut out = BytesMut::new();
        let piece = self.waiting.split_to(self.waiting.len().min(PIECE));
        let mut compressor = match self.compressor.take() {
            Some(compressor) => compressor,
            None => Compressor::new(self.encoding)?,
        };
        compressor.push(&piece, &mut out)?;
        if self.waiting.is_empty() && std::mem::take(&mut self.is_last) {
            compressor.finish(&mut out)?;
            self.is_over = true;
            return Ok(out.freeze());
        }
        if self.waiting.is_empty() {
            compressor.flush(&mut out)?;
        }
        self.compressor = Some(compressor);
        Ok(out.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(value: &'static str) -> Accepted {
        Accepted::of(&HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))]))
    }

    #[test]
    fn the_encoding_is_what_the_client_likes_best() {
        let offered = [Encoding::Zstd, Encoding::Br, Encoding::Gzip];
        let table = [
            ("", Encoding::Identity),
            ("gzip", Encoding::Gzip),
            ("X-GZIP", Encoding::Gzip),
            ("gzip, deflate, br, zstd", Encoding::Zstd),
            ("gzip;q=1.0, br;q=0.8", Encoding::Gzip),
            ("gzip;q=0.5, br;Q=0.7", Encoding::Br),
            ("gzip;q=0", Encoding::Identity),
            ("*", Encoding::Zstd),
            ("zstd;q=0, *;q=0.1", Encoding::Br),
            ("gzip;q=0.5, *;q=0", Encoding::Gzip),
            ("gzip;q=0.5, identity", Encoding::Identity),
            ("gzip, identity", Encoding::Gzip),
            ("identity;q=0, br;q=0.001", Encoding::Br),
            ("identity;q=0", Encoding::Identity),
            ("deflate, compress", Encoding::Identity),
        ];
        for (value, expected) in table {
            assert_eq!(accepted(value).choose(&offered), expected, "{value}");
        }
        assert_eq!(accepted("br, zstd").choose(&[Encoding::Gzip]), Encoding::Identity);
        for (value, refuses) in
            [("identity;q=0", true), ("gzip, *;q=0", true), ("*", false), ("identity, *;q=0", false)]
        {
            assert_eq!(accepted(value).refuses_identity(), refuses, "{value}");
        }
    }

    #[test]
    fn content_that_is_compressed_by_its_nature_is_left() {
        for plain in ["application/json", "text/csv; charset=utf-8", "image/SVG+xml", "application/vnd.x+json", ""] {
            assert!(is_plain(plain), "{plain}");
        }
        for packed in ["image/png", "video/mp4", "application/zip", "application/x-gzip", "application/octet-stream"] {
            assert!(!is_plain(packed), "{packed}");
        }
    }
}
