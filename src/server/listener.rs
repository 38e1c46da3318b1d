//! Listening sockets: bound by the configuration, accepted on the control runtime, served on the workers.
//!
//! Nothing is read here. Invariant: at most `max_connections` sockets of a listener exist in the process; what comes
//! on top waits in the backlog of the system.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
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

/// A bound socket. Connections are accepted by [`Listener::serve`].
#[derive(Debug)]
pub struct Listener {
    socket: StdListener,
    /// With the address that was found.
    settings: Arc<config::Listener>,
}

impl Listener {
    /// Binds the address of `settings`; clients can connect from here on, though nobody answers yet.
    ///
    /// # Errors
    /// The address is not one of this machine, not allowed, or taken; with `next_free_port`, also the 20 ports after it.
    pub fn bind(settings: config::Listener) -> io::Result<Self> {
        let socket = if settings.next_free_port { next_free(settings.address, bind)? } else { bind(settings.address)? };
        let address = socket.local_addr()?;
        Ok(Self { socket, settings: Arc::new(config::Listener { address, ..settings }) })
    }

    /// Where it listens: the port that was found when the configured one was 0 or taken.
    pub fn address(&self) -> SocketAddr {
        self.settings.address
    }

    /// Accepts connections and gives them to the workers until the shutdown begins; then the socket is closed.
    ///
    /// # Errors
    /// The socket cannot be watched by the current runtime.
    pub async fn serve(self, workers: Arc<Workers<Accepted>>, shutdown: Shutdown) -> io::Result<()> {
        let listener = TcpListener::from_std(self.socket)?;
        let room = Arc::new(Semaphore::new(self.settings.limits.max_connections.min(Semaphore::MAX_PERMITS)));
        let accept = async {
            loop {
                let permit = Arc::clone(&room).acquire_owned().await.map_err(io::Error::other)?;
                let (socket, address) = accept(&listener).await;
                match Accepted::new(socket, address, &self.settings, permit) {
                    Ok(accepted) => workers.hand(accepted).await,
                    // Closed by the client before it was looked at.
                    Err(error) => tracing::debug!(%error, "accepted socket is unusable"),
                }
            }
        };
        tokio::select! {
            ended = accept => ended,
            () = shutdown.reached(Stage::Draining) => Ok(()),
        }
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
}

impl Accepted {
    fn new(
        socket: tokio::net::TcpStream,
        address: SocketAddr,
        settings: &Arc<config::Listener>,
        permit: OwnedSemaphorePermit,
    ) -> io::Result<Self> {
        // Small frames must not wait for the acknowledgement of the ones before; we batch writes ourselves.
        socket.set_nodelay(true)?;
        SockRef::from(&socket).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
        Ok(Self { socket: socket.into_std()?, address, settings: Arc::clone(settings), permit })
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
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_connection(&error) => {
                tracing::debug!(%error, "connection lost before it was accepted")
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections now");
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
