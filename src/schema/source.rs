//! Schemas from files of the operator: descriptor sets and `.proto` sources.
//!
//! Everything here blocks and belongs off the data threads. Sources are compiled by protox; editions, which it cannot
//! read, by `protoc` or `buf` if one is installed. What a source imports is searched in the operator's
//! folders first and among the vendored files then, except `google/protobuf/*`, which is always the vendored one.
//! Services of vendored imports do not count as declared.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};

use super::compiler::{self, Search, Sources, TIME_LIMIT};
use super::set::{SetError, split};
use super::{Schema, preamble, set};
use crate::pb;

/// Largest descriptor set that is read, in bytes.
const MAX_SET: u64 = 256 << 20;

/// What somebody without a compiler for editions can do.
const WAYS: &str = "install protoc (27 or newer, 32 or newer for edition 2024; https://protobuf.dev/installation) or \
                    buf (https://buf.build/docs/cli/installation), or give a descriptor set \
                    (protoc --include_imports --descriptor_set_out=FILE, or buf build -o FILE)";

/// Why a schema could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The descriptor set is larger than anything sensible.
    #[error("descriptor set {} of {size} bytes exceeds the limit of {MAX_SET}", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// The file is no descriptor set.
    #[error("{} is not usable", .path.display())]
    Set {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SetError,
    },
    /// A source does not compile; the text has file, line and column.
    #[error("{0}")]
    Compile(String),
    /// A source has no name that others could import it by.
    #[error("{} is in none of the include folders", .path.display())]
    NotIncluded {
        /// The file.
        path: PathBuf,
    },
    /// A source is written in an edition and there is no compiler for it.
    #[error("{because} needs protoc or buf, and neither is on the PATH: {WAYS}")]
    NoCompiler {
        /// Where the edition is declared.
        because: Editions,
    },
    /// A source is written in an edition that protoc does not seem to know, and there is no buf.
    #[error(
        "{because} needs protoc or buf; {} may be too old for it, and buf is not on the PATH: {WAYS}\n\
         protoc says: {complaint}",
        .protoc.display()
    )]
    OldProtoc {
        /// Where the edition is declared.
        because: Editions,
        /// The program.
        protoc: PathBuf,
        /// What it says, which can be a mistake in the source as well.
        complaint: String,
    },
    /// A compiler could not be run.
    #[error("cannot run {name}")]
    Run {
        /// The compiler.
        name: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// A compiler did not come to an end.
    #[error("{name} was stopped because it took longer than {limit:?}")]
    Late {
        /// The compiler.
        name: &'static str,
        /// How long it was given.
        limit: Duration,
    },
}

/// The declaration of an edition in a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Editions {
    /// The operator's path of the file.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// What stands between the quotes.
    pub edition: String,
}

impl fmt::Display for Editions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: edition {}", self.file.display(), self.line, self.edition)
    }
}

/// Loads an encoded `FileDescriptorSet`.
///
/// # Errors
/// The file cannot be read or is no such set.
pub fn load_descriptor_set(path: &Path) -> Result<Schema, SourceError> {
    read_set(path).map(Schema::from_files)
}

