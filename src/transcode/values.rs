//! JSON values one after the other, out of text that comes in pieces, cut anywhere: the body of a request stream.
//!
//! Two forms: the elements of one array, and values with white space between them, of which one per line is the usual
//! form (NDJSON, <https://github.com/ndjson/ndjson-spec>). Only where a value ends is found here, by its brackets and
//! quotes; what it says is checked when it is read as a message. Invariant: no more than one value is kept beside the
//! piece that came last, and none that is longer than the limit.

use bytes::{Buf as _, Bytes, BytesMut};

use super::error::{Error, Fault, Result};
use super::words::plain_end;

/// How the values of a text are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `[{…},{…}]`
    Array,
    /// `{…}⏎{…}⏎`
    Lines,
}

/// Takes pieces of a text, gives values.
///
/// ```text
///  Array:  Open ─[─▶ First ─value─▶ After ─,─▶ Next ─value─▶ After …  After, First ─]─▶ Closed
///  Lines:  Next ─value─▶ Next …
/// ```
#[derive(Debug)]
pub struct Values {
    form: Form,
    limit: usize,
    place: Place,
    /// What is left of the last piece.
    piece: Bytes,
    /// The start of a value that the last piece did not end.
    cut: BytesMut,
    within: Within,
    /// Values given.
    count: u64,
}

/// Where in the sequence the text is, outside values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Open,
    First,
    Next,
    After,
    Closed,
}

/// Where in a value the text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Within {
    /// Brackets that are open.
    depth: usize,
    token: Token,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    /// Between the tokens of an object or array, or before the value.
    None,
    String,
    /// Behind the backslash in a string.
    Escape,
    /// A number or a literal, which ends where something else begins.
    Word,
}

const OUTSIDE: Within = Within { depth: 0, token: Token::None };

impl Values {
    /// At the start of a text; values may have up to `limit` bytes.
    pub fn new(form: Form, limit: usize) -> Self {
        let place = match form {
            Form::Array => Place::Open,
            Form::Lines => Place::Next,
        };
        Self { form, limit, place, piece: Bytes::new(), cut: BytesMut::new(), within: OUTSIDE, count: 0 }
    }

    /// Adds the next piece. Those before it must be used up: [`Self::take`] has said `None`.
    pub fn push(&mut self, piece: Bytes) {
        debug_assert!(self.piece.is_empty(), "the last piece is used up");
        self.piece = piece;
    }

    /// The text of the next value; `None` when another piece is needed for it.
    ///
    /// # Errors
    /// Something else stands where a value, a comma or the end should be, or the value is longer than the limit.
    pub fn take(&mut self) -> std::result::Result<Option<Bytes>, Error> {
        self.next_value().map_err(|error| *error)
    }

    /// The last value, if the text may end here and did not say so before.
    ///
    /// # Errors
    /// A value, or the array, has no end.
    pub fn finish(&mut self) -> std::result::Result<Option<Bytes>, Error> {
        let is_word = self.within == Within { depth: 0, token: Token::Word };
        if self.form == Form::Lines && is_word {
            return Ok(Some(self.end(0)));
        }
        match self.place {
            Place::Closed => Ok(None),
            Place::Next if self.form == Form::Lines && self.cut.is_empty() => Ok(None),
            _ if self.is_within() => Err(*self.wrong("the text ends inside a value")),
            _ => Err(*self.wrong("the text ends inside the array")),
        }
    }

    /// Values given so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    fn is_within(&self) -> bool {
        self.within != OUTSIDE
    }

    fn next_value(&mut self) -> Result<Option<Bytes>> {
        if !self.is_within() && !self.find_start()? {
            return Ok(None);
        }
        let (length, ended) = self.within.follow(&self.piece);
        if self.cut.len() + length > self.limit {
            let mut error = self.wrong(&format!("the value is longer than the limit of {} bytes", self.limit));
            error.fault = Fault::TooLarge;
            return Err(error);
        }
        if ended {
            return Ok(Some(self.end(length)));
        }
        self.cut.extend_from_slice(&std::mem::take(&mut self.piece));
        Ok(None)
    }

    /// The value that ends behind so many bytes of the piece.
    fn end(&mut self, length: usize) -> Bytes {
        let last = self.piece.split_to(length);
        self.within = OUTSIDE;
        self.count += 1;
        self.place = match self.form {
            Form::Array => Place::After,
            Form::Lines => Place::Next,
        };
        if self.cut.is_empty() {
            return last;
        }
        self.cut.extend_from_slice(&last);
        self.cut.split().freeze()
    }

    /// Skips what stands between values. Whether one begins at the front of the piece.
    fn find_start(&mut self) -> Result<bool> {
        loop {
            let blank = self.piece.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
            self.piece.advance(blank);
            let Some(&byte) = self.piece.first() else { return Ok(false) };
            self.place = match (self.place, byte) {
                (Place::Open, b'[') => Place::First,
                (Place::First | Place::After, b']') => Place::Closed,
                (Place::After, b',') => Place::Next,
                (Place::First | Place::Next, b'"' | b'{' | b'[' | b'-' | b'0'..=b'9' | b'a'..=b'z') => return Ok(true),
                (Place::Open, _) => return Err(self.wrong("expected an array")),
                (Place::First, _) => return Err(self.wrong("expected a value or `]`")),
                (Place::Next, _) => return Err(self.wrong("expected a value")),
                (Place::After, _) => return Err(self.wrong("expected `,` or `]`")),
                (Place::Closed, _) => return Err(self.wrong("expected the end of the text")),
            };
            self.piece.advance(1);
        }
    }

    #[cold]
    fn wrong(&self, what: &str) -> Box<Error> {
        Error::client(format!("message {}: {what}", self.count + 1))
    }
}

