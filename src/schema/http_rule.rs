//! `google.api.http` rules: which rule a method has, and the bindings that it stands for.
//!
//! A rule with its additional bindings is flattened into [`Binding`]s, each checked against the request and reply
//! messages. A binding that cannot work is left out with a reason; its siblings stay. Two bindings that want the same
//! path are not seen here but when they are inserted into the router.
//!
//! **Invariant**: every field that a [`Binding`] names exists in the schema that it was checked against.

use std::sync::Arc;

use http::Method as Name;
use thiserror::Error;

use crate::pb::google::api::HttpRule;
use crate::pb::google::api::http_rule::Pattern;
use crate::schema::template::{Template, TemplateError, Variable};
use crate::schema::{Field, Kind, Message, MessageId, Method, Schema};

/// One way to call a method by HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// HTTP methods that it answers.
    pub method: HttpMethod,
    /// Paths that it answers, and the fields that they set.
    pub template: Template,
    /// What the request body sets.
    pub body: BodyRule,
    /// The reply's field (name in the `.proto` file) that becomes the whole body, of any kind; the whole reply if unset.
    pub response_body: Option<Arc<str>>,
}

/// HTTP methods of a binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpMethod {
    /// This one, case-sensitive.
    Named(Name),
    /// All: a custom pattern of kind `*`.
    Any,
}

/// What the body of a request sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyRule {
    /// Nothing: there is no body.
    None,
    /// Every field that the path does not set (`*`).
    Whole,
    /// This top-level field (name in the `.proto` file), of any kind.
    Field(Arc<str>),
}

/// The bindings of one method.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Bindings {
    /// In the order of declaration.
    pub sound: Vec<Binding>,
    /// What was left out, and why.
    pub broken: Vec<BindingError>,
}

/// A binding that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{method}: `{template}`: {problem}")]
pub struct BindingError {
    /// `pkg.Service/Method`.
    pub method: Arc<str>,
    /// The path template as it was written; empty if the rule has none.
    pub template: Box<str>,
    /// Why it was left out.
    pub problem: BindingProblem,
}

/// What is wrong with a binding.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BindingProblem {
    /// None of `get`, `put`, `post`, `delete`, `patch`, `custom`.
    #[error("the rule has no pattern")]
    NoPattern,
    /// The custom kind is not a token, or it is `CONNECT`, which has no path.
    #[error("custom kind `{0}` is not an HTTP method with a path")]
    Method(Box<str>),
    /// Bindings are one level deep.
    #[error("an additional binding has additional bindings of its own")]
    Nested,
    /// The template does not parse.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A field that the message does not have.
    #[error("{role} `{field}`: message {message} has no field `{missing}`")]
    NoField {
        /// Where the rule names it.
        role: Role,
        /// As the rule names it.
        field: Box<str>,
        /// Full name of the message that was looked at.
        message: Arc<str>,
        /// The part of `field` that is missing.
        missing: Box<str>,
    },
    /// A body or response body that is a path of fields.
    #[error("{role} `{field}` is not a top-level field")]
    NotTopLevel {
        /// Where the rule names it.
        role: Role,
        /// As the rule names it.
        field: Box<str>,
    },
    /// A variable that leads through a field which is not a single message.
    #[error("path variable `{field}`: `{ancestor}` is not a single message")]
    Ancestor {
        /// The whole path of the variable.
        field: Box<str>,
        /// The field that has no members.
        ancestor: Box<str>,
    },
    /// A variable whose field is repeated or a map.
    #[error("path variable `{field}` is repeated")]
    Repeated {
        /// The whole path of the variable.
        field: Box<str>,
    },
    /// A variable whose field is a message that one string cannot stand for.
    #[error("path variable `{field}`: one string cannot stand for a {message}")]
    NotScalar {
        /// The whole path of the variable.
        field: Box<str>,
        /// Full name of its type.
        message: Arc<str>,
    },
}

/// Where a rule names a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// In the template.
    Variable,
    /// `body`.
    Body,
    /// `response_body`.
    ResponseBody,
}

impl Binding {
    /// The bindings of `method` by `rule`, which is its annotation or came from the configuration.
    pub fn flatten(schema: &Schema, method: &Method, rule: &HttpRule) -> Bindings {
        let mut bindings = Bindings::default();
        let additional = rule.additional_bindings.iter().map(|rule| (rule, !rule.additional_bindings.is_empty()));
        for (rule, nested) in std::iter::once((rule, false)).chain(additional) {
            let checked = if nested { Err(BindingProblem::Nested) } else { Self::check(schema, method, rule) };
            match checked {
                Ok(binding) => bindings.sound.push(binding),
                Err(problem) => bindings.broken.push(BindingError {
                    method: Arc::clone(&method.name),
                    template: rule.pattern.as_ref().map_or("", path_of).into(),
                    problem,
                }),
            }
        }
        bindings
    }

