//! Whether a caller may call a method, by the rules of its policies.
//!
//! Every rule has to hold; the first one that does not refuses the call. A rule that cannot be decided, because an
//! expression fails over what the caller sent, does not hold, whether it allows or denies.
//!
//! **Invariant**: which rule refused a call is for the log alone. The caller learns at most which scopes it lacks.

use std::cell::OnceCell;
use std::net::IpAddr;

use http::header::HOST;
use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use serde_json::Value;
use smallvec::SmallVec;

use super::client;
use super::identity::Identities;
use crate::config::authorization::{Authorization, Conditions, Demand, Rule, Test};
use crate::config::claim::ClaimPath;
use crate::expression::{Input, Request};

/// What is known of a call when its rules are asked.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Who calls, as far as that was proven.
    pub identities: &'a Identities,
    /// `pkg.Service/Method`.
    pub method: &'a str,
    /// As the caller sent them, without those that only the gateway may set.
    pub headers: &'a HeaderMap,
    /// The HTTP method.
    pub http_method: &'a str,
    /// Of the URL, as it came.
    pub path: &'a str,
    /// Behind the `?`; empty when there is none.
    pub query: &'a str,
    /// What the caller called us.
    pub host: &'a str,
    /// What the caller speaks.
    pub protocol: &'a str,
    /// The other end of the connection.
    pub peer: IpAddr,
    /// Networks whose `x-forwarded-for` is believed.
    pub trusted: &'a [IpNet],
    /// Seconds since 1970.
    pub time: i64,
}

/// Why a call may not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial<'r> {
    /// The rule that did not hold.
    pub rule: &'r str,
    /// The scopes that the rule asks for, when the caller lacks one of them and nothing else.
    pub scopes: &'r [Box<str>],
    /// Why the rule could not be decided.
    pub undecided: Option<String>,
}

/// Decides.
///
/// # Errors
/// The first rule that does not hold.
pub fn decide<'r>(authorization: &'r Authorization, facts: &Facts<'_>) -> Result<(), Denial<'r>> {
    let asked = Asked { facts, client: OnceCell::new() };
    authorization.rules.iter().try_for_each(|rule| asked.rule(rule))
}

/// Why conditions do not hold, when they do not.
#[derive(Debug)]
enum Miss<'r> {
    /// Only these scopes are missing.
    Scopes(&'r [Box<str>]),
    Other,
    Undecided(String),
}

/// What is asked of a header that was sent more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Values {
    /// Its values together are a list.
    All,
    /// One of its values is enough, so that no second one hides it from what denies.
    Any,
}

struct Asked<'a> {
    facts: &'a Facts<'a>,
    /// Looked for only by rules that ask for it.
    client: OnceCell<IpAddr>,
}

