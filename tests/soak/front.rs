//! TLS before the backends, with a certificate that changes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::tls::{Authority, VALID};

/// What servers in TLS show to new connections.
#[derive(Clone)]
pub(crate) struct Front(Arc<Mutex<Shown>>);

/// A certificate, and the connections that were made with it.
#[derive(Clone)]
struct Shown {
    acceptor: TlsAcceptor,
    connections: Arc<AtomicUsize>,
}

impl Shown {
    fn of(authority: &Authority) -> Self {
        let acceptor = authority.acceptor(&authority.issue(VALID), &["h2"], false);
        Self { acceptor, connections: Arc::default() }
    }
}

impl Front {
    /// With a certificate of that authority.
    pub(crate) fn new(authority: &Authority) -> Self {
        Self(Arc::new(Mutex::new(Shown::of(authority))))
    }

    /// From now on with one of this authority; open connections go on.
    pub(crate) fn show(&self, authority: &Authority) {
        *self.0.lock().expect("nobody panicked") = Shown::of(authority);
    }

    /// How many connections were made with the certificate that is shown now.
    pub(crate) fn connections(&self) -> usize {
        self.shown().connections.load(Ordering::Relaxed)
    }

    /// Starts a server before that backend. Returns where it listens.
    pub(crate) async fn before(&self, backend: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener");
        let front = self.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(carry(socket, front.shown(), backend));
            }
        });
        address
    }

    fn shown(&self) -> Shown {
        self.0.lock().expect("nobody panicked").clone()
    }
}

/// One connection.
async fn carry(socket: TcpStream, shown: Shown, backend: SocketAddr) {
    socket.set_nodelay(true).expect("a socket");
    let Ok(mut client) = shown.acceptor.accept(socket).await else { return };
    shown.connections.fetch_add(1, Ordering::Relaxed);
    let Ok(mut server) = TcpStream::connect(backend).await else { return };
    server.set_nodelay(true).expect("a socket");
    copy_bidirectional(&mut client, &mut server).await.ok();
}
