//! The messages of `descriptor.proto`, borrowed from a file's bytes and read only as deep as somebody asks.
//!
//! Members are kept as raw bytes until they are linked, so that thousands of files cost no tree, comments
//! (`source_code_info`) are never touched, and extensions of options, which generated types would drop, are still
//! there. Nothing is checked here beyond the wire format and UTF-8; names are checked where they are declared.
//!
//! Field numbers: <https://github.com/protocolbuffers/protobuf/blob/v33.0/src/google/protobuf/descriptor.proto>.

use super::features::Overrides;
use super::wire::{Malformed, Reader, Value};

/// Most members of one kind in one declaration, imports of a file included. The largest real ones have some thousands;
/// an empty member takes two bytes in the file but sixteen here.
const MAX_MEMBERS: usize = 1 << 17;
/// Number of the `google.api.http` extension of `MethodOptions`.
const HTTP_ANNOTATION: u32 = 72_295_728;
/// The same of `google.longrunning.operation_info`.
const OPERATION_INFO: u32 = 1049;

/// `FileDescriptorProto`.
#[derive(Debug, Default)]
pub(super) struct FileDeclaration<'a> {
    pub(super) name: &'a str,
    pub(super) package: &'a str,
    pub(super) dependencies: Vec<&'a str>,
    pub(super) types: Types<'a>,
    pub(super) services: Vec<&'a [u8]>,
    pub(super) syntax: &'a str,
    pub(super) edition: i32,
    pub(super) overrides: Overrides,
}

/// What a file or message declares in its scope, each still encoded.
#[derive(Debug, Default)]
pub(super) struct Types<'a> {
    pub(super) messages: Vec<&'a [u8]>,
    pub(super) enums: Vec<&'a [u8]>,
    pub(super) extensions: Vec<&'a [u8]>,
}

/// `DescriptorProto`.
#[derive(Debug, Default)]
pub(super) struct MessageDeclaration<'a> {
    pub(super) name: &'a str,
    pub(super) fields: Vec<&'a [u8]>,
    pub(super) oneofs: Vec<&'a [u8]>,
    pub(super) types: Types<'a>,
    pub(super) map_entry: bool,
    pub(super) message_set: bool,
    pub(super) overrides: Overrides,
}

/// `FieldDescriptorProto`.
#[derive(Debug, Default)]
pub(super) struct FieldDeclaration<'a> {
    pub(super) name: &'a str,
    pub(super) extendee: &'a str,
    pub(super) number: i32,
    pub(super) label: i32,
    pub(super) kind: i32,
    pub(super) type_name: &'a str,
    pub(super) json_name: Option<&'a str>,
    pub(super) oneof: Option<i32>,
    pub(super) proto3_optional: bool,
    pub(super) packed: Option<bool>,
    pub(super) overrides: Overrides,
}

/// `OneofDescriptorProto`.
#[derive(Debug, Default)]
pub(super) struct OneofDeclaration<'a> {
    pub(super) name: &'a str,
    pub(super) overrides: Overrides,
}

/// `EnumDescriptorProto`; values are names and numbers.
#[derive(Debug, Default)]
pub(super) struct EnumDeclaration<'a> {
    pub(super) name: &'a str,
    pub(super) values: Vec<(&'a str, i32)>,
    pub(super) overrides: Overrides,
}

/// `ServiceDescriptorProto`.
#[derive(Debug, Default)]
pub(super) struct ServiceDeclaration<'a> {
    pub(super) name: &'a str,
    pub(super) methods: Vec<&'a [u8]>,
}

/// `MethodDescriptorProto`.
#[derive(Debug, Default)]
pub(super) struct MethodDeclaration<'a> {
    pub(super) name: &'a str,
    pub(super) input: &'a str,
    pub(super) output: &'a str,
    pub(super) client_streaming: bool,
    pub(super) server_streaming: bool,
    pub(super) idempotency: i32,
    /// The encoded `google.api.HttpRule`: the pieces of all its occurrences, which merge when they are joined.
    pub(super) http: Option<Vec<u8>>,
    /// Names of the messages that an operation of this method is said to hold, as they are written.
    pub(super) operation: Vec<&'a str>,
}

impl<'a> FileDeclaration<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut file = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some(field) = reader.next()? {
            match field {
                (1, Value::Bytes(name)) => file.name = text(name)?,
                (2, Value::Bytes(package)) => file.package = text(package)?,
                (3, Value::Bytes(dependency)) => push(&mut file.dependencies, text(dependency)?)?,
                (4, Value::Bytes(message)) => push(&mut file.types.messages, message)?,
                (5, Value::Bytes(enumeration)) => push(&mut file.types.enums, enumeration)?,
                (6, Value::Bytes(service)) => push(&mut file.services, service)?,
                (7, Value::Bytes(extension)) => push(&mut file.types.extensions, extension)?,
                (8, Value::Bytes(options)) => read_features(options, 50, &mut file.overrides)?,
                (12, Value::Bytes(syntax)) => file.syntax = text(syntax)?,
                (14, Value::Varint(edition)) => file.edition = int32(edition),
                _ => {}
            }
        }
        Ok(file)
    }
}

