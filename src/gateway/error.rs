//! Why a gateway does not start.

use std::fmt;
use std::io;
use std::net::SocketAddr;

/// Why a gateway did not start.
#[derive(Debug)]
pub enum StartError {
    /// Descriptors in files are wrong; a sentence for each upstream.
    Schema(Vec<String>),
    /// An address for clients cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// The admin address cannot be listened on.
    Admin(SocketAddr, io::Error),
    /// The access log cannot be written.
    AccessLog(io::Error),
    /// The system refuses threads.
    Workers(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schema(errors) => f.write_str(&errors.join("\n")),
            Self::Listen(address, error) => cannot_listen(f, *address, error, "--listen"),
            Self::Admin(address, error) => cannot_listen(f, *address, error, "--admin"),
            Self::AccessLog(error) => write!(f, "cannot write the access log: {error}"),
            Self::Workers(error) => write!(f, "cannot start the workers: {error}"),
        }
    }
}

fn cannot_listen(f: &mut fmt::Formatter<'_>, address: SocketAddr, error: &io::Error, flag: &str) -> fmt::Result {
    write!(f, "cannot listen on {address}: {error}")?;
    if error.kind() == io::ErrorKind::AddrInUse {
        write!(f, "; {flag} or the configuration file may name another, port 0 takes a free one")?;
    }
    Ok(())
}

impl std::error::Error for StartError {}
