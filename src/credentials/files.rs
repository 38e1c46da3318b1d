//! A file that is read again when it changes; what it said before stays while it is wrong.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::time::sleep;

use super::current::Current;

/// The contents of a file.
pub(crate) struct File<T> {
    path: PathBuf,
    read: Reader<T>,
    contents: Current<T>,
    /// When it was opened.
    stamp: Stamp,
}

type Reader<T> = Box<dyn Fn(&Path) -> Result<T, String> + Send + Sync>;

impl<T> fmt::Debug for File<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What tells that a file is another.
type Stamp = Option<(SystemTime, u64)>;

impl<T: Default + PartialEq + Send + Sync + 'static> File<T> {
    /// Reads the file. One that is wrong by now is as good as empty until it is right: it was right when the configuration
    /// was checked.
    pub(crate) fn open(path: &Path, read: impl Fn(&Path) -> Result<T, String> + Send + Sync + 'static) -> Arc<Self> {
        // Before it is read, so that what changes meanwhile is read again.
        let stamp = stamp(path);
        let contents = read(path).unwrap_or_else(|problem| {
            tracing::error!(%problem, "file of credentials is wrong, nobody is let in by it");
            T::default()
        });
        Arc::new(Self { path: path.to_owned(), read: Box::new(read), contents: Current::new(contents), stamp })
    }

    /// What the file said when it was last right.
    pub(crate) fn contents(&self) -> Arc<T> {
        self.contents.get()
    }

    /// See [`Current::generation`].
    pub(crate) fn generation(&self) -> u64 {
        self.contents.generation()
    }

    fn refresh(&self) {
        match (self.read)(&self.path) {
            Ok(contents) => {
                if self.contents.replace(contents) {
                    tracing::info!(file = %self.path.display(), "credentials read again");
                }
            }
            Err(problem) => tracing::warn!(%problem, "file of credentials is wrong, the old one stays"),
        }
    }
}

/// Watches a file for as long as somebody else has it.
pub(crate) fn follow<T: Default + PartialEq + Send + Sync + 'static>(file: &Arc<File<T>>, control: &Handle) {
    let mut seen = file.stamp;
    let file = Arc::downgrade(file);
    control.spawn(async move {
        loop {
            sleep(INTERVAL).await;
            let Some(file) = file.upgrade() else { return };
            let looked = tokio::task::spawn_blocking(move || {
                let found = stamp(&file.path);
                if found != seen {
                    file.refresh();
                }
                found
            });
            seen = looked.await.unwrap_or(seen);
        }
    });
}

fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    Some((found.modified().ok()?, found.len()))
}

/// Between looks.
const INTERVAL: Duration = Duration::from_secs(1);
