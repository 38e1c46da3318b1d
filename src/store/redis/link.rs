//! One worker's connection to a Redis: opened in the background, and again whenever it is lost.
//!
//! ```text
//!  ┌─────────┐ opened  ┌────┐ lost, or given up  ┌──────┐
//!  │ opening │ ──────▶ │ up │ ─────────────────▶ │ down │ ─┐ opened
//!  └─────────┘         └────┘                    └──────┘  │
//!       │                 ▲    failed               ▲      │
//!       └─────────────────┼─────────────────────────┘      │
//!                         └────────────────────────────────┘
//! ```
//!
//! **Invariant**: attempts are one at a time and ever further apart; nobody waits for one, but for the very first.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, RedisError, RedisResult, TlsCertificates, TlsMode, Value,
};
use tokio::sync::Notify;
use tokio::time::{Duration, sleep, timeout};

use super::super::breaker::backoff;
use crate::config::redis::{Account, Place, Redis as Settings};
use crate::runtime;
use crate::telemetry::stores::StoreMetrics;

/// The connection, if there is one.
#[derive(Debug)]
pub(super) struct Link {
    settings: Arc<Settings>,
    state: RefCell<State>,
    /// The first attempt has ended.
    tried: Notify,
    metrics: Arc<StoreMetrics>,
}

#[derive(Debug)]
enum State {
    Opening,
    Down,
    Up(Connection, Arc<Notify>),
}

/// Something that takes commands. Clones share it.
#[derive(Clone)]
pub(super) enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Server(_) => "Server",
            Self::Cluster(_) => "Cluster",
        })
    }
}

impl Connection {
    /// Sends a command and waits for its reply.
    pub(super) async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Server(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => command.query_async(connection).await,
        }
    }
}

impl Link {
    /// Begins to open a connection, on this worker.
    pub(super) fn open(settings: Arc<Settings>, metrics: Arc<StoreMetrics>) -> Rc<Self> {
        let (state, tried) = (RefCell::new(State::Opening), Notify::new());
        let link = Rc::new(Self { settings, state, tried, metrics });
        runtime::spawn("redis", keep(Rc::downgrade(&link)));
        link
    }

    /// The connection. Waits only for the first attempt of all.
    pub(super) async fn connection(&self) -> Option<Connection> {
        let tried = self.tried.notified();
        if let State::Opening = *self.state.borrow() {
        } else {
            return self.current();
        }
        tried.await;
        self.current()
    }

    fn current(&self) -> Option<Connection> {
        match &*self.state.borrow() {
            State::Up(connection, _) => Some(connection.clone()),
            State::Opening | State::Down => None,
        }
    }

    /// Gives the connection up, because nothing comes back by it or the wrong server is at its end, and opens another. The
    /// connections to a cluster look after themselves.
    pub(super) fn give_up(&self) {
        if let State::Up(Connection::Server(_), lost) = &*self.state.borrow() {
            lost.notify_one();
        }
    }

    fn set(&self, state: State) {
        let before = self.state.replace(state);
        self.tried.notify_waiters();
        let (was, is) = (matches!(before, State::Up(..)), matches!(*self.state.borrow(), State::Up(..)));
        if was != is {
            self.metrics.connected(is);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let State::Up(_, lost) = &*self.state.borrow() {
            lost.notify_one();
            self.metrics.connected(false);
        }
    }
}

/// Opens a connection whenever there is none, for as long as somebody has the link.
async fn keep(link: Weak<Link>) {
    let mut failures = 0;
    while let Some(settings) = link.upgrade().map(|link| Arc::clone(&link.settings)) {
        let lost = Arc::new(Notify::new());
        let opened = timeout(settings.connect_timeout, open(&settings, Arc::clone(&lost))).await;
        let Some(this) = link.upgrade() else { return };
        match opened.unwrap_or_else(|_| Err(late())) {
            Ok(connection) => {
                if failures > 0 {
                    tracing::info!(redis = %settings.place, "connected again");
                }
                failures = 0;
                this.set(State::Up(connection, Arc::clone(&lost)));
                drop(this);
                lost.notified().await;
                if let Some(this) = link.upgrade() {
                    this.set(State::Down);
                    tracing::warn!(redis = %settings.place, "connection lost");
                }
            }
            Err(error) => {
                this.set(State::Down);
                if failures == 0 {
                    tracing::warn!(redis = %settings.place, %error, "cannot connect, trying on");
                }
            }
        }
        sleep(backoff(failures, MAX_BACKOFF, fastrand::f64())).await;
        failures += 1;
    }
}

fn late() -> RedisError {
    RedisError::from((ErrorKind::Io, "no connection within the connect timeout"))
}

async fn open(settings: &Settings, lost: Arc<Notify>) -> RedisResult<Connection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(settings.connect_timeout))
        .set_response_timeout(Some(settings.timeout))
        .set_push_sender(move |push: PushInfo| -> Result<(), ()> {
            if push.kind == PushKind::Disconnection {
                lost.notify_one();
            }
            Ok(())
        });
    match &settings.place {
        Place::Server { address, database } => {
            let info = address_of(address, settings)?.into_connection_info()?;
            let info = info.set_redis_settings(log_in(settings.account.as_ref(), *database));
            let client = client(info, settings)?;
            Ok(Connection::Server(client.get_multiplexed_async_connection_with_config(&config).await?))
        }
        Place::Sentinel { endpoints, master, account } => {
            let mut client = sentinel(endpoints, master, account.as_ref(), settings)?;
            Ok(Connection::Server(client.get_async_connection_with_config(&config).await?))
        }
        Place::Cluster(nodes) => Ok(Connection::Cluster(cluster(nodes, settings)?.get_async_connection().await?)),
    }
}

