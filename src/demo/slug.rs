//! The last part of a resource name: what may stand there, and how it is made from a title.

use tonic::Status;

use super::fault;

/// Longest identifier, in bytes.
const LONGEST: usize = 63;

/// Lower case letters, digits and hyphens: `Moby-Dick; or, The Whale` becomes `moby-dick-or-the-whale`.
///
/// Empty when the text has neither ASCII letters nor digits.
pub(crate) fn slug(text: &str) -> String {
    // An apostrophe joins what stands beside it.
    let text = text.replace(['\'', '’'], "");
    let mut slug = String::new();
    for part in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty()) {
        let hyphen = usize::from(!slug.is_empty());
        if slug.len() + hyphen + part.len() > LONGEST {
            break;
        }
        if hyphen == 1 {
            slug.push('-');
        }
        slug.push_str(&part.to_ascii_lowercase());
    }
    slug
}

/// The full name of a new resource, from the identifier that the caller gave or else from its title.
///
/// `field` is where the identifier was given, `taken` tells names in use. A name made from a title gets a number when
/// it is taken.
///
/// # Errors
/// INVALID_ARGUMENT for an identifier with other characters, ALREADY_EXISTS for one in use.
pub(crate) fn fresh_name(
    Wanted { kind, prefix, field, identifier, title }: Wanted<'_>,
    taken: impl Fn(&str) -> bool,
) -> Result<String, Status> {
    if identifier.is_empty() {
        let base = match slug(title) {
            empty if empty.is_empty() => String::from(kind),
            slug => slug,
        };
        let mut name = format!("{prefix}{base}");
        let mut number = 2;
        // Ends: the number of resources is bounded.
        while taken(&name) {
            name = format!("{prefix}{base}-{number}");
            number += 1;
        }
        return Ok(name);
    }
    let sound = identifier.len() <= LONGEST
        && identifier.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && identifier != "-";
    if !sound {
        let rule = format!("lower case letters, digits and hyphens, at most {LONGEST} of them");
        return Err(fault::invalid(field, rule));
    }
    let name = format!("{prefix}{identifier}");
    if taken(&name) { Err(fault::already_exists(kind, &name)) } else { Ok(name) }
}

/// What a new name is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// `shelf` or `book`.
    pub(crate) kind: &'a str,
    /// What stands before the identifier.
    pub(crate) prefix: &'a str,
    /// Field of the request that holds the identifier.
    pub(crate) field: &'a str,
    /// The identifier; empty when the caller gave none.
    pub(crate) identifier: &'a str,
    /// What to make one from.
    pub(crate) title: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_slugs_of_titles() {
        assert_eq!(slug("Moby-Dick; or, The Whale"), "moby-dick-or-the-whale");
        assert_eq!(slug("Gulliver's Travels"), "gullivers-travels");
        assert_eq!(slug("  1984 "), "1984");
        assert_eq!(slug("論語"), "");
        assert!(slug(&"word ".repeat(100)).len() <= LONGEST);
    }

    #[test]
    fn numbers_names_that_are_taken() {
        let wanted = Wanted { kind: "book", prefix: "b/", field: "book_id", identifier: "", title: "Emma" };

        let name = fresh_name(wanted, |name| name == "b/emma").unwrap();

        assert_eq!(name, "b/emma-2");
    }

    #[test]
    fn refuses_identifiers_that_do_not_fit_a_path() {
        for identifier in ["Emma", "a/b", "-", "ä", &"x".repeat(64)] {
            let wanted = Wanted { kind: "book", prefix: "b/", field: "book_id", identifier, title: "" };
            let status = fresh_name(wanted, |_| false).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument, "{identifier}");
        }
    }
}
