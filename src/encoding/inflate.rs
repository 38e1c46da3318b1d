//! Compressed bytes back into what they stand for, bounded.
//!
//! Beside the output, which has at most one byte more than its limit, there are a chunk and the window of the coding:
//! 32 KiB for gzip and deflate, at most 8 MiB for zstd, at most 16 MiB for br, of which only what was written is touched.

use std::cell::Cell;
use std::fmt;

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use bytes::{Bytes, BytesMut};
use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::{CHUNK, Encoding};

/// Why compressed input was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// More came out than is allowed.
    #[error("content exceeds the limit of {limit} bytes once it is decompressed")]
    TooLarge {
        /// In bytes.
        limit: u64,
    },
    /// It is not of that coding, is damaged, or goes on behind its end.
    #[error("content is not valid {}", .0.name())]
    Malformed(Encoding),
    /// It ends early.
    #[error("{} content ends early", .0.name())]
    Truncated(Encoding),
}

/// Appends what `input`, all of it, stands for.
///
/// # Errors
/// See [`InflateError`]; `out` then has a part of it.
pub fn inflate(encoding: Encoding, input: &[u8], limit: usize, out: &mut BytesMut) -> Result<(), InflateError> {
    let limit = limit as u64;
    let kept = if encoding == Encoding::Zstd { KEPT.take() } else { None };
    let mut inflater = match kept {
        Some(codec) => Inflater { codec, ..Inflater::new(Encoding::Identity, limit) },
        None => Inflater::new(encoding, limit),
    };
    inflater.encoding = encoding;
    inflater.push(input, out)?;
    inflater.finish()?;
    // A context that failed is not kept.
    if let Codec::Zstd(decoder) = &mut inflater.codec
        && decoder.reinit().is_ok()
    {
        KEPT.set(Some(inflater.codec));
    }
    Ok(())
}

/// What `input` stands for. Without any it is empty, whatever its coding: clients send it so.
///
/// # Errors
/// See [`InflateError`].
pub fn inflated(encoding: Encoding, input: &[u8], limit: usize) -> Result<Bytes, InflateError> {
    let mut content = BytesMut::new();
    if !input.is_empty() {
        inflate(encoding, input, limit, &mut content)?;
    }
    Ok(content.freeze())
}

thread_local! {
    /// The zstd context of this thread: making one costs more than a small message does.
    static KEPT: Cell<Option<Codec>> = const { Cell::new(None) };
}

/// Inflates what comes in pieces.
#[derive(Debug)]
pub struct Inflater {
    encoding: Encoding,
    codec: Codec,
    limit: u64,
    read: u64,
    written: u64,
    /// Parts of gzip that ended.
    members: u64,
    /// More may come out without more going in.
    pending: bool,
    /// The input is complete here, and may go on if it consists of several.
    ended: bool,
}

enum Codec {
    Identity,
    Gzip(Decompress),
    /// The first byte, until the second tells which of two formats it is.
    DeflateHead(Option<u8>),
    Deflate(Decompress),
    Br(Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>),
    Zstd(Decoder<'static>),
    /// There was no memory for a context.
    Failed,
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codec")
    }
}

/// What one step of a codec did.
struct Step {
    read: usize,
    written: usize,
    ended: bool,
}

impl Inflater {
    /// Takes input of a coding; no more than `limit` bytes come out.
    pub fn new(encoding: Encoding, limit: u64) -> Self {
        let codec = match encoding {
            Encoding::Identity => Codec::Identity,
            Encoding::Gzip => Codec::Gzip(Decompress::new_gzip(15)),
            Encoding::Deflate => Codec::DeflateHead(None),
            Encoding::Br => {
                let alloc = StandardAlloc::default;
                // Strict: no windows beyond RFC 7932, which may ask for a gigabyte.
                Codec::Br(Box::new(BrotliState::new_strict(alloc(), alloc(), alloc())))
            }
            Encoding::Zstd => zstd_decoder().map_or(Codec::Failed, Codec::Zstd),
        };
        let ended = encoding == Encoding::Identity;
        Self { encoding, codec, limit, read: 0, written: 0, members: 0, pending: false, ended }
    }

    /// Appends all that comes out of the next piece.
    ///
    /// # Errors
    /// See [`InflateError`]; `out` then has a part of it.
    pub fn push(&mut self, mut input: &[u8], out: &mut BytesMut) -> Result<(), InflateError> {
        // Small messages do not pay for clearing a whole chunk.
        let mut room = input.len().saturating_mul(4).clamp(256, CHUNK);
        while self.step(&mut input, room, out)? {
            room = CHUNK;
        }
        Ok(())
    }