pub(super) fn read_set(path: &Path) -> Result<Vec<Bytes>, SourceError> {
    let unreadable = |source| SourceError::Read { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_SET {
        return Err(SourceError::TooLarge { path: path.to_owned(), size });
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    split(&bytes.into()).map_err(|source| SourceError::Set { path: path.to_owned(), source })
}

/// Compiles `.proto` files, whose paths lead through one of the folders of `include` or start inside one. Without such
/// folders each file's own folder is searched.
///
/// # Errors
/// A file or import is missing or does not compile, or needs a compiler that is not installed.
pub fn compile(files: &[PathBuf], include: &[PathBuf]) -> Result<Schema, SourceError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    compile_with(files, include, Search { path: &path, limit: TIME_LIMIT })
}

pub(super) fn compile_with(files: &[PathBuf], include: &[PathBuf], search: Search<'_>) -> Result<Schema, SourceError> {
    let include = &folders(files, include);
    let resolver = Resolver::new(include);
    let editions = Arc::clone(&resolver.editions);
    let compiled = match compile_by_protox(files, resolver) {
        Ok(compiled) => compiled,
        Err(error) => match editions.get() {
            Some(because) => compiler::compile(&Sources { files, include }, because, search)?,
            // protox puts file, line and column into its debug form only.
            None => return Err(SourceError::Compile(format!("{error:?}"))),
        },
    };
    Ok(Schema::from_files(without_vendored(compiled, files, include)))
}

fn compile_by_protox(files: &[PathBuf], resolver: Resolver) -> Result<Vec<Bytes>, protox::Error> {
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).include_source_info(true).open_files(files)?;
    split(&compiler.encode_file_descriptor_set().into()).map_err(protox::Error::new)
}

/// Drops the imports that are nobody's but the program's: they come back from the vendored set without their services,
/// which an upstream does not serve just because it uses their messages.
fn without_vendored(mut compiled: Vec<Bytes>, files: &[PathBuf], include: &[PathBuf]) -> Vec<Bytes> {
    compiled.retain(|file| {
        let Some(name) = set::outline(file).map(|file| file.name) else { return false };
        let is_own = || {
            files.iter().any(|file| file.ends_with(name)) || include.iter().any(|folder| folder.join(name).is_file())
        };
        set::vendored(name).is_none() || is_own()
    });
    compiled
}

/// Where imports are looked for: in `include`, or else beside the files.
pub(crate) fn folders(files: &[PathBuf], include: &[PathBuf]) -> Vec<PathBuf> {
    if include.is_empty() { files.iter().map(|file| folder_of(file)).collect() } else { include.to_vec() }
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

/// Finds imports, and remembers the first file that is written in an edition.
struct Resolver {
    chain: ChainFileResolver,
    editions: Arc<OnceLock<Editions>>,
}

impl Resolver {
    fn new(include: &[PathBuf]) -> Self {
        let editions = Arc::new(OnceLock::new());
        let mut chain = ChainFileResolver::new();
        chain.add(Vendored { well_known: true });
        chain.add(WellKnown(GoogleFileResolver::new()));
        for folder in include {
            let inner = IncludeFileResolver::new(folder.clone());
            chain.add(Folder { path: folder.clone(), inner, editions: Arc::clone(&editions) });
        }
        chain.add(Vendored { well_known: false });
        Self { chain, editions }
    }
}

impl FileResolver for Resolver {
    fn resolve_path(&self, path: &Path) -> Option<String> {
        self.chain.resolve_path(path)
    }

    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        self.chain.open_file(name)
    }
}

/// The vendored sources: those of `google/protobuf`, or all others.
struct Vendored {
    well_known: bool,
}