impl<'a> MessageDeclaration<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut message = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some(field) = reader.next()? {
            match field {
                (1, Value::Bytes(name)) => message.name = text(name)?,
                (2, Value::Bytes(field)) => push(&mut message.fields, field)?,
                (3, Value::Bytes(nested)) => push(&mut message.types.messages, nested)?,
                (4, Value::Bytes(enumeration)) => push(&mut message.types.enums, enumeration)?,
                (6, Value::Bytes(extension)) => push(&mut message.types.extensions, extension)?,
                (7, Value::Bytes(options)) => message.read_options(options)?,
                (8, Value::Bytes(oneof)) => push(&mut message.oneofs, oneof)?,
                _ => {}
            }
        }
        Ok(message)
    }

    fn read_options(&mut self, options: &[u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(options);
        while let Some(option) = reader.next()? {
            match option {
                (1, Value::Varint(set)) => self.message_set = set != 0,
                (7, Value::Varint(set)) => self.map_entry = set != 0,
                (12, Value::Bytes(features)) => self.overrides.merge(features)?,
                _ => {}
            }
        }
        Ok(())
    }
}

impl<'a> FieldDeclaration<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut field = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some(part) = reader.next()? {
            match part {
                (1, Value::Bytes(name)) => field.name = text(name)?,
                (2, Value::Bytes(extendee)) => field.extendee = text(extendee)?,
                (3, Value::Varint(number)) => field.number = int32(number),
                (4, Value::Varint(label)) => field.label = int32(label),
                (5, Value::Varint(kind)) => field.kind = int32(kind),
                (6, Value::Bytes(name)) => field.type_name = text(name)?,
                (8, Value::Bytes(options)) => field.read_options(options)?,
                (9, Value::Varint(index)) => field.oneof = Some(int32(index)),
                (10, Value::Bytes(name)) => field.json_name = Some(text(name)?),
                (17, Value::Varint(set)) => field.proto3_optional = set != 0,
                _ => {}
            }
        }
        Ok(field)
    }

    fn read_options(&mut self, options: &[u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(options);
        while let Some(option) = reader.next()? {
            match option {
                (2, Value::Varint(set)) => self.packed = Some(set != 0),
                (21, Value::Bytes(features)) => self.overrides.merge(features)?,
                _ => {}
            }
        }
        Ok(())
    }
}

impl<'a> OneofDeclaration<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut oneof = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some(part) = reader.next()? {
            match part {
                (1, Value::Bytes(name)) => oneof.name = text(name)?,
                (2, Value::Bytes(options)) => read_features(options, 1, &mut oneof.overrides)?,
                _ => {}
            }
        }
        Ok(oneof)
    }
}

impl<'a> EnumDeclaration<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut enumeration = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some(part) = reader.next()? {
            match part {
                (1, Value::Bytes(name)) => enumeration.name = text(name)?,
                (2, Value::Bytes(value)) => push(&mut enumeration.values, enum_value(value)?)?,
                (3, Value::Bytes(options)) => read_features(options, 7, &mut enumeration.overrides)?,
                _ => {}
            }
        }
        Ok(enumeration)
    }
}

fn enum_value(bytes: &[u8]) -> Result<(&str, i32), Malformed> {
    let (mut name, mut number) = ("", 0);
    let mut reader = Reader::new(bytes);
    while let Some(part) = reader.next()? {
        match part {
            (1, Value::Bytes(value)) => name = text(value)?,
            (2, Value::Varint(value)) => number = int32(value),
            _ => {}
        }
    }
    Ok((name, number))
}

impl<'a> ServiceDeclaration<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut service = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some(part) = reader.next()? {
            match part {
                (1, Value::Bytes(name)) => service.name = text(name)?,
                (2, Value::Bytes(method)) => push(&mut service.methods, method)?,
                _ => {}
            }
        }
        Ok(service)
    }
}

impl<'a> MethodDeclaration<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut method = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some(part) = reader.next()? {
            match part {
                (1, Value::Bytes(name)) => method.name = text(name)?,
                (2, Value::Bytes(input)) => method.input = text(input)?,
                (3, Value::Bytes(output)) => method.output = text(output)?,
                (4, Value::Bytes(options)) => method.read_options(options)?,
                (5, Value::Varint(set)) => method.client_streaming = set != 0,
                (6, Value::Varint(set)) => method.server_streaming = set != 0,
                _ => {}
            }
        }
        Ok(method)
    }

    fn read_options(&mut self, options: &'a [u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(options);
        while let Some(option) = reader.next()? {
            match option {
                (OPERATION_INFO, Value::Bytes(info)) => self.read_operation(info)?,
                (34, Value::Varint(level)) => self.idempotency = int32(level),
                (HTTP_ANNOTATION, Value::Bytes(rule)) => self.http.get_or_insert_default().extend_from_slice(rule),
                _ => {}
            }
        }
        Ok(())
    }

    fn read_operation(&mut self, info: &'a [u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(info);
        while let Some(part) = reader.next()? {
            if let (1 | 2, Value::Bytes(name)) = part {
                push(&mut self.operation, text(name)?)?;
            }
        }
        Ok(())
    }
}

/// Merges the features among `options`, which every kind of options keeps under a number of its own.
fn read_features(options: &[u8], number: u32, overrides: &mut Overrides) -> Result<(), Malformed> {
    let mut reader = Reader::new(options);
    while let Some(option) = reader.next()? {
        if let (found, Value::Bytes(features)) = option
            && found == number
        {
            overrides.merge(features)?;
        }
    }
    Ok(())
}

/// # Errors
/// There are more members than any real declaration has.
fn push<T>(members: &mut Vec<T>, member: T) -> Result<(), Malformed> {
    if members.len() >= MAX_MEMBERS {
        return Err(Malformed);
    }
    members.push(member);
    Ok(())
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

/// An `int32` or enum as the wire carries it: sign-extended to 64 bits, of which the upper half is dropped.
fn int32(value: u64) -> i32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}