impl Within {
    /// Follows a value. How many of these bytes belong to it, and whether it ends with them.
    fn follow(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match (self.token, byte) {
                (Token::String, _) => {
                    at = plain_end(bytes, at);
                    match bytes.get(at) {
                        None => break,
                        Some(b'"') => {
                            self.token = Token::None;
                            if self.depth == 0 {
                                return (at + 1, true);
                            }
                        }
                        Some(b'\\') => self.token = Token::Escape,
                        // A control character, which whoever reads the value refuses.
                        Some(_) => {}
                    }
                }
                (Token::Escape, _) => self.token = Token::String,
                (Token::Word, b' ' | b'\t' | b'\n' | b'\r' | b',' | b']' | b'}' | b':') if self.depth == 0 => {
                    return (at, true);
                }
                (Token::Word | Token::None, b'"') => self.token = Token::String,
                (Token::Word | Token::None, b'{' | b'[') => {
                    self.depth += 1;
                    self.token = Token::None;
                }
                (Token::Word | Token::None, b'}' | b']') => {
                    self.depth = self.depth.saturating_sub(1);
                    self.token = Token::None;
                    if self.depth == 0 {
                        return (at + 1, true);
                    }
                }
                (Token::None, _) if self.depth == 0 => self.token = Token::Word,
                (Token::Word | Token::None, _) => {}
            }
            at += 1;
        }
        (bytes.len(), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(form: Form, limit: usize, pieces: &[&[u8]]) -> std::result::Result<Vec<String>, String> {
        let mut values = Values::new(form, limit);
        let mut found = Vec::new();
        let mut keep = |value: Bytes| found.push(String::from_utf8_lossy(&value).into_owned());
        for piece in pieces {
            values.push(Bytes::copy_from_slice(piece));
            while let Some(value) = values.take().map_err(|error| error.to_string())? {
                keep(value);
            }
        }
        if let Some(value) = values.finish().map_err(|error| error.to_string())? {
            keep(value);
        }
        Ok(found)
    }

    #[test]
    fn values_come_whole_wherever_the_text_is_cut() {
        let expected = [r#"{"a":"]}\"\\","b":[1,{}]}"#, "[ ]", r#""x\u0022""#, "-1.5e3", "true", "null"];
        let array = format!(" [{} ]\n", expected.join(" , "));
        let lines = format!("\n{}", expected.join("\r\n\n"));

        for (form, text) in [(Form::Array, array.as_bytes()), (Form::Lines, lines.as_bytes())] {
            for first in 0..=text.len() {
                for second in first..=text.len() {
                    let found = all(form, 100, &[&text[..first], &text[first..second], &text[second..]]);
                    assert_eq!(found.unwrap(), expected, "{form:?} {first} {second}");
                }
            }
        }
    }

    #[test]
    fn nothing_is_a_sequence_too() {
        assert_eq!(all(Form::Array, 9, &[b"[]"]), Ok(vec![]));
        assert_eq!(all(Form::Lines, 9, &[b""]), Ok(vec![]));
        assert_eq!(all(Form::Lines, 9, &[b" \n"]), Ok(vec![]));
        assert_eq!(all(Form::Lines, 9, &[b"{}{}1\n2"]).unwrap(), ["{}", "{}", "1", "2"]);
    }

    #[test]
    fn what_is_no_sequence_is_refused_with_the_number_of_the_message() {
        let table: &[(Form, &str, &str)] = &[
            (Form::Array, "", "message 1: the text ends inside the array"),
            (Form::Array, "{}", "message 1: expected an array"),
            (Form::Array, "[{}", "message 2: the text ends inside the array"),
            (Form::Array, "[{", "message 1: the text ends inside a value"),
            (Form::Array, "[{},]", "message 2: expected a value"),
            (Form::Array, "[,{}]", "message 1: expected a value or `]`"),
            (Form::Array, "[{} {}]", "message 2: expected `,` or `]`"),
            (Form::Array, "[1}]", "message 2: expected `,` or `]`"),
            (Form::Array, "[{}] {}", "message 2: expected the end of the text"),
            (Form::Lines, "{}\n{\"a", "message 2: the text ends inside a value"),
            (Form::Lines, "{},{}", "message 2: expected a value"),
            (Form::Lines, "{\"123456789\":1}", "message 1: the value is longer than the limit of 9 bytes"),
        ];
        for (form, text, expected) in table {
            assert_eq!(all(*form, 9, &[text.as_bytes()]), Err((*expected).to_owned()), "{text}");
        }
    }

    #[test]
    fn endless_values_stop_at_the_limit() {
        let mut values = Values::new(Form::Lines, 1000);
        let pushed = (0..).find(|_| {
            values.push(Bytes::from_static(b"[[[["));
            values.take().is_err()
        });

        assert_eq!(pushed, Some(250));
    }
}
