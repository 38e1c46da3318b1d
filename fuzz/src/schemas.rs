//! Descriptors: whatever an upstream's reflection or a file says of itself.

use std::sync::Arc;

use bytes::BytesMut;
use portico::config::Json;
use portico::schema::Schema;
use portico::schema::http_rule::Binding;
use portico::transcode::{BodyRule, Input, Plans, ReplyPlan, RequestPlan};

/// A set of files that loads has methods whose messages can be planned, read and written.
pub fn schemas(input: &[u8]) {
    let Ok(schema) = Schema::from_set(input) else { return };
    for problem in schema.problems() {
        assert!(!problem.reason.is_empty());
    }
    let plans = Plans::new(Arc::new(schema));
    let schema = plans.schema();
    let json = Json { emit_defaults: true, ..Json::default() };
    for method in schema.services().iter().flat_map(|service| &service.methods) {
        if let Some(rule) = method.http_rule() {
            let _ = Binding::flatten(schema, method, &rule);
        }
        for id in [method.input, method.output] {
            let message = schema.message(id);
            let request = RequestPlan::compile(&plans, id, &[], &BodyRule::Whole).expect("a body may be any message");
            let reply = ReplyPlan::compile(&plans, id, None).expect("a reply may be any message");
            let mut out = BytesMut::new();
            let _ = request.encode(&Input { body: b"{}", ..Input::default() }, json, &mut out);
            out.clear();
            if reply.decode(&[], json, 1 << 20, &mut out).is_ok() && !reply.is_http_body() {
                super::messages::check_json(&out);
            }
            // Every field once, as the field of a body and as a reply's only one.
            for field in message.fields.iter().take(16) {
                let reply = ReplyPlan::compile(&plans, id, Some(&field.name));
                let request = RequestPlan::compile(&plans, id, &[], &BodyRule::Field(field.name.clone()));
                out.clear();
                let _ = reply.map(|reply| reply.decode(&[], json, 1 << 20, &mut out).is_ok());
                let body = Input { body: b"[{}]", query: Some("a=1"), ..Input::default() };
                let _ = request.map(|request| request.encode(&body, json, &mut out).is_ok());
            }
        }
    }
}
