//! Answers the reflection requests of clients from the files of all upstreams, byte for byte as they came.
//!
//! Pure: whoever speaks gRPC passes requests in and sends the answers. The messages are those of
//! `grpc.reflection.v1`; `v1alpha` has the same wire format. Upstreams may hold different versions of a file: the one
//! that serves the asked service decides, else the first that holds what is asked, and what the file imports comes
//! from the same upstream.
//!
//! Tables are built when somebody asks for the first time, and hold hashes instead of names.
//!
//! Protocol: <https://github.com/grpc/grpc/blob/v1.76.0/doc/server-reflection.md>.

use std::hash::BuildHasher;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashMap, HashSet};

use super::declaration::{
    EnumDeclaration, FieldDeclaration, FileDeclaration, MessageDeclaration, MethodDeclaration, OneofDeclaration,
    ServiceDeclaration, Types,
};
use super::{Schema, set};
use crate::pb;
use crate::pb::grpc::reflection::v1::server_reflection_request::MessageRequest;
use crate::pb::grpc::reflection::v1::server_reflection_response::MessageResponse;
use crate::pb::grpc::reflection::v1::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse, ServerReflectionRequest,
    ServerReflectionResponse, ServiceResponse,
};

/// The services that the gateway itself answers.
const OWN: [&str; 3] =
    ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];
/// Longest name that is looked up, in bytes; nothing longer links.
const MAX_NAME: usize = 512;
/// Most symbols of one upstream that can be found; it bounds what a hostile one costs. All of Google's public APIs
/// have about 60,000 at the top level.
const MAX_SYMBOLS: usize = 1_000_000;
/// Imports join an answer up to this size in bytes: clients refuse messages over 4 MiB, and ask for what is missing.
const MAX_ANSWER: usize = 3 << 20;

const INVALID_ARGUMENT: i32 = 3;
const NOT_FOUND: i32 = 5;

/// What reflection can be asked about.
#[derive(Debug)]
pub struct Index {
    /// The gateway's own first.
    sources: Box<[Source]>,
    /// Which source serves a service.
    served: HashMap<Arc<str>, usize>,
    /// Sorted.
    services: Box<[Arc<str>]>,
}

#[derive(Debug)]
struct Source {
    schema: Arc<Schema>,
    lookup: OnceLock<Lookup>,
}

/// Where the files and symbols of a schema are.
#[derive(Debug)]
struct Lookup {
    files: HashMap<Arc<str>, usize>,
    /// File by the hash of a full top-level name. A hit is checked against the file.
    symbols: HashMap<u64, u32>,
    hasher: DefaultHashBuilder,
}

impl Index {
    /// An index over upstreams, each with the full names of the services that it serves, and over the gateway's own
    /// health and reflection services. Of two upstreams that serve one service the first counts.
    pub fn new(upstreams: &[(Arc<Schema>, Vec<Arc<str>>)]) -> Self {
        let own = (own_schema(), OWN.map(Arc::from).to_vec());
        let all: Vec<_> = std::iter::once(&own).chain(upstreams).collect();
        let mut served = HashMap::new();
        for (index, (_, services)) in all.iter().enumerate() {
            for service in services {
                served.entry(Arc::clone(service)).or_insert(index);
            }
        }
        let mut services: Box<[Arc<str>]> = served.keys().cloned().collect();
        services.sort_unstable();
        let sources = all.iter().map(|(schema, _)| Source { schema: Arc::clone(schema), lookup: OnceLock::new() });
        Self { sources: sources.collect(), served, services }
    }

    /// The answer to one request; what is not there is an answer too.
    pub fn answer(&self, request: ServerReflectionRequest) -> ServerReflectionResponse {
        let answer = match &request.message_request {
            Some(MessageRequest::FileByFilename(name)) => self.file_named(name),
            Some(MessageRequest::FileContainingSymbol(name)) => self.file_with_symbol(name),
            Some(MessageRequest::FileContainingExtension(extension)) => {
                self.file_with_extension(&extension.containing_type, extension.extension_number)
            }
            Some(MessageRequest::AllExtensionNumbersOfType(name)) => self.extension_numbers(name),
            Some(MessageRequest::ListServices(_)) => Some(self.list()),
            None => Some(error(INVALID_ARGUMENT, "the request asks for nothing")),
        };
        ServerReflectionResponse {
            valid_host: request.host.clone(),
            message_response: Some(answer.unwrap_or_else(|| error(NOT_FOUND, "not found"))),
            original_request: Some(request),
        }
    }

