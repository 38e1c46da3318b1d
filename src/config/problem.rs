//! What is wrong with a configuration, and where.
//!
//! Everything that is wrong is collected and shown at once; nothing stops at the first error. A problem of a file has
//! a line and a column, one of the command line only the flag's name.

use std::fmt;

use super::spelling::nearest;

/// Line and column, both from 1; the column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
}

/// Where a value stands: its key and, in a file, its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Such as `upstreams[0].endpoints`; empty for the whole file.
    pub(crate) path: String,
    pub(crate) position: Option<Position>,
}

/// One thing that is wrong, or that is worth a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, such as `upstreams[0].endpoints`, or the flag; empty when it is the file as a whole.
    pub path: String,
    /// Where in the file.
    pub position: Option<Position>,
    /// What, in a sentence without a period.
    pub message: String,
    /// The file as the operator named it, if a file it is.
    source: Option<Box<str>>,
    /// The line of the file.
    excerpt: Option<Box<str>>,
}

/// Everything that is wrong with a configuration, in file order; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(Vec<Problem>);

impl Errors {
    /// Wraps problems, of which there must be at least one.
    pub(crate) fn new(problems: Vec<Problem>) -> Self {
        debug_assert!(!problems.is_empty(), "errors without an error");
        Self(problems)
    }

    /// One error without a position.
    pub(crate) fn single(source: &str, message: String) -> Self {
        let place = Place { path: String::new(), position: None };
        Self(vec![Problem { source: Some(source.into()), ..Problem::new(place, message) }])
    }

    /// The problems in file order.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl Problem {
    pub(crate) fn new(place: Place, message: String) -> Self {
        Self { path: place.path, position: place.position, message, source: None, excerpt: None }
    }

    /// Adds the file's name and the line that the problem stands on.
    pub(crate) fn in_file(mut self, name: &str, text: &str) -> Self {
        self.source = Some(name.into());
        self.excerpt = self.position.and_then(|position| {
            let line = text.lines().nth(usize::try_from(position.line).ok()?.checked_sub(1)?)?;
            let is_shown = !line.trim().is_empty() && line.chars().count() <= MAX_EXCERPT;
            (is_shown && !may_hold_secret(&self.path) && !may_hold_secret(line)).then(|| line.into())
        });
        self
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// `portico.yaml:12:5: upstreams[0].endpoints: what is wrong`, then the line with a caret below the column.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(source) = &self.source {
            f.write_str(source)?;
            if let Some(position) = self.position {
                write!(f, ":{}:{}", position.line, position.column)?;
            }
            f.write_str(": ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if let (Some(excerpt), Some(position)) = (&self.excerpt, self.position) {
            write!(f, "\n{:>5} | {excerpt}\n{:>5} | ", position.line, "")?;
            // Tabs stay tabs, so that the caret stands below its character at every tab width.
            let before = excerpt.chars().take(usize::try_from(position.column).unwrap_or(0).saturating_sub(1));
            for character in before {
                f.write_str(if character == '\t' { "\t" } else { " " })?;
            }
            f.write_str("^")?;
        }
        Ok(())
    }
}

/// Whether a key or a line may be, or have beside it, what nobody should read in a log: by its name, also where that is
/// misspelt, or as the user or the query of a URL.
pub(super) fn may_hold_secret(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let mut words = text.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    // Keys may be quoted, as in JSON, or stand apart from their colon.
    let bare = text.replace(['"', '\'', ' ', '\t'], "");
    bare.contains("text:")
        || bare.contains("base64:")
        || (text.contains("://") && text.contains(['@', '?']))
        // A password whose user and host are missing.
        || text.contains("://:")
        || words.any(|word| word.len() > 3 && nearest(word, &["password", "secret", "client_secret"]).is_some())
}

/// Longer lines are not shown; nobody finds a caret in them.
const MAX_EXCERPT: usize = 160;
