//! Where an upstream's descriptors come from, and what becomes of those that come later.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where an upstream's descriptors come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaSource {
    /// The upstream's own server reflection, v1 or v1alpha.
    Reflection,
    /// An encoded `FileDescriptorSet`.
    DescriptorSet(PathBuf),
    /// `.proto` files and the folders in which their imports are found.
    Proto {
        /// Files to compile.
        files: Vec<PathBuf>,
        /// Import folders, in order; never empty, see [`SchemaSource::proto`].
        include: Vec<PathBuf>,
    },
    /// Nowhere: it serves no calls, the gateway asks it on its own account.
    None,
}

impl SchemaSource {
    /// `.proto` files; without import folders, imports are found beside the files themselves.
    pub fn proto(files: Vec<PathBuf>, mut include: Vec<PathBuf>) -> Self {
        if include.is_empty() {
            for folder in files.iter().filter_map(|file| file.parent()) {
                let folder = if folder == Path::new("") { Path::new(".") } else { folder };
                if !include.iter().any(|known| known == folder) {
                    include.push(folder.to_owned());
                }
            }
        }
        Self::Proto { files, include }
    }
}

/// How an upstream's descriptors are kept up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaChanges {
    /// How often reflection is asked again; `None` for only when the upstream comes back. Default 1 min.
    pub refresh: Option<Duration>,
    /// Whether descriptors that break callers are refused rather than reported. Default `false`.
    pub refuse_breaking: bool,
}

impl Default for SchemaChanges {
    fn default() -> Self {
        Self { refresh: Some(Duration::from_mins(1)), refuse_breaking: false }
    }
}
