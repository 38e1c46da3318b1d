//! Expressions in the Common Expression Language ([CEL](https://cel.dev)), compiled once and evaluated for each call.
//!
//! The crate `cel` parses and evaluates; here stand what an expression may name, what it may cost, and the values that it
//! sees, which are borrowed from the call. This is the only module that names the crate.
//!
//! **Invariant**: every name in a [`Program`] is known, and evaluating one ends within [`MAX_STEPS`] steps, whatever the
//! caller sent. A program that fails gives an error, never a truth value.

mod check;
#[cfg(test)]
mod tests;
mod value;

use std::cell::RefCell;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use cel::common::types::{self, CelBool, CelString};
use cel::common::value::CowVal;
use cel::{Context, Env, ExecutionError, Value};
use hashbrown::HashMap;
use http::HeaderMap;
use regex::Regex;
use serde_json::{Map, Value as Json};

use check::Cost;
use value::Metered;

/// Bytes of an expression's text.
pub const MAX_TEXT: usize = 4096;
/// Brackets within brackets in an expression's text.
const MAX_NESTING: usize = 32;
/// Steps that the loops of one evaluation may take together; a step is a node, an element or 256 bytes of text.
pub const MAX_STEPS: u64 = 100_000;
/// Stack of the parser, which recurses several times for each bracket.
const PARSER_STACK: usize = 64 << 20;

/// An expression that gives true or false.
pub struct Program {
    text: Box<str>,
    program: cel::Program,
    cost: Cost,
}

/// Why a text is no expression that can be used here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line and column in the text, both from 1.
    pub at: (usize, usize),
    /// What is wrong.
    pub message: String,
}

/// What an expression sees of a call.
#[derive(Debug)]
pub struct Input<'a> {
    /// Claims by the name of the provider that vouches for them.
    pub identities: &'a [(&'a str, &'a Map<String, Json>)],
    /// What is asked for, and how.
    pub request: Request<'a>,
}

/// The request as an expression sees it.
#[derive(Debug)]
pub struct Request<'a> {
    /// `pkg.Service/Method`.
    pub method: &'a str,
    /// The HTTP method.
    pub http_method: &'a str,
    /// Of the URL, as it came.
    pub path: &'a str,
    /// Behind the `?`; empty when there is none.
    pub query: &'a str,
    /// What the caller called us.
    pub host: &'a str,
    /// `rest`, `grpc`, `grpc-web`, `connect` or `websocket`.
    pub protocol: &'a str,
    /// Where the call comes from.
    pub client_ip: IpAddr,
    /// As the caller sent them.
    pub headers: &'a HeaderMap,
    /// Seconds since 1970.
    pub time: i64,
}

impl Program {
    /// Compiles a text.
    ///
    /// # Errors
    /// It is too long or nested too deeply, is not CEL, or names what is not known here.
    pub fn compile(text: &str) -> Result<Self, Fault> {
        let fault = |message: String| Fault { at: (1, 1), message };
        if text.len() > MAX_TEXT {
            return Err(fault(format!("{} bytes exceed the limit of {MAX_TEXT}", text.len())));
        }
        if nesting(text) > MAX_NESTING {
            return Err(fault(format!("brackets are nested more than {MAX_NESTING} deep")));
        }
        let program = parse(text)?;
        let cost = check::check(&program)?;
        Ok(Self { text: text.into(), program, cost })
    }

    /// Whether the expression is true.
    ///
    /// # Errors
    /// It has no truth value for this input, or would take too many steps.
    pub fn evaluate(&self, input: &Input<'_>) -> Result<bool, String> {
        if self.cost.has_loops() {
            let steps = self.cost.steps(value::measure(input));
            if steps > MAX_STEPS {
                return Err(format!("up to {steps} steps over what the caller sent exceed the limit of {MAX_STEPS}"));
            }
        }
        let metered = Metered::new(input);
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        context.set_variable_resolver(&metered);
        let result = Value::resolve_val(self.program.expression(), &context);
        // CEL lets `true || error` be true; not so for what was not looked at to its end.
        if metered.is_exhausted() {
            return Err(format!("more than {MAX_STEPS} steps over what the caller sent"));
        }
        let result = result.map_err(|error| describe(&error))?;
        match result.downcast_ref::<CelBool>() {
            Some(truth) => Ok(*truth.inner()),
            None => Err(format!("the result is a {}, not true or false", result.get_type().name())),
        }
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Program").field(&self.text).finish()
    }
}

