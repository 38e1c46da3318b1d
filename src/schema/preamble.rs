//! What a `.proto` source says of itself before anything compiles it: its edition, and what it imports.
//!
//! This is no parser: it tells words, strings and comments apart and looks for `edition = "…"` at the start and for
//! `import … "…"` anywhere. A broken source yields what can be seen in it; compilers do the complaining.

use std::path::Path;

use super::source::Editions;

/// A piece of a source that is neither blank nor comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    /// What stands between the quotes, escapes and all.
    Text(&'a str),
    Sign(char),
}

/// The edition that the source's first statement declares; `file` names it in errors.
pub(super) fn edition(file: &Path, source: &str) -> Option<Editions> {
    let mut tokens = Tokens { rest: source.trim_start_matches('\u{feff}') };
    tokens.skip_blanks();
    let before = source.len() - tokens.rest.len();
    let (Token::Word("edition"), Token::Sign('=')) = (tokens.next()?, tokens.next()?) else { return None };
    let edition = match tokens.next() {
        Some(Token::Text(edition)) => edition.to_owned(),
        Some(Token::Word(_) | Token::Sign(_)) | None => String::new(),
    };
    let line = 1 + source.bytes().take(before).filter(|byte| *byte == b'\n').count();
    Some(Editions { file: file.to_owned(), line, edition })
}

/// The names of the imported files, in order. An `import` that is no statement may bring a name too many.
pub(super) fn imports(source: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut is_import = false;
    for token in (Tokens { rest: source }) {
        match token {
            Token::Word("import") => is_import = true,
            Token::Word("public" | "weak" | "option") => {}
            Token::Text(name) if is_import => {
                names.push(name);
                is_import = false;
            }
            Token::Word(_) | Token::Text(_) | Token::Sign(_) => is_import = false,
        }
    }
    names
}

/// The tokens of what is left of a source.
struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    fn skip_blanks(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            if let Some(line) = self.rest.strip_prefix("//") {
                self.rest = line.split_once('\n').map_or("", |(_, after)| after);
            } else if let Some(comment) = self.rest.strip_prefix("/*") {
                self.rest = comment.split_once("*/").map_or("", |(_, after)| after);
            } else {
                return;
            }
        }
    }

    /// The string after its opening quote.
    fn text(&mut self, quote: char) -> &'a str {
        let mut is_escaped = false;
        let end = self.rest.find(|letter| {
            let ends = (letter == quote && !is_escaped) || letter == '\n';
            is_escaped = letter == '\\' && !is_escaped;
            ends
        });
        let (text, after) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = after.strip_prefix(quote).unwrap_or(after);
        text
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blanks();
        let word_end = self.rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
        let (word, after) = self.rest.split_at(word_end.unwrap_or(self.rest.len()));
        if !word.is_empty() {
            self.rest = after;
            return Some(Token::Word(word));
        }
        let mut letters = self.rest.chars();
        let first = letters.next()?;
        self.rest = letters.as_str();
        Some(match first {
            '"' | '\'' => Token::Text(self.text(first)),
            sign => Token::Sign(sign),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edition_is_the_first_statement_after_comments() {
        let of = |source| edition(Path::new("a.proto"), source).map(|editions| (editions.line, editions.edition));

        assert_eq!(of("/* licence\n */ // more\nedition = \"2023\"; message New {}"), Some((3, "2023".into())));
        assert_eq!(of("\u{feff}edition='2024';"), Some((1, "2024".into())));
        assert_eq!(of("edition = ;"), Some((1, String::new())));
        assert_eq!(of("syntax = \"proto3\"; // edition = \"2023\";"), None);
        assert_eq!(of("// edition = \"2023\";"), None);
        assert_eq!(of("editions = \"2023\";"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn imports_are_found_between_comments_and_strings() {
        let source = r#"
            edition = "2024";
            import "a.proto";
            import public /* here too */ 'b/c.proto'; // import "no.proto";
            import option"d.proto";
            message M {
              string import = 1 [default = "import \"no.proto\"", json_name = 'it\\'];
              string open = 2 [default = "unclosed];
            }
            import weak "e.proto"; /* import "no.proto""#;

        assert_eq!(imports(source), ["a.proto", "b/c.proto", "d.proto", "e.proto"]);
    }
}