impl Asked<'_> {
    fn rule<'r>(&self, rule: &'r Rule) -> Result<(), Denial<'r>> {
        let denial = |scopes, undecided| Err(Denial { rule: &rule.name, scopes, undecided });
        let refused = |miss| match miss {
            Miss::Scopes(scopes) => denial(scopes, None),
            Miss::Other => denial(&[], None),
            Miss::Undecided(why) => denial(&[], Some(why)),
        };
        match &rule.demand {
            Demand::Require(conditions) => self.hold(conditions, Values::All).or_else(refused),
            Demand::Deny(conditions) => match self.hold(conditions, Values::Any) {
                Ok(()) => denial(&[], None),
                Err(Miss::Undecided(why)) => denial(&[], Some(why)),
                Err(Miss::Scopes(_) | Miss::Other) => Ok(()),
            },
            Demand::Any(alternatives) => {
                let mut last = Miss::Other;
                for conditions in alternatives {
                    match self.hold(conditions, Values::All) {
                        Ok(()) => return Ok(()),
                        Err(undecided @ Miss::Undecided(_)) => last = undecided,
                        // Of several ways to pass, none is the one to ask for.
                        Err(Miss::Scopes(_) | Miss::Other) => {}
                    }
                }
                refused(last)
            }
        }
    }

    /// Whether all conditions hold. What is cheap is asked first; scopes come last, so that only they are missing when
    /// they are said to be.
    fn hold<'r>(&self, conditions: &'r Conditions, values: Values) -> Result<(), Miss<'r>> {
        let Conditions { scopes, claims, headers, methods, providers, client_ip, cel } = conditions;
        let facts = self.facts;
        let is_one = |provider: &str| facts.identities.iter().any(|identity| identity.source() == provider);
        let holds = (methods.is_empty() || methods.iter().any(|pattern| pattern.matches(facts.method)))
            && (providers.is_empty() || providers.iter().any(|provider| is_one(provider)))
            && (client_ip.is_empty() || client_ip.iter().any(|network| network.contains(&self.client())))
            && headers.iter().all(|(name, test)| self.header(name, test, values))
            && claims.iter().all(|(path, test)| self.claim(path, test));
        if !holds {
            return Err(Miss::Other);
        }
        if let Some(program) = cel {
            match program.evaluate(&self.input(&self.identities())) {
                Ok(true) => {}
                Ok(false) => return Err(Miss::Other),
                Err(why) => return Err(Miss::Undecided(why)),
            }
        }
        if scopes.iter().all(|scope| has_scope(facts.identities, scope)) { Ok(()) } else { Err(Miss::Scopes(scopes)) }
    }

    fn client(&self) -> IpAddr {
        let Facts { headers, peer, trusted, .. } = self.facts;
        *self.client.get_or_init(|| client::ip(headers, *peer, trusted))
    }

    fn header(&self, name: &HeaderName, test: &Test, values: Values) -> bool {
        let text = |bytes: &[u8]| Value::String(String::from_utf8_lossy(bytes).into_owned());
        // Over HTTP/2 it is no header.
        if name == HOST {
            return holds(test, Some(self.facts.host).filter(|host| !host.is_empty()).map(Value::from).as_ref());
        }
        let texts: SmallVec<[Value; 2]> =
            self.facts.headers.get_all(name).iter().map(|value| text(value.as_bytes())).collect();
        match &*texts {
            [] => holds(test, None),
            [one] => holds(test, Some(one)),
            several => {
                values == Values::Any && several.iter().any(|value| holds(test, Some(value)))
                    || holds(test, Some(&Value::Array(several.to_vec())))
            }
        }
    }

    fn claim(&self, path: &ClaimPath, test: &Test) -> bool {
        let mut found = false;
        for identity in self.facts.identities.iter() {
            let names: SmallVec<[&str; 8]> = path.names().collect();
            let Some((first, rest)) = names.split_first() else { continue };
            let Some(claim) = identity.claims().get(*first) else { continue };
            let mut seen = false;
            let is_right = at_path(claim, rest, &mut |value| {
                seen |= !value.is_null();
                holds(test, Some(value))
            });
            if is_right {
                return true;
            }
            found |= seen;
        }
        // Only what asks for absence can hold of a claim that is not there.
        !found && holds(test, None)
    }

    fn identities(&self) -> SmallVec<[(&str, &serde_json::Map<String, Value>); 2]> {
        self.facts.identities.iter().map(|identity| (identity.source(), identity.claims())).collect()
    }

    fn input<'i>(&'i self, identities: &'i [(&'i str, &'i serde_json::Map<String, Value>)]) -> Input<'i> {
        let Facts { method, headers, http_method, path, query, host, protocol, time, .. } = *self.facts;
        let client_ip = self.client();
        let request = Request { method, http_method, path, query, host, protocol, client_ip, headers, time };
        Input { identities, request }
    }
}

