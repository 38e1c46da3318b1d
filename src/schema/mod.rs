//! What an upstream's services look like: files, messages, enums, services and their HTTP rules.
//!
//! A [`Schema`] is built from the raw bytes of each file's descriptor, so that nothing is lost: the same bytes are
//! served by reflection, and editions features are resolved per field here and nowhere else. It knows nothing of
//! JSON text, routes or sockets. Every upstream has a schema of its own; two of them may hold different versions of
//! a type.
//!
//! **Invariant**: every [`MessageId`] and [`EnumId`] reachable from a schema indexes into that same schema.

mod broken;
mod buf;
mod compiler;
mod declaration;
pub mod diff;
mod features;
mod fields;
pub mod http_rule;
mod link;
mod names;
mod preamble;
pub mod probe;
mod program;
mod protoc;
pub mod reflect;
mod services;
pub(crate) mod set;
pub mod source;
pub mod template;
#[cfg(test)]
mod tests;
mod texts;
mod wire;

use std::hash::BuildHasher as _;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use prost::Message as _;

use crate::pb::google::api::HttpRule;

/// Everything that one upstream declares.
#[derive(Debug, Default)]
pub struct Schema {
    pub(crate) files: Vec<File>,
    pub(crate) messages: Vec<Message>,
    pub(crate) enums: Vec<Enum>,
    pub(crate) services: Vec<Service>,
    /// Extensions by the message that they extend.
    pub(crate) extensions: HashMap<MessageId, Vec<Extension>>,
    /// Found by their full names, which are kept in the messages, enums and services alone.
    pub(crate) symbols: HashTable<Symbol>,
    pub(crate) hasher: DefaultHashBuilder,
    /// What was left out, and why.
    pub(crate) problems: Vec<Problem>,
}

/// A file as it came, and what it is found by.
#[derive(Debug, Clone)]
pub struct File {
    /// Import path, such as `google/api/http.proto`.
    pub name: Arc<str>,
    /// The encoded `FileDescriptorProto`, byte for byte as it was read.
    pub bytes: Bytes,
    /// Import paths of the files that it depends on.
    pub dependencies: Vec<Arc<str>>,
}

/// What a full name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symbol {
    /// A message.
    Message(MessageId),
    /// An enum.
    Enum(EnumId),
    /// Index into the schema's services.
    Service(u32),
}

/// Index of a message in its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub(crate) u32);

/// Index of an enum in its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnumId(pub(crate) u32);

/// A message type.
#[derive(Debug)]
pub struct Message {
    /// Full name without a leading dot.
    pub name: Arc<str>,
    /// In the order of declaration.
    pub fields: Box<[Field]>,
    /// Names of the real oneofs; synthetic ones of proto3 `optional` are left out.
    pub oneofs: Box<[Box<str>]>,
    /// Whether the type is the entry of a map field: `fields` are then `key` (1) and `value` (2).
    pub map_entry: bool,
    /// Whether the type uses the MessageSet wire format.
    pub message_set: bool,
}

/// A field of a message.
#[derive(Debug, Clone)]
pub struct Field {
    /// Name in the `.proto` file; for an extension its full name.
    pub name: Arc<str>,
    /// `json_name` as declared, else lowerCamelCase of the name; for an extension `[full.name]`.
    pub json_name: Arc<str>,
    /// Field number.
    pub number: u32,
    /// What one value is.
    pub kind: Kind,
    /// How often it stands, and whether its absence can be told from its default.
    pub cardinality: Cardinality,
    /// Whether strings are checked to be UTF-8 (editions `utf8_validation`; always so in proto3).
    pub utf8: bool,
    /// Index into [`Message::oneofs`] for members of a real oneof.
    pub oneof: Option<u16>,
}

