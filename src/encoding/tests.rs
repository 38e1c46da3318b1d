//! What goes in comes out again, and what is hostile does not.

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;

const CODINGS: [Encoding; 4] = [Encoding::Gzip, Encoding::Deflate, Encoding::Br, Encoding::Zstd];

fn packed(encoding: Encoding, input: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    compress(encoding, input, &mut out).unwrap();
    out
}

fn unpacked(encoding: Encoding, input: &[u8], limit: usize) -> Result<BytesMut, InflateError> {
    let mut out = BytesMut::new();
    inflate(encoding, input, limit, &mut out).map(|()| out)
}

proptest! {
    // Each case goes through every coding, whole, in pieces and byte by byte.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_goes_in_comes_out(input in proptest::collection::vec(0u8..8, 0..60_000), cut in 500usize..9000) {
        for encoding in CODINGS {
            let small = packed(encoding, &input);
            prop_assert_eq!(&unpacked(encoding, &small, input.len()).unwrap()[..], &input[..]);

            let mut compressor = Compressor::new(encoding).unwrap();
            let mut inflater = Inflater::new(encoding, input.len() as u64);
            let (mut wire, mut out) = (BytesMut::new(), BytesMut::new());
            for piece in input.chunks(cut) {
                compressor.push(piece, &mut wire).unwrap();
                compressor.flush(&mut wire).unwrap();
                let before = out.len();
                inflater.push(&wire.split(), &mut out).unwrap();
                prop_assert_eq!(&out[before..], piece, "{:?} is not readable after a flush", encoding);
            }
            compressor.finish(&mut wire).unwrap();
            for byte in wire.chunks(1) {
                inflater.push(byte, &mut out).unwrap();
            }
            inflater.finish().unwrap();
            prop_assert_eq!(&out[..], &input[..]);
        }
    }
}

proptest! {
    #[test]
    fn any_input_is_answered_within_its_limit(input in proptest::collection::vec(any::<u8>(), 0..300)) {
        for encoding in CODINGS {
            let mut out = BytesMut::new();
            let whole = inflate(encoding, &input, 1000, &mut out).is_ok();
            prop_assert!(out.len() <= 1000 || !whole && out.len() == 1001);
        }
    }
}

#[test]
fn a_bomb_is_too_large() {
    for encoding in CODINGS {
        let bomb = packed(encoding, &vec![0; 10 << 20]);

        let mut out = BytesMut::new();
        let refused = inflate(encoding, &bomb, 100_000, &mut out).unwrap_err();

        assert_eq!(refused, InflateError::TooLarge { limit: 100_000 }, "{encoding:?}");
        assert!(out.capacity() <= 300_000, "{encoding:?}: {}", out.capacity());
    }
}

#[test]
fn a_limit_is_met_to_the_byte() {
    for encoding in [Encoding::Identity].into_iter().chain(CODINGS) {
        let small = packed(encoding, &[7; 1000]);
        assert!(unpacked(encoding, &small, 1000).is_ok(), "{encoding:?}");
        assert_eq!(unpacked(encoding, &small, 999), Err(InflateError::TooLarge { limit: 999 }));
    }
}

#[test]
fn a_ratio_that_only_bombs_have_is_too_large_whatever_the_limit() {
    let bomb = packed(Encoding::Zstd, &vec![0; 64 << 20]);
    assert!(matches!(unpacked(Encoding::Zstd, &bomb, 1 << 30), Err(InflateError::TooLarge { .. })));
}

#[test]
fn input_that_ends_at_any_byte_is_truncated() {
    for encoding in CODINGS {
        let whole = packed(encoding, b"the quick brown fox jumps over the lazy dog, and over the lazy dog again");
        for end in 0..whole.len() {
            assert_eq!(unpacked(encoding, &whole[..end], 1000), Err(InflateError::Truncated(encoding)), "at {end}");
        }
    }
}

#[test]
fn what_goes_on_behind_its_end_is_malformed() {
    for encoding in CODINGS {
        for garbage in [&b"x"[..], b"garbage behind the end"] {
            let mut input = packed(encoding, b"content");
            input.extend_from_slice(garbage);
            assert!(unpacked(encoding, &input, 1000).is_err(), "{encoding:?}");
        }
    }
}

#[test]
fn several_members_are_one_content() {
    for encoding in [Encoding::Gzip, Encoding::Zstd] {
        let mut input = packed(encoding, b"one, ");
        input.extend_from_slice(&packed(encoding, b"two"));
        assert_eq!(unpacked(encoding, &input, 1000).unwrap(), "one, two");
    }
}

#[test]
fn members_without_content_come_to_an_end() {
    let input = packed(Encoding::Gzip, b"").repeat(1000);
    assert_eq!(unpacked(Encoding::Gzip, &input, 1000), Err(InflateError::Malformed(Encoding::Gzip)));
}

#[test]
fn deflate_is_read_without_its_header_too() {
    let zlib = packed(Encoding::Deflate, b"hello hello hello");
    let raw = &zlib[2..zlib.len() - 4];
    assert_eq!(unpacked(Encoding::Deflate, raw, 1000).unwrap(), "hello hello hello");
}

#[test]
fn windows_beyond_the_bound_are_refused() {
    // A frame that asks for a window of 128 MiB: RFC 8878 §3.1.1.1.2.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x88, 0x01, 0x00, 0x00];
    assert_eq!(unpacked(Encoding::Zstd, &frame, 1000), Err(InflateError::Malformed(Encoding::Zstd)));
}

#[test]
fn damage_is_malformed() {
    let mut input = packed(Encoding::Gzip, b"content with a checksum");
    let last = input.len() - 6;
    input[last] ^= 1;
    assert_eq!(unpacked(Encoding::Gzip, &input, 1000), Err(InflateError::Malformed(Encoding::Gzip)));
}

#[test]
fn names_are_without_case() {
    assert_eq!(Encoding::parse("GZip"), Some(Encoding::Gzip));
    assert_eq!(Encoding::parse("x-gzip"), Some(Encoding::Gzip));
    assert_eq!(Encoding::parse("snappy"), None);
}
