//! Listening sockets: bound by the configuration, accepted on the control runtime, served on the workers.
//!
//! Nothing is read here. Invariant: at most `max_connections` sockets of a listener exist in the process; what comes
//! on top waits in the backlog of the system. A [`Running`] listener takes other settings without closing its socket; they
//! hold for the connections that it accepts from then on.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time;

use crate::config;
use crate::runtime::Workers;
use crate::server::drain::{Shutdown, Stage};

/// Connections that the system keeps until they are accepted. A burst of reconnecting clients fits.
const BACKLOG: i32 = 4096;
/// Ports tried after one that is taken, where the next free one will do.
const PORTS_TRIED: u16 = 20;
/// Silence after which the system asks whether the peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Pause after the system refused a socket for lack of descriptors or memory; connections that end make room.
const OUT_OF_RESOURCES: Duration = Duration::from_millis(100);

/// A bound socket. Connections are accepted once it is started.
#[derive(Debug)]
pub struct Listener {
    socket: StdListener,
    /// With the address that was found.
    settings: config::Listener,
    /// The address as configured.
    wanted: SocketAddr,
}

impl Listener {
    /// Binds the address of `settings`; clients can connect from here on, though nobody answers yet.
    ///
    /// # Errors
    /// The address is not one of this machine, not allowed, or taken; with `next_free_port`, also the 20 ports after it.
    pub fn bind(settings: config::Listener) -> io::Result<Self> {
        let socket = if settings.next_free_port { next_free(settings.address, bind)? } else { bind(settings.address)? };
        Self::adopt(socket, settings)
    }

    /// Takes over a socket that somebody else has bound and listens on.
    ///
    /// # Errors
    /// It is no such socket.
    pub fn adopt(socket: StdListener, settings: config::Listener) -> io::Result<Self> {
        let (address, wanted) = (socket.local_addr()?, settings.address);
        socket.set_nonblocking(true)?;
        Ok(Self { socket, settings: config::Listener { address, ..settings }, wanted })
    }

    /// Where it listens: the port that was found when the configured one was 0 or taken.
    pub fn address(&self) -> SocketAddr {
        self.settings.address
    }

    /// Accepts connections on `control` and gives them to the workers, until it is told to end.
    ///
    /// # Errors
    /// The socket cannot be shared or watched.
    pub fn start(self, control: &Handle, workers: &Arc<Workers<Accepted>>) -> io::Result<Running> {
        let Self { socket, settings, wanted } = self;
        let own = socket.try_clone()?;
        let room = Arc::new(Room::new(settings.limits.max_connections));
        let (settings, shutdown) = (Arc::new(ArcSwap::from_pointee(settings)), Shutdown::new());
        let listener = {
            let _entered = control.enter();
            TcpListener::from_std(socket)?
        };
        let (held, places, end, workers) =
            (Arc::clone(&settings), Arc::clone(&room), shutdown.clone(), Arc::clone(workers));
        let task = control.spawn(async move {
            loop {
                let accepted = async {
                    let permit = places.enter().await;
                    (permit, accept(&listener).await)
                };
                let (permit, (socket, address)) = tokio::select! {
                    accepted = accepted => accepted,
                    () = end.reached(Stage::Ending) => return,
                };
                match Accepted::new(socket, address, held.load_full(), permit, &end) {
                    // Not given up when the end begins: the client is connected.
                    Ok(accepted) => workers.hand(accepted).await,
                    // Closed by the client before it was looked at.
                    Err(error) => tracing::debug!(%error, "accepted socket is unusable"),
                }
            }
        });
        Ok(Running { socket: Mutex::new(Some(own)), wanted, settings, room, shutdown, task })
    }
}