    fn check(schema: &Schema, method: &Method, rule: &HttpRule) -> Result<Self, BindingProblem> {
        let pattern = rule.pattern.as_ref().ok_or(BindingProblem::NoPattern)?;
        let http = method_of(pattern)?;
        let template = Template::parse(path_of(pattern))?;
        for variable in template.variables() {
            check_variable(schema, method.input, variable)?;
        }
        let body = match &*rule.body {
            "" => BodyRule::None,
            "*" => BodyRule::Whole,
            field => BodyRule::Field(top_level(schema.message(method.input), field, Role::Body)?),
        };
        let response_body = match &*rule.response_body {
            "" => None,
            field => Some(top_level(schema.message(method.output), field, Role::ResponseBody)?),
        };
        Ok(Self { method: http, template, body, response_body })
    }
}

impl std::fmt::Display for HttpMethod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name.as_str()),
            Self::Any => f.write_str("*"),
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Variable => "path variable",
            Self::Body => "body",
            Self::ResponseBody => "response body",
        })
    }
}

/// Rules from the configuration by selector.
#[derive(Debug, Default, Clone)]
pub struct Rules {
    rules: Vec<(Box<[Selector]>, HttpRule)>,
}

/// Which methods a rule is for. Of those that take one method, the greater is the more specific.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Selector {
    /// Every method below; empty, or ends in a dot.
    Below(Box<str>),
    /// The method of this full name, `pkg.Service.Method`.
    Exact(Box<str>),
}

/// A rule that a later one keeps from methods which it names more precisely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replaced<'m> {
    /// Counts from 0.
    pub rule: usize,
    /// The rule that the methods have, counted so.
    pub by: usize,
    /// The first of these methods.
    pub method: &'m str,
    /// How many there are beside it.
    pub further: usize,
}

/// A selector that names nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("selector `{0}` is neither a full name nor a prefix followed by `.*`")]
pub struct SelectorError(pub Box<str>);

impl Rules {
    /// Takes the rules in the order of the configuration.
    ///
    /// A selector is a full name such as `pkg.Service.Method`, `*`, a prefix with `.*` at its end, or [several of them
    /// with commas between][selector].
    ///
    /// # Errors
    /// The first selector that is none of these.
    ///
    /// [selector]: https://github.com/googleapis/googleapis/blob/master/google/api/documentation.proto
    pub fn new(rules: &[HttpRule]) -> Result<Self, SelectorError> {
        let rules = rules.iter().map(|rule| {
            let selectors: Result<_, _> = rule.selector.split(',').map(|text| Selector::parse(text.trim())).collect();
            Ok((selectors?, rule.clone()))
        });
        Ok(Self { rules: rules.collect::<Result<_, _>>()? })
    }

    /// The rule that replaces the annotation of a method (`pkg.Service/Method`): the last one that selects it.
    pub fn of(&self, method: &str) -> Option<&HttpRule> {
        let selected = |(selectors, _): &&(Box<[Selector]>, _)| selectors.iter().any(|selector| selector.takes(method));
        self.rules.iter().rev().find(selected).map(|(_, rule)| rule)
    }

    /// Rules that a later one, whose selector is less specific, keeps from some of these methods (`pkg.Service/Method`):
    /// probably they were meant as exceptions.
    pub fn replaced<'m>(&self, methods: impl Iterator<Item = &'m str>) -> Vec<Replaced<'m>> {
        let mut found: Vec<Replaced<'m>> = Vec::new();
        for method in methods {
            let mut selecting = self.rules.iter().enumerate().rev().filter_map(|(index, (selectors, _))| {
                Some((index, selectors.iter().filter(|selector| selector.takes(method)).max()?))
            });
            let Some((by, last)) = selecting.next() else { continue };
            for (rule, _) in selecting.filter(|(_, selector)| *selector > last) {
                match found.iter_mut().find(|known| (known.rule, known.by) == (rule, by)) {
                    Some(known) => known.further += 1,
                    None => found.push(Replaced { rule, by, method, further: 0 }),
                }
            }
        }
        found
    }

    /// Rules that select none of these methods (`pkg.Service/Method`), probably misspelt.
    pub fn idle<'a>(&'a self, methods: impl Iterator<Item = &'a str> + Clone) -> impl Iterator<Item = &'a HttpRule> {
        let idle = move |(selectors, _): &&(Box<[Selector]>, _)| {
            !methods.clone().any(|method| selectors.iter().any(|selector| selector.takes(method)))
        };
        self.rules.iter().filter(idle).map(|(_, rule)| rule)
    }
}