    /// Takes from the front of `input` and appends at most `room` bytes. Returns whether there is more to do, with the
    /// rest of `input`, which may be empty: so memory stays bounded where the whole has no bound.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn step(&mut self, input: &mut &[u8], room: usize, out: &mut BytesMut) -> Result<bool, InflateError> {
        if input.is_empty() && !self.pending {
            return Ok(false);
        }
        // One byte more than allowed shows that it is too much.
        let left = usize::try_from(self.limit - self.written).unwrap_or(usize::MAX).saturating_add(1);
        let room = room.max(1).min(left);
        let start = out.len();
        out.resize(start + room, 0);
        let step = self.run(input, &mut out[start..]);
        let written = step.as_ref().map_or(0, |step| step.written);
        out.truncate(start + written);
        let step = step?;
        if step.read == 0 && step.written == 0 && !input.is_empty() && !step.ended {
            return Err(self.malformed());
        }
        *input = input.get(step.read..).unwrap_or_default();
        self.ended = step.ended;
        self.pending = step.written == room && !step.ended;
        self.read += step.read as u64;
        self.written += step.written as u64;
        if self.written > self.limit || self.written > FREE.max(self.read.saturating_mul(MAX_RATIO)) {
            return Err(InflateError::TooLarge { limit: self.limit.min(FREE.max(self.read * MAX_RATIO)) });
        }
        Ok(self.pending || !input.is_empty())
    }

    /// The input is over.
    ///
    /// # Errors
    /// It ended early.
    pub fn finish(&self) -> Result<(), InflateError> {
        if self.ended { Ok(()) } else { Err(InflateError::Truncated(self.encoding)) }
    }

    fn malformed(&self) -> InflateError {
        InflateError::Malformed(self.encoding)
    }

    fn run(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, InflateError> {
        let malformed = InflateError::Malformed(self.encoding);
        match &mut self.codec {
            Codec::Failed => Err(malformed),
            Codec::Identity => {
                let count = input.len().min(out.len());
                out[..count].copy_from_slice(&input[..count]);
                Ok(Step { read: count, written: count, ended: true })
            }
            Codec::Gzip(decoder) => {
                if self.ended {
                    // Members cost a context each, so there must be something in them.
                    self.members += 1;
                    if self.members > 64 + self.written / 1024 {
                        return Err(malformed);
                    }
                    decoder.reset(true);
                }
                zlib(decoder, input, out).ok_or(malformed)
            }
            Codec::DeflateHead(head) => {
                let (Some(first), Some(second)) = (*head, input.first().copied()) else {
                    *head = input.first().copied();
                    return Ok(Step { read: input.len().min(1), written: 0, ended: false });
                };
                let mut decoder = Decompress::new(is_zlib(first, second));
                let mut step = zlib(&mut decoder, &[first, second], out).ok_or(malformed)?;
                if step.read != 2 {
                    return Err(malformed);
                }
                step.read = 1;
                self.codec = Codec::Deflate(decoder);
                Ok(step)
            }
            Codec::Deflate(_) | Codec::Br(_) if self.ended => Err(malformed),
            Codec::Deflate(decoder) => zlib(decoder, input, out).ok_or(malformed),
            Codec::Br(state) => br(state, input, out).ok_or(malformed),
            Codec::Zstd(decoder) => {
                let (mut source, mut target) = (InBuffer::around(input), OutBuffer::around(out));
                let hint = decoder.run(&mut source, &mut target).map_err(|_| malformed)?;
                Ok(Step { read: source.pos(), written: target.pos(), ended: hint == 0 })
            }
        }
    }
}

fn zlib(decoder: &mut Decompress, input: &[u8], out: &mut [u8]) -> Option<Step> {
    let (read, written) = (decoder.total_in(), decoder.total_out());
    let status = decoder.decompress(input, out, FlushDecompress::None).ok()?;
    let count = |total: u64, before: u64| usize::try_from(total - before).unwrap_or(usize::MAX);
    Some(Step {
        read: count(decoder.total_in(), read),
        written: count(decoder.total_out(), written),
        ended: status == Status::StreamEnd,
    })
}

fn br(
    state: &mut BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    input: &[u8],
    out: &mut [u8],
) -> Option<Step> {
    let (mut left, mut read, mut room, mut written, mut total) = (input.len(), 0, out.len(), 0, 0);
    let result = BrotliDecompressStream(&mut left, &mut read, input, &mut room, &mut written, out, &mut total, state);
    let ended = match result {
        BrotliResult::ResultSuccess => true,
        BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => false,
        BrotliResult::ResultFailure => return None,
    };
    Some(Step { read, written, ended })
}

fn zstd_decoder() -> Option<Decoder<'static>> {
    let mut decoder = Decoder::new().ok()?;
    decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG)).ok()?;
    Some(decoder)
}

/// Whether two bytes are the header of the zlib format, RFC 1950 §2.2.
fn is_zlib(first: u8, second: u8) -> bool {
    first & 0x0f == 8 && first >> 4 <= 7 && u16::from_be_bytes([first, second]).is_multiple_of(31)
}

/// 8 MiB, all that a decoder must have: <https://www.rfc-editor.org/rfc/rfc9659>.
const ZSTD_WINDOW_LOG: u32 = 23;
/// What may come out of any input, before its ratio counts.
const FREE: u64 = 1 << 20;
/// What may come out of a byte behind that. gzip cannot do more; br and zstd can, and no honest content needs it.
const MAX_RATIO: u64 = 1032;
