//! Finds the endpoints of upstreams that are not listed in the configuration: in DNS, or in a file that others write.
//!
//! Runs on the control runtime, one task for each such fleet, which ends with the fleet. What was found last stays when
//! nothing is found any more: a name server that is down must not take the services behind it with it. That holds for the
//! addresses of IPv4 and IPv6 each, for which it is asked apart. Only a file may say that there are no endpoints.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::fleet::{Fleet, List};
use crate::config::endpoints::{self, Endpoint, Endpoints};

/// What was found, and for how long it holds.
#[derive(Debug)]
pub struct Found {
    /// Sorted by address, each once.
    pub endpoints: Vec<Endpoint>,
    /// After which to ask again.
    pub fresh_for: Duration,
    /// Why some of them are those from before.
    pub problem: Option<String>,
}

impl Found {
    fn whole(endpoints: Vec<Endpoint>, fresh_for: Duration) -> Self {
        Self { endpoints, fresh_for, problem: None }
    }
}

/// Keeps a fleet's endpoints up to date for as long as it is there.
pub(super) fn follow(fleet: &Arc<Fleet>, control: &Handle) {
    if matches!(fleet.config().endpoints, Endpoints::Fixed(_)) {
        return;
    }
    // Whoever asks for the fleet first finds what a file says, without waiting for the task.
    if let Endpoints::File(path) = &fleet.config().endpoints {
        take(fleet, read(path));
    }
    control.spawn(keep(Arc::downgrade(fleet)));
}

async fn keep(fleet: Weak<Fleet>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let known = |fleet: Arc<Fleet>| (fleet.config().endpoints.clone(), fleet.list());
        let Some((endpoints, list)) = fleet.upgrade().map(known) else { return };
        let found = find(&endpoints, &list).await;
        let Some(fleet) = fleet.upgrade() else { return };
        let next = match &found {
            Ok(found) => {
                pause = FIRST_PAUSE;
                found.fresh_for
            }
            Err(_) => {
                let now = pause;
                pause = (pause * 2).min(LONGEST_PAUSE);
                now
            }
        };
        take(&fleet, found);
        drop(fleet);
        // Less up to a tenth, so that gateways do not ask together.
        sleep(next.mul_f64(1.0 - fastrand::f64() / 10.0)).await;
    }
}

/// Hands the fleet what is news.
fn take(fleet: &Fleet, found: Result<Found, String>) {
    let (name, list) = (&fleet.config().name, fleet.list());
    match found {
        Ok(found) if list.problem.as_deref() != found.problem.as_deref() || !list.is(&found.endpoints) => {
            match &found.problem {
                Some(problem) if list.problem.as_deref() != Some(problem) => {
                    tracing::warn!(upstream = %name, %problem, "some endpoints cannot be found, those from before stay");
                }
                Some(_) | None => {
                    tracing::info!(upstream = %name, endpoints = found.endpoints.len(), "endpoints found")
                }
            }
            fleet.set(found.endpoints, found.problem.map(Into::into));
        }
        Ok(_) => {}
        Err(problem) if list.problem.as_deref() != Some(&problem) => {
            tracing::warn!(upstream = %name, %problem, kept = list.members.len(), "endpoints cannot be found");
            fleet.fail(problem.into());
        }
        Err(_) => {}
    }
}

/// Finds endpoints once, of which those in `known` were found before.
///
/// # Errors
/// In words: the name does not resolve, or the file cannot be read.
pub async fn find(endpoints: &Endpoints, known: &List) -> Result<Found, String> {
    match endpoints {
        Endpoints::Fixed(endpoints) => Ok(Found::whole(endpoints.clone(), Duration::MAX)),
        Endpoints::File(path) => read(path),
        Endpoints::Dns { host, port, resolvers } => {
            let found = match resolver(resolvers) {
                Ok(resolver) => addresses(&resolver, host, *port, known).await,
                Err(error) => Err(error),
            };
            found.map_err(|error| format!("{host} does not resolve: {error}"))
        }
        Endpoints::Srv { name, resolvers } => {
            let found = match resolver(resolvers) {
                Ok(resolver) => services(&resolver, name).await,
                Err(error) => Err(error),
            };
            found.map_err(|error| format!("{name} does not resolve: {error}"))
        }
    }
}

