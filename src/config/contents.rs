//! Files that a configuration names, read whole and within bounds.
//!
//! Pipes and devices are none: reading one may have no end.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

/// The bytes of a file, at most `limit`.
///
/// # Errors
/// In words: it is no file, cannot be read, or is larger.
pub(crate) fn read(path: &Path, limit: u32) -> Result<Vec<u8>, String> {
    if let Some(problem) = no_file(path) {
        return Err(problem);
    }
    let failed = |error| format!("{} cannot be read: {error}", path.display());
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    // It may grow while it is read.
    let read = file.take(u64::from(limit) + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u32::try_from(read).is_ok_and(|read| read <= limit) {
        return Ok(bytes);
    }
    Err(format!("{} is larger than the limit of {limit} bytes", path.display()))
}

/// The text of a file of at most `limit` bytes.
///
/// # Errors
/// As [`read`], or it is not UTF-8.
pub(crate) fn read_text(path: &Path, limit: u32) -> Result<String, String> {
    String::from_utf8(read(path, limit)?).map_err(|_| format!("{} is not text in UTF-8", path.display()))
}

/// What keeps this path from being read as a file.
pub(super) fn no_file(path: &Path) -> Option<String> {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(found) if found.is_file() => None,
        Ok(found) if found.is_dir() => Some(format!("{shown} is a folder, not a file")),
        Ok(_) => Some(format!("{shown} is a pipe or a device, not a file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(format!("the file {shown} does not exist")),
        Err(error) => Some(format!("the file {shown} cannot be found: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        fs::write(&path, [b'a'; 10]).expect("a file");

        assert_eq!(read_text(&path, 10).as_deref(), Ok("aaaaaaaaaa"));
        assert!(read(&path, 9).expect_err("too large").ends_with("/a is larger than the limit of 9 bytes"));
        fs::write(&path, [255]).expect("a file");
        assert!(read_text(&path, 9).expect_err("no text").ends_with("/a is not text in UTF-8"));
        assert!(read(folder.path(), 9).expect_err("a folder").ends_with(" is a folder, not a file"));
        assert!(read(Path::new("/dev/zero"), 9).is_err_and(|problem| problem.contains("a pipe or a device")));
    }
}
