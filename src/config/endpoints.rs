//! Where an upstream's endpoints are found.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file;
use super::node::Node;
use super::problem::{Place, Problem};
use super::read::{Read, Report};
use super::resolve;

/// One address that calls can go to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// `host:port`.
    pub address: Arc<str>,
    /// Its share of the calls, beside those of the others. 1 to 1,000; default 1.
    pub weight: u32,
    /// Where it is, for [`super::balancing::Balancing::zone`].
    pub zone: Option<Arc<str>>,
}

impl Endpoint {
    /// An address of weight one, somewhere.
    pub fn at(address: Arc<str>) -> Self {
        Self { address, weight: 1, zone: None }
    }
}

/// Where endpoints come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoints {
    /// From the configuration; at least one. A host name among them is looked up for each connection.
    Fixed(Vec<Endpoint>),
    /// From the addresses (A, AAAA) of a name; each is an endpoint.
    Dns {
        /// The name.
        host: Box<str>,
        /// Of every endpoint.
        port: u16,
        /// Whom to ask; those of the system if none are given.
        resolvers: Vec<SocketAddr>,
    },
    /// From the services (SRV, [RFC 2782](https://www.rfc-editor.org/rfc/rfc2782)) of a name, with ports and weights; of the
    /// lowest priority there is.
    Srv {
        /// The name, such as `_grpc._tcp.library.internal`.
        name: Box<str>,
        /// As in [`Self::Dns`].
        resolvers: Vec<SocketAddr>,
    },
    /// From a file that is read again when it changes.
    File(PathBuf),
}

impl Endpoints {
    /// Those that are known without asking anybody.
    pub fn fixed(&self) -> &[Endpoint] {
        match self {
            Self::Fixed(endpoints) => endpoints,
            Self::Dns { .. } | Self::Srv { .. } | Self::File(_) => &[],
        }
    }
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(endpoints) => {
                let addresses: Vec<&str> = endpoints.iter().map(|endpoint| &*endpoint.address).collect();
                f.write_str(&addresses.join(", "))
            }
            Self::Dns { host, port, .. } => write!(f, "the addresses of {host}, port {port}"),
            Self::Srv { name, .. } => write!(f, "the services of {name}"),
            Self::File(path) => write!(f, "the endpoints in {}", path.display()),
        }
    }
}

/// Reads a file of endpoints: the key `endpoints` with a list as in the configuration. It may be empty.
///
/// # Errors
/// The file cannot be read, or everything that is wrong in it.
pub fn read(path: &Path) -> Result<Vec<Endpoint>, String> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name} cannot be read: {error}"))?;
    let mut report = Report::new(&|variable| std::env::var(variable).ok());
    let root = Place { path: String::new(), position: None };
    let endpoints = match Node::parse(&text) {
        Ok(node) => file::EndpointFile::read(&node, &root, &mut report)
            .map(|file| resolve::upstream::endpoints(file.endpoints, &mut report)),
        Err((position, message)) => {
            report.problem(&Place { position, ..root }, message);
            None
        }
    };
    let shown = |problem: Problem| problem.in_file(&name, &text).to_string();
    match endpoints {
        Some(endpoints) if report.problems.is_empty() => Ok(endpoints),
        _ => Err(report.problems.into_iter().map(shown).collect::<Vec<_>>().join("\n")),
    }
}
