//! Enum values by name and by number.

use crate::schema::Enum;

/// What both directions need to know of an enum.
#[derive(Debug)]
pub(in crate::transcode) struct EnumPlan {
    /// Quoted names and numbers, in the order of declaration.
    values: Box<[(Box<str>, i32)]>,
    /// Indices of the first value of each number, by number.
    by_number: Box<[u32]>,
    /// Indices of all values, by name.
    by_name: Box<[u32]>,
    /// Whether unknown numbers are refused instead of kept.
    pub(in crate::transcode) closed: bool,
    /// Whether it is `google.protobuf.NullValue`, which is written `null`.
    pub(in crate::transcode) null: bool,
}

impl EnumPlan {
    pub(super) fn compile(declared: &Enum) -> Self {
        let values: Box<[_]> =
            declared.values.iter().map(|(name, number)| (format!("\"{name}\"").into_boxed_str(), *number)).collect();
        let indices = || (0u32..).take(values.len()).collect::<Vec<_>>();
        let mut by_number = indices();
        by_number.sort_by_key(|index| values[*index as usize].1);
        by_number.dedup_by_key(|index| values[*index as usize].1);
        let mut by_name = indices();
        by_name.sort_by_key(|index| &values[*index as usize].0);
        Self {
            by_number: by_number.into(),
            by_name: by_name.into(),
            closed: declared.closed,
            null: &*declared.name == "google.protobuf.NullValue",
            values,
        }
    }

    /// Name of a number, in quotes; the first one declared if it has several.
    #[inline]
    pub(in crate::transcode) fn quoted_name(&self, number: i32) -> Option<&str> {
        let value = |index: &u32| &self.values[*index as usize];
        // Most enums count up from 0.
        let guess = usize::try_from(number).ok().and_then(|number| self.by_number.get(number)).map(value);
        if let Some((name, _)) = guess.filter(|(_, found)| *found == number) {
            return Some(name);
        }
        let place = self.by_number.binary_search_by_key(&number, |index| value(index).1).ok()?;
        Some(&value(&self.by_number[place]).0)
    }

    /// Whether a number is declared.
    #[inline]
    pub(in crate::transcode) fn knows(&self, number: i32) -> bool {
        self.quoted_name(number).is_some()
    }

    /// Number of a name.
    pub(in crate::transcode) fn number(&self, name: &str) -> Option<i32> {
        let unquoted = |index: &u32| {
            let quoted = self.values[*index as usize].0.as_bytes();
            quoted.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or_default()
        };
        // Sorted with their closing quote, which is less than any byte of an identifier: the order is that of the names.
        let place = self.by_name.binary_search_by(|index| unquoted(index).cmp(name.as_bytes())).ok()?;
        Some(self.values[self.by_name[place] as usize].1)
    }

    /// Number of the first value declared, which is the default.
    pub(in crate::transcode) fn first(&self) -> i32 {
        self.values.first().map_or(0, |(_, number)| *number)
    }

    /// Names for a suggestion.
    pub(in crate::transcode) fn names(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(|(quoted, _)| quoted.trim_matches('"'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(values: &[(&str, i32)]) -> EnumPlan {
        EnumPlan::compile(&Enum {
            name: "test.Enum".into(),
            values: values.iter().map(|(name, number)| ((*name).into(), *number)).collect(),
            closed: false,
        })
    }

    #[test]
    fn finds_names_and_numbers_in_any_order() {
        let plan = plan(&[("ZERO", 0), ("NEGATIVE", -5), ("A", 1), ("A_B", 1), ("FAR", i32::MAX), ("AB", 2)]);

        assert_eq!(plan.quoted_name(0), Some("\"ZERO\""));
        assert_eq!(plan.quoted_name(-5), Some("\"NEGATIVE\""));
        assert_eq!(plan.quoted_name(1), Some("\"A\""));
        assert_eq!(plan.quoted_name(i32::MAX), Some("\"FAR\""));
        assert_eq!(plan.quoted_name(3), None);
        for (name, number) in [("ZERO", 0), ("NEGATIVE", -5), ("A", 1), ("A_B", 1), ("AB", 2), ("FAR", i32::MAX)] {
            assert_eq!(plan.number(name), Some(number), "{name}");
        }
        assert_eq!(plan.number("zero"), None);
        assert_eq!(plan.number(""), None);
    }
}
