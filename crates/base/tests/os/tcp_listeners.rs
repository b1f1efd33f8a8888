//! Who listens at a TCP address.

use std::net::{SocketAddr, SocketAddrV6, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;

use ally_base::os::{PortListening, TcpListeners, own_pid};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrIn6, bind, listen, setsockopt, socket, sockopt};

use crate::until::until;

fn who(address: SocketAddr, tree: Option<(i32, i32)>) -> PortListening {
    TcpListeners::read().unwrap().listening(address, tree)
}

fn at(host: &str, port: u16) -> SocketAddr {
    SocketAddr::new(host.parse().unwrap(), port)
}

#[test]
fn tcp_listener_belongs_to_the_process_that_has_it_open() {
    for host in ["127.0.0.1", "::1"] {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(who(address, Some((own_pid(), own_pid()))), PortListening::Tree, "{host}");
        assert_eq!(who(address, None), PortListening::Other(own_pid()), "{host}");
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let other = i32::try_from(child.id()).unwrap();
        assert_eq!(who(address, Some((other, other))), PortListening::Other(own_pid()), "{host}");
        // The keeper's descendants count, whoever the leader is.
        assert_eq!(who(address, Some((other, own_pid()))), PortListening::Tree, "{host}");
        child.kill().unwrap();
        child.wait().unwrap();
        drop(listener);
        // Until execve(2) a child of another test has a copy of the listener.
        until("nobody listens", || who(address, None) == PortListening::Unknown);
    }
}

#[test]
fn tcp_listener_at_the_wildcard_takes_each_address_of_its_family() {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(who(at("127.0.0.1", port), None), PortListening::Other(own_pid()));
    assert_eq!(who(at("::1", port), None), PortListening::Unknown);
    assert_eq!(who(at("127.0.0.1", port.wrapping_add(1).max(1)), Some((1, 1))), PortListening::Unknown);
}

#[test]
fn tcp_listener_at_the_ipv6_wildcard_takes_ipv4_unless_it_is_v6_only() {
    for v6_only in [false, true] {
        let listener = ipv6_wildcard(v6_only);
        let port = TcpListener::from(listener.try_clone().unwrap()).local_addr().unwrap().port();
        assert_eq!(who(at("::1", port), None), PortListening::Other(own_pid()));
        let expected = if v6_only { PortListening::Unknown } else { PortListening::Other(own_pid()) };
        assert_eq!(who(at("127.0.0.1", port), None), expected, "v6_only: {v6_only}");
    }
}

fn ipv6_wildcard(v6_only: bool) -> OwnedFd {
    let server = socket(AddressFamily::Inet6, SockType::Stream, SockFlag::empty(), None).unwrap();
    setsockopt(&server, sockopt::Ipv6V6Only, &v6_only).unwrap();
    let address: SocketAddrV6 = "[::]:0".parse().unwrap();
    bind(server.as_raw_fd(), &SockaddrIn6::from(address)).unwrap();
    listen(&server, Backlog::new(8).unwrap()).unwrap();
    server
}
