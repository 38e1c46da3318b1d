//! How one HTTP binding turns a request into a message.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::BytesMut;
use http::{HeaderMap, HeaderName};

use super::bindings::{Bindings, Overlay, Source, Target};
use super::encode::part::Value;
use super::encode::text::TextValue;
use super::encode::{Encoder, mask};
use super::error::{Error, Fault, REQUIRED, Result};
use super::lexer::Lexer;
use super::out::Out;
use super::parts::{Part, Place};
use super::plan::{Plans, Seen, Shape, WellKnown};
use super::query::Pairs;
use super::{BodyRule, declared, http_body, merge};
use crate::config::Json;
use crate::schema::{Kind, MessageId, Schema};

/// What an HTTP binding does with path, query and body.
#[derive(Debug, Clone)]
pub struct RequestPlan {
    plans: Arc<Plans>,
    input: MessageId,
    /// Field indices of each variable of the path, from the outside in.
    variables: Box<[Box<[u32]>]>,
    /// Headers that set fields, with the indices of each.
    headers: Arc<[(HeaderName, Box<[u32]>)]>,
    body: Body,
    /// Whether the body is a `google.api.HttpBody`.
    http_body: bool,
    /// The field `update_mask`, if a `PATCH` may have it filled.
    update_mask: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    None,
    Whole,
    Field(u32),
}

impl Body {
    /// Whether it sets all of a field, which leaves no place for another value: a message in a form of its own has no names.
    fn sets(self, schema: &Schema, input: MessageId, field: &[u32]) -> bool {
        match self {
            Self::None => false,
            Self::Whole => declared::well_known(schema, input).is_some(),
            Self::Field(index) if field.first() == Some(&index) => {
                let declared = schema.message(input).fields.get(index as usize);
                let message = declared.and_then(|declared| declared.kind.message());
                field.len() == 1
                    || message.is_some_and(|id| declared::well_known(schema, id).is_some_and(|form| !form.is_object()))
            }
            Self::Field(_) => false,
        }
    }
}

/// What a client sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Input<'a> {
    /// Decoded values of the path's variables, in their order.
    pub captures: &'a [Cow<'a, str>],
    /// Of which those count that are [bound](RequestPlan::bind_headers).
    pub headers: Option<&'a HeaderMap>,
    /// The query, still encoded.
    pub query: Option<&'a str>,
    /// The whole body; empty is absent.
    pub body: &'a [u8],
    /// Kept in a `google.api.HttpBody`, of no meaning otherwise.
    pub content_type: Option<&'a str>,
    /// Whether the body is a form: `application/x-www-form-urlencoded`, or [`Self::parts`].
    pub form: bool,
    /// What a form of parts says; it has no other body.
    pub parts: &'a [Part],
    /// Whether `update_mask` is filled from the body when the client sent none.
    pub patch: bool,
}

impl Input<'_> {
    /// Bytes that the client sent, roughly as many as the message will have.
    pub fn size(&self) -> usize {
        let parts: usize = self.parts.iter().map(|part| part.data.len()).sum();
        self.body.len() + self.query.map_or(0, str::len) + parts
    }
}

impl RequestPlan {
    /// Prepares a binding: `variables` are the field paths that the path sets, such as `book.name`, in their order.
    ///
    /// # Errors
    /// A variable or the body names a field that the message does not have or that cannot be set so.
    pub fn compile(
        plans: &Arc<Plans>,
        input: MessageId,
        variables: &[&str],
        body: &BodyRule,
    ) -> std::result::Result<Self, String> {
        let schema = plans.schema();
        let (body, body_field) = match body {
            BodyRule::None => (Body::None, None),
            BodyRule::Whole => (Body::Whole, None),
            BodyRule::Field(name) => {
                let (index, field) = declared::field(schema, input, name)?;
                (Body::Field(index), Some(field))
            }
        };
        let http_body = match body_field {
            None => body == Body::Whole && declared::well_known(schema, input) == Some(WellKnown::HttpBody),
            Some(field) => declared::is_single(schema, field, WellKnown::HttpBody),
        };
        let variables = variables
            .iter()
            .map(|variable| {
                let fields = declared::leaf(schema, input, variable)?.fields;
                if body.sets(schema, input, &fields) {
                    return Err(format!("`{variable}` is set by the body too"));
                }
                Ok(fields)
            })
            .collect::<std::result::Result<_, String>>()?;
        let update_mask = body_field
            .and_then(|_| declared::field(schema, input, "update_mask").ok())
            .filter(|(_, field)| declared::is_single(schema, field, WellKnown::FieldMask))
            .map(|(index, _)| index)
            .filter(|index| body != Body::Field(*index));
        Ok(Self { plans: Arc::clone(plans), input, variables, headers: Arc::default(), body, http_body, update_mask })
    }