/// How often a field stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cardinality {
    /// At most once; absent means default (proto3 without `optional`).
    Implicit,
    /// At most once; absence is told from the default.
    Explicit,
    /// Exactly once (proto2 `required`, editions `LEGACY_REQUIRED`).
    Required,
    /// Any number of times, one tag per value when written.
    Repeated,
    /// Any number of times, written as one length-delimited run.
    Packed,
    /// A map: repeated entries, see [`Message::map_entry`].
    Map,
}

impl Cardinality {
    /// Whether there may be more than one value.
    pub(crate) fn is_repeated(self) -> bool {
        match self {
            Self::Implicit | Self::Explicit | Self::Required => false,
            Self::Repeated | Self::Packed | Self::Map => true,
        }
    }
}

/// What one value of a field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the scalar types of the protobuf language")]
pub enum Kind {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    String,
    Bytes,
    Enum(EnumId),
    /// Length-delimited.
    Message(MessageId),
    /// Between group tags (proto2 groups, editions `DELIMITED`).
    Group(MessageId),
}

impl Kind {
    /// The number that says in a tag how one value is laid out.
    pub(crate) fn wire_type(self) -> u8 {
        match self {
            Self::Double | Self::Fixed64 | Self::Sfixed64 => 1,
            Self::String | Self::Bytes | Self::Message(_) => 2,
            Self::Group(_) => 3,
            Self::Float | Self::Fixed32 | Self::Sfixed32 => 5,
            Self::Int32
            | Self::Int64
            | Self::Uint32
            | Self::Uint64
            | Self::Sint32
            | Self::Sint64
            | Self::Bool
            | Self::Enum(_) => 0,
        }
    }

    /// The message that one value is, if it is one.
    pub(crate) fn message(self) -> Option<MessageId> {
        match self {
            Self::Message(id) | Self::Group(id) => Some(id),
            Self::Double
            | Self::Float
            | Self::Int32
            | Self::Int64
            | Self::Uint32
            | Self::Uint64
            | Self::Sint32
            | Self::Sint64
            | Self::Fixed32
            | Self::Fixed64
            | Self::Sfixed32
            | Self::Sfixed64
            | Self::Bool
            | Self::String
            | Self::Bytes
            | Self::Enum(_) => None,
        }
    }

    /// Whether repeated values may travel as one packed run.
    pub(crate) fn is_packable(self) -> bool {
        !matches!(self, Self::String | Self::Bytes | Self::Message(_) | Self::Group(_))
    }
}

/// A field declared outside the message that it belongs to.
#[derive(Debug, Clone)]
pub struct Extension {
    /// The field; its `name` is the extension's full name.
    pub field: Field,
    /// Index of the declaring file.
    pub file: usize,
}

/// An enum type.
#[derive(Debug)]
pub struct Enum {
    /// Full name without a leading dot.
    pub name: Arc<str>,
    /// Names and numbers in the order of declaration; aliases share a number. Never empty.
    pub values: Box<[(Arc<str>, i32)]>,
    /// Whether unknown numbers are refused instead of kept.
    pub closed: bool,
}

/// A service and its methods.
#[derive(Debug)]
pub struct Service {
    /// Full name without a leading dot.
    pub name: Arc<str>,
    /// In the order of declaration.
    pub methods: Box<[Method]>,
    /// Index of the declaring file.
    pub file: usize,
}

/// One method of a service.
#[derive(Debug)]
pub struct Method {
    /// `pkg.Service/Method`.
    pub name: Arc<str>,
    /// Request message.
    pub input: MessageId,
    /// Reply message.
    pub output: MessageId,
    /// Whether the client sends a stream.
    pub client_streaming: bool,
    /// Whether the server sends a stream.
    pub server_streaming: bool,
    /// Whether the method is declared free of side effects (`idempotency_level = NO_SIDE_EFFECTS`).
    pub side_effect_free: bool,
    /// Whether the method may be repeated (`NO_SIDE_EFFECTS` or `IDEMPOTENT`).
    pub idempotent: bool,
    /// The `google.api.http` annotation as declared (additional bindings inside), if there is one: an encoded
    /// [`HttpRule`], since it takes several times as much when decoded, and is needed only when a snapshot is built.
    http: Option<Box<[u8]>>,
}

