//! The operators' address: is it alive, is it ready, what has it counted, what does it serve from; and a few changes.
//!
//! HTTP/1.1 on a socket of its own, served by the control runtime, so that it answers while the workers are busy.
//! Each connection carries one request and is closed. Nothing secret is shown. It asks nobody for a password, so that
//! [`guard`] keeps web pages out, whose requests come from the operator's own browser.

mod body;
mod changes;
mod guard;
mod io;
mod pages;
mod views;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::snapshot::{Keeper, Source};
use crate::telemetry::metrics::Registry;
use crate::telemetry::readiness::Readiness;

/// What the pages show.
#[derive(Debug, Clone)]
pub struct State {
    /// For `/metrics`.
    pub registry: Arc<Registry>,
    /// For `/readyz`.
    pub readiness: Arc<Readiness>,
    /// For `/upstreams`.
    pub keeper: Arc<Keeper>,
    /// For `/config` and `/routes`.
    pub source: Arc<Source>,
    /// Where `/reload` asks; there are none for a gateway that cannot be reloaded.
    pub reloads: Option<mpsc::Sender<Asked>>,
}

/// A wish for the configuration to be read again.
#[derive(Debug)]
pub struct Asked {
    /// Who wants to know what became of it.
    pub answer: Option<oneshot::Sender<Outcome>>,
}

/// What became of it: warnings, or why the old one stays in use.
pub type Outcome = Result<Vec<String>, String>;

/// Opens the socket. Port 0 takes a free one, see [`TcpListener::local_addr`].
///
/// # Errors
/// The address is not of this machine or is taken.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Answers until `shutdown` is ready, then lets requests that have begun end, for two seconds at most.
///
/// Not more than 64 connections are open at once; more wait in the backlog. A connection that has not sent its head
/// and taken its reply within ten seconds is closed.
///
/// # Cancel safety
/// Dropping the future closes every connection at once.
pub async fn serve(listener: TcpListener, state: State, shutdown: impl Future<Output = ()>) {
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_ended) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, state.clone(), stopped.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "admin address cannot accept");
                    // Mostly a lack of file descriptors, which trying at once would not mend.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop((listener, stop));
    let ended = async { while connections.join_next().await.is_some() {} };
    tokio::time::timeout(SHUTDOWN_TIMEOUT, ended).await.ok();
}

async fn connection(stream: TcpStream, state: State, mut stopped: watch::Receiver<()>) {
    let is_loopback = stream.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback());
    let answer = service_fn(move |request| {
        let state = state.clone();
        async move { Ok::<_, Infallible>(pages::answer(&state, request, is_loopback).await) }
    });
    let connection =
        http1::Builder::new().keep_alive(false).max_buf_size(MAX_HEAD).serve_connection(io::Io(stream), answer);
    let mut connection = std::pin::pin!(connection);
    let exchange = async {
        tokio::select! {
            ended = connection.as_mut() => return ended,
            _ = stopped.changed() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    };
    // Whoever sends nonsense, goes away or is too slow has lost the connection; there is nobody else to tell.
    if let Ok(Err(error)) = tokio::time::timeout(EXCHANGE_TIMEOUT, exchange).await {
        tracing::debug!(%error, "admin connection failed");
    }
}

const MAX_CONNECTIONS: usize = 64;

/// Bytes of a request's head; the least that hyper takes.
const MAX_HEAD: usize = 8 << 10;

/// Reloads included, which may compile schemas.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);

const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
