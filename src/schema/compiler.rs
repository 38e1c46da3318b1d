//! Compiles sources that protox cannot read, those written in editions, by the operator's `protoc` or `buf`.
//!
//! `protoc` is asked first, as the language's own compiler; `buf` when there is no `protoc` or one too old for the
//! edition. Nothing else is tried, and nothing is fetched.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use super::program::{Failure, Folder, Program};
use super::source::{Editions, SourceError, read_set};
use super::{buf, protoc};

/// How long a compiler may run: thousands of files take seconds.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(60);

/// What is to be compiled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sources<'a> {
    pub(super) files: &'a [PathBuf],
    /// Folders in which files and imports are found, in this order.
    pub(super) include: &'a [PathBuf],
}

/// Where compilers are looked for, a value as of the environment variable `PATH`, and how long one may run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search<'a> {
    pub(super) path: &'a OsStr,
    pub(super) limit: Duration,
}

/// The descriptors of all files and their imports; `because` is a file that protox cannot read.
pub(super) fn compile(
    sources: &Sources<'_>,
    because: &Editions,
    search: Search<'_>,
) -> Result<Vec<Bytes>, SourceError> {
    let mut missing = SourceError::NoCompiler { because: because.clone() };
    if let Some(protoc) = Program::find("protoc", search.path) {
        match run(protoc::compile, &protoc, sources, search.limit) {
            Err(Failure::Complaint(complaint)) if protoc::is_too_old(&complaint) => {
                missing = SourceError::OldProtoc { because: because.clone(), protoc: protoc.path, complaint };
            }
            compiled @ (Ok(_) | Err(_)) => return read(compiled, &protoc),
        }
    }
    match Program::find("buf", search.path) {
        Some(buf) => read(run(buf::compile, &buf, sources, search.limit), &buf),
        None => Err(missing),
    }
}

type Compile = fn(&Program, &Sources<'_>, &Folder, Duration) -> Result<(), Failure>;

fn run(compile: Compile, program: &Program, sources: &Sources<'_>, limit: Duration) -> Result<Folder, Failure> {
    let folder = Folder::new()?;
    compile(program, sources, &folder, limit)?;
    Ok(folder)
}

fn read(compiled: Result<Folder, Failure>, program: &Program) -> Result<Vec<Bytes>, SourceError> {
    let name = program.name;
    let folder = compiled.map_err(|failure| match failure {
        Failure::Complaint(complaint) => SourceError::Compile(format!("{name} says: {complaint}")),
        Failure::NotIncluded(path) => SourceError::NotIncluded { path },
        Failure::Read { path, source } => SourceError::Read { path, source },
        Failure::Run(source) => SourceError::Run { name, source },
        Failure::Late(limit) => SourceError::Late { name, limit },
    })?;
    read_set(&folder.set())
}
