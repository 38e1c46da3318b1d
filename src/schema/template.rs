//! Path templates of `google.api.http`: their grammar, and nothing about matching, which is `route`'s.
//!
//! ```text
//! Template  = "/" [ Segments ] [ Verb ] ;
//! Segments  = Segment { "/" Segment } ;
//! Segment   = "*" | "**" | LITERAL | Variable ;
//! Variable  = "{" FieldPath [ "=" Segments ] "}" ;
//! FieldPath = IDENT { "." IDENT } ;
//! Verb      = ":" LITERAL ;
//! ```
//!
//! That is the grammar of [`google/api/http.proto`][grammar] with two additions that existing APIs use: the bare `/`, and
//! `**` followed by more segments (`/v1/{name=**/botSessions/*}`). The verb begins at the last colon of the last segment;
//! colons elsewhere are part of a literal. Literals are kept decoded, because a literal and a path segment are equal
//! when they are equal after percent-decoding, however each of them is spelled.
//!
//! **Invariant**: a template has at most [`MAX_SEGMENTS`] segments and at most one `**`; no variable stands in another;
//! no two variables bind the same field or a field and its own member; every literal is one that a path may hold.
//!
//! [grammar]: https://github.com/googleapis/googleapis/blob/master/google/api/http.proto

use std::fmt;
use std::ops::Range;

use thiserror::Error;

/// Segments of one template at most: it bounds the depth of a search, and no known API has more than 15.
pub const MAX_SEGMENTS: usize = 64;

/// A parsed path template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: Box<str>,
    segments: Box<[Segment]>,
    variables: Box<[Variable]>,
    verb: Option<Box<[u8]>>,
}

/// What one segment of a template matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// A segment that has these bytes after percent-decoding.
    Literal(Box<[u8]>),
    /// `*`: any one segment that is not empty.
    Any,
    /// `**`: any number of segments, also none, also empty ones.
    Rest,
}

/// A field that takes its value from the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    field: Box<str>,
    segments: Range<usize>,
    multi: bool,
}

/// Why a text is not a template.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{problem} at byte {position}")]
pub struct TemplateError {
    /// Offset in bytes from the start of the template.
    pub position: usize,
    /// What is wrong there.
    pub problem: TemplateProblem,
}

/// What is wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TemplateProblem {
    /// The text departs from the grammar.
    #[error("expected {0}")]
    Expected(&'static str),
    /// No path can match: such paths are refused before any template is looked at.
    #[error("literal can match no path: {0}")]
    Unreachable(&'static str),
    /// A second `**`. With two, nothing says which of them gets which part of the path.
    #[error("second `**`, a template has one at most")]
    SecondRest,
    /// A variable inside a variable.
    #[error("variable inside a variable")]
    NestedVariable,
    /// Two variables bind the same field, or one binds a member of what the other binds.
    #[error("field `{0}` is bound twice")]
    BoundTwice(Box<str>),
    /// More than [`MAX_SEGMENTS`].
    #[error("more than {MAX_SEGMENTS} segments")]
    TooLong,
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// Whatever the grammar or the invariant at the head of this module does not allow, with its position.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let colon = verb_colon(text.as_bytes());
        let mut parser =
            Parser { text, end: colon.unwrap_or(text.len()), at: 0, segments: Vec::new(), variables: Vec::new() };
        parser.expect(b'/', "`/`")?;
        if text == "/" {
            // The path `/` is one empty segment.
            parser.segments.push(Segment::Literal(Box::default()));
        } else {
            parser.segments(Scope::Template)?;
        }
        let verb = colon.map(|colon| parser.verb(colon + 1)).transpose()?;
        Ok(Self { text: text.into(), segments: parser.segments.into(), variables: parser.variables.into(), verb })
    }

    /// Segments from the left, those of variables included. Never empty.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Variables from the left.
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// The verb without its colon, percent-decoded.
    pub fn verb(&self) -> Option<&[u8]> {
        self.verb.as_deref()
    }

    /// The template as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Variable {
    /// Path of the bound field: field names joined by dots.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// Field names from the outermost message to the leaf.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.field.split('.')
    }

    /// Which of [`Template::segments`] it captures. Never empty.
    pub fn segments(&self) -> Range<usize> {
        self.segments.clone()
    }

    /// Whether it may capture other than exactly one segment; then reserved characters in it stay encoded.
    pub fn is_multi(&self) -> bool {
        self.multi
    }
}