impl Selector {
    fn parse(text: &str) -> Result<Self, SelectorError> {
        let below = text.strip_suffix('*').filter(|prefix| prefix.is_empty() || prefix.ends_with('.'));
        let name = below.map_or(text, |prefix| prefix.strip_suffix('.').unwrap_or(prefix));
        let sound =
            |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        match below {
            Some("") => Ok(Self::Below("".into())),
            _ if !name.split('.').all(sound) => Err(SelectorError(text.into())),
            Some(prefix) => Ok(Self::Below(prefix.into())),
            None => Ok(Self::Exact(text.into())),
        }
    }

    /// `method` is `pkg.Service/Method`; its slash is a dot to a selector.
    fn takes(&self, method: &str) -> bool {
        let (service, name) = method.split_once('/').unwrap_or(("", method));
        match self {
            Self::Exact(full) => full.strip_suffix(name).and_then(|rest| rest.strip_suffix('.')) == Some(service),
            Self::Below(prefix) => {
                method.starts_with(&**prefix) || prefix.strip_suffix('.').is_some_and(|prefix| prefix == service)
            }
        }
    }
}

fn path_of(pattern: &Pattern) -> &str {
    match pattern {
        Pattern::Get(path)
        | Pattern::Put(path)
        | Pattern::Post(path)
        | Pattern::Delete(path)
        | Pattern::Patch(path) => path,
        Pattern::Custom(custom) => &custom.path,
    }
}

fn method_of(pattern: &Pattern) -> Result<HttpMethod, BindingProblem> {
    Ok(HttpMethod::Named(match pattern {
        Pattern::Get(_) => Name::GET,
        Pattern::Put(_) => Name::PUT,
        Pattern::Post(_) => Name::POST,
        Pattern::Delete(_) => Name::DELETE,
        Pattern::Patch(_) => Name::PATCH,
        Pattern::Custom(custom) if custom.kind == "*" => return Ok(HttpMethod::Any),
        Pattern::Custom(custom) => match Name::from_bytes(custom.kind.as_bytes()) {
            Ok(name) if name != Name::CONNECT => name,
            _ => return Err(BindingProblem::Method(custom.kind.as_str().into())),
        },
    }))
}

/// Checks that one string can set the field: a scalar, an enum, or a message whose JSON form is one string or scalar.
fn check_variable(schema: &Schema, input: MessageId, variable: &Variable) -> Result<(), BindingProblem> {
    let path = variable.field();
    let mut names = variable.names();
    let mut field = find(schema.message(input), names.next().unwrap_or_default(), path, Role::Variable)?;
    for name in names {
        let ancestor = || BindingProblem::Ancestor { field: path.into(), ancestor: (*field.name).into() };
        let (Kind::Message(id) | Kind::Group(id), false) = (field.kind, field.cardinality.is_repeated()) else {
            return Err(ancestor());
        };
        field = find(schema.message(id), name, path, Role::Variable)?;
    }
    if field.cardinality.is_repeated() {
        return Err(BindingProblem::Repeated { field: path.into() });
    }
    if let Kind::Message(id) | Kind::Group(id) = field.kind
        && !has_string_form(&schema.message(id).name)
    {
        return Err(BindingProblem::NotScalar { field: path.into(), message: Arc::clone(&schema.message(id).name) });
    }
    Ok(())
}

fn top_level(message: &Message, name: &str, role: Role) -> Result<Arc<str>, BindingProblem> {
    if name.contains('.') {
        return Err(BindingProblem::NotTopLevel { role, field: name.into() });
    }
    find(message, name, name, role).map(|field| Arc::clone(&field.name))
}

fn find<'s>(message: &'s Message, name: &str, path: &str, role: Role) -> Result<&'s Field, BindingProblem> {
    message.fields.iter().find(|field| &*field.name == name).ok_or_else(|| BindingProblem::NoField {
        role,
        field: path.into(),
        message: Arc::clone(&message.name),
        missing: name.into(),
    })
}

/// Well-known types that are one string, number or boolean in JSON.
fn has_string_form(message: &str) -> bool {
    let Some(name) = message.strip_prefix("google.protobuf.") else { return false };
    let wrapped = ["Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes"];
    matches!(name, "Timestamp" | "Duration" | "FieldMask")
        || name.strip_suffix("Value").is_some_and(|scalar| wrapped.contains(&scalar))
}

#[cfg(test)]
mod tests;
