//! Whether what a caller proved is what a method asks for.
//!
//! A provider's [`Finding`] is made elsewhere, at once or after a question; [`judge`] puts findings together by the rule
//! of a [`Requirement`]. Wrong credentials are told apart from none, and where any of several is enough, a good one counts
//! whatever stands beside it.

use super::identity::{Identities, Identity};
use crate::config::authentication::{Requirement, Rule};

/// What one provider says of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It knows the caller.
    Granted(Identity),
    /// The request shows nothing that is for this provider.
    Missing,
    /// What the request shows is not good. The word is for the log.
    Invalid(&'static str),
    /// Somebody else has to be asked first.
    Ask,
    /// Somebody else had to be asked and did not answer. The word is for the log.
    Unavailable(&'static str),
}

/// What becomes of the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Granted(Identities),
    /// It shows no credentials.
    Missing,
    /// It shows wrong ones: the provider's index and the word of its finding.
    Invalid(usize, &'static str),
    /// This provider has to ask first.
    Ask(usize),
    /// This provider had no answer.
    Unavailable(usize, &'static str),
}

/// Judges a call by the findings of those providers that have to be heard.
pub fn judge(requirement: &Requirement, find: &mut impl FnMut(usize) -> Finding) -> Verdict {
    match by_rule(&requirement.rule, find) {
        Verdict::Missing if requirement.optional => Verdict::Granted(Identities::default()),
        verdict => verdict,
    }
}

fn by_rule(rule: &Rule, find: &mut impl FnMut(usize) -> Finding) -> Verdict {
    match rule {
        Rule::Provider(index) => match find(*index) {
            Finding::Granted(identity) => Verdict::Granted(identity.into()),
            Finding::Missing => Verdict::Missing,
            Finding::Invalid(why) => Verdict::Invalid(*index, why),
            Finding::Ask => Verdict::Ask(*index),
            Finding::Unavailable(why) => Verdict::Unavailable(*index, why),
        },
        Rule::Any(rules) => {
            // What could still be a grant comes before what cannot.
            let rank = |verdict: &Verdict| match verdict {
                Verdict::Granted(_) | Verdict::Ask(_) => 3,
                Verdict::Unavailable(..) => 2,
                Verdict::Invalid(..) => 1,
                Verdict::Missing => 0,
            };
            let mut best = Verdict::Missing;
            for rule in rules {
                match by_rule(rule, find) {
                    granted @ Verdict::Granted(_) => return granted,
                    other if rank(&other) > rank(&best) => best = other,
                    _ => {}
                }
            }
            best
        }
        Rule::All(rules) => {
            let rank = |verdict: &Verdict| match verdict {
                Verdict::Invalid(..) => 4,
                Verdict::Missing => 3,
                Verdict::Unavailable(..) => 2,
                Verdict::Ask(_) => 1,
                Verdict::Granted(_) => 0,
            };
            let mut all = Identities::default();
            let mut worst: Option<Verdict> = None;
            for rule in rules {
                match by_rule(rule, find) {
                    Verdict::Granted(identities) => all.extend(identities),
                    other if worst.as_ref().is_none_or(|worst| rank(&other) > rank(worst)) => worst = Some(other),
                    _ => {}
                }
            }
            worst.unwrap_or(Verdict::Granted(all))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::identity::Kind;
    use super::*;

    fn identity(name: &str) -> Identity {
        Identity::new(name.into(), Kind::ApiKey, serde_json::Map::new())
    }

    /// A letter for each provider's finding: granted, missing, invalid, ask, unavailable.
    fn judged(rule: Rule, optional: bool, findings: &str) -> String {
        let requirement = Requirement::new(rule, optional, &[]);
        let verdict = judge(&requirement, &mut |index| match findings.as_bytes()[index] {
            b'g' => Finding::Granted(identity(&index.to_string())),
            b'm' => Finding::Missing,
            b'i' => Finding::Invalid("word"),
            b'a' => Finding::Ask,
            _ => Finding::Unavailable("word"),
        });
        match verdict {
            Verdict::Granted(all) => all.iter().fold("granted".to_owned(), |text, one| text + " " + one.source()),
            Verdict::Missing => "missing".to_owned(),
            Verdict::Invalid(index, _) => format!("invalid {index}"),
            Verdict::Ask(index) => format!("ask {index}"),
            Verdict::Unavailable(index, _) => format!("unavailable {index}"),
        }
    }

    fn each(count: usize) -> Vec<Rule> {
        (0..count).map(Rule::Provider).collect()
    }

    #[test]
    fn any_of_several_is_enough() {
        for (findings, expected) in [
            ("mmm", "missing"),
            ("mgg", "granted 1"),
            ("iag", "granted 2"),
            ("uig", "granted 2"),
            ("mim", "invalid 1"),
            ("iai", "ask 1"),
            ("iui", "unavailable 1"),
            ("mii", "invalid 1"),
            ("uam", "ask 1"),
        ] {
            assert_eq!(judged(Rule::Any(each(3)), false, findings), expected, "{findings}");
        }
    }

    #[test]
    fn all_of_several_are_needed() {
        for (findings, expected) in [
            ("ggg", "granted 0 1 2"),
            ("gmg", "missing"),
            ("gmi", "invalid 2"),
            ("gag", "ask 1"),
            ("gam", "missing"),
            ("gau", "unavailable 2"),
            ("uig", "invalid 1"),
        ] {
            assert_eq!(judged(Rule::All(each(3)), false, findings), expected, "{findings}");
        }
    }

    #[test]
    fn optional_forgives_missing_credentials_and_no_wrong_ones() {
        for (findings, expected) in [("m", "granted"), ("g", "granted 0"), ("i", "invalid 0"), ("u", "unavailable 0")] {
            assert_eq!(judged(Rule::Provider(0), true, findings), expected, "{findings}");
        }
    }

    #[test]
    fn rules_stand_in_rules() {
        let rule = || Rule::All(vec![Rule::Provider(0), Rule::Any(vec![Rule::Provider(1), Rule::Provider(2)])]);
        for (findings, expected) in [
            ("gmg", "granted 0 2"),
            ("ggg", "granted 0 1"),
            ("mgg", "missing"),
            ("gmm", "missing"),
            ("gim", "invalid 1"),
        ] {
            assert_eq!(judged(rule(), false, findings), expected, "{findings}");
        }
    }
}