    fn list(&self) -> MessageResponse {
        let service = self.services.iter().map(|name| ServiceResponse { name: name.to_string() }).collect();
        MessageResponse::ListServicesResponse(ListServiceResponse { service })
    }

    fn file_named(&self, name: &str) -> Option<MessageResponse> {
        self.sources.iter().find_map(|source| Some(source.with_imports(source.file_named(name)?)))
    }

    fn file_with_symbol(&self, name: &str) -> Option<MessageResponse> {
        let name = name.strip_prefix('.').unwrap_or(name);
        if name.len() > MAX_NAME {
            return None;
        }
        let service = || self.served.get(name.rsplit_once('.')?.0); // of a method
        let server = self.served.get(name).or_else(service).and_then(|&index| self.sources.get(index));
        let mut candidates = server.into_iter().chain(&self.sources);
        candidates.find_map(|source| Some(source.with_imports(source.file_with_symbol(name)?)))
    }

    fn file_with_extension(&self, extended: &str, number: i32) -> Option<MessageResponse> {
        let number = u32::try_from(number).ok()?;
        self.sources.iter().find_map(|source| {
            let extensions = source.schema.extensions_of(source.schema.message_named(extended)?);
            let extension = extensions.iter().find(|extension| extension.field.number == number)?;
            Some(source.with_imports(extension.file))
        })
    }

    fn extension_numbers(&self, extended: &str) -> Option<MessageResponse> {
        let mut known = false;
        let mut numbers = Vec::new();
        for source in &self.sources {
            let Some(message) = source.schema.message_named(extended) else { continue };
            known = true;
            let extensions = source.schema.extensions_of(message).iter();
            numbers.extend(extensions.filter_map(|extension| i32::try_from(extension.field.number).ok()));
        }
        numbers.sort_unstable();
        numbers.dedup();
        let numbers = ExtensionNumberResponse { base_type_name: extended.to_owned(), extension_number: numbers };
        known.then_some(MessageResponse::AllExtensionNumbersResponse(numbers))
    }
}

impl Source {
    fn lookup(&self) -> &Lookup {
        self.lookup.get_or_init(|| Lookup::new(&self.schema))
    }

    fn file_named(&self, name: &str) -> Option<usize> {
        self.lookup().files.get(name).copied()
    }

    fn file_with_symbol(&self, name: &str) -> Option<usize> {
        let lookup = self.lookup();
        let ends = name.match_indices('.').map(|(end, _)| end).chain([name.len()]);
        let mut files = ends.filter_map(|end| lookup.symbols.get(&lookup.hasher.hash_one(name.get(..end)?)));
        files.find_map(|&file| {
            let index = usize::try_from(file).ok()?;
            declares(&self.schema.files.get(index)?.bytes, name)?.then_some(index)
        })
    }

    /// The file, then what it imports, nearest first.
    fn with_imports(&self, file: usize) -> MessageResponse {
        let lookup = self.lookup();
        let mut order = vec![file];
        let mut seen: HashSet<usize> = HashSet::from_iter([file]);
        let mut answer = Vec::new();
        let mut size = 0;
        while let Some(file) = order.get(answer.len()).and_then(|&index| self.schema.files.get(index)) {
            size += file.bytes.len();
            if size > MAX_ANSWER && !answer.is_empty() {
                break;
            }
            answer.push(file.bytes.to_vec());
            let imports = file.dependencies.iter().filter_map(|name| lookup.files.get(name).copied());
            order.extend(imports.filter(|&import| seen.insert(import)));
        }
        MessageResponse::FileDescriptorResponse(FileDescriptorResponse { file_descriptor_proto: answer })
    }
}