/// Whether something at the path below a value is right. In a list, a number picks an item; any other name looks at each.
fn at_path(value: &Value, names: &[&str], is_right: &mut impl FnMut(&Value) -> bool) -> bool {
    let Some((name, rest)) = names.split_first() else { return is_right(value) };
    match value {
        Value::Object(map) => map.get(*name).is_some_and(|value| at_path(value, rest, is_right)),
        Value::Array(items) => match name.parse::<usize>() {
            Ok(index) => items.get(index).is_some_and(|item| at_path(item, rest, is_right)),
            Err(_) => items.iter().any(|item| match item {
                // A list in a list is not looked through: paths stay as long as they are written.
                Value::Object(map) => map.get(*name).is_some_and(|value| at_path(value, rest, is_right)),
                Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
            }),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn holds(test: &Test, value: Option<&Value>) -> bool {
    let contains = |wanted: &Value| match value {
        Some(Value::Array(items)) => items.contains(wanted),
        Some(value) => value == wanted,
        None => false,
    };
    match test {
        Test::OneOf(values) => value.is_some_and(|value| values.contains(value)),
        Test::ContainsAny(values) => values.iter().any(contains),
        Test::ContainsAll(values) => values.iter().all(contains),
        Test::Exists(wanted) => value.is_some_and(|value| !value.is_null()) == *wanted,
    }
}

/// Scopes stand in one text with spaces between, or in a list
/// ([RFC 8693 §4.2](https://www.rfc-editor.org/rfc/rfc8693#section-4.2)), under the names that are in use.
fn has_scope(identities: &Identities, wanted: &str) -> bool {
    let is_in = |claim: &Value| match claim {
        Value::String(text) => text.split(' ').any(|scope| scope == wanted),
        Value::Array(items) => items.iter().any(|item| item.as_str() == Some(wanted)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    };
    let names = ["scope", "scp", "scopes"];
    identities.iter().any(|identity| names.iter().any(|name| identity.claims().get(*name).is_some_and(is_in)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::HeaderValue;
    use serde_json::json;

    use super::super::identity::{Identity, Kind};
    use super::*;
    use crate::expression::Program;

    fn caller() -> Identities {
        let claims = json!({
            "sub": "ann", "level": 3, "admin": false, "nothing": null,
            "scope": "books.read books.write",
            "roles": ["reader", "librarian"],
            "realm": { "roles": ["admin"] },
            "groups": [{ "name": "art", "tags": ["a"] }, { "name": "law", "tags": ["b"] }],
        });
        let Value::Object(claims) = claims else { unreachable!("it is a map") };
        Identity::new("staff".into(), Kind::ApiKey, claims).into()
    }

    fn decided(demand: Demand, identities: &Identities) -> Result<(), String> {
        let rule = Rule { name: "a-rule".into(), demand };
        let authorization = Authorization { rules: vec![Arc::new(rule)], external: Vec::new() };
        let headers: HeaderMap = [("x-tenant", "blue"), ("x-many", "1"), ("x-many", "2")]
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .into_iter()
            .collect();
        let facts = Facts {
            identities,
            method: "a.B/Get",
            headers: &headers,
            http_method: "GET",
            path: "/v1",
            query: "",
            host: "h",
            protocol: "rest",
            peer: IpAddr::from([192, 0, 2, 7]),
            trusted: &[],
            time: 0,
        };
        decide(&authorization, &facts).map_err(|denial| {
            assert_eq!(denial.rule, "a-rule");
            let scopes: Vec<&str> = denial.scopes.iter().map(|scope| &**scope).collect();
            denial.undecided.unwrap_or_else(|| format!("denied [{}]", scopes.join(" ")))
        })
    }

    fn claim(path: &str, test: Test) -> Conditions {
        Conditions { claims: vec![(path.parse().expect("a path"), test)], ..Conditions::default() }
    }

    fn one(value: Value) -> Test {
        Test::OneOf(vec![value])
    }

    fn any(value: Value) -> Test {
        Test::ContainsAny(vec![value])
    }

    #[test]
    fn claims_are_asked_by_path() {
        for (path, test, expected) in [
            ("sub", one(json!("ann")), true),
            ("sub", Test::OneOf(vec![json!("bob"), json!("ann")]), true),
            ("sub", one(json!("An")), false),
            ("sub", any(json!("ann")), true),
            ("level", one(json!(3)), true),
            ("level", one(json!("3")), false),
            ("admin", one(json!(false)), true),
            ("roles", one(json!("librarian")), false),
            ("roles", any(json!("librarian")), true),
            ("roles", any(json!("lib")), false),
            ("roles.1", one(json!("librarian")), true),
            ("roles.7", one(json!("librarian")), false),
            ("realm.roles", Test::ContainsAny(vec![json!("x"), json!("admin")]), true),
            ("realm.roles.x", any(json!("admin")), false),
            ("roles", Test::ContainsAll(vec![json!("reader"), json!("librarian")]), true),
            ("roles", Test::ContainsAll(vec![json!("reader"), json!("admin")]), false),
            ("groups.name", one(json!("law")), true),
            ("groups.name", one(json!("zoo")), false),
            ("groups.tags", any(json!("b")), true),
            ("groups.0.name", one(json!("law")), false),
            ("sub", Test::Exists(true), true),
            ("sub", Test::Exists(false), false),
            ("nothing", Test::Exists(true), false),
            ("nobody", Test::Exists(false), true),
            ("nobody.x", Test::Exists(false), true),
            ("groups.nobody", Test::Exists(true), false),
            ("nobody", one(Value::Null), false),
        ] {
            let shown = format!("{path} {test:?}");
            let found = decided(Demand::Require(claim(path, test)), &caller()).is_ok();
            assert_eq!(found, expected, "{shown}");
        }
    }

    #[test]
    fn denying_wins_and_alternatives_are_enough() {
        let librarian = || claim("roles", any(json!("librarian")));
        let admin = || claim("roles", any(json!("admin")));

        assert_eq!(decided(Demand::Deny(librarian()), &caller()), Err("denied []".to_owned()));
        assert_eq!(decided(Demand::Deny(admin()), &caller()), Ok(()));
        assert_eq!(decided(Demand::Any(vec![admin(), librarian()]), &caller()), Ok(()));
        assert_eq!(decided(Demand::Any(vec![admin(), admin()]), &caller()), Err("denied []".to_owned()));
        assert_eq!(decided(Demand::Require(librarian()), &Identities::default()), Err("denied []".to_owned()));
    }

    #[test]
    fn scopes_are_missing_only_when_nothing_else_is() {
        let scopes = |scopes: &[&str]| Conditions {
            scopes: scopes.iter().map(|scope| (*scope).into()).collect(),
            ..Conditions::default()
        };
        let both = Conditions { scopes: vec!["x".into()], ..claim("sub", one(json!("bob"))) };

        assert_eq!(decided(Demand::Require(scopes(&["books.read", "books.write"])), &caller()), Ok(()));
        let missing = Err("denied [books.read books.delete]".to_owned());
        assert_eq!(decided(Demand::Require(scopes(&["books.read", "books.delete"])), &caller()), missing);
        assert_eq!(decided(Demand::Require(scopes(&["books"])), &caller()), Err("denied [books]".to_owned()));
        assert_eq!(decided(Demand::Require(both), &caller()), Err("denied []".to_owned()));
        for claims in [json!({"scp": ["a", "b"]}), json!({"scopes": "a b"}), json!({"scope": ["b", "a"]})] {
            let Value::Object(claims) = claims else { unreachable!("it is a map") };
            let caller = Identity::new("x".into(), Kind::ApiKey, claims).into();
            assert_eq!(decided(Demand::Require(scopes(&["a", "b"])), &caller), Ok(()));
        }
    }

    #[test]
    fn requests_are_asked_too() {
        let header = |name: &str, test| Conditions {
            headers: vec![(name.parse().expect("a name"), test)],
            ..Conditions::default()
        };
        let networks = |networks: &[&str]| Conditions {
            client_ip: networks.iter().map(|network| network.parse().expect("a network")).collect(),
            ..Conditions::default()
        };
        let methods =
            |pattern: &str| Conditions { methods: vec![pattern.parse().expect("a pattern")], ..Conditions::default() };
        let providers = |name: &str| Conditions { providers: vec![name.into()], ..Conditions::default() };
        for (conditions, expected) in [
            (header("x-tenant", one(json!("blue"))), true),
            (header("x-tenant", one(json!("red"))), false),
            (header("x-many", any(json!("2"))), true),
            (header("x-many", one(json!("2"))), false),
            (header("x-other", Test::Exists(false)), true),
            (networks(&["10.0.0.0/8", "192.0.2.0/24"]), true),
            (networks(&["10.0.0.0/8"]), false),
            (methods("a.B/*"), true),
            (methods("a.C/*"), false),
            (providers("staff"), true),
            (providers("partners"), false),
        ] {
            let shown = format!("{conditions:?}");
            assert_eq!(decided(Demand::Require(conditions), &caller()).is_ok(), expected, "{shown}");
        }
    }

    #[test]
    fn what_cannot_be_decided_is_denied_either_way() {
        let cel = |text: &str| Conditions { cel: Some(Program::compile(text).expect(text)), ..Conditions::default() };

        assert_eq!(decided(Demand::Require(cel("claims.level > 2")), &caller()), Ok(()));
        assert_eq!(decided(Demand::Require(cel("claims.level > 3")), &caller()), Err("denied []".to_owned()));
        let why = Err("there is no nobody".to_owned());
        assert_eq!(decided(Demand::Require(cel("claims.nobody > 3")), &caller()), why);
        assert_eq!(decided(Demand::Deny(cel("claims.nobody > 3")), &caller()), why);
        assert_eq!(decided(Demand::Deny(cel("claims.level > 3")), &caller()), Ok(()));
        assert_eq!(decided(Demand::Any(vec![cel("claims.nobody"), cel("claims.level == 3")]), &caller()), Ok(()));
        assert_eq!(decided(Demand::Any(vec![cel("claims.nobody == 1"), cel("claims.level == 4")]), &caller()), why);
    }
}
