//! Compiles by `buf`, which takes no include folders: it builds one folder with everything in it.
//!
//! So the sources and what they import, file by file, are copied into such a folder, and what buf says of the copies is
//! told of the originals. `google/protobuf/*` is buf's own unless the operator's folders have it. The folder declares no
//! dependencies, so buf has nothing to fetch, and its cache lies beside it.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use protox::file::{FileResolver as _, IncludeFileResolver};

use super::compiler::Sources;
use super::preamble;
use super::program::{self, Failure, Folder, Program};
use crate::pb;

/// Where a copy comes from.
#[derive(Debug)]
enum Origin {
    File(PathBuf),
    /// The source itself.
    Vendored(&'static str),
}

/// By the name that a file is imported by.
type Origins = BTreeMap<String, Origin>;

/// Writes the descriptor set of all files and their imports to the folder.
pub(super) fn compile(buf: &Program, sources: &Sources<'_>, folder: &Folder, limit: Duration) -> Result<(), Failure> {
    let root = folder.join("sources");
    let origins = copy(sources, &root)?;
    program::write(&root.join("buf.yaml"), b"version: v2\n")?;
    let mut command = buf.command();
    command
        // Then it names the files as they are imported.
        .current_dir(&root)
        .env("BUF_CACHE_DIR", folder.join("cache"))
        .args(["build", ".", "--as-file-descriptor-set", "-o"])
        .arg(folder.set());
    program::run(&mut command, folder, limit).map_err(|failure| match failure {
        Failure::Complaint(complaint) => Failure::Complaint(of_originals(&complaint, &origins)),
        other @ (Failure::NotIncluded(_) | Failure::Read { .. } | Failure::Run(_) | Failure::Late(_)) => other,
    })
}

/// Copies the files and, as far as they can be found, their imports. buf says what is missing.
fn copy(sources: &Sources<'_>, root: &Path) -> Result<Origins, Failure> {
    let mut origins = Origins::new();
    let mut open: Vec<(String, Origin)> =
        sources.files.iter().map(|file| named(file, sources.include)).collect::<Result<_, _>>()?;
    while let Some((name, origin)) = open.pop() {
        if origins.contains_key(&name) {
            continue;
        }
        let content = match &origin {
            Origin::Vendored(source) => source.as_bytes().to_vec(),
            Origin::File(path) => std::fs::read(path).map_err(|source| Failure::Read { path: path.clone(), source })?,
        };
        program::write(&root.join(&name), &content)?;
        for import in preamble::imports(&String::from_utf8_lossy(&content)) {
            open.extend(found(import, sources.include).map(|origin| (import.to_owned(), origin)));
        }
        origins.insert(name, origin);
    }
    Ok(origins)
}

/// A file of the operator by the name that others import it by.
fn named(file: &Path, include: &[PathBuf]) -> Result<(String, Origin), Failure> {
    let name_in = |folder: &PathBuf| IncludeFileResolver::new(folder.clone()).resolve_path(file);
    if let Some(name) = include.iter().find_map(name_in).filter(|name| stays_inside(name)) {
        return Ok((name, Origin::File(file.to_owned())));
    }
    let by_name = file.to_str().and_then(|name| Some((name.to_owned(), found(name, include)?)));
    by_name.ok_or_else(|| Failure::NotIncluded(file.to_owned()))
}

fn found(name: &str, include: &[PathBuf]) -> Option<Origin> {
    if !stays_inside(name) {
        return None;
    }
    let file = include.iter().map(|folder| folder.join(name)).find(|path| path.is_file()).map(Origin::File);
    let vendored = || pb::VENDORED.iter().find(|(path, _)| *path == name && !name.starts_with("google/protobuf/"));
    file.or_else(|| vendored().map(|(_, source)| Origin::Vendored(source)))
}

/// Whether a path of this name ends up below the folder that it is joined to.
fn stays_inside(name: &str) -> bool {
    Path::new(name).components().all(|component| matches!(component, Component::Normal(_)))
}

/// The complaint with the operator's own paths. Each line begins with the name of a file, line and column.
fn of_originals(complaint: &str, origins: &Origins) -> String {
    let of_original = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        match origins.get(name)? {
            Origin::File(path) => Some(format!("{}:{rest}", path.display())),
            Origin::Vendored(_) => None,
        }
    };
    let lines: Vec<_> = complaint.lines().map(|line| of_original(line).unwrap_or_else(|| line.to_owned())).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_name_the_files_of_the_operator() {
        let origins = Origins::from([
            ("x/api.proto".into(), Origin::File("protos/x/api.proto".into())),
            ("google/api/http.proto".into(), Origin::Vendored("")),
        ]);
        let complaint = "x/api.proto:3:3:cannot find `Gone`\ngoogle/api/http.proto:1:1:no\nFailure: no";

        let told = of_originals(complaint, &origins);

        assert_eq!(told, "protos/x/api.proto:3:3:cannot find `Gone`\ngoogle/api/http.proto:1:1:no\nFailure: no");
    }

    #[test]
    fn files_are_copied_by_their_names_with_what_they_import() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b, copies) = (folder.path().join("a"), folder.path().join("b"), folder.path().join("copies"));
        let api = "import \"sub/other.proto\"; import \"google/api/annotations.proto\"; import \"../secret.proto\";\
                   import \"google/protobuf/empty.proto\"; import \"gone.proto\";";
        program::write(&a.join("x/api.proto"), api.as_bytes()).unwrap();
        program::write(&a.join("unused.proto"), b"").unwrap();
        program::write(&b.join("sub/other.proto"), b"import \"x/api.proto\";").unwrap();
        program::write(&folder.path().join("secret.proto"), b"").unwrap();
        let include = [a.clone(), b];

        let by_path = copy(&Sources { files: &[a.join("x/api.proto")], include: &include }, &copies).unwrap();
        let by_name = copy(&Sources { files: &["x/api.proto".into()], include: &include }, &copies).unwrap();
        let outside = copy(&Sources { files: &["../secret.proto".into()], include: &include }, &copies);

        let names = ["google/api/annotations.proto", "google/api/http.proto", "sub/other.proto", "x/api.proto"];
        assert!(by_path.keys().eq(names) && by_name.keys().eq(names), "{by_path:?} {by_name:?}");
        assert!(names.iter().all(|name| copies.join(name).is_file()));
        assert!(matches!(outside, Err(Failure::NotIncluded(path)) if path == Path::new("../secret.proto")));
    }
}
