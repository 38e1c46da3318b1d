//! The program that protobuf's conformance runner tests: `conformance_testee DESCRIPTOR_SET`, see `protobuf.sh`.
//!
//! Reads requests from standard input and writes an answer to each, both with their length in four bytes in front, until
//! the input ends (<https://github.com/protocolbuffers/protobuf/blob/v33.2/conformance/conformance.proto>). A message
//! takes the way that it takes through the gateway: JSON is a body that sets the whole request, JSON comes out as a reply
//! does. What has JSON on neither side is skipped, for the gateway passes such messages on as they are.

use std::error::Error;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::BytesMut;
use portico::config::Json;
use portico::schema::source::load_descriptor_set;
use portico::transcode::{BodyRule, Input, Plans, ReplyPlan, RequestPlan};
use prost::Message;

/// `conformance.ConformanceRequest`. `json_payload` is declared as a string but may not be one, so it is read as bytes.
#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(bytes = "vec", optional, tag = "1")]
    protobuf_payload: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    json_payload: Option<Vec<u8>>,
    #[prost(int32, tag = "3")]
    requested_output_format: i32,
    #[prost(string, tag = "4")]
    message_type: String,
    #[prost(int32, tag = "5")]
    test_category: i32,
}

/// `conformance.ConformanceResponse`.
#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(oneof = "Answer", tags = "1, 2, 3, 4, 5, 6")]
    result: Option<Answer>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Answer {
    #[prost(string, tag = "1")]
    ParseError(String),
    #[prost(string, tag = "6")]
    SerializeError(String),
    #[prost(string, tag = "2")]
    RuntimeError(String),
    #[prost(bytes, tag = "3")]
    Protobuf(Vec<u8>),
    #[prost(bytes, tag = "4")]
    Json(Vec<u8>),
    #[prost(string, tag = "5")]
    Skipped(String),
}

/// `conformance.WireFormat`
const PROTOBUF: i32 = 1;
const JSON: i32 = 2;
/// `conformance.TestCategory`
const JSON_IGNORE_UNKNOWN_PARSING_TEST: i32 = 3;
/// What the runner sends and takes is far smaller.
const MAX_LENGTH: usize = 64 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: conformance_testee DESCRIPTOR_SET")?;
    let schema = load_descriptor_set(&path)?;
    if let Some(problem) = schema.problems().first() {
        return Err(format!("{}: {}", problem.subject, problem.reason).into());
    }
    let plans = Plans::new(Arc::new(schema));

    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let mut length = [0; 4];
    while input.read_exact(&mut length).is_ok() {
        let length = usize::try_from(u32::from_le_bytes(length))?;
        if length > MAX_LENGTH {
            return Err(format!("a request of {length} bytes is too long").into());
        }
        let mut request = vec![0; length];
        input.read_exact(&mut request)?;
        let result = Some(answer(&plans, &Request::decode(&*request)?));
        let response = Response { result }.encode_to_vec();
        output.write_all(&u32::try_from(response.len())?.to_le_bytes())?;
        output.write_all(&response)?;
        output.flush()?;
    }
    Ok(())
}

fn answer(plans: &Arc<Plans>, request: &Request) -> Answer {
    // The first request asks for what is known to fail: an empty set says nothing is.
    if request.message_type == "conformance.FailureSet" {
        return Answer::Protobuf(Vec::new());
    }
    match convert(plans, request) {
        Ok(answer) | Err(answer) => answer,
    }
}

fn convert(plans: &Arc<Plans>, request: &Request) -> Result<Answer, Answer> {
    let json =
        Json { ignore_unknown_fields: request.test_category == JSON_IGNORE_UNKNOWN_PARSING_TEST, ..Json::default() };
    let id = plans
        .schema()
        .message_named(&request.message_type)
        .ok_or_else(|| Answer::RuntimeError(format!("{} is not known", request.message_type)))?;
    let wire = match (&request.json_payload, &request.protobuf_payload) {
        (Some(body), _) if matches!(request.requested_output_format, PROTOBUF | JSON) => {
            let plan = RequestPlan::compile(plans, id, &[], &BodyRule::Whole).map_err(Answer::RuntimeError)?;
            let mut wire = BytesMut::new();
            plan.encode(&Input { body, ..Input::default() }, json, &mut wire)
                .map_err(|error| Answer::ParseError(error.to_string()))?;
            wire.to_vec()
        }
        (None, Some(wire)) if request.requested_output_format == JSON => wire.clone(),
        _ => return Err(Answer::Skipped("no JSON on either side".to_owned())),
    };
    if request.requested_output_format == PROTOBUF {
        return Ok(Answer::Protobuf(wire));
    }
    let plan = ReplyPlan::compile(plans, id, None).map_err(Answer::RuntimeError)?;
    let mut text = BytesMut::new();
    plan.decode(&wire, json, usize::MAX, &mut text).map_err(|error| Answer::SerializeError(error.to_string()))?;
    Ok(Answer::Json(text.to_vec()))
}
