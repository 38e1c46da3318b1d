//! Names that a misspelt one may have meant.

use super::error::excerpt;
use super::plan::{EnumPlan, MessagePlan};

/// Longest name that is compared; longer ones are no typing mistakes.
const MAX_LENGTH: usize = 64;

/// A field that the message does not have.
#[cold]
pub(super) fn no_such_field(plan: &MessagePlan, name: &str) -> String {
    let known = plan.fields.iter().map(|field| {
        let key = field.json_key();
        std::str::from_utf8(&key[1..key.len() - 2]).unwrap_or_default()
    });
    format!("{} has no field {}{}", plan.name, excerpt(name), suggestion(name, known))
}

/// A value that the enum does not have.
#[cold]
pub(super) fn no_such_value(plan: &EnumPlan, name: &str) -> String {
    let suggestion = suggestion(name, plan.names());
    format!("expected the name or number of an enum value, found {}{suggestion}", excerpt(name))
}

fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    if name.len() > MAX_LENGTH {
        return String::new();
    }
    let wanted = plain(name);
    let near = known
        .filter(|candidate| candidate.len() <= MAX_LENGTH)
        .map(|candidate| (distance(&wanted, &plain(candidate)), candidate))
        .min_by_key(|(distance, _)| *distance);
    match near {
        Some((distance, candidate)) if distance <= wanted.len() / 4 => format!("; did you mean \"{candidate}\"?"),
        _ => String::new(),
    }
}

/// Case and underscores do not count.
fn plain(name: &str) -> Vec<u8> {
    name.bytes().filter(|byte| *byte != b'_').map(|byte| byte.to_ascii_lowercase()).collect()
}

/// Insertions, deletions and replacements between two names.
fn distance(from: &[u8], to: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, byte) in from.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, other) in to.iter().enumerate() {
            let above = row[column + 1];
            let replaced = diagonal + usize::from(byte != other);
            row[column + 1] = replaced.min(above + 1).min(row[column] + 1);
            diagonal = above;
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_names_are_suggested() {
        let known = ["pageSize", "pageToken", "filter"];
        let suggest = |name: &str| suggestion(name, known.into_iter());

        assert_eq!(suggest("page_siz"), "; did you mean \"pageSize\"?");
        assert_eq!(suggest("PAGETOKEN"), "; did you mean \"pageToken\"?");
        assert_eq!(suggest("flter"), "; did you mean \"filter\"?");
        assert_eq!(suggest("order"), "");
        assert_eq!(suggest(&"x".repeat(100)), "");
    }
}
