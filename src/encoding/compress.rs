//! Bytes into compressed ones.
//!
//! Levels are chosen for the CPU: the gain of higher ones is small, their cost is not. Windows of streams are kept
//! small, since a context lives as long as its stream: below 1 MiB each.

use std::cell::RefCell;
use std::io::Write as _;
use std::{fmt, io};

use brotli::CompressorWriter;
use bytes::BytesMut;
use flate2::{Compress, Compression, FlushCompress, Status};
use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};

use super::{CHUNK, Encoding};

/// Appends `input`, compressed.
///
/// # Errors
/// There is no memory for the work; `out` is as it was.
pub fn compress(encoding: Encoding, input: &[u8], out: &mut BytesMut) -> io::Result<()> {
    let start = out.len();
    let compressed = compress_whole(encoding, input, out);
    if compressed.is_err() {
        out.truncate(start);
    }
    compressed
}

fn compress_whole(encoding: Encoding, input: &[u8], out: &mut BytesMut) -> io::Result<()> {
    let kept = KEPT.with_borrow_mut(|kept| {
        let index = kept.iter().position(|kept| kept.encoding == encoding)?;
        Some(kept.swap_remove(index))
    });
    let mut compressor = match kept {
        Some(compressor) => compressor,
        None => Compressor::new(encoding)?,
    };
    if let Codec::Zstd(encoder) = &mut compressor.codec {
        encoder.set_pledged_src_size(Some(input.len() as u64))?;
    }
    compressor.push(input, out)?;
    compressor.end(out)?;
    if compressor.restart()? {
        KEPT.with_borrow_mut(|kept| kept.push(compressor));
    }
    Ok(())
}

thread_local! {
    /// The contexts of this thread, at most one of each coding: making one costs more than a small message does.
    static KEPT: RefCell<Vec<Compressor>> = const { RefCell::new(Vec::new()) };
}

/// Compresses what comes in pieces.
#[derive(Debug)]
pub struct Compressor {
    encoding: Encoding,
    codec: Codec,
}

enum Codec {
    Identity,
    Zlib(Compress),
    Br(Box<CompressorWriter<Vec<u8>>>),
    Zstd(Encoder<'static>),
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codec")
    }
}

impl Compressor {
    /// Makes output of a coding.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new(encoding: Encoding) -> io::Result<Self> {
        let codec = match encoding {
            Encoding::Identity => Codec::Identity,
            Encoding::Gzip => Codec::Zlib(Compress::new_gzip(Compression::new(ZLIB_LEVEL), 15)),
            Encoding::Deflate => Codec::Zlib(Compress::new(Compression::new(ZLIB_LEVEL), true)),
            Encoding::Br => Codec::Br(Box::new(CompressorWriter::new(Vec::new(), CHUNK, BR_QUALITY, BR_WINDOW_LOG))),
            Encoding::Zstd => {
                let mut encoder = Encoder::new(ZSTD_LEVEL)?;
                encoder.set_parameter(CParameter::WindowLog(ZSTD_WINDOW_LOG))?;
                Codec::Zstd(encoder)
            }
        };
        Ok(Self { encoding, codec })
    }

    /// Takes a piece; what comes out of it may come later.
    ///
    /// # Errors
    /// There is no memory for the work. The output is then of no use.
    pub fn push(&mut self, mut input: &[u8], out: &mut BytesMut) -> io::Result<()> {
        match &mut self.codec {
            Codec::Identity => out.extend_from_slice(input),
            Codec::Zlib(encoder) => {
                while !input.is_empty() {
                    let before = encoder.total_in();
                    zlib(encoder, input, FlushCompress::None, out)?;
                    let read = usize::try_from(encoder.total_in() - before).unwrap_or(usize::MAX);
                    input = input.get(read..).unwrap_or_default();
                }
            }
            Codec::Br(encoder) => {
                encoder.write_all(input)?;
                drain(encoder, out);
            }
            Codec::Zstd(encoder) => {
                let mut source = InBuffer::around(input);
                while source.pos() < input.len() {
                    zstd(out, |target| encoder.run(&mut source, target))?;
                }
            }
        }
        Ok(())
    }

    /// Appends all that is still held back, so that the other side can read every byte up to here.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn flush(&mut self, out: &mut BytesMut) -> io::Result<()> {
        match &mut self.codec {
            Codec::Identity => {}
            // Full output means that there may be more.
            Codec::Zlib(encoder) => while zlib(encoder, &[], FlushCompress::Sync, out)?.1 == CHUNK {},
            Codec::Br(encoder) => {
                encoder.flush()?;
                drain(encoder, out);
            }
            Codec::Zstd(encoder) => while zstd(out, |target| encoder.flush(target))? != 0 {},
        }
        Ok(())
    }

    /// Appends the rest and the end.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn finish(mut self, out: &mut BytesMut) -> io::Result<()> {
        self.end(out)
    }

    fn end(&mut self, out: &mut BytesMut) -> io::Result<()> {
        match &mut self.codec {
            Codec::Identity => {}
            Codec::Zlib(encoder) => while zlib(encoder, &[], FlushCompress::Finish, out)?.0 != Status::StreamEnd {},
            Codec::Br(encoder) => {
                let fresh = CompressorWriter::new(Vec::new(), 1, 0, 10);
                let ended = std::mem::replace(&mut **encoder, fresh).into_inner();
                out.extend_from_slice(&ended);
            }
            Codec::Zstd(encoder) => while zstd(out, |target| encoder.finish(target, true))? != 0 {},
        }
        Ok(())
    }

    /// Begins anew; `false` if another one has to be made.
    fn restart(&mut self) -> io::Result<bool> {
        match &mut self.codec {
            Codec::Zlib(encoder) => {
                encoder.reset();
                Ok(true)
            }
            Codec::Zstd(encoder) => encoder.reinit().map(|()| true),
            Codec::Identity | Codec::Br(_) => Ok(false),
        }
    }
}

/// One step: the status, and how many bytes were written of [`CHUNK`].
fn zlib(encoder: &mut Compress, input: &[u8], flush: FlushCompress, out: &mut BytesMut) -> io::Result<(Status, usize)> {
    let (start, before) = (out.len(), encoder.total_out());
    out.resize(start + CHUNK, 0);
    let status = encoder.compress(input, &mut out[start..], flush);
    let written = usize::try_from(encoder.total_out() - before).unwrap_or(usize::MAX).min(CHUNK);
    out.truncate(start + written);
    Ok((status?, written))
}

fn zstd(out: &mut BytesMut, mut step: impl FnMut(&mut OutBuffer<'_, [u8]>) -> io::Result<usize>) -> io::Result<usize> {
    let start = out.len();
    out.resize(start + CHUNK, 0);
    let mut target = OutBuffer::around(&mut out[start..]);
    let result = step(&mut target);
    let written = target.pos();
    out.truncate(start + written);
    result
}

fn drain(encoder: &mut CompressorWriter<Vec<u8>>, out: &mut BytesMut) {
    let written = encoder.get_mut();
    out.extend_from_slice(written);
    written.clear();
}

const ZLIB_LEVEL: u32 = 4;
const BR_QUALITY: u32 = 4;
const BR_WINDOW_LOG: u32 = 18;
const ZSTD_LEVEL: i32 = 3;
const ZSTD_WINDOW_LOG: u32 = 18;
