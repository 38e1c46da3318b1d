//! Mutations of sound input.

use fastrand::Rng;

/// Bytes that mean something in JSON.
pub(crate) const TEXT: &[u8] = b"{}[]\",:0123456789.eE+-ntfu\\ a\xc3";
/// Bytes that mean something on the wire.
pub(crate) const WIRE: &[u8] = b"\x00\x01\x02\x08\x0a\x0b\x0c\x0d\x7f\x80\xff";

/// A few bytes are inserted, removed or replaced.
pub(crate) fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>, alphabet: &[u8]) {
    for _ in 0..rng.usize(1..4) {
        let byte = if rng.bool() { alphabet[rng.usize(..alphabet.len())] } else { rng.u8(..) };
        let at = rng.usize(..=bytes.len());
        match rng.u8(..4) {
            0 => bytes.insert(at, byte),
            1 if at < bytes.len() => _ = bytes.remove(at),
            2 => bytes.truncate(at.max(bytes.len().saturating_sub(3))),
            _ if at < bytes.len() => bytes[at] = byte,
            _ => bytes.push(byte),
        }
    }
}
