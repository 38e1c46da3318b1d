//! Compiles by `protoc`.
//!
//! It gets the operator's folders and, after them, the vendored files in a temporary folder, except `google/protobuf/*`,
//! of which each protoc brings its own.

use std::time::Duration;

use super::compiler::Sources;
use super::program::{self, Failure, Folder, Program, flag};
use crate::pb;

/// What versions without editions, or without the one that is asked for, say of such a file: before 24, 24 to 26, and
/// from 27 on.
const SIGNS_OF_AGE: &[&str] =
    &["Expected top-level statement", "--experimental_editions", "Unknown edition", "maximum supported edition"];

/// Writes the descriptor set of all files and their imports to the folder.
pub(super) fn compile(
    protoc: &Program,
    sources: &Sources<'_>,
    folder: &Folder,
    limit: Duration,
) -> Result<(), Failure> {
    let vendored = folder.join("vendored");
    for (name, source) in pb::VENDORED.iter().filter(|(name, _)| !name.starts_with("google/protobuf/")) {
        program::write(&vendored.join(name), source.as_bytes())?;
    }
    let mut command = protoc.command();
    command
        .args(["--include_imports", "--include_source_info"])
        .arg(flag("--descriptor_set_out=", &folder.set()))
        .args(sources.include.iter().map(|folder| flag("-I", folder)))
        .arg(flag("-I", &vendored))
        .args(sources.files);
    program::run(&mut command, folder, limit)
}

/// Whether this complaint may mean that a newer protoc would take the files. A mistake in a file can look the same.
pub(super) fn is_too_old(complaint: &str) -> bool {
    SIGNS_OF_AGE.iter().any(|sign| complaint.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_are_known_by_what_they_say() {
        let of_3_21 = "new.proto:1:1: Expected top-level statement (e.g. \"message\").";
        let of_25_1 = "new.proto: This file uses editions, but --experimental_editions has not been enabled.";
        let of_27_2 = "new.proto:1:1: Edition 2024 is later than the maximum supported edition 2023";
        let of_31_1 =
            "new.proto: is a file using edition 2024, which is later than the protoc maximum supported edition 2023.";
        let of_35_1 = "new.proto:1:11: Unknown edition \"2099\".";

        assert!([of_3_21, of_25_1, of_27_2, of_31_1, of_35_1].into_iter().all(is_too_old));
        assert!(!is_too_old("new.proto:3:3: \"Gone\" is not defined."));
    }
}
