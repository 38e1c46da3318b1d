//! A wire between gateway and backend that a test can cut without a word, as a machine that loses its power does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A wire to a backend.
#[derive(Debug)]
pub(crate) struct Wire {
    /// Where the gateway connects.
    pub(crate) address: SocketAddr,
    /// Connections with a lower number carry nothing any more.
    cut: watch::Sender<usize>,
    connections: Arc<AtomicUsize>,
}

impl Wire {
    /// A wire to that address.
    pub(crate) async fn to(backend: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (cut, connections) = (watch::Sender::new(0), Arc::new(AtomicUsize::new(0)));
        let (cuts, count) = (cut.subscribe(), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::Relaxed);
                let Ok(far) = TcpStream::connect(backend).await else { continue };
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                tokio::spawn(carry(near_in, far_out, number, cuts.clone()));
                tokio::spawn(carry(far_in, near_out, number, cuts.clone()));
            }
        });
        Self { address, cut, connections }
    }

    /// Lets nothing through on the connections that there are: neither bytes nor their end.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(self.connections());
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    number: usize,
    cuts: watch::Receiver<usize>,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut buffer).await.unwrap_or(0);
        if *cuts.borrow() > number {
            return std::future::pending().await;
        }
        if length == 0 || to.write_all(&buffer[..length]).await.is_err() {
            to.shutdown().await.ok();
            return;
        }
    }
}
