//! Refusals with details, as <https://google.aip.dev/193> wants them: each names what is wrong in a form that programs
//! can read.

use prost::Message;
use tonic::{Code, Status};

use crate::pb::google::protobuf::Any;
use crate::pb::google::rpc::bad_request::FieldViolation;
use crate::pb::google::rpc::{self, BadRequest, PreconditionFailure, QuotaFailure, ResourceInfo};
use crate::pb::google::rpc::{precondition_failure, quota_failure};

/// NOT_FOUND for a resource of that type (`shelf`, `book`, `author`).
pub(crate) fn not_found(kind: &str, name: &str) -> Status {
    let message = format!("there is no {kind} named {:?}", shortened(name));
    with(Code::NotFound, &message, "ResourceInfo", &resource(kind, name, &message))
}

/// ALREADY_EXISTS for a resource of that type.
pub(crate) fn already_exists(kind: &str, name: &str) -> Status {
    let message = format!("there is a {kind} named {:?} already", shortened(name));
    with(Code::AlreadyExists, &message, "ResourceInfo", &resource(kind, name, &message))
}

/// INVALID_ARGUMENT for one field, given by its path in the request.
pub(crate) fn invalid(field: &str, description: impl Into<String>) -> Status {
    violations(vec![violation(field, description)])
}

/// One wrong field, to be collected for [`violations`].
pub(crate) fn violation(field: &str, description: impl Into<String>) -> FieldViolation {
    FieldViolation { field: field.into(), description: description.into(), ..FieldViolation::default() }
}

/// INVALID_ARGUMENT for fields that were found wrong; the message speaks of the first one.
pub(crate) fn violations(field_violations: Vec<FieldViolation>) -> Status {
    let message = match field_violations.first() {
        Some(first) => format!("{}: {}", first.field, first.description),
        None => String::from("the request is wrong"),
    };
    with(Code::InvalidArgument, &message, "BadRequest", &BadRequest { field_violations })
}

/// FAILED_PRECONDITION: the state of `subject` does not allow it.
pub(crate) fn precondition(kind: &str, subject: &str, description: impl Into<String>) -> Status {
    let description = description.into();
    let violation = precondition_failure::Violation {
        r#type: kind.into(),
        subject: subject.into(),
        description: description.clone(),
    };
    let detail = PreconditionFailure { violations: vec![violation] };
    with(Code::FailedPrecondition, &description, "PreconditionFailure", &detail)
}

/// RESOURCE_EXHAUSTED: there are as many `subject` as there may be.
pub(crate) fn full(subject: &str, limit: usize) -> Status {
    let description = format!("the demo holds {limit} {subject} at most");
    let violation = quota_failure::Violation {
        subject: subject.into(),
        description: description.clone(),
        quota_value: i64::try_from(limit).unwrap_or(i64::MAX),
        ..quota_failure::Violation::default()
    };
    with(Code::ResourceExhausted, &description, "QuotaFailure", &QuotaFailure { violations: vec![violation] })
}

/// The status as a message, for replies that carry refusals of their parts.
pub(crate) fn to_message(status: &Status) -> rpc::Status {
    rpc::Status::decode(status.details()).unwrap_or_else(|_| rpc::Status {
        code: status.code().into(),
        message: status.message().into(),
        details: Vec::new(),
    })
}

fn resource(kind: &str, name: &str, description: &str) -> ResourceInfo {
    ResourceInfo {
        resource_type: format!("portico.library.v1/{kind}"),
        resource_name: shortened(name).into(),
        description: description.into(),
        ..ResourceInfo::default()
    }
}

fn with(code: Code, message: &str, kind: &str, detail: &impl Message) -> Status {
    let detail = Any { type_url: format!("type.googleapis.com/google.rpc.{kind}"), value: detail.encode_to_vec() };
    let details = rpc::Status { code: code.into(), message: message.into(), details: vec![detail] };
    Status::with_details(code, message, details.encode_to_vec().into())
}

/// A status travels in a header, which has no room for whatever a caller made up as a name.
fn shortened(name: &str) -> &str {
    name.get(..name.floor_char_boundary(LONGEST_NAME)).unwrap_or_default()
}

const LONGEST_NAME: usize = 200;
