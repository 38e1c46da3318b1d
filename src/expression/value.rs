//! The values that expressions see, borrowed from the call: claims, headers and the request are looked into where an
//! expression asks for them, and nothing else of them is converted.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use cel::ExecutionError;
use cel::common::traits::{self, Container, Indexer, Iterable, Sizer};
use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelNull, CelString, CelUInt, MAP_TYPE, Type};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use http::{HeaderMap, HeaderName};
use serde_json::{Map, Value as Json};

use super::check::REQUEST;
use super::{Input, MAX_STEPS, Request};

/// How large an input is.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Size {
    /// Elements of the longest list or map.
    pub(super) longest: u64,
    /// Everything together, in steps.
    pub(super) whole: u64,
}

/// Measures everything that an expression can reach.
pub(super) fn measure(input: &Input<'_>) -> Size {
    let request = &input.request;
    let headers = request.headers.iter().map(|(name, value)| steps(name.as_str().len() + value.len())).sum::<u64>();
    let mut size = Size {
        longest: input.identities.len().max(request.headers.keys_len()) as u64,
        whole: headers + steps(request.path.len() + request.query.len()),
    };
    let mut open: Vec<&Json> = Vec::new();
    let mut add = |length: usize, text: usize| {
        size.longest = size.longest.max(length as u64);
        size.whole += steps(text);
    };
    for (_, claims) in input.identities {
        add(claims.len(), claims.keys().map(String::len).sum());
        open.extend(claims.values());
    }
    while let Some(value) = open.pop() {
        match value {
            Json::String(text) => add(0, text.len()),
            Json::Array(items) => {
                add(items.len(), 0);
                open.extend(items);
            }
            Json::Object(map) => {
                add(map.len(), map.keys().map(String::len).sum());
                open.extend(map.values());
            }
            Json::Null | Json::Bool(_) | Json::Number(_) => add(0, 0),
        }
    }
    size
}

/// What looking at a text costs.
fn steps(text: usize) -> u64 {
    1 + text as u64 / TEXT_PER_STEP
}

/// Bytes of a text that are looked at in the time of a step.
const TEXT_PER_STEP: u64 = 256;

/// An input, and what was taken out of it.
#[derive(Debug)]
pub(super) struct Metered<'a> {
    input: &'a Input<'a>,
    taken: Meter,
}

impl<'a> Metered<'a> {
    pub(super) fn new(input: &'a Input<'a>) -> Self {
        Self { input, taken: Meter::default() }
    }

    /// Whether more was asked for than is given.
    pub(super) fn is_exhausted(&self) -> bool {
        self.taken.0.load(Ordering::Relaxed) > MAX_STEPS
    }
}

/// Counts steps. Atomic only because values of the crate must be `Sync`.
#[derive(Debug, Default)]
struct Meter(AtomicU64);

impl Meter {
    fn take(&self, steps: u64) -> Result<(), ExecutionError> {
        let taken = self.0.load(Ordering::Relaxed).saturating_add(steps);
        self.0.store(taken, Ordering::Relaxed);
        if taken > MAX_STEPS { Err(ExecutionError::function_error("steps", "too many")) } else { Ok(()) }
    }
}

impl VariableResolver for Metered<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let node = match variable {
            "claims" => Node::Claims(self.input.identities.first().map(|(_, claims)| *claims)),
            "identities" => Node::Identities(self.input.identities),
            "request" => Node::Request(&self.input.request),
            _ => return None,
        };
        Some(CowVal::owned(Table { node, meter: &self.taken, names: OnceLock::new() }))
    }
}

