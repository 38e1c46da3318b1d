//! Single values as JSON.

use base64_simd::AsOut as _;

use super::{Decoder, Step, fail, write_string};
use crate::schema::{EnumId, Kind};
use crate::transcode::decimal;
use crate::transcode::number::unzigzag;
use crate::transcode::out::Out;
use crate::transcode::plan::FieldPlan;
use crate::transcode::wire::Raw;

impl<'a> Decoder<'a, '_, '_> {
    /// One value of a field. The wire type is known to be that of the field.
    #[inline]
    pub(super) fn value(&mut self, field: &'a FieldPlan, raw: Raw<'_>) -> Step {
        match raw {
            Raw::Bits(bits) => {
                self.number(field.kind, bits);
                Ok(())
            }
            Raw::Bytes(bytes) => match field.kind {
                Kind::String => self.string(field, bytes),
                Kind::Message(id) | Kind::Group(id) => self.message(self.plans.message(id), bytes),
                _ => {
                    write_base64(self.out, bytes);
                    Ok(())
                }
            },
        }
    }

    fn string(&mut self, field: &FieldPlan, bytes: &[u8]) -> Step {
        let start = self.out.len();
        let is_ascii = write_string(self.out, bytes);
        self.ascii &= is_ascii;
        if is_ascii || !self.thorough || simdutf8::basic::from_utf8(bytes).is_ok() {
            return Ok(());
        }
        if field.utf8 {
            return Err(fail("invalid UTF-8 in a string"));
        }
        // proto2 promises nothing about the bytes, JSON does.
        self.out.rewind(start);
        write_string(self.out, String::from_utf8_lossy(bytes).as_bytes());
        Ok(())
    }

    #[inline]
    fn number(&mut self, kind: Kind, bits: u64) {
        match kind {
            Kind::Int32 | Kind::Sfixed32 => self.integer(i64::from(low_half(bits).cast_signed())),
            Kind::Uint32 | Kind::Fixed32 => self.integer(i64::from(low_half(bits))),
            // The sign bit of a zigzag number is its lowest one: the lower half is a number of its own.
            Kind::Sint32 => self.integer(unzigzag(u64::from(low_half(bits)))),
            Kind::Int64 | Kind::Sfixed64 => self.int64(bits.cast_signed()),
            Kind::Uint64 | Kind::Fixed64 => self.wide_integer(false, bits),
            Kind::Sint64 => self.int64(unzigzag(bits)),
            Kind::Bool => self.out.bytes(if bits == 0 { b"false" } else { b"true" }),
            Kind::Enum(id) => self.enumeration(id, low_half(bits).cast_signed()),
            Kind::Double => self.double(f64::from_bits(bits)),
            Kind::Float => self.float(f32::from_bits(low_half(bits))),
            Kind::String | Kind::Bytes | Kind::Message(_) | Kind::Group(_) => self.out.bytes(b"null"),
        }
    }

    #[inline]
    pub(super) fn integer(&mut self, value: i64) {
        decimal::write_integer(self.out, value < 0, value.unsigned_abs());
    }

    /// 64-bit integers are strings, because JavaScript's numbers are exact only up to 2^53.
    #[inline]
    pub(super) fn wide_integer(&mut self, negative: bool, magnitude: u64) {
        if self.options.int64_as_number {
            decimal::write_integer(self.out, negative, magnitude);
        } else {
            decimal::write_quoted_integer(self.out, negative, magnitude);
        }
    }

    #[inline]
    pub(super) fn int64(&mut self, value: i64) {
        self.wide_integer(value < 0, value.unsigned_abs());
    }

    fn enumeration(&mut self, id: EnumId, number: i32) {
        let plan = self.plans.enumeration(id);
        if plan.null {
            return self.out.bytes(b"null");
        }
        match plan.quoted_name(number) {
            Some(name) if !self.options.enums_as_numbers => self.out.bytes(name.as_bytes()),
            _ => self.integer(i64::from(number)),
        }
    }

    /// The shortest text that reads back as the same number.
    #[inline]
    pub(super) fn double(&mut self, value: f64) {
        if value.is_finite() { decimal::write_double(self.out, value) } else { self.not_finite(value) }
    }

    fn float(&mut self, value: f32) {
        if value.is_finite() {
            decimal::write_shortest(self.out, value);
        } else {
            self.not_finite(f64::from(value));
        }
    }

    #[cold]
    fn not_finite(&mut self, value: f64) {
        self.out.bytes(match value {
            f64::INFINITY => b"\"Infinity\"",
            f64::NEG_INFINITY => b"\"-Infinity\"",
            _ => b"\"NaN\"",
        });
    }

    /// The name of a map entry.
    pub(super) fn map_key(&mut self, field: &FieldPlan, raw: Raw<'_>) -> Step {
        match raw {
            Raw::Bytes(bytes) => self.string(field, bytes),
            Raw::Bits(bits) => {
                self.out.byte(b'"');
                let options = self.options;
                self.options.int64_as_number = true;
                self.number(field.kind, bits);
                self.options = options;
                self.out.byte(b'"');
                Ok(())
            }
        }
    }

    /// Whether the value is not one that a closed enum does not know; such ones count as unknown fields.
    #[inline]
    pub(super) fn is_known(&self, field: &FieldPlan, raw: Raw<'_>) -> bool {
        let (Kind::Enum(id), Raw::Bits(bits)) = (field.kind, raw) else { return true };
        let plan = self.plans.enumeration(id);
        !plan.closed || plan.knows(low_half(bits).cast_signed())
    }

    /// What an absent value stands for. That of a closed enum is its first one.
    pub(super) fn default_raw(&self, field: &FieldPlan) -> Raw<'static> {
        match field.kind {
            Kind::String | Kind::Bytes | Kind::Message(_) | Kind::Group(_) => Raw::Bytes(&[]),
            Kind::Enum(id) => Raw::Bits(i64::from(self.plans.enumeration(id).first()).cast_unsigned()),
            _ => Raw::Bits(0),
        }
    }
}

/// Quoted base64 with the standard alphabet and padding.
pub(in crate::transcode) fn write_base64(out: &mut Out<'_>, bytes: &[u8]) {
    out.byte(b'"');
    let length = base64_simd::STANDARD.encoded_length(bytes.len());
    let written = base64_simd::STANDARD.encode(bytes, out.window(length).as_out()).len();
    out.advance(written);
    out.byte(b'"');
}

#[inline]
pub(super) fn low_half(bits: u64) -> u32 {
    (bits & 0xffff_ffff) as u32
}
