//! Sources in editions, compiled by scripts that stand for protoc and buf.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::*;
use crate::pb;
use crate::schema::compiler::Search;
use crate::schema::source::{self, SourceError};

/// A script that is still open for writing in a process forked meanwhile cannot be run: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// As protoc: writes a set of one file named `by-protoc.proto`; checks what it is given.
const PROTOC: &str = r#"
    for it in "$@"; do
      case "$it" in
        --descriptor_set_out=*) out="${it#*=}" ;;
        -I*) test -f "${it#-I}/google/api/annotations.proto" && vendored=1 ;;
        *.proto) test -f "$it" && file=1 ;;
      esac
    done
    test "$vendored$file" = 11 && printf '\n\021\n\017by-protoc.proto' > "$out""#;

/// As buf: the same, `by-buf.proto`. It is given everything in one folder, the one it runs in.
const BUF: &str = r#"
    test "$1 $2 $3 $4" = 'build . --as-file-descriptor-set -o' || exit 1
    test -f buf.yaml && test -f new.proto && test -f sub/other.proto && test ! -e "$BUF_CACHE_DIR" || exit 2
    printf '\n\016\n\014by-buf.proto' > "$5""#;

const OLD: &str = "echo 'new.proto:2:1: Expected top-level statement (e.g. \"message\").' >&2; exit 1";

struct Fixture {
    folder: tempfile::TempDir,
    limit: Duration,
    _alone: MutexGuard<'static, ()>,
}

impl Fixture {
    /// A source in edition 2023, and these scripts as programs.
    fn new(programs: &[(&str, &str)]) -> Self {
        let alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("sub")).unwrap();
        let new = "// Licence\nedition = \"2023\"; import \"sub/other.proto\";";
        std::fs::write(folder.path().join("new.proto"), new).unwrap();
        std::fs::write(folder.path().join("sub/other.proto"), "syntax = \"proto3\";").unwrap();
        std::fs::create_dir(folder.path().join("bin")).unwrap();
        for (name, script) in programs {
            let program = folder.path().join("bin").join(name);
            std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { folder, limit: Duration::from_secs(60), _alone: alone }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("new.proto")
    }

    fn compile(&self) -> Result<Schema, SourceError> {
        let path = self.folder.path().join("bin");
        source::compile_with(&[self.file()], &[], Search { path: path.as_os_str(), limit: self.limit })
    }

    /// The file that the compiler made, or the error without the folder's own path.
    fn outcome(&self) -> String {
        match self.compile() {
            Ok(schema) => schema.files()[0].name.to_string(),
            Err(error) => error.to_string().replace(&format!("{}/", self.folder.path().display()), ""),
        }
    }
}

#[test]
fn protoc_compiles_editions_and_buf_where_protoc_cannot() {
    let chosen = |programs: &[(&str, &str)]| Fixture::new(programs).outcome();

    assert_eq!(chosen(&[("protoc", PROTOC)]), "by-protoc.proto");
    assert_eq!(chosen(&[("protoc", PROTOC), ("buf", "exit 1")]), "by-protoc.proto");
    assert_eq!(chosen(&[("buf", BUF)]), "by-buf.proto");
    assert_eq!(chosen(&[("protoc", OLD), ("buf", BUF)]), "by-buf.proto");
}

#[test]
fn error_without_compilers_names_the_edition_both_compilers_and_where_they_are_found() {
    let none = Fixture::new(&[]).outcome();
    let old = Fixture::new(&[("protoc", OLD)]).outcome();

    let ways = "install protoc (27 or newer, 32 or newer for edition 2024; https://protobuf.dev/installation) or buf \
                (https://buf.build/docs/cli/installation), or give a descriptor set \
                (protoc --include_imports --descriptor_set_out=FILE, or buf build -o FILE)";
    assert_eq!(none, format!("new.proto:2: edition 2023 needs protoc or buf, and neither is on the PATH: {ways}"));
    // The complaint stays: a mistake in the source can look the same.
    assert_eq!(
        old,
        format!(
            "new.proto:2: edition 2023 needs protoc or buf; bin/protoc may be too old for it, and buf is not on the \
             PATH: {ways}\nprotoc says: new.proto:2:1: Expected top-level statement (e.g. \"message\")."
        )
    );
}

#[test]
fn complaints_are_passed_on_with_the_paths_of_the_operator() {
    let protoc = ("protoc", "echo 'new.proto:1:2: no' >&2; exit 1");
    let buf = ("buf", "echo 'new.proto:1:2:no' >&2; echo 'sub/other.proto:3:4:no' >&2; exit 100");

    assert_eq!(Fixture::new(&[protoc, buf]).outcome(), "protoc says: new.proto:1:2: no");
    let fixture = Fixture::new(&[buf]);
    assert_eq!(fixture.outcome(), "buf says: new.proto:1:2:no\nsub/other.proto:3:4:no");
    let folder = fixture.folder.path().display().to_string();
    assert_eq!(fixture.compile().unwrap_err().to_string().matches(&folder).count(), 2);
}

#[test]
fn compiler_that_does_not_end_is_stopped() {
    for name in ["protoc", "buf"] {
        let mut fixture = Fixture::new(&[(name, "exec tail -f /dev/null")]);
        fixture.limit = Duration::from_millis(50);

        assert_eq!(fixture.outcome(), format!("{name} was stopped because it took longer than 50ms"));
    }
}

#[test]
fn vendored_imports_do_not_count_as_declared() {
    let script = r#"for it in "$@"; do case "$it" in --descriptor_set_out=*) out="${it#*=}" ;; esac; done
                    cp "${0%/*}/vendored.binpb" "$out""#;
    let fixture = Fixture::new(&[("protoc", script)]);
    std::fs::write(fixture.folder.path().join("bin/vendored.binpb"), pb::VENDORED_SET).unwrap();

    let compiled = fixture.compile();

    assert!(compiled.unwrap().services().is_empty());
}
