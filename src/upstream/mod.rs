//! Reaching the services behind the gateway: clusters of endpoints, and each worker's own connections to them.
//!
//! What calls touch is not shared between workers, so nothing is locked: a [`Cluster`] belongs to one worker and is `!Send`.
//! What the whole process knows of an upstream is its [`Fleet`], which the control runtime writes.
//! This module knows nothing of routes or messages; it hands out a place on a connection ([`Lease`]) and sends heads.

pub mod balance;
mod budget;
pub mod cluster;
pub mod connection;
pub mod discovery;
pub mod endpoint;
pub mod fleet;
mod health;
mod line;
pub mod outlier;
mod pulse;
pub mod quota;
pub mod reflection;
pub mod shares;
pub mod transport;

pub use budget::Want;
pub use cluster::{Cluster, Pick};
pub use connection::Lease;
pub use endpoint::{Endpoint, Unreachable};
pub use fleet::{Fleet, Fleets};
pub use shares::{Further, Shares};
pub use transport::{Security, Transport};
