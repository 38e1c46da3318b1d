//! JSON text, token by token: strict RFC 8259.
//!
//! No comments, no trailing commas, no byte order mark, no leading zeros, nothing after the value. The text is known to
//! be UTF-8 before the first token is read. Objects and arrays together nest at most [`MAX_DEPTH`] deep; everything
//! that is skipped is checked all the same.

use std::borrow::Cow;

use super::error::{Error, Result, excerpt};
use super::number::{self, Decimal, Integer};
use super::words::{self, plain_end};

/// Objects and arrays inside each other; what protobuf's own JSON parser allows.
pub(super) const MAX_DEPTH: usize = 100;

/// Reads tokens from the front of a text. Cheap to copy, which is how something is looked at twice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Lexer<'a> {
    /// At the start of a text.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, bytes: text.as_bytes(), at: 0, depth: 0 }
    }

    /// Checks a body once and starts to read it.
    ///
    /// # Errors
    /// It is not UTF-8.
    pub(super) fn checked(body: &'a [u8]) -> Result<Self> {
        if let Ok(text) = simdutf8::basic::from_utf8(body) {
            return Ok(Self::new(text));
        }
        // Again, to say where.
        let valid = body.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        Err(Error::client("invalid UTF-8").at(valid, valid.len()))
    }

    /// Offset of the next byte.
    #[inline]
    pub(super) fn offset(&self) -> usize {
        self.at
    }

    /// Skips white space and gives the first byte of the next token; 0, which starts none, at the end.
    #[inline]
    pub(super) fn peek(&mut self) -> u8 {
        match self.bytes.get(self.at) {
            Some(&byte) if byte > b' ' => byte,
            _ => self.peek_slow(),
        }
    }

    fn peek_slow(&mut self) -> u8 {
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                _ => return byte,
            }
        }
        0
    }

    /// Consumes exactly these bytes if they are next.
    #[inline]
    pub(super) fn eat(&mut self, bytes: &[u8]) -> bool {
        let next = self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(bytes));
        if next {
            self.at += bytes.len();
        }
        next
    }

    /// Opens an object (`{`) or an array (`[`).
    #[inline]
    pub(super) fn open(&mut self, bracket: u8) -> Result<()> {
        if self.peek() != bracket {
            return Err(self.expected(if bracket == b'{' { "an object" } else { "an array" }));
        }
        if self.depth == MAX_DEPTH {
            return Err(self.error(format!("objects and arrays are nested more than {MAX_DEPTH} levels deep")));
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    /// Whether another member or element follows; consumes the comma before it, or the closing bracket.
    #[inline]
    pub(super) fn more(&mut self, bracket: u8, first: &mut bool) -> Result<bool> {
        let byte = self.peek();
        if byte == bracket {
            self.at += 1;
            self.depth -= 1;
            return Ok(false);
        }
        if !std::mem::take(first) {
            if byte != b',' {
                return Err(self.expected(if bracket == b'}' { "`,` or `}`" } else { "`,` or `]`" }));
            }
            self.at += 1;
            self.peek();
        }
        Ok(true)
    }

    /// The name of a member, and the colon behind it.
    pub(super) fn key(&mut self) -> Result<Cow<'a, str>> {
        if self.peek() != b'"' {
            return Err(self.expected("a field name in quotes"));
        }
        let key = self.string()?;
        if self.peek() != b':' {
            return Err(self.expected("`:`"));
        }
        self.at += 1;
        Ok(key)
    }

    /// Nothing but white space is left.
    pub(super) fn end(&mut self) -> Result<()> {
        match self.peek() {
            0 if self.at == self.bytes.len() => Ok(()),
            _ => Err(self.expected("the end of the text")),
        }
    }

    /// A string; borrowed if it has no escapes.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>> {
        let (plain, is_whole) = self.plain_string()?;
        if is_whole {
            return Ok(Cow::Borrowed(plain));
        }
        let mut unescaped = plain.as_bytes().to_vec();
        self.unescape(|word, length| {
            unescaped.extend_from_slice(word.to_le_bytes().get(..length).unwrap_or_default())
        })?;
        // Cut only at ASCII and extended only by whole characters: always UTF-8.
        String::from_utf8(unescaped).map(Cow::Owned).map_err(|_| Error::client("invalid UTF-8 in a string"))
    }

    /// A string up to its first escape, and whether there is none. What follows an escape is read by
    /// [`Lexer::unescape`].
    #[inline(always)]
    pub(super) fn plain_string(&mut self) -> Result<(&'a str, bool)> {
        if self.peek() != b'"' {
            return Err(self.expected("a string"));
        }
        let start = self.at + 1;
        let end = plain_end(self.bytes, start);
        let is_whole = match self.bytes.get(end) {
            Some(b'"') => true,
            Some(b'\\') => false,
            _ => return Err(self.broken_string(end)),
        };
        self.at = end + usize::from(is_whole);
        Ok((self.text.get(start..end).unwrap_or_default(), is_whole))
    }

    /// Hands out the rest of a string, from an escape on, in words of up to eight bytes, escapes resolved.
    #[inline]
    pub(super) fn unescape(&mut self, mut write: impl FnMut(u64, usize)) -> Result<()> {
        let (bytes, mut at) = (self.bytes, self.at);
        // Escapes often stand side by side: they share a word with what stands before them.
        let (mut word, mut length) = (0, 0);
        loop {
            while bytes.get(at) == Some(&b'\\') {
                let letter = bytes.get(at + 1).copied().unwrap_or(0);
                let (character, width, read) = match SIMPLE_ESCAPES[usize::from(letter)] {
                    0 => unicode_escape(bytes, at).ok_or_else(|| self.broken_escape(at))?,
                    byte => (u64::from(byte), 1, 2),
                };
                if length + width > 8 {
                    write(word, length);
                    (word, length) = (0, 0);
                }
                word |= character << (8 * length);
                length += width;
                at += read;
            }
            write(word, length);
            word = words::load_inside(bytes, at);
            length = words::before(words::special(word));
            while length == 8 {
                write(word, 8);
                at += 8;
                word = words::load_inside(bytes, at);
                length = words::before(words::special(word));
            }
            at += length;
            match bytes.get(at) {
                Some(b'"') => {
                    write(word, length);
                    self.at = at + 1;
                    return Ok(());
                }
                Some(b'\\') => word &= (1 << (8 * length)) - 1,
                _ => return Err(self.broken_string(at)),
            }
        }
    }

    #[cold]
    fn broken_escape(&mut self, at: usize) -> Box<Error> {
        self.at = at;
        self.error("not a valid escape in a string".to_owned())
    }

    #[cold]
    fn broken_string(&mut self, at: usize) -> Box<Error> {
        self.at = at;
        self.error(match self.bytes.get(at) {
            None => "the text ends inside a string".to_owned(),
            Some(byte) => format!("control character 0x{byte:02x} in a string must be escaped"),
        })
    }

    /// An integer without fraction or exponent, alone or in quotes, as 64-bit ones usually come; `None`, with nothing
    /// consumed, for everything else.
    #[inline(always)]
    pub(super) fn plain_integer(&mut self) -> Option<Integer> {
        let quotes = usize::from(self.peek() == b'"');
        let (integer, end) = number::plain_integer(self.bytes, self.at + quotes)?;
        if quotes == 1 && self.bytes.get(end) != Some(&b'"') {
            return None;
        }
        self.at = end + quotes;
        Some(integer)
    }

    /// A decimal number without exponent whose digits fit into 64 bits; `None`, with nothing consumed, for everything else.
    #[inline(always)]
    pub(super) fn plain_decimal(&mut self) -> Option<Decimal> {
        self.peek();
        let (decimal, end) = number::plain_decimal(self.bytes, self.at)?;
        self.at = end;
        Some(decimal)
    }

    /// A number by the grammar, as text.
    pub(super) fn number(&mut self) -> Result<&'a str> {
        self.peek();
        let length = number::scan(self.bytes.get(self.at..).unwrap_or_default());
        match self.text.get(self.at..self.at + length) {
            Some(token) if length > 0 => {
                self.at += length;
                Ok(token)
            }
            _ => Err(self.expected("a number")),
        }
    }

    /// `true` or `false`.
    #[inline]
    pub(super) fn boolean(&mut self) -> Result<bool> {
        self.peek();
        if self.eat(b"true") {
            Ok(true)
        } else if self.eat(b"false") {
            Ok(false)
        } else {
            Err(self.expected("true or false"))
        }
    }

    /// `null`.
    pub(super) fn null(&mut self) -> Result<()> {
        self.peek();
        if self.eat(b"null") { Ok(()) } else { Err(self.expected("null")) }
    }

    /// Any value, checked and forgotten. Iterative but for the depth that is bounded anyway.
    pub(super) fn skip(&mut self) -> Result<()> {
        match self.peek() {
            b'{' => {
                self.open(b'{')?;
                let mut first = true;
                while self.more(b'}', &mut first)? {
                    self.key()?;
                    self.skip()?;
                }
                Ok(())
            }
            b'[' => {
                self.open(b'[')?;
                let mut first = true;
                while self.more(b']', &mut first)? {
                    self.skip()?;
                }
                Ok(())
            }
            b'"' => match self.plain_string()? {
                (_, true) => Ok(()),
                (_, false) => self.unescape(|_, _| {}),
            },
            b't' | b'f' => self.boolean().map(|_| ()),
            b'n' => self.null(),
            b'-' | b'0'..=b'9' => self.number().map(|_| ()),
            _ => Err(self.expected("a JSON value")),
        }
    }

    /// An error at the next token: what was expected, and what stands there.
    #[cold]
    pub(super) fn expected(&self, what: &str) -> Box<Error> {
        self.error(format!("expected {what}, found {}", self.found()))
    }

    /// The same for a token that was read already.
    #[cold]
    pub(super) fn expected_at(&self, offset: usize, what: &str) -> Box<Error> {
        Self { at: offset, ..*self }.expected(what)
    }

    /// An error at the next token.
    #[cold]
    pub(super) fn error(&self, message: String) -> Box<Error> {
        Error::client(message).at(self.text, self.at)
    }

    /// An error at a token that was read already.
    #[cold]
    pub(super) fn error_at(&self, offset: usize, message: String) -> Box<Error> {
        Error::client(message).at(self.text, offset)
    }

    fn found(&self) -> String {
        let rest = self.text.get(self.at..).unwrap_or_default();
        match rest.bytes().next() {
            None => "the end of the text".to_owned(),
            Some(b'{') => "an object".to_owned(),
            Some(b'[') => "an array".to_owned(),
            Some(b'"') => {
                let mut ahead = *self;
                match ahead.string() {
                    Ok(text) => format!("the string {}", excerpt(&text)),
                    Err(_) => "a string".to_owned(),
                }
            }
            Some(byte) if byte.is_ascii_alphanumeric() || byte == b'-' => {
                let word = rest
                    .split(|character: char| !character.is_ascii_alphanumeric() && !"+-._".contains(character))
                    .next()
                    .unwrap_or_default();
                let shown: String = word.chars().take(40).collect();
                format!("`{shown}`{}", if shown.len() < word.len() { "..." } else { "" })
            }
            Some(_) => {
                let character = rest.chars().next().unwrap_or_default();
                format!("`{}`", character.escape_debug())
            }
        }
    }
}

