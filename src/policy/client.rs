//! Which address a call comes from, as limits, rules and hashes take it.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client's own address: that of the peer, or, if the peer is a trusted proxy, the last one in `x-forwarded-for` that is
/// not one itself. An IPv4 address mapped into IPv6 is the IPv4 address that it is.
///
/// Read from its end, the list is only believed as far as those who wrote it are: whatever a client puts in front changes
/// nothing. An entry that is no address ends the reading at the one behind it.
pub fn ip(headers: &HeaderMap, peer: IpAddr, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer.to_canonical();
    let values = headers.get_all(&FORWARDED_FOR).iter().rev();
    for entry in values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b',')) {
        if !is_trusted(client, trusted) {
            break;
        }
        let Some(ip) = address(entry) else { break };
        client = ip.to_canonical();
    }
    client
}

/// Whether an address is one of these networks'. An IPv4 address mapped into IPv6 is the IPv4 address that it is.
pub fn is_trusted(ip: IpAddr, networks: &[IpNet]) -> bool {
    let ip = ip.to_canonical();
    networks.iter().any(|network| network.contains(&ip))
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let entry = std::str::from_utf8(entry).ok()?.trim();
    let bare = entry.strip_prefix('[').and_then(|entry| Some(entry.split_once(']')?.0)).unwrap_or(entry);
    bare.parse().ok().or_else(|| Some(bare.rsplit_once(':')?.0.parse::<std::net::Ipv4Addr>().ok()?.into()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_address_is_that_of_the_first_hop_that_nobody_vouches_for() {
        let table: [(&[&'static str], &str, &str); 10] = [
            (&["1.1.1.1"], "203.0.113.9", "203.0.113.9"),
            (&[], "10.0.0.1", "10.0.0.1"),
            (&["192.0.2.1"], "10.0.0.1", "192.0.2.1"),
            (&["1.1.1.1, 192.0.2.1"], "10.0.0.1", "192.0.2.1"),
            (&["1.1.1.1", "192.0.2.1, 10.0.0.2"], "::ffff:10.0.0.1", "192.0.2.1"),
            (&["10.0.0.7, 10.0.0.8"], "10.0.0.1", "10.0.0.7"),
            (&["2001:db8::1"], "10.0.0.1", "2001:db8::1"),
            (&["[2001:db8::1]:443"], "10.0.0.1", "2001:db8::1"),
            (&["192.0.2.1:80"], "10.0.0.1", "192.0.2.1"),
            (&["192.0.2.1, unknown"], "10.0.0.1", "10.0.0.1"),
        ];
        for (values, peer, expected) in table {
            let headers = values.iter().map(|value| (FORWARDED_FOR, HeaderValue::from_static(value))).collect();
            let trusted = ["10.0.0.0/8".parse().unwrap()];
            assert_eq!(
                ip(&headers, peer.parse().unwrap(), &trusted),
                expected.parse::<IpAddr>().unwrap(),
                "{values:?}"
            );
        }
    }
}
