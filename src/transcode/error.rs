//! What is wrong with a body, a query or a reply, and whose fault it is.
//!
//! Inside the module errors are boxed, so that the results of small functions stay small; the field path is put
//! together while the error travels outwards, which costs nothing as long as there is none.

use std::fmt;

use super::wire::Malformed;

/// A message that could not be transcoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Who sent what is wrong.
    pub fault: Fault,
    /// Path of the field by names of the `.proto` file, such as `books[3].authors[0].birth_year`; empty if the message
    /// as a whole is wrong. Of what a caller made up, cut and escaped.
    pub field: String,
    /// What was expected and what stood there, cut and escaped. Replies are never quoted.
    pub message: String,
    /// Where in the JSON text.
    pub position: Option<Position>,
    /// Words for the log alone: they may name what a reply says.
    pub note: Option<String>,
}

/// Who sent what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The caller's path, query or body.
    Client,
    /// The upstream's reply.
    Upstream,
    /// Whoever sent what is too long as JSON, sound or not: a reply, or a value of a stream.
    TooLarge,
}

/// A place in a text; both count from 1, columns in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Byte in the line.
    pub column: usize,
}

/// Result of everything inside the module.
pub(super) type Result<T> = std::result::Result<T, Box<Error>>;

impl Error {
    /// The caller sent something wrong.
    pub(super) fn client(message: impl Into<String>) -> Box<Self> {
        Self::new(Fault::Client, message.into())
    }

    /// The upstream sent something wrong.
    pub(super) fn upstream(message: impl Into<String>) -> Box<Self> {
        Self::new(Fault::Upstream, message.into())
    }

    /// The reply's text is longer than it may be.
    pub(super) fn too_large() -> Box<Self> {
        Self::new(Fault::TooLarge, "the JSON text is longer than allowed".into())
    }

    #[cold]
    fn new(fault: Fault, message: String) -> Box<Self> {
        Box::new(Self { fault, field: String::new(), message, position: None, note: None })
    }

    /// The same error with words for the log alone.
    #[cold]
    pub(super) fn with_note(mut self: Box<Self>, note: String) -> Box<Self> {
        self.note = Some(note);
        self
    }

    /// The same error seen from the message that holds the field, whose name is the schema's.
    #[cold]
    pub(super) fn within(mut self: Box<Self>, name: &str) -> Box<Self> {
        let dot = if self.field.is_empty() || self.field.starts_with('[') { "" } else { "." };
        self.field.insert_str(0, dot);
        self.field.insert_str(0, name);
        self
    }

    /// The same error seen from where a caller gives a name that may be any text: escaped, at most 100 characters of it.
    #[cold]
    pub(super) fn within_given(self: Box<Self>, name: &str) -> Box<Self> {
        const SHOWN: usize = 100;
        self.within(&name.chars().take(SHOWN).flat_map(char::escape_debug).collect::<String>())
    }

    /// The same error seen from the repeated field that holds the element.
    #[cold]
    pub(super) fn at_index(self: Box<Self>, index: usize) -> Box<Self> {
        self.within(&format!("[{index}]"))
    }

    /// The same error seen from the map that holds the entry.
    #[cold]
    pub(super) fn at_key(self: Box<Self>, key: &str) -> Box<Self> {
        self.within(&format!("[{}]", excerpt(key)))
    }

    /// The same error with its place in `text`.
    #[cold]
    pub(super) fn at(mut self: Box<Self>, text: &str, offset: usize) -> Box<Self> {
        let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        let line = memchr::memchr_iter(b'\n', before).count() + 1;
        self.position = Some(Position { line, column: before.len() - line_start + 1 });
        self
    }
}

impl Error {
    /// What is wrong and where in the text, without the field.
    pub fn describe(&self) -> String {
        match self.position {
            Some(Position { line, column }) => format!("{} (line {line}, column {column})", self.message),
            None => self.message.clone(),
        }
    }
}

impl From<Malformed> for Box<Error> {
    fn from(malformed: Malformed) -> Self {
        Error::upstream(malformed.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.describe())
    }
}

impl std::error::Error for Error {}

/// What is wrong with a required field that is not given.
pub(super) const REQUIRED: &str = "the field is required";

/// The start of a text as it may be shown: quoted, escaped, at most 40 characters.
pub(super) fn excerpt(text: &str) -> String {
    const SHOWN: usize = 40;
    let mut shown = String::from("\"");
    for (count, character) in text.chars().enumerate() {
        if count == SHOWN {
            shown.push_str("...");
            break;
        }
        shown.extend(character.escape_debug());
    }
    shown.push('"');
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_reads_from_the_outside_in() {
        let error = Error::client("expected a string").within("name").at_index(3).within("books").at_key("a b");

        assert_eq!(error.field, "[\"a b\"].books[3].name");
    }

    #[test]
    fn position_counts_lines_and_columns_from_one() {
        let error = Error::client("x").at("{\n  \"a\"", 4);

        assert_eq!(error.position, Some(Position { line: 2, column: 3 }));
        assert_eq!(error.to_string(), "x (line 2, column 3)");
    }

    #[test]
    fn excerpt_is_cut_and_escaped() {
        assert_eq!(excerpt("a\"\n"), r#""a\"\n""#);
        assert_eq!(excerpt(&"é".repeat(50)).chars().count(), 45);
    }
}
