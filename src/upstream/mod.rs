//! Reaching the services behind the gateway: clusters of endpoints, and each worker's own connections to them.
//!
//! Nothing here is shared between workers, so nothing is locked: a [`Cluster`] belongs to one worker and is `!Send`.
//! This module knows nothing of routes or messages; it hands out a place on a connection ([`Lease`]) and sends heads.

pub mod balance;
pub mod cluster;
pub mod connection;
pub mod discovery;
pub mod endpoint;
pub mod fleet;
pub mod reflection;
pub mod transport;

pub use cluster::{Cluster, Pick};
pub use connection::Lease;
pub use endpoint::{Endpoint, Unreachable};
pub use fleet::{Fleet, Fleets};
pub use transport::{Security, Transport};
