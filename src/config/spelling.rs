//! Which known word was meant by an unknown one.

/// The known word that is closest to a wrong one, if any is close: at most a third of its letters differ.
pub(crate) fn nearest<'k>(wrong: &str, known: &[&'k str]) -> Option<&'k str> {
    if wrong.len() > MAX_WORD {
        return None;
    }
    let (edits, word) = known.iter().map(|word| (distance(wrong, word), *word)).min_by_key(|(edits, _)| *edits)?;
    (edits <= wrong.len().max(word.len()).div_ceil(3)).then_some(word)
}

/// Edits (insert, delete, replace, swap of neighbours) between two words.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (row, letter) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, other) in right.iter().enumerate() {
            let replaced = above[column] + usize::from(letter != other);
            let mut edits = replaced.min(above[column + 1] + 1).min(current[column] + 1);
            let swapped = row > 0 && column > 0 && *letter == right[column - 1] && left[row - 1] == *other;
            if swapped {
                edits = edits.min(before[column - 1] + 1);
            }
            current.push(edits);
        }
        before = std::mem::replace(&mut above, current);
    }
    above.last().copied().unwrap_or(0)
}

/// Longer words are not compared: the time taken grows with their length.
const MAX_WORD: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits() {
        for (left, right, edits) in
            [("", "", 0), ("a", "", 1), ("abc", "abc", 0), ("acb", "abc", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(left, right), edits, "{left} {right}");
            assert_eq!(distance(right, left), edits, "{right} {left}");
        }
    }

    #[test]
    fn names_only_what_is_close() {
        let known = ["name", "endpoints", "schema"];

        assert_eq!(nearest("endpoint", &known), Some("endpoints"));
        assert_eq!(nearest("shcema", &known), Some("schema"));
        assert_eq!(nearest("tls", &known), None);
        assert_eq!(nearest(&"name".repeat(100), &known), None);
        assert_eq!(nearest("name", &[]), None);
    }
}
