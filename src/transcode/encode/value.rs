//! Single values: numbers, strings, bytes, enums, submessages.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64_simd::AsOut as _;

use super::{Encoder, Lead};
use crate::schema::{EnumId, Kind};
use crate::transcode::bindings::Overlay;
use crate::transcode::error::Result;
use crate::transcode::number::{self, NotNumber};
use crate::transcode::out::Out;
use crate::transcode::plan::{EnumPlan, FieldPlan, MessagePlan};
use crate::transcode::wire::WireType;
use crate::transcode::{message_set, suggest};

impl<'a> Encoder<'a, '_, '_> {
    /// One value of a field; `false` if it was dropped, because it is an unknown enum value and those are ignored.
    #[inline]
    pub(super) fn value(&mut self, field: &'a FieldPlan, lead: Lead) -> Result<bool> {
        let bits = match field.kind {
            Kind::String => return self.string(field, lead).map(|()| true),
            Kind::Bytes => return self.base64(field, lead).map(|()| true),
            Kind::Message(_) | Kind::Group(_) => return self.submessage(field, None).map(|()| true),
            Kind::Enum(id) => match self.enumeration(id)? {
                Some(bits) => bits,
                None => return Ok(false),
            },
            Kind::Bool => u64::from(self.lexer.boolean()?),
            Kind::Double => self.double()?,
            Kind::Float => self.number(field.kind)?,
            Kind::Int32
            | Kind::Int64
            | Kind::Uint32
            | Kind::Uint64
            | Kind::Sint32
            | Kind::Sint64
            | Kind::Fixed32
            | Kind::Fixed64
            | Kind::Sfixed32
            | Kind::Sfixed64 => self.integer(field.kind)?,
        };
        write_scalar(self.out, field, lead, bits);
        Ok(true)
    }

    /// A message field: tag, length, content.
    pub(super) fn submessage(&mut self, field: &'a FieldPlan, overlay: Option<Overlay<'a>>) -> Result<()> {
        let (Kind::Message(id) | Kind::Group(id)) = field.kind else {
            return Err(self.lexer.expected(number::description(field.kind)));
        };
        let plan = self.plans.message(id);
        if field.in_message_set {
            return self.message_set_item(field, plan);
        }
        self.out.tag(field.tag);
        if field.wire_type == WireType::StartGroup {
            self.message(plan, overlay)?;
            self.out.tag(field.end_group());
            return Ok(());
        }
        let run = self.out.begin();
        self.message(plan, overlay)?;
        self.out.end(run);
        Ok(())
    }

    /// A message field of a MessageSet. Neither path nor query can name one.
    #[cold]
    fn message_set_item(&mut self, field: &'a FieldPlan, plan: &'a MessagePlan) -> Result<()> {
        self.out.tag(message_set::ITEM);
        self.out.tag(message_set::TYPE_ID);
        self.out.varint(u64::from(field.number));
        self.out.tag(message_set::MESSAGE);
        let run = self.out.begin();
        self.message(plan, None)?;
        self.out.end(run);
        self.out.tag(message_set::END_ITEM);
        Ok(())
    }

    #[inline]
    fn string(&mut self, field: &FieldPlan, lead: Lead) -> Result<()> {
        let (plain, is_whole) = self.lexer.plain_string()?;
        if !is_whole {
            return self.escaped_string(field, plain);
        }
        if lead != Lead::TagUnlessDefault || !plain.is_empty() {
            self.out.delimited(field.tag, plain.as_bytes());
        }
        Ok(())
    }

    /// A string with escapes behind its plain start.
    #[inline(never)]
    fn escaped_string(&mut self, field: &FieldPlan, plain: &str) -> Result<()> {
        self.out.tag(field.tag);
        let run = self.out.begin();
        let out = &mut *self.out;
        out.bytes(plain.as_bytes());
        self.lexer.unescape(|word, length| out.word(word, length))?;
        self.out.end(run);
        Ok(())
    }

    fn base64(&mut self, field: &FieldPlan, lead: Lead) -> Result<()> {
        if self.lexer.peek() != b'"' {
            return Err(self.lexer.expected("a base64 string"));
        }
        let at = self.lexer.offset();
        let text = self.lexer.string()?;
        if write_base64(self.out, field, lead, &text) {
            return Ok(());
        }
        Err(self.lexer.expected_at(at, "a base64 string"))
    }

