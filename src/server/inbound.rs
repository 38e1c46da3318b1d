//! Since when a client of HTTP/2 owes the rest of what it began to say.
//!
//! h2 takes its time over a frame that is half there, and over a header block whose CONTINUATION does not come: as long
//! as the client likes. [`Inbound`] stands between h2 and the socket and follows the frames by their nine bytes of
//! [header](https://www.rfc-editor.org/rfc/rfc9113#section-4.1), without looking into them or keeping them. The payload
//! of DATA is owed for as long as it takes: uploads over slow links are honest, and have the bounds of their calls.
//!
//! Invariant: the clock runs from the first wait within a frame or header block to its last byte, however many bytes
//! come in between.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::server::detect::PREFACE;

/// A stream of which the frames that come in are followed.
#[derive(Debug)]
pub(super) struct Inbound<S> {
    stream: S,
    frames: Frames,
    owed: Owed,
}

/// Since when the client owes the rest of a frame or header block. Clones are the same clock.
#[derive(Debug, Clone, Default)]
pub(super) struct Owed(Rc<Cell<Option<Instant>>>);

impl Owed {
    pub(super) fn since(&self) -> Option<Instant> {
        self.0.get()
    }
}

impl<S> Inbound<S> {
    /// The next byte of `stream` is the first one of the preface.
    pub(super) fn new(stream: S, owed: Owed) -> Self {
        Self { stream, frames: Frames::new(), owed }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Inbound<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if read.is_pending() {
            // Not before: what the client has sent and we have not read is not owed.
            if this.frames.are_owed() && this.owed.since().is_none() {
                this.owed.0.set(Some(Instant::now()));
            }
        } else if this.frames.advance(buffer.filled().get(before..).unwrap_or_default()) {
            this.owed.0.set(None);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Inbound<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Where in the sequence of frames the client is.
///
/// ```text
///  payload left ──▶ header, up to nine bytes ──▶ payload left ──▶ …
/// ```
#[derive(Debug)]
struct Frames {
    header: [u8; HEADER],
    /// Bytes of the header that are there; 0 within a payload and between frames.
    filled: usize,
    /// Bytes of the payload that are not. The preface passes for one.
    left: usize,
    is_data: bool,
    /// A header block began and its END_HEADERS has not come.
    in_block: bool,
}

impl Frames {
    fn new() -> Self {
        Self { header: [0; HEADER], filled: 0, left: PREFACE.len(), is_data: false, in_block: false }
    }

    /// Follows the next bytes. Whether something that was owed came to its end among them.
    fn advance(&mut self, mut bytes: &[u8]) -> bool {
        let mut ended = false;
        while !bytes.is_empty() {
            let wanted = if self.left > 0 { self.left } else { HEADER - self.filled };
            let (taken, rest) = bytes.split_at(wanted.min(bytes.len()));
            bytes = rest;
            if self.left > 0 {
                self.left -= taken.len();
            } else {
                self.header[self.filled..][..taken.len()].copy_from_slice(taken);
                self.filled += taken.len();
                if self.filled < HEADER {
                    continue;
                }
                self.begin();
            }
            ended |= !self.are_owed();
        }
        ended
    }

    /// A header is whole.
    fn begin(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.header;
        self.filled = 0;
        self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.is_data = kind == DATA;
        if kind == HEADERS || kind == CONTINUATION {
            self.in_block = flags & END_HEADERS == 0;
        }
    }

    fn are_owed(&self) -> bool {
        self.in_block || self.filled > 0 || self.left > 0 && !self.is_data
    }
}

/// Bytes of a frame's header.
const HEADER: usize = 9;
/// Types and flags of frames: [RFC 9113 §6](https://www.rfc-editor.org/rfc/rfc9113#section-6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        [vec![0, 0, length, kind, flags, 0, 0, 0, 1], vec![0; length.into()]].concat()
    }

    fn after_preface() -> Frames {
        let mut frames = Frames::new();
        assert!(frames.are_owed());
        assert!(frames.advance(PREFACE) && !frames.are_owed());
        frames
    }

    #[test]
    fn owes_what_is_left_of_a_frame_but_not_of_data() {
        for (kind, owed) in [(HEADERS, true), (4, true), (6, true), (0xbe, true), (DATA, false)] {
            let bytes = frame(kind, END_HEADERS, 5);
            for cut in 1..bytes.len() {
                let mut frames = after_preface();
                frames.advance(&bytes[..cut]);

                assert_eq!(frames.are_owed(), owed || cut < HEADER, "{kind} {cut}");
                assert!(frames.advance(&bytes[cut..]) && !frames.are_owed(), "{kind} {cut}");
            }
        }
    }

    #[test]
    fn owes_a_header_block_up_to_its_end() {
        let mut frames = after_preface();

        for part in [frame(HEADERS, 0, 3), frame(CONTINUATION, 0, 0), frame(CONTINUATION, 0, 9)] {
            assert!(!frames.advance(&part));
            assert!(frames.are_owed());
        }
        assert!(frames.advance(&frame(CONTINUATION, END_HEADERS, 0)) && !frames.are_owed());
    }

    #[test]
    fn notices_an_end_in_the_middle_of_what_came() {
        let mut frames = after_preface();
        let bytes =
            [frame(6, 0, 8), frame(HEADERS, 0, 3), frame(CONTINUATION, END_HEADERS, 1), frame(6, 0, 8)].concat();

        let ends: Vec<usize> = (0..bytes.len()).filter(|at| frames.advance(&bytes[*at..=*at])).collect();
        assert_eq!(ends, [16, 38, 55]);

        assert!(after_preface().advance(&[&bytes[..], &[0]].concat()));
    }
}
