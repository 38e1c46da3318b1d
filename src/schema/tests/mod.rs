//! Whole schemas from hand-made files, hostile ones, and prost-reflect as the oracle.

#[cfg(unix)]
mod compilers;
mod editions;
mod hostile;
mod linking;
mod oracle;
mod probe;
mod reflect;

use bytes::Bytes;
use prost::Message as _;

use super::*;
use crate::pb::google::protobuf::field_descriptor_proto::{Label, Type};
use crate::pb::google::protobuf::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, MethodDescriptorProto, ServiceDescriptorProto,
};

fn schema(files: &[FileDescriptorProto]) -> Schema {
    Schema::from_files(files.iter().map(|file| Bytes::from(file.encode_to_vec())).collect())
}

fn file(name: &str, package: &str, messages: Vec<DescriptorProto>) -> FileDescriptorProto {
    FileDescriptorProto {
        name: Some(name.into()),
        package: Some(package.into()),
        syntax: Some("proto3".into()),
        message_type: messages,
        ..Default::default()
    }
}

fn message(name: &str, field: Vec<FieldDescriptorProto>) -> DescriptorProto {
    DescriptorProto { name: Some(name.into()), field, ..Default::default() }
}

fn field(name: &str, number: i32, kind: Type) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.into()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(kind.into()),
        ..Default::default()
    }
}

fn repeated(name: &str, number: i32, kind: Type) -> FieldDescriptorProto {
    FieldDescriptorProto { label: Some(Label::Repeated.into()), ..field(name, number, kind) }
}

fn holding(name: &str, number: i32, type_name: &str) -> FieldDescriptorProto {
    FieldDescriptorProto { type_name: Some(type_name.into()), ..field(name, number, Type::Message) }
}

fn service(name: &str, methods: &[(&str, &str, &str)]) -> ServiceDescriptorProto {
    let method = |(name, input, output): &(&str, &str, &str)| MethodDescriptorProto {
        name: Some((*name).into()),
        input_type: Some((*input).into()),
        output_type: Some((*output).into()),
        ..Default::default()
    };
    ServiceDescriptorProto {
        name: Some(name.into()),
        method: methods.iter().map(method).collect(),
        ..Default::default()
    }
}

fn with_service(mut file: FileDescriptorProto, service: ServiceDescriptorProto) -> FileDescriptorProto {
    file.service.push(service);
    file
}

fn find<'s>(schema: &'s Schema, message: &str, field: &str) -> &'s Field {
    let message = schema.message(schema.message_named(message).expect("message is there"));
    message.fields.iter().find(|candidate| &*candidate.name == field).expect("field is there")
}

fn problem_lines(schema: &Schema) -> Vec<String> {
    schema.problems().iter().map(|problem| format!("{}: {}", problem.subject, problem.reason)).collect()
}

fn service_names(schema: &Schema) -> Vec<&str> {
    schema.services().iter().map(|service| &*service.name).collect()
}
