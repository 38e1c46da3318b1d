//! How many files the process may have open, which every connection is one of.
//!
//! Many systems allow 1,024 unless a program asks for more, because of programs that cannot have more; this one can.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;

/// Asks for as many as the system grants, and says so if they are fewer than the connections that are allowed.
pub fn allow(config: &Config) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    let allowed = if raised { maximum } else { current };
    let connections: usize = config.listeners.iter().map(|listener| listener.limits.max_connections).sum();
    if let Some(allowed) = allowed.filter(|allowed| *allowed < connections as u64) {
        tracing::warn!(allowed, connections, "fewer files may be open than the listeners may have connections");
    }
}