/// What a backslash and a letter stand for; 0 where that is no escape.
const SIMPLE_ESCAPES: [u8; 256] = {
    let pairs = *b"\"\"\\\\//b\x08f\x0cn\nr\rt\t";
    let mut bytes = [0; 256];
    let mut index = 0;
    while index < pairs.len() {
        bytes[pairs[index] as usize] = pairs[index + 1];
        index += 2;
    }
    bytes
};

/// The character that a `\uXXXX` at `at` stands for, as UTF-8; how many bytes that has, and how many the escape has.
/// Surrogates must come in pairs.
fn unicode_escape(bytes: &[u8], at: usize) -> Option<(u64, usize, usize)> {
    let unit = |at: usize| bytes.get(at..at + 6).and_then(|unit| unit.strip_prefix(b"\\u")).and_then(code_unit);
    let first = unit(at)?;
    let (code, read) = if (0xd800..0xdc00).contains(&first) {
        let second = unit(at + 6).filter(|second| (0xdc00..0xe000).contains(second))?;
        (0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00), 12)
    } else {
        (first, 6)
    };
    // A second half alone is no character.
    let (utf8, width) = words::to_utf8(char::from_u32(code)?);
    Some((utf8, width, read))
}

#[inline]
fn code_unit(digits: &[u8]) -> Option<u32> {
    let digits: &[u8; 4] = digits.try_into().ok()?;
    let [a, b, c, d] = digits.map(|digit| u32::from(HEX_DIGITS[usize::from(digit)]));
    let unit = a << 12 | b << 8 | c << 4 | d;
    ((a | b | c | d) < 16).then_some(unit)
}

