//! Notices that files have changed, by looking at them twice a second.
//!
//! Looking works everywhere, over the network and for files that are replaced by links, as Kubernetes does with those of a
//! volume. A change counts once the files have been the same for two looks, so that one which is being written is not read.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

const INTERVAL: Duration = Duration::from_millis(500);

/// Files as they were.
#[derive(Debug)]
pub(super) struct Watch {
    files: Vec<PathBuf>,
    seen: Vec<Look>,
}

/// What shows of a file without reading it; nothing of one that is not there.
type Look = Option<(u64, Option<SystemTime>, u64)>;

impl Watch {
    /// As they are now, for whoever may wait for a folder that hangs.
    pub(super) fn begin(files: Vec<PathBuf>) -> Self {
        Self { seen: look(&files), files }
    }

    /// As they are now.
    pub(super) async fn over(files: Vec<PathBuf>) -> Self {
        Self { seen: look_aside(files.clone()).await, files }
    }

    /// Which they are.
    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Returns once they have changed and come to rest.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn changed(&self) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let mut before = self.seen.clone();
        loop {
            ticks.tick().await;
            let now = look_aside(self.files.clone()).await;
            if now != self.seen && now == before {
                return;
            }
            before = now;
        }
    }
}

/// A folder that hangs must not hang the control runtime.
async fn look_aside(files: Vec<PathBuf>) -> Vec<Look> {
    spawn_blocking(move || look(&files)).await.unwrap_or_default()
}

fn look(files: &[PathBuf]) -> Vec<Look> {
    let look =
        |file: &PathBuf| fs::metadata(file).ok().map(|found| (found.len(), found.modified().ok(), identity(&found)));
    files.iter().map(look).collect()
}

#[cfg(unix)]
fn identity(found: &fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    found.ino()
}

#[cfg(not(unix))]
fn identity(_: &fs::Metadata) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_is_noticed_once_the_file_rests() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a");
        fs::write(&file, "one").expect("a file");
        let watch = Watch::over(vec![file.clone()]).await;
        assert!(tokio::time::timeout(INTERVAL * 4, watch.changed()).await.is_err());

        fs::write(&file, "three").expect("a file");
        watch.changed().await;

        let watch = Watch::over(vec![file.clone()]).await;
        fs::remove_file(&file).expect("it was there");
        watch.changed().await;
    }
}
