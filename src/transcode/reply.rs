//! How one HTTP binding turns a reply message into a body.

use std::sync::Arc;

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::declared;
use super::decode::{Decoder, write_base64, write_string};
use super::error::Error;
use super::http_body::HttpBody;
use super::lexer::Lexer;
use super::out::Out;
use super::plan::{Plans, WellKnown};
use crate::config::Json;
use crate::schema::MessageId;

/// What an HTTP binding does with replies.
#[derive(Debug, Clone)]
pub struct ReplyPlan {
    plans: Arc<Plans>,
    output: MessageId,
    /// The field that is the whole body.
    field: Option<u32>,
    http_body: bool,
    /// Fields that become headers.
    headers: Arc<[HeaderField]>,
}

/// A field of a reply that becomes a header.
#[derive(Debug)]
struct HeaderField {
    name: HeaderName,
    /// Indices of the fields that lead to it, each in the message of the one before.
    way: Box<[u32]>,
}

impl ReplyPlan {
    /// Prepares a binding: `response_body` is the field that becomes the whole body, of any kind.
    ///
    /// # Errors
    /// The message does not have such a field.
    pub fn compile(plans: &Arc<Plans>, output: MessageId, response_body: Option<&str>) -> Result<Self, String> {
        let schema = plans.schema();
        let name = response_body.filter(|name| !name.is_empty());
        let field = name.map(|name| declared::field(schema, output, name)).transpose()?;
        let http_body = match field {
            None => declared::well_known(schema, output) == Some(WellKnown::HttpBody),
            Some((_, field)) => declared::is_single(schema, field, WellKnown::HttpBody),
        };
        let field = field.map(|(index, _)| index);
        Ok(Self { plans: Arc::clone(plans), output, field, http_body, headers: Arc::default() })
    }

    /// Lets single fields that are no messages become headers too.
    ///
    /// # Errors
    /// What is wrong with the first that cannot; those before it are bound.
    pub fn bind_headers<'h>(
        &mut self,
        mut headers: impl Iterator<Item = (&'h HeaderName, &'h str)>,
    ) -> Result<(), String> {
        let mut bound = Vec::new();
        let result = headers.try_for_each(|(name, path)| {
            let field = self.header_field(name, path);
            bound.push(field.map_err(|problem| format!("the header {name} is set by no field: {problem}"))?);
            Ok(())
        });
        if !bound.is_empty() {
            self.headers = bound.into();
        }
        result
    }

    fn header_field(&self, name: &HeaderName, path: &str) -> Result<HeaderField, String> {
        Ok(HeaderField { name: name.clone(), way: declared::scalar(self.plans.schema(), self.output, path)? })
    }

    /// Sets the headers that fields of the message are bound to. Fields that are not set or have no form, and text that no
    /// header can carry, set none; whether the bytes are a message, whoever writes the body finds out.
    pub fn write_headers(&self, message: &[u8], json: Json, into: &mut HeaderMap) {
        for header in self.headers.iter() {
            if let Some(value) = self.header_value(header, message, json) {
                into.insert(header.name.clone(), value);
            }
        }
    }

    fn header_value(&self, header: &HeaderField, message: &[u8], json: Json) -> Option<HeaderValue> {
        let mut text = BytesMut::new();
        let mut writer = Out::new(&mut text, 64);
        // An escape in JSON has up to six bytes.
        let mut decoder = Decoder::new(&self.plans, json, &mut writer).bounded(6 * MAX_HEADER + 2);
        let is_set = decoder.field_at(self.plans.message(self.output), &header.way, message);
        drop(writer);
        is_set.ok().filter(|is_set| *is_set)?;
        let text = std::str::from_utf8(&text).ok()?;
        if text.starts_with('"') { printable(&Lexer::new(text).string().ok()?) } else { printable(text) }
    }

    /// Whether the body is a `google.api.HttpBody`, so that [`Self::http_body`] is to be used.
    pub fn is_http_body(&self) -> bool {
        self.http_body
    }

    /// Appends JSON text of up to `limit` bytes to `out`, which stays as it was when there is an error.
    ///
    /// A field that is the whole body and absent is `[]`, `{}` or its default; absent messages are `{}`, but those whose
    /// JSON form is no object `null` (a `ListValue` is `[]`, a `FieldMask` `""`).
    ///
    /// # Errors
    /// The bytes are not a message, it has no JSON form, or one that is too long.
    pub fn decode(&self, message: &[u8], json: Json, limit: usize, out: &mut BytesMut) -> Result<(), Error> {
        let start = out.len();
        let plan = self.plans.message(self.output);
        let mut writer = Out::new(out, message.len() + message.len() / 2);
        let mut decoder = Decoder::new(&self.plans, json, &mut writer).bounded(limit);
        let result = match self.field {
            None => decoder.whole_message(plan, message),
            Some(index) => decoder.whole_field(plan, index as usize, message),
        };
        result.map_err(|error| {
            writer.rewind(start);
            *error
        })
    }

    /// Content type and data of a reply that is a `google.api.HttpBody`, as slices of the message.
    ///
    /// # Errors
    /// The bytes are not a message.
    pub fn http_body<'m>(&self, message: &'m [u8]) -> Result<(Option<&'m str>, &'m [u8]), Error> {
        let mut body = HttpBody::default();
        let result = match self.field {
            None => body.merge(message),
            Some(index) => {
                let number = self.plans.message(self.output).fields[index as usize].number;
                body.merge_field(message, number)
            }
        };
        result.map_err(|error| *error)?;
        Ok((body.content_type, body.data))
    }
}

fn printable(text: &str) -> Option<HeaderValue> {
    let fits = (1..=MAX_HEADER).contains(&text.len()) && text.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
    HeaderValue::from_str(text).ok().filter(|_| fits)
}

/// Bytes of a header that is made of a field.
const MAX_HEADER: usize = 8 << 10;

/// Appends a text as a JSON string.
pub fn write_text(text: &str, out: &mut BytesMut) {
    write_string(&mut Out::new(out, text.len() + 2), text.as_bytes());
}

/// Appends a detail of a `google.rpc.Status` as JSON: through the schema, else through the types that every gateway knows,
/// else as `{"@type": …, "value": base64}`, so that an unknown or broken detail never hides the error that it belongs to.
pub fn write_any(plans: &Plans, type_url: &str, value: &[u8], json: Json, out: &mut BytesMut) {
    let mut writer = Out::new(out, type_url.len() + value.len() * 2);
    let start = writer.len();
    if Decoder::new(plans, json, &mut writer).whole_any(type_url, value).is_ok() {
        return;
    }
    writer.rewind(start);
    writer.bytes(b"{\"@type\":");
    write_string(&mut writer, type_url.as_bytes());
    writer.bytes(b",\"value\":");
    write_base64(&mut writer, value);
    writer.byte(b'}');
}