fn read(path: &Path) -> Result<Found, String> {
    endpoints::read(path).map(|endpoints| Found::whole(sorted(endpoints), FILE_INTERVAL))
}

async fn addresses(resolver: &TokioResolver, host: &str, port: u16, known: &List) -> Result<Found, NetError> {
    let lookup = resolver.lookup_ip(host).await?;
    let at = |ip: IpAddr| Endpoint::at(SocketAddr::new(ip, port).to_string().into());
    let mut endpoints: Vec<_> = lookup.iter().map(at).collect();
    let (name, mut problem) = (lookup.query().name(), None);
    for kind in [RecordType::A, RecordType::AAAA] {
        let is_of_kind = |endpoint: &Endpoint| {
            let address = endpoint.address.parse::<SocketAddr>();
            address.is_ok_and(|address| address.is_ipv4() == (kind == RecordType::A))
        };
        let before: Vec<_> = known.members.iter().map(|known| &known.endpoint).filter(|it| is_of_kind(it)).collect();
        if before.is_empty() || endpoints.iter().any(is_of_kind) {
            continue;
        }
        // One of the two answers is enough above, whatever became of the other: there may be no such addresses any more, or
        // nobody could say.
        match resolver.lookup(name.clone(), kind).await {
            Ok(lookup) => endpoints.extend(lookup.answers().iter().filter_map(|record| record.data.ip_addr()).map(at)),
            Err(error) if error.is_no_records_found() => {}
            Err(error) => {
                endpoints.extend(before.into_iter().cloned());
                problem = Some(format!("{host} does not resolve as {kind}: {error}"));
            }
        }
    }
    let fresh_for = fresh_for(Instant::from_std(lookup.valid_until()));
    Ok(Found { endpoints: sorted(endpoints), fresh_for, problem })
}

async fn services(resolver: &TokioResolver, name: &str) -> Result<Found, NetError> {
    let lookup = resolver.srv_lookup(name).await?;
    let services = lookup.answers().iter().filter_map(|record| match &record.data {
        RData::SRV(service) => Some(service),
        _ => None,
    });
    let first = services.clone().map(|service| service.priority).min();
    let endpoints = services.filter(|service| Some(service.priority) == first).map(|service| {
        let host = service.target.to_utf8();
        let address = format!("{}:{}", host.trim_end_matches('.'), service.port);
        Endpoint { weight: u32::from(service.weight).max(1), ..Endpoint::at(address.into()) }
    });
    Ok(Found::whole(sorted(endpoints.collect()), fresh_for(Instant::from_std(lookup.valid_until()))))
}

/// Name servers answer in any order.
fn sorted(mut endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    endpoints.sort_by(|one, other| one.address.cmp(&other.address));
    endpoints.dedup_by(|one, other| one.address == other.address);
    endpoints
}

fn fresh_for(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now()).clamp(SHORTEST_TTL, LONGEST_TTL)
}

/// Asks those name servers, or those of the system.
fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = servers.iter().map(|server| {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            for connection in &mut connections {
                connection.port = server.port();
            }
            NameServerConfig::new(server.ip(), true, connections)
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // What is asked again is to be asked, not remembered.
    options.cache_size = 0;
    builder.build()
}

/// Bounds on the time to live that a name server gives.
const SHORTEST_TTL: Duration = Duration::from_secs(1);
const LONGEST_TTL: Duration = Duration::from_mins(5);
/// Between looks at a file.
const FILE_INTERVAL: Duration = Duration::from_secs(1);
/// After the first failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
