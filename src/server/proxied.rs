//! The PROXY protocol, in: what a balancer in front says of the client, before anything else.
//!
//! Versions 1 and 2 of the [specification](https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt). Only peers that are
//! trusted may speak it, and they must: a header that anybody can send would let everybody choose an address.
//! **Invariant**: not a byte beyond the header is read.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ppp::v2::Command;
use ppp::{HeaderResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Begins a header of version 2, see section 2.2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Begins one of version 1, see section 2.1.
const WORD: &[u8] = b"PROXY ";
/// Bytes of a header of version 1, with its end.
const MAX_V1: usize = 107;
/// Bytes that follow the first sixteen in version 2: the addresses, and what else a balancer has to say.
const MAX_V2: usize = 4096;

/// Reads the header. Returns the client's address, or `None` when the balancer speaks for itself or does not know.
///
/// # Errors
/// The connection ended, or begins with something else.
pub(super) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![0; SIGNATURE.len()];
    stream.read_exact(&mut header).await?;
    if header == SIGNATURE {
        read_v2(stream, &mut header).await?;
    } else if header.starts_with(WORD) {
        read_v1(stream, &mut header).await?;
    } else {
        return Err(bad("there is no PROXY header"));
    }
    client(&header)
}

async fn read_v1<S: AsyncRead + Unpin>(stream: &mut S, header: &mut Vec<u8>) -> io::Result<()> {
    while !header.ends_with(b"\r\n") {
        if header.len() == MAX_V1 {
            return Err(bad("the PROXY header does not end"));
        }
        header.push(stream.read_u8().await?);
    }
    Ok(())
}

async fn read_v2<S: AsyncRead + Unpin>(stream: &mut S, header: &mut Vec<u8>) -> io::Result<()> {
    let mut fixed = [0; 4];
    stream.read_exact(&mut fixed).await?;
    let [_, _, high, low] = fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_V2 {
        return Err(bad("the PROXY header is too long"));
    }
    header.extend(fixed);
    let begun = header.len();
    header.resize(begun + length, 0);
    stream.read_exact(header.get_mut(begun..).unwrap_or_default()).await?;
    Ok(())
}

fn client(header: &[u8]) -> io::Result<Option<SocketAddr>> {
    let at = |ip: IpAddr, port| Some(SocketAddr::new(ip, port));
    match HeaderResult::parse(header) {
        HeaderResult::V1(Ok(header)) => Ok(match header.addresses {
            v1::Addresses::Unknown => None,
            v1::Addresses::Tcp4(ip) => at(ip.source_address.into(), ip.source_port),
            v1::Addresses::Tcp6(ip) => at(ip.source_address.into(), ip.source_port),
        }),
        HeaderResult::V2(Ok(header)) => Ok(match (header.command, header.addresses) {
            (Command::Local, _) | (Command::Proxy, v2::Addresses::Unspecified | v2::Addresses::Unix(_)) => None,
            (Command::Proxy, v2::Addresses::IPv4(ip)) => at(ip.source_address.into(), ip.source_port),
            (Command::Proxy, v2::Addresses::IPv6(ip)) => at(ip.source_address.into(), ip.source_port),
        }),
        HeaderResult::V1(Err(error)) => Err(bad(error)),
        HeaderResult::V2(Err(error)) => Err(bad(error)),
    }
}

fn bad(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(bytes: &[u8]) -> (io::Result<Option<SocketAddr>>, usize) {
        let mut stream = bytes;
        let found = read(&mut stream).await;
        (found, stream.len())
    }

    fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).expect("short").to_be_bytes();
        [&SIGNATURE[..], &[0x20 | command, family], &length, payload].concat()
    }

    #[tokio::test]
    async fn both_versions_name_the_client_and_leave_what_follows() {
        let v4 = v2(1, 0x11, &[192, 0, 2, 7, 10, 0, 0, 1, 0xc4, 0xec, 1, 0xbb, 4, 0, 1, 42]);
        let six = [&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..], &[0; 16], &[1, 0, 1, 0xbb]].concat();
        for (header, client) in [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 50412 443\r\n".to_vec(), Some("192.0.2.7:50412")),
            (b"PROXY TCP6 2001:db8::1 ::1 256 443\r\n".to_vec(), Some("[2001:db8::1]:256")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN what ever\r\n".to_vec(), None),
            (v4, Some("192.0.2.7:50412")),
            (v2(1, 0x21, &six), Some("[2001:db8::1]:256")),
            (v2(0, 0, &[]), None),
            (v2(1, 0, &[]), None),
        ] {
            let (found, left) = read_all(&[&header[..], b"GET / HTTP/1.1"].concat()).await;

            assert_eq!(found.expect("a header"), client.map(|client| client.parse().expect("an address")));
            assert_eq!(left, 14, "{header:?}");
        }
    }

    #[tokio::test]
    async fn anything_else_is_an_error() {
        for bytes in [
            &b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..],
            b"PROXY",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 99999 443\r\n",
            b"PROXY TCP4 nobody 10.0.0.1 1 443\r\n",
            &[b"PROXY TCP4 ", &[b'1'; 200][..]].concat(),
            &v2(1, 0x11, &[192, 0, 2, 7]),
            &v2(7, 0x11, &[0; 12]),
            &[&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff], &[0; 70_000]].concat(),
        ] {
            assert!(read_all(bytes).await.0.is_err(), "{bytes:?}");
        }
    }
}
