//! Runs the operator's `protoc` for sources that protox cannot read: those written in editions.
//!
//! It gets the operator's folders and, after them, the vendored files in a temporary folder, except `google/protobuf/*`,
//! of which each protoc brings its own.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::Bytes;

use super::set::split;
use super::source::SourceError;
use crate::pb;

/// Bytes of protoc's complaints that are passed on.
const MAX_COMPLAINT: usize = 4096;

/// Compiles all files, of which `because` is the first that needs protoc, which is searched in `path`, a value as of
/// the environment variable `PATH`.
pub(super) fn compile(
    files: &[PathBuf],
    include: &[PathBuf],
    because: &str,
    path: &OsStr,
) -> Result<Vec<Bytes>, SourceError> {
    let name = format!("protoc{}", std::env::consts::EXE_SUFFIX);
    let program = std::env::split_paths(path).map(|folder| folder.join(&name)).find(|program| program.is_file());
    let Some(program) = program else { return Err(SourceError::NoProtoc { file: because.to_owned() }) };

    let folder = Folder::new().map_err(SourceError::Protoc)?;
    folder.write_vendored().map_err(SourceError::Protoc)?;
    let set = folder.0.join("set.binpb");
    let output = Command::new(program)
        .args(["--include_imports", "--include_source_info"])
        .arg(flag("--descriptor_set_out=", &set))
        .args(include.iter().map(|folder| flag("-I", folder)))
        .arg(flag("-I", &folder.0))
        .args(files)
        .stdin(Stdio::null())
        .output()
        .map_err(SourceError::Protoc)?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(output.stderr.get(..MAX_COMPLAINT).unwrap_or(&output.stderr));
        return Err(SourceError::Compile(format!("protoc says: {}", complaint.trim())));
    }
    let bytes = std::fs::read(&set).map_err(SourceError::Protoc)?;
    split(&bytes.into()).map_err(|source| SourceError::Set { path: set, source })
}

fn flag(name: &str, path: &Path) -> OsString {
    let mut flag = OsString::from(name);
    flag.push(path);
    flag
}

/// A folder that is removed with what is in it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        let name = format!("portico-{}-{:016x}", std::process::id(), fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path)?; // fails if somebody else has made it
        Ok(Self(path))
    }

    fn write_vendored(&self) -> io::Result<()> {
        for (name, source) in pb::VENDORED.iter().filter(|(name, _)| !name.starts_with("google/protobuf/")) {
            let path = self.0.join(name);
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(path, source)?;
        }
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing depends on it; the system clears its temporary folder sooner or later.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::{Mutex, MutexGuard};

    use super::*;

    /// A script that is still open for writing in a process forked meanwhile cannot be run: one test at a time.
    static ALONE: Mutex<()> = Mutex::new(());

    /// A folder with a `protoc` that runs this script.
    fn protoc(script: &str) -> (tempfile::TempDir, MutexGuard<'static, ()>) {
        let alone = ALONE.lock().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("protoc");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        (folder, alone)
    }

    #[test]
    fn passes_folders_and_files_and_reads_the_set() {
        let (tools, _alone) = protoc(
            r#"for argument in "$@"; do
                 case "$argument" in
                   --descriptor_set_out=*) out="${argument#*=}" ;;
                   -I/include) include=1 ;;
                   -I*) test -f "${argument#-I}/google/api/annotations.proto" && vendored=1 ;;
                   a.proto) file=1 ;;
                 esac
               done
               test "$include$vendored$file" = 111 && printf '\n\003\n\001a' > "$out""#,
        );

        let files = compile(&["a.proto".into()], &["/include".into()], "a.proto", tools.path().as_os_str()).unwrap();

        assert_eq!(files, [&b"\n\x01a"[..]]);
    }

    #[test]
    fn vendored_imports_do_not_count_as_declared() {
        let (tools, _alone) = protoc(
            r#"for it in "$@"; do case "$it" in --descriptor_set_out=*) out="${it#*=}" ;; esac; done
                                        cp "${0%/*}/vendored.binpb" "$out""#,
        );
        std::fs::write(tools.path().join("vendored.binpb"), pb::VENDORED_SET).unwrap();
        let own = tools.path().join("api.proto");
        std::fs::write(&own, "edition = \"2023\";").unwrap();

        let compiled = crate::schema::source::compile_with(&[own], &[], tools.path().as_os_str());

        assert!(compiled.unwrap().services().is_empty());
    }

    #[test]
    fn passes_complaints_on() {
        let (tools, _alone) = protoc("echo 'a.proto:1:2: no' >&2; exit 1");

        let error = compile(&[], &[], "a.proto", tools.path().as_os_str()).unwrap_err();

        assert_eq!(error.to_string(), "protoc says: a.proto:1:2: no");
    }
}
