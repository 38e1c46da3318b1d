//! Messages from JSON to wire bytes and back.
//!
//! The first byte of an input chooses the type, the second the options; the rest is the message.

use std::sync::{Arc, LazyLock};

use bytes::BytesMut;
use portico::config::Json;
use portico::schema::source::compile;
use portico::transcode::{BodyRule, Error, Fault, Input, Plans, ReplyPlan, RequestPlan};

/// Types that have every kind of field between them, and the well-known ones by themselves.
const MESSAGES: [(File, &str); 12] = [
    (File::Proto3, "test.Kinds"),
    (File::Proto2, "old.Old"),
    (File::Proto2, "old.Strict"),
    (File::Proto2, "old.Set"),
    (File::Proto3, "test.Request"),
    (File::Proto3, "google.protobuf.Any"),
    (File::Proto3, "google.protobuf.Value"),
    (File::Proto3, "google.protobuf.Timestamp"),
    (File::Proto3, "google.protobuf.Duration"),
    (File::Proto3, "google.protobuf.FieldMask"),
    (File::Proto3, "google.protobuf.DoubleValue"),
    (File::Proto3, "google.protobuf.FloatValue"),
];
/// Of the JSON text of a reply, in bytes.
const LIMIT: usize = 1 << 20;

#[derive(Clone, Copy)]
enum File {
    Proto2,
    Proto3,
}

struct Subject {
    request: RequestPlan,
    reply: ReplyPlan,
}

/// JSON text that is taken becomes a message that comes out as JSON again, which says the same.
pub fn json_to_wire(input: &[u8]) {
    let Some((subject, json, text)) = choose(input) else { return };
    let Ok(wire) = subject.to_wire(text, json) else { return };
    // An element of a `Struct` is two bytes of text and a dozen on the wire.
    assert!(wire.len() <= 12 * text.len() + 1024, "{} bytes became {}", text.len(), wire.len());

    let written = subject.to_json(&wire, json).unwrap_or_else(|error| panic!("cannot be written: {error}"));
    subject.check_stable(&written, json);
}

/// Wire bytes that are taken become JSON text that is read again, and says the same.
pub fn wire_to_json(input: &[u8]) {
    let Some((subject, json, wire)) = choose(input) else { return };
    let written = match subject.to_json(wire, json) {
        Ok(written) => written,
        Err(error) => return assert_ne!(error.fault, Fault::Client, "{error}"),
    };
    // The value that crosses the limit is still written.
    assert!(written.len() <= LIMIT + 6 * wire.len() + 1024, "{} bytes became {}", wire.len(), written.len());
    subject.check_stable(&written, json);
}

fn choose(input: &[u8]) -> Option<(&'static Subject, Json, &[u8])> {
    static SUBJECTS: LazyLock<Vec<Subject>> = LazyLock::new(subjects);
    let [choice, options, rest @ ..] = input else { return None };
    let subject = &SUBJECTS[usize::from(*choice) % SUBJECTS.len()];
    let json = Json {
        ignore_unknown_fields: options & 1 != 0,
        int64_as_number: options & 2 != 0,
        emit_defaults: options & 4 != 0,
        preserve_proto_names: options & 8 != 0,
        enums_as_numbers: options & 16 != 0,
        stream_envelope: false,
    };
    Some((subject, json, rest))
}

fn subjects() -> Vec<Subject> {
    let (old, new) = (plans("proto2.proto"), plans("every_kind.proto"));
    let subject = |(file, name): &(File, &str)| {
        let plans = match file {
            File::Proto2 => &old,
            File::Proto3 => &new,
        };
        let id = plans.schema().message_named(name).expect("the schema has the message");
        Subject {
            request: RequestPlan::compile(plans, id, &[], &BodyRule::Whole).expect("a body may be any message"),
            reply: ReplyPlan::compile(plans, id, None).expect("a reply may be any message"),
        }
    };
    MESSAGES.iter().map(subject).collect()
}

/// Plans of one of the schemas that the unit tests have.
pub(crate) fn plans(file: &str) -> Arc<Plans> {
    let path = super::root().join("src/transcode/tests").join(file);
    Plans::new(Arc::new(compile(&[path], &[]).expect("the schema compiles")))
}

impl Subject {
    fn to_wire(&self, text: &[u8], json: Json) -> Result<Vec<u8>, Error> {
        let mut out = BytesMut::from("before");
        let result = self.request.encode(&Input { body: text, ..Input::default() }, json, &mut out);
        after(result, &out)
    }

    fn to_json(&self, wire: &[u8], json: Json) -> Result<Vec<u8>, Error> {
        let mut out = BytesMut::from("before");
        let result = self.reply.decode(wire, json, LIMIT, &mut out);
        after(result, &out)
    }

    /// The text is JSON; read and written again, it is the same.
    fn check_stable(&self, written: &[u8], json: Json) {
        check_json(written);
        let text = std::str::from_utf8(written).expect("the text is UTF-8");
        let wire = match self.to_wire(written, json) {
            Ok(wire) => wire,
            // Of replies it is not asked; and messages nest as deep as objects and arrays may together: lists come on top.
            Err(error) if error.message == "the field is required" || error.message.contains("nested more than") => {
                return;
            }
            Err(error) => panic!("cannot be read again: {error}: {text}"),
        };
        let again =
            self.to_json(&wire, json).unwrap_or_else(|error| panic!("cannot be written again: {error}: {text}"));
        // A default that was given stands at another place than one that is emitted.
        let value = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).ok();
        // Every number of `NullValue` is written as `null`, and read as 0.
        let is_null = |text: &str| text.contains("ull\":null");
        assert!(
            again == written || value(&again) == value(written) || is_null(text),
            "{text} became {}",
            String::from_utf8_lossy(&again)
        );
    }
}

/// The text is JSON in UTF-8, or at least as deep as the check can look.
pub(crate) fn check_json(text: &[u8]) {
    if let Err(error) = serde_json::from_slice::<serde_json::Value>(text) {
        assert!(error.to_string().contains("recursion limit"), "{error}: {}", String::from_utf8_lossy(text));
    }
}

/// What was appended; nothing, if there was an error.
pub(crate) fn after(result: Result<(), Error>, out: &[u8]) -> Result<Vec<u8>, Error> {
    let appended = out.strip_prefix(b"before").expect("what stood there stays");
    match result {
        Ok(()) => Ok(appended.to_vec()),
        Err(error) => {
            assert!(appended.is_empty(), "an error leaves nothing behind");
            assert!(!error.to_string().is_empty());
            Err(error)
        }
    }
}