/// A listener that accepts connections.
#[derive(Debug)]
pub struct Running {
    /// The same socket once more, for whoever takes over; nothing after [`Self::close`].
    socket: Mutex<Option<StdListener>>,
    wanted: SocketAddr,
    settings: Arc<ArcSwap<config::Listener>>,
    room: Arc<Room>,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Running {
    /// The address that was configured.
    pub fn wanted(&self) -> SocketAddr {
        self.wanted
    }

    /// What holds for connections that are accepted now, with the address that was found.
    pub fn settings(&self) -> Arc<config::Listener> {
        self.settings.load_full()
    }

    /// The listening socket once more, unless it is closed.
    pub fn socket(&self) -> Option<StdListener> {
        self.lock().as_ref().and_then(|socket| socket.try_clone().ok())
    }

    /// Begins its end, see [`Shutdown::begin`]. No connection waits any more for somebody to accept it.
    pub fn close(&self) {
        self.shutdown.begin();
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<StdListener>> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it, and its connections.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Connections are accepted with these settings from now on. A certificate that is the same one as before stays in use,
    /// with the sessions that were agreed under it.
    pub fn change(&self, settings: &config::Listener) {
        let before = self.settings.load();
        let tls = settings.tls.clone().map(|tls| match &before.tls {
            Some(same) if *same == tls => same.clone(),
            Some(_) | None => tls,
        });
        self.room.resize(settings.limits.max_connections);
        let address = before.address;
        self.settings.store(Arc::new(config::Listener { address, tls, ..settings.clone() }));
    }

    /// Closes the socket and lets its connections end, for at most `grace`; then cuts them.
    pub async fn retire(self, grace: Duration) {
        self.close();
        time::timeout(grace, self.room.emptied()).await.ok();
        self.shutdown.cut();
    }
}

impl Running {
    /// Returns once it accepts nothing any more, after its end has begun.
    pub async fn ended(self) {
        self.task.await.ok();
    }
}

/// The connections that a listener may have.
#[derive(Debug)]
struct Room {
    places: Arc<Semaphore>,
    /// Places in all, and places that are to vanish as soon as they are free.
    size: Mutex<(usize, usize)>,
}

impl Room {
    fn new(size: usize) -> Self {
        let size = size.min(Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(size)), size: Mutex::new((size, 0)) }
    }

    async fn enter(&self) -> OwnedSemaphorePermit {
        loop {
            let permit = Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed");
            let mut size = self.size();
            if size.1 == 0 {
                return permit;
            }
            size.1 -= 1;
            permit.forget();
        }
    }

    fn resize(&self, wanted: usize) {
        let wanted = wanted.min(Semaphore::MAX_PERMITS);
        let mut size = self.size();
        if wanted > size.0 {
            let more = wanted - size.0;
            let kept = more.min(size.1);
            size.1 -= kept;
            self.places.add_permits(more - kept);
        } else {
            let fewer = size.0 - wanted;
            size.1 += fewer - self.places.forget_permits(fewer);
        }
        size.0 = wanted;
    }

    /// Returns once no connection is open; none is accepted any more.
    async fn emptied(&self) {
        let (size, excess) = *self.size();
        let all = u32::try_from(size + excess).unwrap_or(u32::MAX);
        drop(self.places.acquire_many(all).await);
    }

    fn size(&self) -> MutexGuard<'_, (usize, usize)> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection on its way from a listener to a worker.
#[derive(Debug)]
pub struct Accepted {
    pub(crate) socket: TcpStream,
    pub(crate) address: SocketAddr,
    pub(crate) settings: Arc<config::Listener>,
    /// Room among the listener's connections; held as long as the socket.
    pub(crate) permit: OwnedSemaphorePermit,
    /// The end of its listener.
    pub(crate) shutdown: Shutdown,
}

impl Accepted {
    fn new(
        socket: tokio::net::TcpStream,
        address: SocketAddr,
        settings: Arc<config::Listener>,
        permit: OwnedSemaphorePermit,
        shutdown: &Shutdown,
    ) -> io::Result<Self> {
        // Small frames must not wait for the acknowledgement of the ones before; we batch writes ourselves.
        socket.set_nodelay(true)?;
        SockRef::from(&socket).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
        Ok(Self { socket: socket.into_std()?, address, settings, permit, shutdown: shutdown.clone() })
    }
}

/// Binds an address by `bind`, or the first one of those that follow whose port is not taken.
///
/// # Errors
/// The first that is no taken port, or that of the last port tried.
pub(crate) fn next_free<T>(mut address: SocketAddr, bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let last = address.port().saturating_add(PORTS_TRIED);
    loop {
        match bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && address.port() < last => {
                address.set_port(address.port() + 1);
            }
            bound => return bound,
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Elsewhere than on Unix the option lets two processes share a port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The next connection, whatever goes wrong before it.
async fn accept(listener: &TcpListener) -> (tokio::net::TcpStream, SocketAddr) {
    let mut told = false;
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_connection(&error) => {
                tracing::debug!(%error, "connection lost before it was accepted")
            }
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, "cannot accept connections now");
                }
                time::sleep(OUT_OF_RESOURCES).await;
            }
        }
    }
}

/// Whether the error belongs to the connection that would have been accepted, so that the next may be tried at once.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn room_grows_at_once_and_shrinks_as_connections_end() {
        let room = Room::new(2);
        let (first, second) = (room.enter().await, room.enter().await);

        room.resize(1);
        drop(first);
        assert_eq!(room.places.available_permits(), 1);
        let none = time::timeout(Duration::from_millis(20), room.enter()).await;
        assert!(none.is_err(), "the place that is free vanishes");
        room.resize(2);
        let third = room.enter().await;

        drop((second, third));
        room.emptied().await;
        assert_eq!(room.places.available_permits(), 2);
    }
}
