//! Where counts are kept that several gateways share: a Redis server, cluster, or what a sentinel names.
//!
//! Not the client, which is the module `store`. **Invariant**: nothing here shows a password or a key, however it is printed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A Redis and how it is asked. Clones share everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redis {
    /// Where it is.
    pub place: Place,
    /// Who the gateway is to it; none where it asks nobody.
    pub account: Option<Account>,
    /// Clear text without it.
    pub tls: Option<Tls>,
    /// How long a call waits for an answer. Default 20 ms.
    pub timeout: Duration,
    /// How long one attempt to connect may take, TLS and log-in included. Default 1 s.
    pub connect_timeout: Duration,
    /// What becomes of a call for which there is no answer.
    pub on_failure: OnFailure,
    /// What every key begins with. Default `portico`.
    pub key_prefix: Arc<str>,
}

/// Where a Redis is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// One server.
    Server {
        /// `HOST:PORT`.
        address: Arc<str>,
        /// Number of the database. Default 0.
        database: u16,
    },
    /// A Redis Cluster, known by some of its nodes, `HOST:PORT`.
    Cluster(Arc<[Arc<str>]>),
    /// The master that sentinels name.
    Sentinel {
        /// The sentinels, `HOST:PORT`, asked in order.
        endpoints: Arc<[Arc<str>]>,
        /// The name of the master.
        master: Arc<str>,
        /// Who the gateway is to the sentinels.
        account: Option<Account>,
    },
}

/// A user and its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// User of an access control list; without it the default user.
    pub username: Option<Arc<str>>,
    /// Its password.
    pub password: Arc<str>,
}

/// Certificates, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Tls {
    /// Authorities that the server's certificate is checked by; without them those of the system.
    pub authorities: Option<Arc<[u8]>>,
    /// The gateway's own.
    pub identity: Option<Identity>,
}

/// A certificate with its chain, and its key, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The gateway's own certificate first.
    pub certificate: Arc<[u8]>,
    /// Not encrypted.
    pub key: Arc<[u8]>,
}

/// What becomes of a call for which a store has no answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// It passes. The default: a store that fails must not take the services with it.
    #[default]
    Allow,
    /// It is refused.
    Deny,
    /// This gateway counts for itself, as if it were alone.
    Local,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("username", &self.username).finish_non_exhaustive()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (authorities, identity) = (self.authorities.is_some(), self.identity.is_some());
        f.debug_struct("Tls").field("authorities", &authorities).field("identity", &identity).finish()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server { address, .. } => f.write_str(address),
            Self::Cluster(nodes) => f.write_str(&nodes.join(",")),
            Self::Sentinel { endpoints, master, .. } => write!(f, "{master} by {}", endpoints.join(",")),
        }
    }
}