impl PartialEq for Program {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Program {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at: (line, column), message } = self;
        write!(f, "line {line}, column {column} of the expression: {message}")
    }
}

/// What went wrong, without the values, which are the caller's secrets.
fn describe(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(name) => format!("there is no {name}"),
        ExecutionError::NoSuchOverload(overload) => overload.to_string(),
        ExecutionError::UnexpectedType { got, want } => format!("{got} where {want} is expected"),
        ExecutionError::IndexOutOfBounds(_) => "the list is shorter".to_owned(),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "division by zero".to_owned(),
        ExecutionError::Overflow(..) => "a number is too large".to_owned(),
        _ => "its values do not fit together".to_owned(),
    }
}

/// Parses on a thread of its own: the parser's recursion may need more stack than is left here.
fn parse(text: &str) -> Result<cel::Program, Fault> {
    let owned = text.to_owned();
    let parsed = std::thread::Builder::new().stack_size(PARSER_STACK).spawn(move || {
        ENVIRONMENT.compile(&owned).map_err(|errors| {
            let error = errors.errors.into_iter().max_by_key(|error| error.msg.starts_with("Syntax error"));
            let from_one = |number: isize| usize::try_from(number).unwrap_or(1).max(1);
            match error {
                Some(error) => {
                    Fault { at: (from_one(error.pos.0), from_one(error.pos.1)), message: shorten(&error.msg) }
                }
                None => Fault { at: (1, 1), message: "this is no expression".to_owned() },
            }
        })
    });
    let unreadable = || Fault { at: (1, 1), message: "the expression cannot be read".to_owned() };
    parsed.map_err(|_| unreadable())?.join().map_err(|_| unreadable())?
}

/// The parser's message without the list of everything that could have stood there.
fn shorten(message: &str) -> String {
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    let message = message.split_once(" expecting ").map_or(message, |(message, _)| message);
    message.replace("'<EOF>'", "the end")
}

/// How deeply brackets stand within brackets; those in strings count, which no expression in earnest has many of.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' | b'?' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// The standard library without optional values, and `matches`.
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut environment = Env::stdlib().with_optional_support(false);
    let string = || types::STRING_TYPE.to_owned();
    environment
        .add_member_overload("matches", "matches_string", string(), vec![string()], matches)
        .expect("the crate has no `matches` without its feature `regex`");
    Arc::new(environment)
});

thread_local! {
    /// Compiled patterns. They are constants of programs, so that there are few; those of programs that are no longer used
    /// are forgotten when there are [`MAX_PATTERNS`].
    static PATTERNS: RefCell<HashMap<String, Regex>> = RefCell::new(HashMap::new());
}

const MAX_PATTERNS: usize = 256;
/// Bytes of a compiled pattern.
const MAX_PATTERN: usize = 256 << 10;

fn pattern(text: &str) -> Result<Regex, regex::Error> {
    regex::RegexBuilder::new(text).size_limit(MAX_PATTERN).dfa_size_limit(MAX_PATTERN).build()
}

/// Whether a string has a part that a pattern matches, in time linear in both.
#[allow(clippy::needless_pass_by_value, reason = "as the crate wants its functions")]
fn matches<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let text = |index: usize| arguments.get(index).and_then(|argument| argument.downcast_ref::<CelString<'_>>());
    let (Some(subject), Some(source)) = (text(0), text(1)) else {
        return Err(ExecutionError::missing_argument_or_target());
    };
    let found = PATTERNS.with_borrow_mut(|known| {
        if known.len() >= MAX_PATTERNS {
            known.clear();
        }
        let regex = match known.entry_ref(source.inner()) {
            hashbrown::hash_map::EntryRef::Occupied(regex) => regex.into_mut(),
            hashbrown::hash_map::EntryRef::Vacant(place) => place.insert(pattern(source.inner())?),
        };
        Ok(regex.is_match(subject.inner()))
    });
    let found = found.map_err(|error: regex::Error| ExecutionError::function_error("matches", error))?;
    Ok(CowVal::owned(CelBool::from(found)))
}