impl FileResolver for Vendored {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let found = pb::VENDORED.iter().find(|(path, _)| *path == name);
        match found.filter(|_| name.starts_with("google/protobuf/") == self.well_known) {
            Some((_, source)) => File::from_source(name, source),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// The well-known types that protox brings along.
struct WellKnown(GoogleFileResolver);

impl FileResolver for WellKnown {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        self.0.open_file(name)
    }
}

/// A folder of the operator.
struct Folder {
    path: PathBuf,
    inner: IncludeFileResolver,
    editions: Arc<OnceLock<Editions>>,
}

impl FileResolver for Folder {
    fn resolve_path(&self, path: &Path) -> Option<String> {
        self.inner.resolve_path(path)
    }

    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let opened = self.inner.open_file(name);
        if let Err(error) = &opened
            && error.is_parse()
            && let path = self.path.join(name)
            && let Ok(source) = std::fs::read_to_string(&path)
            && let Some(editions) = preamble::edition(&path, &source)
        {
            self.editions.get_or_init(|| editions);
        }
        opened
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Resolver").field("editions", &self.editions).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, source) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, source).unwrap();
        }
        folder
    }

    fn message(result: Result<Schema, SourceError>) -> String {
        result.unwrap_err().to_string()
    }

    const ANNOTATED: &str = r#"
        syntax = "proto3";
        package t;
        import "google/api/annotations.proto";
        import "google/longrunning/operations.proto";
        import "google/protobuf/field_mask.proto";
        import "sub/other.proto";
        // Kept.
        service S {
          rpc Get(other.M) returns (google.protobuf.FieldMask) { option (google.api.http) = { get: "/v1/{name}" }; }
        }"#;
    const OTHER: &str = "syntax = \"proto3\"; package other; message M { string name = 1; }";

    #[test]
    fn compiles_sources_with_vendored_imports_and_keeps_comments() {
        let folder = folder(&[("api.proto", ANNOTATED), ("sub/other.proto", OTHER)]);

        let schema = compile(&[folder.path().join("api.proto")], &[]).unwrap();

        assert_eq!(schema.problems(), []);
        let services: Vec<_> = schema.services().iter().map(|service| &*service.name).collect();
        assert_eq!(services, ["t.S"]);
        assert!(schema.services()[0].methods[0].http_rule().is_some());
        assert!(schema.message_named("google.longrunning.Operation").is_some());
        let file = schema.files().iter().find(|file| &*file.name == "api.proto").unwrap();
        assert!(memchr::memmem::find(&file.bytes, b" Kept.").is_some());
    }

    #[test]
    fn finds_files_and_imports_through_include_folders() {
        let folder = folder(&[("a/x/api.proto", ANNOTATED), ("b/sub/other.proto", OTHER)]);
        let include = [folder.path().join("a"), folder.path().join("b")];

        let by_path = compile(&[folder.path().join("a/x/api.proto")], &include).unwrap();
        let by_name = compile(&["x/api.proto".into()], &include).unwrap();

        assert_eq!(by_path.files().len(), by_name.files().len());
        assert!(by_path.files().iter().any(|file| &*file.name == "x/api.proto"));
    }

    #[test]
    fn errors_name_file_line_and_column() {
        let folder = folder(&[
            ("syntax.proto", "syntax = \"proto3\";\nmessage M {\n  strin g name = 1;\n}"),
            ("type.proto", "syntax = \"proto3\";\nmessage M {\n  Gone name = 1;\n}"),
            ("import.proto", "syntax = \"proto3\";\nimport \"gone.proto\";"),
        ]);
        let compile = |name: &str| message(compile(&[folder.path().join(name)], &[]));

        assert!(compile("syntax.proto").starts_with("syntax.proto:3:11: "), "{}", compile("syntax.proto"));
        assert!(compile("type.proto").starts_with("type.proto:3:3: "), "{}", compile("type.proto"));
        assert_eq!(compile("import.proto"), "import.proto:2:1: import 'gone.proto' not found");
        assert!(compile("gone.proto").contains("gone.proto"), "{}", compile("gone.proto"));
    }

    #[test]
    fn descriptor_set_is_loaded_and_garbage_is_named() {
        let folder = folder(&[("garbage.binpb", "{\"file\": []}")]);
        std::fs::write(folder.path().join("demo.binpb"), pb::DEMO_SET).unwrap();

        let schema = load_descriptor_set(&folder.path().join("demo.binpb")).unwrap();
        let garbage = load_descriptor_set(&folder.path().join("garbage.binpb"));
        let gone = load_descriptor_set(&folder.path().join("gone.binpb"));

        assert!(schema.services().iter().any(|service| service.name.starts_with("portico.library.v1.")));
        assert!(matches!(garbage, Err(SourceError::Set { source: SetError::Malformed { position: 0 }, .. })));
        assert!(matches!(gone, Err(SourceError::Read { .. })));
    }
}
