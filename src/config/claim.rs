//! The path of a claim, as configurations write it: `sub`, `realm_access.roles`, `"https://example.com/roles".0`.

use std::fmt;
use std::str::FromStr;

/// Where a claim stands. Names are joined by dots; one with a dot of its own is in double quotes, or has a backslash before
/// the dot. A number picks an item of a list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimPath(Box<[Box<str>]>);

impl ClaimPath {
    /// The names, at least one.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| &**name)
    }
}

impl FromStr for ClaimPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut names = Vec::new();
        let mut name = String::new();
        let mut characters = text.chars();
        let mut quoted = false;
        loop {
            match characters.next() {
                Some('"') => quoted = !quoted,
                Some('\\') => name.extend(characters.next()),
                Some('.') if !quoted => names.push(std::mem::take(&mut name).into_boxed_str()),
                Some(character) => name.push(character),
                None => break,
            }
        }
        names.push(name.into_boxed_str());
        if quoted || names.iter().any(|name| name.is_empty()) || names.len() > MAX_DEPTH {
            return Err(format!("{text:?} is not a claim; write its names joined by dots, such as realm_access.roles"));
        }
        Ok(Self(names.into()))
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.names().enumerate() {
            let dot = if index == 0 { "" } else { "." };
            write!(f, "{dot}{}", name.replace('\\', "\\\\").replace('.', "\\.").replace('"', "\\\""))?;
        }
        Ok(())
    }
}

const MAX_DEPTH: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let path: ClaimPath = text.parse().expect("a path");
        assert_eq!(path.to_string().parse::<ClaimPath>().as_ref(), Ok(&path));
        path.names().map(str::to_owned).collect()
    }

    #[test]
    fn names_are_joined_by_dots() {
        assert_eq!(names("sub"), ["sub"]);
        assert_eq!(names("realm_access.roles.0"), ["realm_access", "roles", "0"]);
        assert_eq!(names("\"https://example.com/roles\".0"), ["https://example.com/roles", "0"]);
        assert_eq!(names("https://example\\.com/roles"), ["https://example.com/roles"]);
    }

    #[test]
    fn empty_names_are_none() {
        for text in ["", ".", "a.", ".a", "a..b", "\"a", &"a.".repeat(40)] {
            assert!(text.parse::<ClaimPath>().is_err(), "{text:?}");
        }
    }
}
