//! A program of the operator that compiles sources, found on the search path and run with a bound on its time.
//!
//! It knows no program in particular. **Invariant**: the program that [`run`] started is not left running; what that
//! starts itself is its own affair, protoc and buf start nothing.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::time::Instant;

/// Bytes of a program's complaints that are passed on.
const MAX_COMPLAINT: u64 = 4096;
/// Between two looks whether the program has ended.
const PAUSE: Duration = Duration::from_millis(5);

/// Why a program has compiled nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// What the program says of the sources.
    Complaint(String),
    /// A source has no name that others could import it by.
    NotIncluded(PathBuf),
    /// A source cannot be read.
    Read { path: PathBuf, source: io::Error },
    /// The program cannot be run, or not be given its input.
    Run(io::Error),
    /// The program took longer than this and was stopped.
    Late(Duration),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Run(error)
    }
}

/// A program on the search path.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) path: PathBuf,
}

impl Program {
    /// The first program of this name in `search`, a value as of the environment variable `PATH`.
    pub(super) fn find(name: &'static str, search: &OsStr) -> Option<Self> {
        let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
        let path = std::env::split_paths(search).map(|folder| folder.join(&file)).find(|path| path.is_file())?;
        // It may be run in another folder.
        Some(Self { name, path: std::path::absolute(&path).unwrap_or(path) })
    }

    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

/// Runs a command to its end, its complaints in a file of `folder`.
///
/// # Errors
/// It cannot be run, does not end within `limit`, or ends with a code other than 0.
pub(super) fn run(command: &mut Command, folder: &Folder, limit: Duration) -> Result<(), Failure> {
    // A file and no pipe: a pipe that nobody empties stops the program, and its children may keep it open.
    let complaints = folder.0.join("complaints");
    let child = command.stderr(std::fs::File::create(&complaints)?).spawn()?;
    if wait(child, limit)?.success() {
        return Ok(());
    }
    let mut text = Vec::new();
    std::fs::File::open(&complaints)?.take(MAX_COMPLAINT).read_to_end(&mut text)?;
    Err(Failure::Complaint(String::from_utf8_lossy(&text).trim().to_owned()))
}

fn wait(mut child: Child, limit: Duration) -> Result<ExitStatus, Failure> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Err(Failure::Late(limit));
        }
        std::thread::sleep(PAUSE);
    }
}

/// A private folder that is removed with what is in it.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> io::Result<Self> {
        let name = format!("portico-{}-{:016x}", std::process::id(), fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path)?; // fails if somebody else has made it
        Ok(Self(path))
    }

    /// Where the program is to write the descriptor set.
    pub(super) fn set(&self) -> PathBuf {
        self.0.join("set.binpb")
    }

    /// The path of something in it.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing depends on it; the system clears its temporary folder sooner or later.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Writes a file and the folders that lead to it.
pub(super) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, content)
}

/// An option and its value as one argument.
pub(super) fn flag(name: &str, path: &Path) -> OsString {
    let mut flag = OsString::from(name);
    flag.push(path);
    flag
}
