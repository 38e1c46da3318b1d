//! What the policies of a method ask of its callers, in words, for `routes` and `explain`.

use std::fmt::Display;

use http::HeaderName;

use crate::config::admission::{Adaptive, Admission, Priority};
use crate::config::authentication::Rule as Proof;
use crate::config::authorization::{Conditions, Demand, Rule, Test};
use crate::config::{Config, MethodSettings};

/// For a table: who is asked for, the names of the rules, and what is passed on.
pub(super) fn short(settings: &MethodSettings, config: &Config) -> Vec<String> {
    let mut list: Vec<String> =
        proofs(settings, config).map(|text| format!("authenticate {text}")).into_iter().collect();
    if let Some(authorization) = &settings.authorize {
        let rules = authorization.rules.iter().map(|rule| rule.name.to_string());
        let names: Vec<String> = rules.chain(authorizers(settings, config)).collect();
        list.push(format!("authorize {}", names.join(" ")));
    }
    if let Some(forwarded) = settings.identity.as_ref().filter(|forwarded| !forwarded.headers.is_empty()) {
        let names: Vec<&str> = forwarded.headers.iter().map(|(name, _)| name.as_str()).collect();
        list.push(format!("identity {}", names.join(" ")));
    }
    let Admission { max_concurrent, adaptive, priority } = settings.admission;
    list.extend(max_concurrent.map(|most| format!("admission.max_concurrent {most}")));
    list.extend(adaptive.map(|Adaptive { min, max }| format!("admission.adaptive {min} to {max}")));
    if priority != Priority::default() {
        list.push(format!("admission.priority {priority:?}").to_lowercase());
    }
    list
}

/// For an explanation: labels and paragraphs.
pub(super) fn long(settings: &MethodSettings, config: &Config) -> Vec<(&'static str, String)> {
    let mut paragraphs = Vec::new();
    paragraphs.extend(proofs(settings, config).map(|text| ("callers", format!("authenticate by {text}"))));
    if let Some(authorization) = &settings.authorize {
        let rules: Vec<String> = authorization.rules.iter().map(|rule| words(rule)).collect();
        if !rules.is_empty() {
            paragraphs.push(("rules", rules.join("\n")));
        }
    }
    let asked = authorizers(settings, config);
    if !asked.is_empty() {
        paragraphs.push(("asks", format!("{}; not asked here", asked.join(", "))));
    }
    if let Some(forwarded) = &settings.identity {
        let mut texts: Vec<String> =
            forwarded.headers.iter().map(|(name, claim)| format!("{name} from the claim {claim}")).collect();
        if !forwarded.credentials {
            texts.push("without the credentials".to_owned());
        }
        paragraphs.push(("identity", texts.join("\n")));
    }
    paragraphs
}

fn proofs(settings: &MethodSettings, config: &Config) -> Option<String> {
    let requirement = settings.authenticate.as_ref()?;
    let optional = if requirement.optional { ", or not at all" } else { "" };
    Some(format!("{}{optional}", proof(&requirement.rule, config)))
}

fn proof(rule: &Proof, config: &Config) -> String {
    let each = |rules: &[Proof], word: &str| {
        let texts: Vec<String> = rules.iter().map(|rule| proof(rule, config)).collect();
        if texts.len() == 1 { texts.concat() } else { format!("({})", texts.join(word)) }
    };
    match rule {
        Proof::Provider(index) => {
            config.authentication.get(*index).map(|provider| provider.name.to_string()).unwrap_or_default()
        }
        Proof::Any(rules) => each(rules, " or "),
        Proof::All(rules) => each(rules, " and "),
    }
}

fn authorizers(settings: &MethodSettings, config: &Config) -> Vec<String> {
    let external = settings.authorize.iter().flat_map(|authorization| &authorization.external);
    external.filter_map(|index| Some(config.authorizers.get(*index)?.name.to_string())).collect()
}

fn words(rule: &Rule) -> String {
    let text = match &rule.demand {
        Demand::Require(conditions) => all(conditions),
        Demand::Deny(conditions) => format!("not ({})", all(conditions)),
        Demand::Any(alternatives) => {
            let each: Vec<String> = alternatives.iter().map(|conditions| format!("({})", all(conditions))).collect();
            each.join(" or ")
        }
    };
    format!("{}: {text}", rule.name)
}

fn all(conditions: &Conditions) -> String {
    let Conditions { scopes, claims, headers, methods, providers, client_ip, cel } = conditions;
    let mut texts = Vec::new();
    let mut listed = |noun: &str, items: Vec<String>| {
        if !items.is_empty() {
            texts.push(format!("{noun} {}", items.join(" ")));
        }
    };
    listed("scopes", scopes.iter().map(ToString::to_string).collect());
    listed("method", methods.iter().map(|pattern| pattern.to_string()).collect());
    listed("by", providers.iter().map(ToString::to_string).collect());
    listed("from", client_ip.iter().map(ToString::to_string).collect());
    texts.extend(claims.iter().map(|(path, test)| asked("claim", path, test)));
    texts.extend(headers.iter().map(|(name, test): &(HeaderName, Test)| asked("header", name, test)));
    texts.extend(cel.iter().map(|program| program.text().trim().to_owned()));
    texts.join(" and ")
}

fn asked(noun: &str, name: &impl Display, test: &Test) -> String {
    let list = |values: &[serde_json::Value]| {
        let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
        texts.join(" or ")
    };
    match test {
        Test::OneOf(values) => format!("{noun} {name} is {}", list(values)),
        Test::ContainsAny(values) => format!("{noun} {name} contains {}", list(values)),
        Test::ContainsAll(values) => format!("{noun} {name} contains {}", list(values).replace(" or ", " and ")),
        Test::Exists(true) => format!("{noun} {name} is there"),
        Test::Exists(false) => format!("{noun} {name} is not there"),
    }
}