/// What has values by name.
#[derive(Debug, Clone, Copy)]
enum Node<'a> {
    /// Claims, or nothing for a caller who proved nothing.
    Claims(Option<&'a Map<String, Json>>),
    Identities(&'a [(&'a str, &'a Map<String, Json>)]),
    Request(&'a Request<'a>),
    Headers(&'a HeaderMap),
}

impl<'a> Node<'a> {
    fn get(self, name: &str, meter: &'a Meter) -> Result<Option<Box<dyn Val + 'a>>, ExecutionError> {
        let table = |node| -> Box<dyn Val + 'a> { Box::new(Table { node, meter, names: OnceLock::new() }) };
        Ok(match self {
            Self::Claims(claims) => match claims.and_then(|claims| claims.get(name)) {
                Some(claim) => Some(value(claim, meter)?),
                None => None,
            },
            Self::Identities(identities) => {
                let found = identities.iter().find(|(provider, _)| *provider == name);
                found.map(|(_, claims)| table(Self::Claims(Some(claims))))
            }
            Self::Request(request) if name == "headers" => Some(table(Self::Headers(request.headers))),
            Self::Request(request) => {
                meter.take(steps(request.path.len() + request.query.len()))?;
                request.get(name)
            }
            Self::Headers(headers) => header(headers, name, meter)?,
        })
    }

    fn has(self, name: &str) -> bool {
        match self {
            Self::Claims(claims) => claims.is_some_and(|claims| claims.contains_key(name)),
            Self::Identities(identities) => identities.iter().any(|(provider, _)| *provider == name),
            Self::Request(_) => REQUEST.contains(&name),
            Self::Headers(headers) => headers.contains_key(name),
        }
    }

    fn names(self) -> Vec<CelString<'a>> {
        match self {
            Self::Claims(claims) => claims.into_iter().flat_map(Map::keys).map(|name| name.as_str().into()).collect(),
            Self::Identities(identities) => identities.iter().map(|(provider, _)| (*provider).into()).collect(),
            Self::Request(_) => REQUEST.iter().map(|name| (*name).into()).collect(),
            Self::Headers(headers) => headers.keys().map(|name| name.as_str().into()).collect(),
        }
    }

    fn len(self) -> usize {
        match self {
            Self::Claims(claims) => claims.map_or(0, Map::len),
            Self::Identities(identities) => identities.len(),
            Self::Request(_) => REQUEST.len(),
            Self::Headers(headers) => headers.keys_len(),
        }
    }
}

impl<'a> Request<'a> {
    fn get(&'a self, name: &str) -> Option<Box<dyn Val + 'a>> {
        let text = |text: &'a str| -> Box<dyn Val + 'a> { Box::new(CelString::from(text)) };
        Some(match name {
            "method" => text(self.method),
            "service" => text(self.method.split('/').next().unwrap_or_default()),
            "http_method" => text(self.http_method),
            "path" => text(self.path),
            "query" => text(self.query),
            "host" => text(self.host),
            "protocol" => text(self.protocol),
            "client_ip" => Box::new(CelString::from(self.client_ip.to_string())),
            "time" => Box::new(CelInt::from(self.time)),
            _ => return None,
        })
    }
}

/// The text of a header, several values joined by commas; names in any case.
fn header<'a>(headers: &'a HeaderMap, name: &str, meter: &Meter) -> Result<Option<Box<dyn Val + 'a>>, ExecutionError> {
    let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { return Ok(None) };
    let all = headers.get_all(name);
    meter.take(steps(all.iter().map(|value| value.len() + 2).sum()))?;
    let mut values = all.iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let Some(first) = values.next() else { return Ok(None) };
    let Some(second) = values.next() else { return Ok(Some(Box::new(CelString::from(first)))) };
    let mut joined = first.into_owned();
    for value in std::iter::once(second).chain(values) {
        joined.push_str(", ");
        joined.push_str(&value);
    }
    Ok(Some(Box::new(CelString::from(joined))))
}

fn value<'a>(json: &'a Json, meter: &'a Meter) -> Result<Box<dyn Val + 'a>, ExecutionError> {
    Ok(match json {
        Json::Null => Box::new(CelNull),
        Json::Bool(truth) => Box::new(CelBool::from(*truth)),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Box::new(CelInt::from(number)),
            (None, Some(number)) => Box::new(CelUInt::from(number)),
            (None, None) => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        },
        Json::String(text) => {
            meter.take(steps(text.len()))?;
            Box::new(CelString::from(text.as_str()))
        }
        Json::Array(items) => {
            meter.take(items.len() as u64)?;
            Box::new(CelList::from(items.iter().map(|item| value(item, meter)).collect::<Result<Vec<_>, _>>()?))
        }
        Json::Object(map) => Box::new(Table { node: Node::Claims(Some(map)), meter, names: OnceLock::new() }),
    })
}

/// A map of CEL whose entries are made when they are asked for.
#[derive(Debug)]
struct Table<'a> {
    node: Node<'a>,
    meter: &'a Meter,
    /// For loops, which want them to be there.
    names: OnceLock<Vec<CelString<'a>>>,
}

impl Val for Table<'_> {
    fn get_type(&self) -> &Type {
        <Self as Val>::cel_type()
    }

    fn cel_type() -> &'static Type {
        &MAP_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(Self { node: self.node, meter: self.meter, names: OnceLock::new() })
    }
}

impl Container for Table<'_> {
    fn contains(&self, name: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(name.downcast_ref::<CelString<'_>>().is_some_and(|name| self.node.has(name.inner())))
    }
}

impl Sizer for Table<'_> {
    fn size(&self) -> CelInt {
        i64::try_from(self.node.len()).unwrap_or(i64::MAX).into()
    }
}

impl Indexer for Table<'_> {
    fn get<'b, 'v>(&'b self, name: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let Some(name) = name.downcast_ref::<CelString<'_>>() else {
            let got = name.get_type().name().to_owned();
            return Err(ExecutionError::UnexpectedType { got, want: "string".to_owned() });
        };
        let found = self.node.get(name.inner(), self.meter)?;
        found.map(CowVal::Owned).ok_or_else(|| ExecutionError::no_such_key(name.inner()))
    }

    fn steal<'v>(self: Box<Self>, name: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(name).map(CowVal::into_owned)
    }
}

impl Iterable for Table<'_> {
    fn iter<'b, 'v>(&'b self) -> Box<dyn traits::Iterator<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        let names = self.names.get_or_init(|| match self.meter.take(self.node.len() as u64) {
            Ok(()) => self.node.names(),
            // Noted in the meter, so that the result does not count.
            Err(_) => Vec::new(),
        });
        Box::new(Names(names.iter()))
    }
}

struct Names<'b, 'a>(std::slice::Iter<'b, CelString<'a>>);

impl<'b, 'v, 'a: 'v> traits::Iterator<'b, 'v> for Names<'b, 'a> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'v)> {
        self.0.next().map(|name| -> &'b (dyn Val + 'v) { name })
    }
}