/// What each hexadecimal digit stands for; 16 where a byte is none.
const HEX_DIGITS: [u8; 256] = {
    let mut values = [16; 256];
    let mut value = 0;
    while value < 16 {
        values[b"0123456789abcdef"[value as usize] as usize] = value;
        values[b"0123456789ABCDEF"[value as usize] as usize] = value;
        value += 1;
    }
    values
};

#[cfg(test)]
mod tests {
    use super::*;

    fn skips(text: &str) -> bool {
        let mut lexer = Lexer::new(text);
        lexer.skip().and_then(|()| lexer.end()).is_ok()
    }

    #[test]
    fn takes_exactly_what_serde_json_takes() {
        let texts = [
            "{}",
            " [ ] ",
            "[1,2]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{\"a\":1}",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\" 1}",
            "{\"a\":}",
            "\"\\u00e9\"",
            "\"\\ud83d\\ude00\"",
            "\"\\ud83d\"",
            "\"\\ude00\"",
            "\"\\x\"",
            "\"\n\"",
            "\"a",
            "\"\\",
            "01",
            "1.",
            "-",
            "1e5",
            "nul",
            "null",
            "nullx",
            "true false",
            "",
            "\u{feff}1",
            "// a\n1",
            "[1]]",
            "{]",
            "'a'",
            "\"12345678\\\"1234567890\"",
            "\"\u{7f}é\"",
            "\"1234567\u{1f}\"",
        ];
        for text in texts {
            assert_eq!(skips(text), serde_json::from_str::<serde_json::Value>(text).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn strings_come_out_as_serde_json_reads_them() {
        for text in [r#""plain""#, r#""a\"b\\c\/d\b\f\n\r\té""#, r#""😀 \u0000""#, r#""é ü 漢字 and more text""#]
        {
            let expected: String = serde_json::from_str(text).unwrap();

            assert_eq!(Lexer::new(text).string().unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        assert!(skips(&format!("{}{}", "[".repeat(100), "]".repeat(100))));
        assert!(!skips(&format!("{}{}", "[".repeat(101), "]".repeat(101))));
        assert!(!skips(&"{\"a\":".repeat(1_000_000)));
    }

    #[test]
    fn errors_say_what_stood_there() {
        let found = |text: &str| Lexer::new(text).expected("x").message;

        assert_eq!(found("{}"), "expected x, found an object");
        assert_eq!(found("\"a\\nb\""), "expected x, found the string \"a\\nb\"");
        assert_eq!(found("12.5,"), "expected x, found `12.5`");
        assert_eq!(found(""), "expected x, found the end of the text");
        assert_eq!(found(";"), "expected x, found `;`");
    }

    #[test]
    fn plain_integers_leave_the_rest_to_the_exact_way() {
        let plain = |text: &str| Lexer::new(text).plain_integer().map(|integer| (integer.negative, integer.magnitude));

        assert_eq!(plain("-12,"), Some((true, 12)));
        assert_eq!(plain("0"), Some((false, 0)));
        for text in ["01", "1.0", "1e2", "1234567890123456789", "-", "x"] {
            assert_eq!(plain(text), None, "{text}");
        }
        assert_eq!(plain(" \"12\""), Some((false, 12)));
        for text in ["\"\"", "\" 12\"", "\"12 \"", "\"12", "\"1.0\"", "\"", "12\"", "\"\"12"] {
            assert_eq!(plain(text).filter(|_| text.starts_with('"')), None, "{text}");
        }
    }
}
