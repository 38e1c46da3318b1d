//! Query strings and form bodies: `page_size=2&filter=a+b&author.name=Eco&labels[room]=3`.
//!
//! Names are those of fields, in JSON or in proto form, joined by dots; a repeated field is given by repeating its name, a
//! map entry as `name[key]`. `+` is a space and percent-encoding is taken off once
//! (<https://url.spec.whatwg.org/#application/x-www-form-urlencoded>). Which fields may be given at all: those that
//! neither the path nor the body sets (`google/api/http.proto`). One that the path sets may be repeated with the same value.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::bindings::{Bindings, Source, Target};
use super::encode::part::Value;
use super::encode::text::TextValue;
use super::error::{Error, Result, excerpt};
use super::lexer::MAX_DEPTH;
use super::plan::{Plans, Shape};
use super::suggest;
use crate::schema::{Kind, MessageId};

/// Pairs in one query or form. More are refused.
pub(super) const MAX_PAIRS: usize = 1000;

/// Where the pairs of a query go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pairs<'a> {
    pub(super) plans: &'a Plans,
    /// The request message.
    pub(super) root: MessageId,
    /// The field that is the body: a query may not name it, the names in a form are below it.
    pub(super) body: Option<u32>,
    /// Whether this is a form body.
    pub(super) form: bool,
    pub(super) ignore_unknown: bool,
}

impl Pairs<'_> {
    /// Sets every pair.
    ///
    /// # Errors
    /// A pair is not valid, names no field, or contradicts what is set already.
    pub(super) fn bind(self, text: &str, bindings: &mut Bindings) -> Result<()> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        for (count, pair) in pairs.enumerate() {
            if count == MAX_PAIRS {
                return Err(Error::client(format!("more than {MAX_PAIRS} parameters")));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name)?;
            let value = decode(value).map_err(|error| error.within_given(&name))?;
            self.bind_pair(&name, &value, bindings)?;
        }
        Ok(())
    }

    fn bind_pair(self, name: &str, text: &str, bindings: &mut Bindings) -> Result<()> {
        let (root, mut fields) = self.start()?;
        let key = match self.resolve(root, name, &mut fields)? {
            Name::Ignored => return Ok(()),
            Name::Field => None,
            Name::Entry(key) => Some(key),
        };
        if !self.form && self.body.is_some() && fields.first().copied() == self.body {
            let message = "the field is given by the body and cannot be a query parameter";
            return Err(Error::client(message).within_given(name));
        }
        let source = if self.form { Source::Form } else { Source::Query };
        let target = Target { root: self.root, fields: &fields, key, source };
        let value = TextValue { plans: self.plans, text, ignore_unknown: self.ignore_unknown };
        bindings.set(target, Value::Text(value))
    }

    /// The message whose fields are named, and the fields that lead there.
    pub(super) fn start(self) -> Result<(MessageId, SmallVec<[u32; 4]>)> {
        let mut fields = SmallVec::new();
        let Some(body) = self.body.filter(|_| self.form) else { return Ok((self.root, fields)) };
        fields.push(body);
        let field = &self.plans.message(self.root).fields[body as usize];
        let inner = field.kind.message().filter(|_| field.shape == Shape::Single);
        Ok((inner.ok_or_else(|| Error::client("the body cannot be given as a form"))?, fields))
    }

    /// Adds the fields that a name stands for.
    pub(super) fn resolve<'n>(
        self,
        root: MessageId,
        name: &'n str,
        fields: &mut SmallVec<[u32; 4]>,
    ) -> Result<Name<'n>> {
        let mut plan = self.plans.message(root);
        let mut rest = name;
        loop {
            let end = memchr::memchr2(b'.', b'[', rest.as_bytes()).unwrap_or(rest.len());
            let (segment, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
            let Some(index) = plan.field_named(segment) else {
                if self.ignore_unknown {
                    return Ok(Name::Ignored);
                }
                return Err(Error::client(suggest::no_such_field(plan, segment)).within_given(name));
            };
            let field = &plan.fields[index];
            fields.push(u32::try_from(index).unwrap_or(u32::MAX));
            if let Some(key) = after.strip_prefix('[') {
                let problem = match key.strip_suffix(']') {
                    _ if field.shape != Shape::Map => "only a map takes a key, as in name[key]=value",
                    Some(key) => return Ok(Name::Entry(key)),
                    None if key.contains("].") => "fields of a map's entry cannot be given one by one",
                    None => "the key of a map ends in a bracket, as in name[key]=value",
                };
                return Err(Error::client(problem).within_given(name));
            }
            let Some(below) = after.strip_prefix('.') else { return Ok(Name::Field) };
            let (Kind::Message(id) | Kind::Group(id)) = field.kind else {
                return Err(Error::client(format!("{} has no fields", excerpt(segment))).within_given(name));
            };
            plan = self.plans.message(id);
            if field.is_repeated() || plan.well_known.is_some_and(|form| !form.has_fields()) {
                let message = format!("fields below {} cannot be given one by one", excerpt(segment));
                return Err(Error::client(message).within_given(name));
            }
            if fields.len() >= MAX_DEPTH {
                return Err(Error::client(format!("more than {MAX_DEPTH} names joined by dots")));
            }
            rest = below;
        }
    }
}

/// What the name of a parameter stands for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Name<'n> {
    /// Nothing, and that is no error.
    Ignored,
    Field,
    /// The entry of a map with this key.
    Entry(&'n str),
}

/// Takes `+` and percent-encoding off a text.
fn decode(text: &str) -> Result<Cow<'_, str>> {
    match unescape(text) {
        Some(Cow::Borrowed(_)) => Ok(Cow::Borrowed(text)),
        Some(Cow::Owned(bytes)) => String::from_utf8(bytes)
            .map(Cow::Owned)
            .map_err(|_| Error::client(format!("percent-encoded bytes that are not UTF-8 in {}", excerpt(text)))),
        None => Err(Error::client(format!("bad percent-encoding in {}", excerpt(text)))),
    }
}

/// The bytes that a name or value of a query stands for; `None` if its percent-encoding is bad.
pub fn unescape(text: &str) -> Option<Cow<'_, [u8]>> {
    if memchr::memchr2(b'+', b'%', text.as_bytes()).is_none() {
        return Some(Cow::Borrowed(text.as_bytes()));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                let (&[high, low], after) = after.split_first_chunk()?;
                rest = after;
                digit(high)? << 4 | digit(low)?
            }
            byte => byte,
        });
    }
    Some(Cow::Owned(decoded))
}
