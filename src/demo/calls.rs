//! The calls that `portico demo` prints for a stranger to paste.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Six calls, one per line and each below a comment: four over REST, two over gRPC, the last without reflection.
///
/// They need nothing but curl, grpcurl and, for the last one, a checkout of the source as working directory. URLs and
/// JSON stand in single quotes, which every POSIX shell leaves alone.
pub fn calls(rest: SocketAddr, grpc: SocketAddr) -> String {
    let (rest, grpc) = (reachable(rest), reachable(grpc));
    format!(
        r#"# the three oldest books on computing
curl 'http://{rest}/v1/shelves/computing/books?page_size=3&order_by=published'
# a new one
curl -H 'content-type: application/json' -d '{{"title": "Emma", "authors": ["Jane Austen"], "genre": "FICTION"}}' 'http://{rest}/v1/shelves/adventure/books?book_id=emma'
# another price for it
curl -X PATCH -H 'content-type: application/json' -d '{{"price": 9.5}}' 'http://{rest}/v1/shelves/adventure/books/emma?update_mask=price'
# lent once, and refused the second time
curl -H 'content-type: application/json' -d '{{"borrower": "Emma"}}' 'http://{rest}/v1/shelves/science/books/opticks:checkout'
# over gRPC, the schema by reflection: the books of a shelf as a stream; without max_events, each change as it happens
grpcurl -plaintext -d '{{"parent": "shelves/adventure", "max_events": 5}}' '{grpc}' portico.library.v1.Library/WatchBooks
# without reflection, the schema from the source
grpcurl -plaintext -import-path proto -proto portico/library/v1/library.proto -d '{{"filter": "genre=FANTASY"}}' '{grpc}' portico.library.v1.Library/ListBooks
"#
    )
}

/// A listener on all addresses is reached by the loopback one.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_six_calls_with_reachable_addresses() {
        let text = calls("0.0.0.0:8080".parse().unwrap(), "[::]:9090".parse().unwrap());

        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines.len(), 6);
        assert!(lines.iter().all(|line| line.contains("127.0.0.1:8080") ^ line.contains("[::1]:9090")));
        assert!(lines.iter().all(|line| line.matches('\'').count() % 2 == 0));
    }
}
