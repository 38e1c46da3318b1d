//! Tables of rules, and comparisons with prost-reflect.

mod bind;
mod from_json;
mod oracle;
mod parts;
mod reply;
mod to_json;

use std::sync::{Arc, LazyLock};

use bytes::BytesMut;

use super::{BodyRule, Error, Input, Plans, ReplyPlan, RequestPlan};
use crate::config::Json;
use crate::schema::set::compile_str;

/// Options as they are without any configuration.
const PLAIN: Json = Json {
    ignore_unknown_fields: false,
    int64_as_number: false,
    emit_defaults: false,
    preserve_proto_names: false,
    enums_as_numbers: false,
    stream_envelope: false,
};

fn plans() -> &'static Arc<Plans> {
    static PLANS: LazyLock<Arc<Plans>> =
        LazyLock::new(|| Plans::new(Arc::new(compile_str(include_str!("every_kind.proto")))));
    &PLANS
}

fn proto2() -> &'static Arc<Plans> {
    static PLANS: LazyLock<Arc<Plans>> =
        LazyLock::new(|| Plans::new(Arc::new(compile_str(include_str!("proto2.proto")))));
    &PLANS
}

fn to_wire_with(plans: &Arc<Plans>, message: &str, text: &[u8], json: Json) -> Result<Vec<u8>, Error> {
    let id = plans.schema().message_named(message).unwrap();
    let plan = RequestPlan::compile(plans, id, &[], &BodyRule::Whole).unwrap();
    let mut out = BytesMut::new();
    plan.encode(&Input { body: text, ..Input::default() }, json, &mut out)?;
    Ok(out.to_vec())
}

fn to_json_with(plans: &Arc<Plans>, message: &str, wire: &[u8], json: Json) -> Result<String, Error> {
    let id = plans.schema().message_named(message).unwrap();
    let plan = ReplyPlan::compile(plans, id, None).unwrap();
    let mut out = BytesMut::new();
    plan.decode(wire, json, usize::MAX, &mut out)?;
    Ok(String::from_utf8(out.to_vec()).unwrap())
}

fn to_wire(text: &str) -> Result<Vec<u8>, Error> {
    to_wire_with(plans(), "test.Kinds", text.as_bytes(), PLAIN)
}

fn to_json(wire: &[u8]) -> Result<String, Error> {
    to_json_with(plans(), "test.Kinds", wire, PLAIN)
}

/// What comes out of a text that went in: its form as the gateway writes it.
fn round(text: &str) -> Result<String, Error> {
    to_json(&to_wire(text)?)
}

/// What comes out of a text of the proto2 message.
fn round_old(text: &str) -> Result<String, Error> {
    to_json_with(proto2(), "old.Old", &to_wire_with(proto2(), "old.Old", text.as_bytes(), PLAIN)?, PLAIN)
}