fn log_in(account: Option<&Account>, database: u16) -> RedisConnectionInfo {
    let mut info = RedisConnectionInfo::default()
        .set_db(database.into())
        // In which a lost connection is noticed without a question.
        .set_protocol(ProtocolVersion::RESP3)
        .set_lib_name("portico", env!("CARGO_PKG_VERSION"));
    if let Some(account) = account {
        info = info.set_password(&account.password);
        if let Some(username) = &account.username {
            info = info.set_username(username);
        }
    }
    info
}

fn address_of(address: &str, settings: &Settings) -> RedisResult<ConnectionAddr> {
    let wrong = || RedisError::from((ErrorKind::InvalidClientConfig, "an address is not HOST:PORT"));
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = port.parse().map_err(|_| wrong())?;
    Ok(match settings.tls {
        Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        None => ConnectionAddr::Tcp(host, port),
    })
}

fn client(info: ConnectionInfo, settings: &Settings) -> RedisResult<Client> {
    match certificates(settings) {
        Some(certificates) => Client::build_with_tls(info, certificates),
        None => Client::open(info),
    }
}

/// `None` for clear text.
fn certificates(settings: &Settings) -> Option<TlsCertificates> {
    let tls = settings.tls.as_ref()?;
    let client_tls = tls
        .identity
        .as_ref()
        .map(|own| ClientTlsConfig { client_cert: own.certificate.to_vec(), client_key: own.key.to_vec() });
    Some(TlsCertificates { client_tls, root_cert: tls.authorities.as_ref().map(|text| text.to_vec()) })
}

fn cluster(nodes: &[Arc<str>], settings: &Settings) -> RedisResult<ClusterClient> {
    let account = settings.account.as_ref();
    let infos = nodes
        .iter()
        .map(|node| Ok(address_of(node, settings)?.into_connection_info()?.set_redis_settings(log_in(account, 0))));
    let mut builder: ClusterClientBuilder = ClusterClient::builder(infos.collect::<RedisResult<Vec<_>>>()?)
        .connection_timeout(settings.connect_timeout)
        .response_timeout(settings.timeout)
        // Enough for a slot that moves; a server that is gone is not worth more.
        .retries(2)
        .min_retry_wait(1)
        .max_retry_wait(5)
        .use_protocol(ProtocolVersion::RESP3);
    if let Some(certificates) = certificates(settings) {
        builder = builder.tls(TlsMode::Secure).certs(certificates);
    }
    builder.build()
}

fn sentinel(
    endpoints: &[Arc<str>],
    master: &str,
    account: Option<&Account>,
    settings: &Settings,
) -> RedisResult<SentinelClient> {
    let addresses = endpoints.iter().map(|address| address_of(address, settings)).collect::<RedisResult<Vec<_>>>()?;
    let mut builder = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?
        .set_client_to_redis_protocol(ProtocolVersion::RESP3);
    if let Some(account) = &settings.account {
        builder = builder.set_client_to_redis_password(&account.password);
        if let Some(username) = &account.username {
            builder = builder.set_client_to_redis_username(username);
        }
    }
    if let Some(account) = account {
        builder = builder.set_client_to_sentinel_password(&account.password);
        if let Some(username) = &account.username {
            builder = builder.set_client_to_sentinel_username(username);
        }
    }
    if let Some(certificates) = certificates(settings) {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_certificates(certificates);
    }
    builder.build()
}

/// A server that comes back is met by every worker of every gateway: they spread over this.
const MAX_BACKOFF: Duration = Duration::from_secs(5);