impl Lookup {
    fn new(schema: &Schema) -> Self {
        let files = schema.files.iter().enumerate().map(|(index, file)| (Arc::clone(&file.name), index)).collect();
        let mut lookup = Self { files, symbols: HashMap::new(), hasher: DefaultHashBuilder::default() };
        let mut scratch = String::new();
        for (file, index) in schema.files.iter().zip(0u32..) {
            let Ok(declaration) = FileDeclaration::read(&file.bytes) else { continue };
            for name in top_level_names(&declaration) {
                if lookup.symbols.len() >= MAX_SYMBOLS {
                    return lookup;
                }
                scratch.clear();
                scratch.push_str(declaration.package);
                if !scratch.is_empty() {
                    scratch.push('.');
                }
                scratch.push_str(name);
                let hash = lookup.hasher.hash_one(scratch.as_str());
                lookup.symbols.entry(hash).or_insert(index);
            }
        }
        lookup.symbols.shrink_to_fit();
        lookup
    }
}

/// Names in the scope of the file's package; values of enums are siblings of their enum.
fn top_level_names<'a>(file: &FileDeclaration<'a>) -> impl Iterator<Item = &'a str> {
    let messages = file.types.messages.iter().filter_map(|raw| Some(MessageDeclaration::read(raw).ok()?.name));
    let enums = file.types.enums.iter().filter_map(|raw| EnumDeclaration::read(raw).ok());
    let enums =
        enums.flat_map(|declared| std::iter::once(declared.name).chain(declared.values.into_iter().map(|it| it.0)));
    let extensions = file.types.extensions.iter().filter_map(|raw| Some(FieldDeclaration::read(raw).ok()?.name));
    let services = file.services.iter().filter_map(|raw| Some(ServiceDeclaration::read(raw).ok()?.name));
    messages.chain(enums).chain(extensions).chain(services)
}

/// Whether a file declares that full name. `None` if the file cannot be read, which cannot be for one that was kept.
fn declares(file: &Bytes, name: &str) -> Option<bool> {
    let file = FileDeclaration::read(file).ok()?;
    let path = if file.package.is_empty() { name } else { name.strip_prefix(file.package)?.strip_prefix('.')? };
    let in_services = || {
        let (service, method) = split_path(path);
        let declared = file.services.iter().filter_map(|raw| ServiceDeclaration::read(raw).ok());
        declared.filter(|declared| declared.name == service).any(|declared| {
            let is_method = |raw: &&[u8]| MethodDeclaration::read(raw).is_ok_and(|it| Some(it.name) == method);
            method.is_none() || declared.methods.iter().any(is_method)
        })
    };
    Some(declared_in(&file.types, path) || in_services())
}

/// Whether the path is declared in this scope. Goes as deep as the path has parts.
fn declared_in(types: &Types<'_>, path: &str) -> bool {
    let (head, rest) = split_path(path);
    if rest.is_none() {
        let in_enum = |raw: &&[u8]| {
            let declared = EnumDeclaration::read(raw);
            declared.is_ok_and(|it| it.name == head || it.values.iter().any(|(value, _)| *value == head))
        };
        if types.enums.iter().any(in_enum) || types.extensions.iter().any(|raw| is_field(raw, head)) {
            return true;
        }
    }
    let messages = types.messages.iter().filter_map(|raw| MessageDeclaration::read(raw).ok());
    messages.filter(|message| message.name == head).any(|message| match rest {
        None => true,
        Some(rest) => {
            let is_oneof = |raw: &&[u8]| OneofDeclaration::read(raw).is_ok_and(|oneof| oneof.name == rest);
            message.fields.iter().any(|raw| is_field(raw, rest))
                || message.oneofs.iter().any(is_oneof)
                || declared_in(&message.types, rest)
        }
    })
}

fn is_field(raw: &[u8], name: &str) -> bool {
    FieldDeclaration::read(raw).is_ok_and(|field| field.name == name)
}

fn split_path(path: &str) -> (&str, Option<&str>) {
    path.split_once('.').map_or((path, None), |(head, rest)| (head, Some(rest)))
}

fn own_schema() -> Arc<Schema> {
    static SCHEMA: OnceLock<Arc<Schema>> = OnceLock::new();
    let built = || {
        let mut files = set::split(&Bytes::from_static(pb::DEMO_SET)).unwrap_or_default();
        files.retain(|file| set::outline(file).is_some_and(|file| file.name.starts_with("grpc/")));
        Arc::new(Schema::from_files(files))
    };
    Arc::clone(SCHEMA.get_or_init(built))
}

fn error(code: i32, message: &str) -> MessageResponse {
    MessageResponse::ErrorResponse(ErrorResponse { error_code: code, error_message: message.to_owned() })
}
