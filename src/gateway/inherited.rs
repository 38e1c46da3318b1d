//! Listening sockets that somebody else has opened for this process.

use std::net::{SocketAddr, TcpListener};

/// Sockets by the address that they are on; each is taken once.
#[derive(Debug, Default)]
pub struct Inherited(Vec<TcpListener>);

impl Inherited {
    /// These sockets.
    pub fn new(sockets: Vec<TcpListener>) -> Self {
        Self(sockets)
    }

    /// Those that systemd hands to the process
    /// ([`LISTEN_FDS`](https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html)).
    pub fn from_environment() -> Self {
        let mut given = listenfd::ListenFd::from_env();
        let sockets = (0..given.len()).filter_map(|index| match given.take_tcp_listener(index) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(index, %error, "a socket in LISTEN_FDS is not one that TCP connections are accepted on");
                None
            }
        });
        Self(sockets.collect())
    }

    /// Adds more.
    #[must_use]
    pub fn and(mut self, more: Self) -> Self {
        self.0.extend(more.0);
        self
    }

    /// The socket on that address. For port 0, any on the same IP address.
    pub(super) fn take(&mut self, wanted: SocketAddr) -> Option<TcpListener> {
        let is_on = |socket: &TcpListener| {
            socket
                .local_addr()
                .is_ok_and(|address| address == wanted || (wanted.port() == 0 && address.ip() == wanted.ip()))
        };
        let index = self.0.iter().position(is_on)?;
        Some(self.0.remove(index))
    }

    /// Says which ones nobody wants; they are closed.
    pub(super) fn report_unused(&self) {
        for address in self.0.iter().filter_map(|socket| socket.local_addr().ok()) {
            tracing::warn!(%address, "a socket was handed over that no listener of the configuration is on");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_found_by_its_address_and_taken_once() {
        let sockets: Vec<_> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let addresses: Vec<_> = sockets.iter().map(|socket| socket.local_addr().expect("an address")).collect();
        let mut inherited = Inherited::new(sockets);
        let address = |socket: Option<TcpListener>| socket.map(|socket| socket.local_addr().expect("an address"));

        assert_eq!(address(inherited.take(addresses[1])), Some(addresses[1]));
        assert_eq!(address(inherited.take(addresses[1])), None);
        assert_eq!(address(inherited.take(([127, 0, 0, 2], 0).into())), None);
        assert_eq!(address(inherited.take(([127, 0, 0, 1], 0).into())), Some(addresses[0]));
    }
}