    #[inline(always)]
    pub(super) fn integer(&mut self, kind: Kind) -> Result<u64> {
        self.lexer.peek();
        let at = self.lexer.offset();
        if let Some(integer) = self.lexer.plain_integer() {
            let bits = number::integer_bits(kind, integer);
            return bits.map_err(|_| self.lexer.expected_at(at, number::description(kind)));
        }
        self.number(kind)
    }

    #[inline(always)]
    pub(super) fn double(&mut self) -> Result<u64> {
        match self.lexer.plain_decimal() {
            Some(decimal) => Ok(decimal.nearest().to_bits()),
            None => self.number(Kind::Double),
        }
    }

    /// A number in any notation, in quotes or not.
    fn number(&mut self, kind: Kind) -> Result<u64> {
        let first = self.lexer.peek();
        let at = self.lexer.offset();
        let bits = match first {
            b'"' => number::bits_of_text(kind, &self.lexer.string()?),
            b'-' | b'0'..=b'9' => number::bits(kind, self.lexer.number()?),
            _ => Err(NotNumber::Syntax),
        };
        bits.map_err(|_| self.lexer.expected_at(at, number::description(kind)))
    }

    fn enumeration(&mut self, id: EnumId) -> Result<Option<u64>> {
        let plan = self.plans.enumeration(id);
        let first = self.lexer.peek();
        let at = self.lexer.offset();
        let number = match first {
            b'"' => {
                let text = self.lexer.string()?;
                match enum_number(plan, &text) {
                    Some(number) => number,
                    None if self.ignore_unknown => return Ok(None),
                    None => return Err(self.lexer.error_at(at, suggest::no_such_value(plan, &text))),
                }
            }
            b'n' if plan.null => {
                self.lexer.null()?;
                0
            }
            b'-' | b'0'..=b'9' => number_of(self.integer(Kind::Enum(id))?),
            _ => return Err(self.lexer.expected(number::description(Kind::Enum(id)))),
        };
        if plan.closed && !plan.knows(number) {
            if self.ignore_unknown {
                return Ok(None);
            }
            return Err(self.lexer.expected_at(at, "the name or number of a declared enum value"));
        }
        Ok(Some(enum_bits(number)))
    }
}

/// A number or boolean with what stands in front of it.
#[inline]
pub(super) fn write_scalar(out: &mut Out<'_>, field: &FieldPlan, lead: Lead, bits: u64) {
    match lead {
        Lead::TagUnlessDefault if bits == 0 => return,
        Lead::Tag | Lead::TagUnlessDefault => out.tag(field.tag),
        Lead::Bare => {}
    }
    out.scalar(field.wire_type, bits);
}

/// Bytes from base64, `false` if it is none. Both alphabets are read, with padding or without.
pub(super) fn write_base64(out: &mut Out<'_>, field: &FieldPlan, lead: Lead, text: &str) -> bool {
    if text.is_empty() && lead == Lead::TagUnlessDefault {
        return true;
    }
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    if digits.len() % 4 == 1 || padding > 2 || (padding > 0 && !text.len().is_multiple_of(4)) {
        return false;
    }
    let (blocks, engine) = if memchr::memchr2(b'-', b'_', digits.as_bytes()).is_some() {
        (base64_simd::URL_SAFE_NO_PAD, &URL_SAFE)
    } else {
        (base64_simd::STANDARD_NO_PAD, &STANDARD)
    };
    let (whole, rest) = digits.as_bytes().split_at(digits.len() / 4 * 4);
    let length = whole.len() / 4 * 3 + rest.len() * 3 / 4;
    let start = out.len();
    out.tag(field.tag);
    out.varint(length as u64);
    let (front, back) = out.window(length).split_at_mut(whole.len() / 4 * 3);
    let sound = blocks.decode(whole, front.as_out()).is_ok() && engine.decode_slice_unchecked(rest, back).is_ok();
    if !sound {
        out.rewind(start);
        return false;
    }
    out.advance(length);
    true
}

/// Number of an enum value given as text: its name, or a number.
pub(super) fn enum_number(plan: &EnumPlan, text: &str) -> Option<i32> {
    plan.number(text).or_else(|| number::bits_of_text(Kind::Int32, text).ok().map(number_of))
}

/// The wire bits of an enum number: sign-extended.
#[inline]
pub(super) fn enum_bits(number: i32) -> u64 {
    i64::from(number).cast_unsigned()
}

/// The reverse of [`enum_bits`].
#[inline]
fn number_of(bits: u64) -> i32 {
    ((bits & 0xffff_ffff) as u32).cast_signed()
}

/// For the last digits alone: bits after the last whole byte are dropped, as protobuf's own parsers do.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
