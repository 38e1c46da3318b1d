//! Encoded `FileDescriptorSet`s: splitting them into files, and the ones built into the program.
//!
//! Nothing is decoded here: the bytes of each file stay as they are in the set.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use hashbrown::HashMap;

use super::Schema;
use super::declaration::{FileDeclaration, MethodDeclaration, ServiceDeclaration};
use super::wire::{Malformed, Reader, Value};
use crate::pb;

/// The bytes are not a set of descriptors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetError {
    /// The protobuf encoding is broken.
    #[error("not a FileDescriptorSet: the encoding breaks at byte {position}")]
    Malformed {
        /// Offset of the first field that cannot be read.
        position: usize,
    },
    /// There is no file inside.
    #[error("not a FileDescriptorSet, or an empty one: it holds no files")]
    Empty,
    /// A file in the set has no name, so the bytes are some other message.
    #[error("not a FileDescriptorSet: entry {entry} is not a file descriptor")]
    NotAFile {
        /// Position in the set, from 1.
        entry: usize,
    },
}

/// A vendored file.
#[derive(Debug)]
pub(crate) struct Vendored {
    pub(crate) name: &'static str,
    pub(crate) bytes: Bytes,
    pub(crate) dependencies: Vec<&'static str>,
}

/// What a file says of itself before anything is linked.
#[derive(Debug)]
pub(crate) struct Outline<'a> {
    pub(crate) name: &'a str,
    pub(crate) dependencies: Vec<&'a str>,
    /// Full names.
    pub(crate) services: Vec<String>,
    /// Full names of the messages that long-running operations of its methods hold. They are in an `Any`, so that the file need
    /// not import them.
    pub(crate) operations: Vec<String>,
}

impl Schema {
    /// Builds a schema from an encoded `FileDescriptorSet`, as `protoc --descriptor_set_out` and `buf build` write it.
    ///
    /// # Errors
    /// The bytes are no such set or hold no files. What is wrong inside a file is a [`Problem`](super::Problem) of
    /// the schema instead.
    pub fn from_set(set: &[u8]) -> Result<Self, SetError> {
        split(&Bytes::copy_from_slice(set)).map(Self::from_files)
    }

    /// The vendored files: well-known types, `google/api`, `google/rpc`, `google/type`, `google/longrunning`.
    pub fn builtin() -> Arc<Self> {
        static BUILTIN: OnceLock<Arc<Schema>> = OnceLock::new();
        let built = || split(&Bytes::from_static(pb::VENDORED_SET)).map(Self::from_files).unwrap_or_default();
        Arc::clone(BUILTIN.get_or_init(|| Arc::new(built())))
    }
}

/// The files of an encoded set, each a slice of it.
///
/// # Errors
/// As [`Schema::from_set`].
pub(crate) fn split(set: &Bytes) -> Result<Vec<Bytes>, SetError> {
    let mut files = Vec::new();
    let mut reader = Reader::new(set);
    loop {
        let position = set.len() - reader.remaining();
        match reader.next() {
            Ok(Some((1, Value::Bytes(file)))) => {
                if !is_file(file) {
                    return Err(SetError::NotAFile { entry: files.len() + 1 });
                }
                files.push(set.slice_ref(file));
            }
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(Malformed) => return Err(SetError::Malformed { position }),
        }
    }
    if files.is_empty() { Err(SetError::Empty) } else { Ok(files) }
}

/// What an encoded file says of itself; `None` if it cannot be read or has no name.
pub(crate) fn outline(file: &[u8]) -> Option<Outline<'_>> {
    let FileDeclaration { name, package, dependencies, services, .. } = FileDeclaration::read(file).ok()?;
    let full_name = |name: &str| if package.is_empty() { name.to_owned() } else { format!("{package}.{name}") };
    let declared: Vec<_> = services.iter().filter_map(|raw| ServiceDeclaration::read(raw).ok()).collect();
    let services = declared.iter().map(|service| full_name(service.name)).collect();
    let methods = declared.iter().flat_map(|service| &service.methods);
    let named = methods.filter_map(|raw| MethodDeclaration::read(raw).ok()).flat_map(|method| method.operation);
    // Without a package they are in that of the file: google/longrunning/operations.proto.
    let whole = |name: &str| if name.contains('.') { name.to_owned() } else { full_name(name) };
    let operations = named.filter(|name| !name.is_empty()).map(whole).collect();
    Some(Outline { name, dependencies, services, operations }).filter(|outline| !outline.name.is_empty())
}

/// The vendored file of that import path.
pub(crate) fn vendored(name: &str) -> Option<&'static Vendored> {
    vendored_files().get(name)
}

fn vendored_files() -> &'static HashMap<&'static str, Vendored> {
    static FILES: OnceLock<HashMap<&'static str, Vendored>> = OnceLock::new();
    FILES.get_or_init(|| {
        let mut files = HashMap::new();
        let mut reader = Reader::new(pb::VENDORED_SET);
        while let Ok(Some((1, Value::Bytes(file)))) = reader.next() {
            if let Ok(FileDeclaration { name, dependencies, .. }) = FileDeclaration::read(file) {
                files.insert(name, Vendored { name, bytes: Bytes::from_static(file), dependencies });
            }
        }
        files
    })
}

/// Whether these bytes start like a file descriptor: some other message may well parse as a set of anything.
fn is_file(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes);
    while let Ok(Some(field)) = reader.next() {
        if let (1, Value::Bytes(name)) = field {
            return !name.is_empty() && std::str::from_utf8(name).is_ok();
        }
    }
    false
}

/// A schema from the text of one `.proto` file, which may import vendored ones.
#[cfg(test)]
pub(crate) fn compile_str(source: &str) -> Schema {
    use protox::file::{ChainFileResolver, DescriptorSetFileResolver, File, FileResolver, GoogleFileResolver};

    struct Source(String);
    impl FileResolver for Source {
        fn open_file(&self, name: &str) -> Result<File, protox::Error> {
            if name == "test.proto" {
                File::from_source(name, &self.0)
            } else {
                Err(protox::Error::file_not_found(name))
            }
        }
    }
    let mut resolver = ChainFileResolver::new();
    resolver.add(Source(source.to_owned()));
    resolver.add(GoogleFileResolver::new());
    resolver.add(DescriptorSetFileResolver::decode(pb::VENDORED_SET).unwrap());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).open_file("test.proto").unwrap_or_else(|error| panic!("{error:?}"));
    Schema::from_set(&compiler.encode_file_descriptor_set()).unwrap()
}