impl Method {
    /// The `google.api.http` annotation as declared, if there is one.
    pub fn http_rule(&self) -> Option<HttpRule> {
        // What cannot be decoded was not kept.
        HttpRule::decode(self.http.as_deref()?).ok()
    }
}

/// Something that a schema had to leave out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is missing now: a service, a method or a file.
    pub subject: String,
    /// Why, in one sentence without a period.
    pub reason: String,
}

impl Schema {
    /// The message behind an id of this schema.
    pub fn message(&self, id: MessageId) -> &Message {
        &self.messages[id.0 as usize]
    }

    /// The enum behind an id of this schema.
    pub fn enumeration(&self, id: EnumId) -> &Enum {
        &self.enums[id.0 as usize]
    }

    /// What a full name (no leading dot) stands for.
    pub fn symbol(&self, name: &str) -> Option<Symbol> {
        let is_it = |symbol: &Symbol| self.name_of(*symbol) == name;
        self.symbols.find(self.hasher.hash_one(name), is_it).copied()
    }

    /// The message of that full name.
    pub fn message_named(&self, name: &str) -> Option<MessageId> {
        match self.symbol(name)? {
            Symbol::Message(id) => Some(id),
            Symbol::Enum(_) | Symbol::Service(_) => None,
        }
    }

    /// The field of a message with a JSON name, else with a name of the `.proto` file; and its index, where extensions come
    /// behind the fields that are declared in the message.
    pub(crate) fn field_named(&self, message: MessageId, name: &str) -> Option<(u32, &Field)> {
        let extensions = self.extensions_of(message).iter().map(|extension| &extension.field);
        let fields = || (0u32..).zip(self.message(message).fields.iter().chain(extensions.clone()));
        let by_json_name = fields().find(|(_, field)| &*field.json_name == name);
        // An extension has its name in brackets only.
        let by_name = || fields().find(|(_, field)| &*field.name == name && !field.json_name.starts_with('['));
        by_json_name.or_else(by_name)
    }

    /// Services that compiled, in the order of their files.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// Files in the order in which they were given.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// Known extensions of a message.
    pub fn extensions_of(&self, message: MessageId) -> &[Extension] {
        self.extensions.get(&message).map_or(&[], Vec::as_slice)
    }

    /// Forgets the services that are not among these full names: a file may declare more than a server serves.
    pub fn keep_services(&mut self, names: &[String]) {
        self.services.retain(|service| names.iter().any(|name| **name == *service.name));
        self.symbols.retain(|symbol| !matches!(symbol, Symbol::Service(_)));
        self.add_symbols(self.service_symbols());
    }

    fn service_symbols(&self) -> impl Iterator<Item = Symbol> + use<> {
        (0u32..).map(Symbol::Service).take(self.services.len())
    }

    /// Lets these be found, of which none is known yet.
    fn add_symbols(&mut self, symbols: impl Iterator<Item = Symbol>) {
        let mut table = std::mem::take(&mut self.symbols);
        let hash = |symbol: &Symbol| self.hasher.hash_one(self.name_of(*symbol));
        for symbol in symbols {
            table.insert_unique(hash(&symbol), symbol, hash);
        }
        self.symbols = table;
    }

    fn name_of(&self, symbol: Symbol) -> &str {
        match symbol {
            Symbol::Message(id) => &self.message(id).name,
            Symbol::Enum(id) => &self.enumeration(id).name,
            Symbol::Service(index) => &self.services[index as usize].name,
        }
    }

    /// Notes services that never came, each with the reason.
    pub fn add_problems(&mut self, problems: Vec<(String, String)>) {
        self.problems.extend(problems.into_iter().map(|(subject, reason)| Problem { subject, reason }));
    }

    /// What was left out, and why.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}