struct Parser<'t> {
    text: &'t str,
    /// Where the segments end: at the verb's colon, or at the end of the text.
    end: usize,
    at: usize,
    segments: Vec<Segment>,
    variables: Vec<Variable>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Template,
    Variable,
}

impl<'t> Parser<'t> {
    fn segments(&mut self, scope: Scope) -> Result<(), TemplateError> {
        loop {
            self.segment(scope)?;
            match (self.peek(), scope) {
                (Some(b'/'), _) => self.at += 1,
                (None, Scope::Template) | (Some(b'}'), Scope::Variable) => return Ok(()),
                (_, Scope::Template) => return Err(self.expected("`/`, `:` or the end")),
                (_, Scope::Variable) => return Err(self.expected("`/` or `}`")),
            }
        }
    }

    fn segment(&mut self, scope: Scope) -> Result<(), TemplateError> {
        if self.segments.len() == MAX_SEGMENTS {
            return Err(self.problem(TemplateProblem::TooLong));
        }
        let segment = match (self.peek(), scope) {
            (Some(b'{'), Scope::Template) => return self.variable(),
            (Some(b'{'), Scope::Variable) => return Err(self.problem(TemplateProblem::NestedVariable)),
            (Some(b'*'), _) => self.wildcard()?,
            _ => Segment::Literal(self.literal(self.end)?),
        };
        self.segments.push(segment);
        Ok(())
    }

    fn wildcard(&mut self) -> Result<Segment, TemplateError> {
        let start = self.at;
        self.at += 1;
        if self.peek() != Some(b'*') {
            return Ok(Segment::Any);
        }
        self.at += 1;
        if self.segments.contains(&Segment::Rest) {
            return Err(TemplateError { position: start, problem: TemplateProblem::SecondRest });
        }
        Ok(Segment::Rest)
    }

    fn variable(&mut self) -> Result<(), TemplateError> {
        self.at += 1;
        let start = self.at;
        let field = self.field_path()?;
        if self.variables.iter().any(|other| overlap(&other.field, field)) {
            return Err(TemplateError { position: start, problem: TemplateProblem::BoundTwice(field.into()) });
        }
        let first = self.segments.len();
        if self.peek() == Some(b'=') {
            self.at += 1;
            self.segments(Scope::Variable)?;
        } else {
            self.segments.push(Segment::Any);
        }
        self.expect(b'}', "`.`, `=` or `}`")?;
        let segments = first..self.segments.len();
        let multi = segments.len() != 1 || self.segments[first] == Segment::Rest;
        self.variables.push(Variable { field: field.into(), segments, multi });
        Ok(())
    }

    fn field_path(&mut self) -> Result<&'t str, TemplateError> {
        let start = self.at;
        loop {
            if !self.peek().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_') {
                return Err(self.expected("a field name"));
            }
            while self.peek().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                self.at += 1;
            }
            if self.peek() != Some(b'.') {
                return Ok(self.text.get(start..self.at).unwrap_or_default());
            }
            self.at += 1;
        }
    }

    fn verb(&mut self, start: usize) -> Result<Box<[u8]>, TemplateError> {
        self.at = start;
        let end = self.text.len();
        if start == end {
            return Err(self.expected("a verb"));
        }
        let verb = self.literal(end)?;
        if self.at < end { Err(self.expected("the end")) } else { Ok(verb) }
    }

    /// Takes a literal as far as it goes, and decodes it.
    fn literal(&mut self, end: usize) -> Result<Box<[u8]>, TemplateError> {
        let start = self.at;
        let bytes = &self.text.as_bytes()[..end];
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b'%' if bytes
                    .get(self.at + 1..self.at + 3)
                    .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) =>
                {
                    self.at += 3;
                }
                b'%' => return Err(self.expected("two hexadecimal digits after `%`")),
                b'/' | b'*' | b'{' | b'}' | b'?' | b'#' | b'\\' | 0..=b' ' | 0x7f => break,
                _ => self.at += 1,
            }
        }
        if self.at == start {
            return Err(self.expected("a literal, `*`, `**` or `{`"));
        }
        let literal: Box<[u8]> = Unescape(&bytes[start..self.at]).collect();
        let reason = if matches!(&*literal, b"." | b"..") {
            "dot segments are refused"
        } else if literal.contains(&0) {
            "NUL is refused"
        } else if literal.contains(&b'\\') {
            "backslash is refused"
        } else {
            return Ok(literal);
        };
        Err(TemplateError { position: start, problem: TemplateProblem::Unreachable(reason) })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied().filter(|_| self.at < self.end)
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), TemplateError> {
        if self.peek() != Some(byte) {
            return Err(self.expected(what));
        }
        self.at += 1;
        Ok(())
    }

    fn expected(&self, what: &'static str) -> TemplateError {
        self.problem(TemplateProblem::Expected(what))
    }

    fn problem(&self, problem: TemplateProblem) -> TemplateError {
        TemplateError { position: self.at, problem }
    }
}

