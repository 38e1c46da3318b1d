//! Listening sockets on their way from one process to the next, so that an upgrade refuses no connection.
//!
//! ```text
//! old: serving, listens on PATH          new: connects to PATH
//!      sockets (SCM_RIGHTS) ───────────▶      loads, learns the schemas, accepts
//!      ends as [`Manner::HandedOver`] ◀── T   listens on PATH
//! ```
//!
//! Both processes have the same sockets, not two on one port: connections that wait to be accepted belong to neither, and
//! whoever is there accepts them. A new process that ends before its `T` has taken nothing.

use std::fs::{self, Permissions};
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use tokio::net::UnixListener;
use tokio::task::spawn_blocking;

use super::Inherited;

/// What the old process says beside the sockets: who it is, and which form this has.
const HELLO: &[u8; 10] = b"portico/1\n";
/// What the new one says once it serves.
const TAKEN: &[u8; 1] = b"T";
/// Sockets in one message; the system allows no more.
const MAX_SOCKETS: usize = 253;
const SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_SOCKETS));
/// For the old process to say something.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// For the new one to be ready; schemas may have to be compiled.
const TAKEN_TIMEOUT: Duration = Duration::from_mins(5);

/// The process that served until now, and goes on until it is told.
#[derive(Debug)]
pub struct Predecessor(UnixStream);

/// Asks whoever listens on `path` for its sockets; nobody may be there.
///
/// # Errors
/// Somebody is there and gives none.
pub fn ask(path: &Path) -> io::Result<Option<(Predecessor, Inherited)>> {
    let stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    stream.set_read_timeout(Some(HELLO_TIMEOUT))?;
    let sockets = receive(&stream)?;
    Ok(Some((Predecessor(stream), Inherited::new(sockets))))
}

impl Predecessor {
    /// Tells it that this process serves. It ends from here on.
    ///
    /// # Errors
    /// It is gone, or has given up waiting and serves on.
    pub fn taken(mut self) -> io::Result<()> {
        self.0.write_all(TAKEN)
    }
}

/// Waits for the process that takes over. Its path is taken away again when this is dropped, unless it is somebody else's by
/// then.
#[derive(Debug)]
pub struct Successors {
    listener: UnixListener,
    path: PathBuf,
    /// Of the file at `path`.
    own: (u64, u64),
}

impl Successors {
    /// Listens on `path`, in place of whoever did before; for this user alone. To be called inside a runtime.
    ///
    /// # Errors
    /// There is something else than a socket, or its folder cannot be written to.
    pub fn listen(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::FileTypeExt as _;
        match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => fs::remove_file(path)?,
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is no socket")),
            Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        Ok(Self { listener, path: path.to_owned(), own: identity(path)? })
    }

    /// Gives `sockets` to whoever asks, and returns once one of them serves.
    pub async fn taken(&self, sockets: impl Fn() -> Vec<TcpListener>) {
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot hear of a process that takes over");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            let own = rustix::process::geteuid().as_raw();
            if !stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0) {
                tracing::warn!("a process of another user wants to take over and may not");
                continue;
            }
            let sockets = sockets();
            tracing::info!(sockets = sockets.len(), "another process takes over");
            let given = spawn_blocking(move || give(stream.into_std()?, &sockets)).await;
            match given.map_err(io::Error::other).flatten() {
                Ok(()) => return,
                Err(error) => tracing::error!(%error, "the process that wanted to take over did not; this one goes on"),
            }
        }
    }
}

impl Drop for Successors {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.own) {
            fs::remove_file(&self.path).ok();
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// Sends the sockets and waits for the answer.
fn give(mut stream: UnixStream, sockets: &[TcpListener]) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(TAKEN_TIMEOUT))?;
    let descriptors: Vec<_> = sockets.iter().take(MAX_SOCKETS).map(TcpListener::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(&stream, &[IoSlice::new(HELLO)], &mut control, SendFlags::empty())?;
    let mut answer = [0; 1];
    stream.read_exact(&mut answer)?;
    if answer == *TAKEN { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "it says something else")) }
}

fn receive(stream: &UnixStream) -> io::Result<Vec<TcpListener>> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut hello = [0; HELLO.len()];
    let message = recvmsg(stream, &mut [IoSliceMut::new(&mut hello)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if message.bytes != HELLO.len() || hello != *HELLO {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no process that hands over"));
    }
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok(rights.flatten().map(TcpListener::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sockets_arrive_and_whoever_serves_says_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("takeover");
        assert!(ask(&path).expect("nobody is there").is_none());
        let old = Successors::listen(&path).expect("a path");
        let sockets: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let addresses: Vec<_> = sockets.iter().map(|socket| socket.local_addr().expect("an address")).collect();
        let give = || sockets.iter().map(|socket| socket.try_clone().expect("a socket")).collect();

        let asked = path.clone();
        let new = spawn_blocking(move || {
            // One that changes its mind has taken nothing.
            drop(ask(&asked).expect("somebody is there"));
            let (old, mut inherited) = ask(&asked).expect("somebody is there").expect("sockets");
            let found = addresses.iter().filter(|address| inherited.take(**address).is_some()).count();
            old.taken().expect("it waits");
            found
        });
        tokio::time::timeout(Duration::from_secs(10), old.taken(give)).await.expect("one takes over");

        assert_eq!(new.await.expect("no panic"), 3);
        let next = Successors::listen(&path).expect("a path");
        drop(old);
        assert!(path.exists(), "it belongs to the next one");
        drop(next);
        assert!(!path.exists());
        fs::write(&path, "").expect("a file");
        assert!(Successors::listen(&path).is_err());
    }
}