    /// Lets headers set fields as parameters of a query would: one value each, of a field that is no message and not
    /// repeated.
    ///
    /// # Errors
    /// What is wrong with the first that cannot be so; those before it are bound.
    pub fn bind_headers<'h>(
        &mut self,
        headers: impl Iterator<Item = (&'h HeaderName, &'h str)>,
    ) -> std::result::Result<(), String> {
        let mut bound = Vec::new();
        let mut bind = |name: &HeaderName, path: &str| {
            let fields = declared::scalar(self.plans.schema(), self.input, path)?;
            if self.body.sets(self.plans.schema(), self.input, &fields) {
                return Err(format!("`{path}` is set by the body"));
            }
            bound.push((name.clone(), fields));
            Ok(())
        };
        let result = headers.into_iter().try_for_each(|(name, path)| {
            bind(name, path).map_err(|problem| format!("the header {name} sets no field: {problem}"))
        });
        if !bound.is_empty() {
            self.headers = bound.into();
        }
        result
    }

    /// Those of the headers that set fields.
    pub fn bound_headers(&self, headers: &HeaderMap) -> HeaderMap {
        let names = self.headers.iter().map(|(name, _)| name);
        names.flat_map(|name| headers.get_all(name).iter().map(|value| (name.clone(), value.clone()))).collect()
    }

    /// Whether a body is taken at all.
    pub fn takes_body(&self) -> bool {
        self.body != Body::None
    }

    /// Whether the body is a `google.api.HttpBody`, so that it may be anything.
    pub fn takes_http_body(&self) -> bool {
        self.http_body
    }

    /// Appends the request message's wire bytes to `out`, which stays as it was when there is an error.
    ///
    /// A field that the path sets may be given again by query or body, with the same value. A query beside a body that
    /// sets everything is refused, and so is a body where there is none. An empty body sets nothing.
    ///
    /// # Errors
    /// What the client sent is not a message of this type, see [`Error`].
    pub fn encode(&self, input: &Input<'_>, json: Json, out: &mut BytesMut) -> std::result::Result<(), Error> {
        let start = out.len();
        let mut writer = Out::new(out, input.size());
        self.write(input, json, &mut writer).map_err(|error| {
            writer.rewind(start);
            *error
        })
    }

    /// Appends a request message that the client has encoded itself, with what path, query and headers set over it.
    ///
    /// # Errors
    /// The message is malformed, or the rest of `input` does not fit it, see [`Error`].
    pub fn encode_over(
        &self,
        message: &[u8],
        input: &Input<'_>,
        json: Json,
        out: &mut BytesMut,
    ) -> std::result::Result<(), Error> {
        let start = out.len();
        let mut writer = Out::new(out, message.len() + input.query.map_or(0, str::len));
        let plan = self.plans.message(self.input);
        let written = self
            .bind(input, json)
            .and_then(|bindings| merge::write_over(&self.plans, plan, message, bindings.root(), &mut writer));
        written.map_err(|error| {
            writer.rewind(start);
            // Whatever is wrong, this message is the client's.
            Error { fault: Fault::Client, ..*error }
        })
    }

    fn write(&self, input: &Input<'_>, json: Json, out: &mut Out<'_>) -> Result<()> {
        let bindings = self.bind(input, json)?;
        let (plans, plan) = (&*self.plans, self.plans.message(self.input));
        let root = bindings.root();
        match self.body {
            Body::None if !input.body.is_empty() => Err(Error::client("the method takes no body")),
            Body::None => root.write(plans, plan, out),
            _ if input.form && !self.http_body => {
                root.write(plans, plan, out)?;
                if input.patch { self.write_mask(input, root, out) } else { Ok(()) }
            }
            Body::Whole if self.http_body => {
                http_body::write(input.content_type, input.body, out);
                Ok(())
            }
            Body::Whole if input.body.is_empty() => root.write(plans, plan, out),
            Body::Whole => {
                let overlay = Some(root).filter(|root| !root.is_empty());
                self.encoder(input, json, out)?.whole_message(plan, overlay)
            }
            Body::Field(index) => self.write_field(input, json, root, index, out),
        }
    }

    /// What path, query and form set.
    fn bind(&self, input: &Input<'_>, json: Json) -> Result<Bindings> {
        let mut bindings = Bindings::new();
        for (fields, text) in self.variables.iter().zip(input.captures) {
            let target = Target { root: self.input, fields, key: None, source: Source::Path };
            bindings.set(target, self.text(text))?;
        }
        for (name, fields) in self.headers.iter() {
            let Some(text) = input.headers.map(|headers| header(headers, name)).transpose()?.flatten() else {
                continue;
            };
            let target = Target { root: self.input, fields, key: None, source: Source::Header };
            bindings.set(target, self.text(text)).map_err(|mut error| {
                error.message = format!("{}, in the header {name}", error.message);
                error
            })?;
        }
        let pairs = self.pairs(json);
        if let Some(query) = input.query.filter(|query| !query.is_empty()) {
            if self.body == Body::Whole {
                return Err(Error::client("the method takes no query parameters: the body sets every field"));
            }
            pairs.bind(query, &mut bindings)?;
        }
        if input.form && self.takes_body() && !self.http_body {
            let text = simdutf8::basic::from_utf8(input.body).map_err(|_| Error::client("the form is not UTF-8"))?;
            let pairs = Pairs { form: true, ..pairs };
            pairs.bind(text, &mut bindings)?;
            pairs.bind_parts(input.parts, &mut bindings)?;
        }
        Ok(bindings)
    }

    fn pairs(&self, json: Json) -> Pairs<'_> {
        let body = match self.body {
            Body::Field(index) => Some(index),
            Body::None | Body::Whole => None,
        };
        let ignore_unknown = json.ignore_unknown_fields;
        Pairs { plans: &self.plans, root: self.input, body, form: false, ignore_unknown }
    }

    fn text<'t>(&'t self, text: &'t str) -> Value<'t> {
        Value::Text(TextValue { plans: &self.plans, text, ignore_unknown: false })
    }

    /// Where a part of a form goes, of which only the head is known yet.
    ///
    /// # Errors
    /// It names no field.
    pub fn place(&self, part: &Part, json: Json) -> std::result::Result<Place, Error> {
        let bound = self.variables.iter().chain(self.headers.iter().map(|(_, fields)| fields));
        let place = Pairs { form: true, ..self.pairs(json) }.place(part, bound);
        place.map_err(|error| *error)
    }

    /// Whether one message has room for both parts.
    pub fn go_together(&self, one: &Place, other: &Place) -> bool {
        self.pairs(Json::default()).go_together(one, other)
    }

    /// Path and query, then the field that is the body, then the mask.
    fn write_field(
        &self,
        input: &Input<'_>,
        json: Json,
        root: Overlay<'_>,
        index: u32,
        out: &mut Out<'_>,
    ) -> Result<()> {
        let (plans, plan) = (&*self.plans, self.plans.message(self.input));
        let index = index as usize;
        let field = &plan.fields[index];
        // An upload of nothing still has its type.
        let typed = self.http_body && input.content_type.is_some_and(|text| !text.is_empty());
        if input.body.is_empty() && !typed {
            return root.write(plans, plan, out);
        }
        let mut body_only = Seen::default();
        body_only.insert(index);
        root.write_rest(plans, plan, &body_only, out)?;

        let before = out.len();
        let overlay = root.below(index);
        if self.http_body {
            out.tag(field.tag);
            let run = out.begin();
            http_body::write(input.content_type, input.body, out);
            out.end(run);
        } else {
            self.encoder(input, json, out)?.whole_field(field, overlay)?;
        }
        // It counts as given above, but the body may be `null`.
        if let Some(field) = plan.missing(|given| given != index || out.len() > before) {
            return Err(Error::client(REQUIRED).within(field.name()));
        }
        let other = field.oneof.and_then(|oneof| root.member_of(plan, oneof)).filter(|other| *other != index);
        if let Some(other) = other
            && out.len() > before
        {
            let other = plan.fields[other].name();
            return Err(Error::client(format!("\"{other}\" of the same oneof is given too")).within(field.name()));
        }
        if input.patch { self.write_mask(input, root, out) } else { Ok(()) }
    }

    /// Fills the mask from the body, unless the client gave one.
    fn write_mask(&self, input: &Input<'_>, root: Overlay<'_>, out: &mut Out<'_>) -> Result<()> {
        let (Some(mask), Body::Field(index)) = (self.update_mask, self.body) else { return Ok(()) };
        let field = &self.plans.message(self.input).fields[index as usize];
        let (Kind::Message(id), Shape::Single) = (field.kind, field.shape) else { return Ok(()) };
        let body = self.plans.message(id);
        let text = std::str::from_utf8(input.body).unwrap_or_default();
        let is_object = input.form || text.trim_start().starts_with('{');
        if root.child(mask as usize).is_some() || body.well_known.is_some() || !is_object {
            return Ok(());
        }
        let overlay = root.below(index as usize);
        let start = out.len();
        out.tag(self.plans.message(self.input).fields[mask as usize].tag);
        let run = out.begin();
        let empty = out.len();
        match overlay {
            Some(overlay) if input.form => {
                mask::write_form_paths(&self.plans, body, overlay, &mut String::new(), out);
            }
            _ if input.form => {}
            overlay => mask::write_paths(&self.plans, body, overlay, text, out)?,
        }
        if out.len() == empty {
            out.rewind(start);
        } else {
            out.end(run);
        }
        Ok(())
    }

    fn encoder<'a, 'o, 'b>(
        &'a self,
        input: &Input<'a>,
        json: Json,
        out: &'o mut Out<'b>,
    ) -> Result<Encoder<'a, 'o, 'b>> {
        let lexer = Lexer::checked(input.body)?;
        Ok(Encoder::new(&self.plans, lexer, out, json.ignore_unknown_fields).bounded(input.body.len()))
    }
}

/// The one value of a header, if it is there.
fn header<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::client(format!("the header {name} is given more than once")));
    }
    value.to_str().map(Some).map_err(|_| Error::client(format!("the header {name} is not plain text")))
}