/// The last colon of the last segment, if it stands outside a variable.
fn verb_colon(text: &[u8]) -> Option<usize> {
    let last = memchr::memrchr2(b'/', b'}', text).map_or(0, |at| at + 1);
    memchr::memrchr(b':', &text[last..]).map(|at| last + at)
}

/// Whether two field paths are equal, or one is an ancestor of the other.
fn overlap(one: &str, other: &str) -> bool {
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The bytes of a percent-encoded text, decoded once. A `%` that two hexadecimal digits do not follow stands for itself.
#[derive(Debug, Clone)]
pub(crate) struct Unescape<'a>(pub(crate) &'a [u8]);

impl Iterator for Unescape<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        if first == b'%'
            && let Some(byte) = escaped(rest)
        {
            self.0 = &rest[2..];
            return Some(byte);
        }
        self.0 = rest;
        Some(first)
    }
}

/// The byte that the two hexadecimal digits at the start of `text` stand for.
pub(crate) fn escaped(text: &[u8]) -> Option<u8> {
    let &[high, low, ..] = text else { return None };
    Some(hexadecimal(high)? << 4 | hexadecimal(low)?)
}

fn hexadecimal(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments with variables around them, decoded, as one line.
    fn shape(text: &str) -> String {
        let template = Template::parse(text).unwrap();
        let mut out = String::new();
        for (index, segment) in template.segments().iter().enumerate() {
            out.push('/');
            for variable in template.variables().iter().filter(|variable| variable.segments().start == index) {
                out += &format!("{{{}{}=", variable.field(), if variable.is_multi() { "+" } else { "" });
            }
            match segment {
                Segment::Literal(bytes) => out += &String::from_utf8_lossy(bytes),
                Segment::Any => out.push('*'),
                Segment::Rest => out += "**",
            }
            if template.variables().iter().any(|variable| variable.segments().end == index + 1) {
                out.push('}');
            }
        }
        if let Some(verb) = template.verb() {
            out += &format!(" verb {}", String::from_utf8_lossy(verb));
        }
        out
    }

    fn error(text: &str) -> String {
        Template::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn parses_the_grammar() {
        for (text, expected) in [
            ("/", "/"),
            ("/v1/shelves", "/v1/shelves"),
            ("/v1/*/x/**", "/v1/*/x/**"),
            ("/v1/shelves/{shelf}", "/v1/shelves/{shelf=*}"),
            ("/v1/{shelf=*}", "/v1/{shelf=*}"),
            ("/v1/{kind=books}", "/v1/{kind=books}"),
            ("/v1/{name=**}", "/v1/{name+=**}"),
            ("/v1/{book.name=shelves/*/books/**}:read", "/v1/{book.name+=shelves/*/books/**} verb read"),
            ("/v1/{name=**/botSessions/*}:join", "/v1/{name+=**/botSessions/*} verb join"),
            ("/v1/{parent=documents/*/**}/{id}", "/v1/{parent+=documents/*/**}/{id=*}"),
            ("/{a}/{b.c_1}", "/{a=*}/{b.c_1=*}"),
            ("/v1/messages:send", "/v1/messages verb send"),
            ("/v1/a:b:c", "/v1/a:b verb c"),
            ("/v1/a:b/c", "/v1/a:b/c"),
            ("/v1/{name=a:b}", "/v1/{name=a:b}"),
            ("/v1/a%3ab", "/v1/a:b"),
            ("/v1/a%2Fb@c", "/v1/a/b@c"),
            ("/v1/größe", "/v1/größe"),
        ] {
            assert_eq!(shape(text), expected, "{text}");
        }
    }

    #[test]
    fn prints_what_was_written() {
        let text = "/v1/{name=shelves/*/books/**}/a%20b:read";

        assert_eq!(Template::parse(text).unwrap().to_string(), text);
    }

    #[test]
    fn names_position_and_expectation() {
        for (text, expected) in [
            ("", "expected `/` at byte 0"),
            ("v1", "expected `/` at byte 0"),
            (":verb", "expected `/` at byte 0"),
            ("/:verb", "expected a literal, `*`, `**` or `{` at byte 1"),
            ("/v1/", "expected a literal, `*`, `**` or `{` at byte 4"),
            ("/v1//a", "expected a literal, `*`, `**` or `{` at byte 4"),
            ("/v1/a*", "expected `/`, `:` or the end at byte 5"),
            ("/v1/***", "expected `/`, `:` or the end at byte 6"),
            ("/v1/a?b=c", "expected `/`, `:` or the end at byte 5"),
            ("/v1/a}", "expected `/`, `:` or the end at byte 5"),
            ("/v1/a{b}", "expected `/`, `:` or the end at byte 5"),
            ("/v1/{a}b", "expected `/`, `:` or the end at byte 7"),
            ("/v1/a b", "expected `/`, `:` or the end at byte 5"),
            ("/v1/{", "expected a field name at byte 5"),
            ("/v1/{}", "expected a field name at byte 5"),
            ("/v1/{a.}", "expected a field name at byte 7"),
            ("/v1/{1a}", "expected a field name at byte 5"),
            ("/v1/{a", "expected `.`, `=` or `}` at byte 6"),
            ("/v1/{a-b}", "expected `.`, `=` or `}` at byte 6"),
            ("/v1/{a=}", "expected a literal, `*`, `**` or `{` at byte 7"),
            ("/v1/{a=/b}", "expected a literal, `*`, `**` or `{` at byte 7"),
            ("/v1/{a=b", "expected `/` or `}` at byte 8"),
            ("/v1/{a=*:b}", "expected `/` or `}` at byte 8"),
            ("/v1/{a={b}}", "variable inside a variable at byte 7"),
            ("/v1/a:", "expected a verb at byte 6"),
            ("/v1/a:b*", "expected the end at byte 7"),
            ("/v1/%zz", "expected two hexadecimal digits after `%` at byte 4"),
            ("/v1/%2", "expected two hexadecimal digits after `%` at byte 4"),
            ("/v1/%2:b", "expected two hexadecimal digits after `%` at byte 4"),
            ("/v1/**/a/**", "second `**`, a template has one at most at byte 9"),
            ("/v1/{a}/{a}", "field `a` is bound twice at byte 9"),
            ("/v1/{a.b}/{a}", "field `a` is bound twice at byte 11"),
            ("/v1/{a}/{a.b.c}", "field `a.b.c` is bound twice at byte 9"),
            ("/v1/../a", "literal can match no path: dot segments are refused at byte 4"),
            ("/v1/%2e", "literal can match no path: dot segments are refused at byte 4"),
            ("/v1/a%00", "literal can match no path: NUL is refused at byte 4"),
            ("/v1/a%5Cb", "literal can match no path: backslash is refused at byte 4"),
        ] {
            assert_eq!(error(text), expected, "{text}");
        }
    }

    #[test]
    fn fields_with_a_common_prefix_are_two_fields() {
        assert_eq!(shape("/{a}/{ab}/{a_b.c}"), "/{a=*}/{ab=*}/{a_b.c=*}");
    }

    #[test]
    fn bounds_the_number_of_segments() {
        assert!(Template::parse(&"/a".repeat(MAX_SEGMENTS)).is_ok());
        assert_eq!(error(&"/a".repeat(MAX_SEGMENTS + 1)), "more than 64 segments at byte 129");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in r"[/*{}=:.%a2é]{0,24}") {
            Template::parse(&text).ok();
        }
    }
}
