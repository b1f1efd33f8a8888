//! Who listens at a TCP address, by inet_diag and the descriptors of processes. No connection is made.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::descriptors::{Search, all_that_have_open, tree_has_open};
use super::sock_diag::{HEADER_SIZE, SockDiag, attribute, u32_at};
use crate::os::PortListening;

/// Offsets in an answer (`struct inet_diag_msg`, `struct inet_diag_sockid`).
const PORT: usize = HEADER_SIZE + 4;
const ADDRESS: usize = HEADER_SIZE + 8;
const SOCKET_INODE: usize = HEADER_SIZE + 68;
/// `INET_DIAG_SKV6ONLY` of linux/inet_diag.h.
const ATTR_V6_ONLY: u16 = 11;

/// The sockets of this network namespace that listen at a TCP port.
pub struct TcpListeners(Vec<Listener>);

struct Listener {
    ip: IpAddr,
    port: u16,
    /// An IPv6 socket that takes no IPv4 connections.
    v6_only: bool,
    /// As in /proc/PID/fd.
    inode: u32,
}

impl TcpListeners {
    /// # Errors
    /// Errors of the request: a seccomp filter refuses AF_NETLINK, or the kernel has no tcp_diag; EMFILE, ENFILE.
    pub fn read() -> io::Result<Self> {
        let diag = SockDiag::open()?;
        let mut listeners = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            diag.query_tcp_listeners(family, |answer, attributes| listeners.extend(Listener::parse(family, answer, attributes)))?;
        }
        Ok(Self(listeners))
    }

    /// Who takes a connection to `address`. `tree`: the keeper and the leader of a daemon.
    pub fn listening(&self, address: SocketAddr, tree: Option<(i32, i32)>) -> PortListening {
        let inodes = self.at(address);
        if inodes.is_empty() {
            return PortListening::Unknown;
        }
        match tree.map_or(Search::NotOpen, |(keeper, leader)| tree_has_open(keeper, leader, &inodes)) {
            Search::Open => PortListening::Tree,
            found => match all_that_have_open(&inodes).first() {
                Some(pid) => PortListening::Other(*pid),
                None if found == Search::Unreadable => PortListening::Unknown,
                None => PortListening::Other(0),
            },
        }
    }

    /// The inodes of the listeners that fit best. There are several with SO_REUSEPORT.
    fn at(&self, address: SocketAddr) -> Vec<u32> {
        let best = self.0.iter().filter_map(|listener| listener.fit(address)).max();
        self.0.iter().filter(|listener| best.is_some() && listener.fit(address) == best).map(|listener| listener.inode).collect()
    }
}

impl Listener {
    fn parse(family: i32, answer: &[u8], attributes: &[u8]) -> Option<Self> {
        let port = u16::from_be_bytes(answer.get(PORT..PORT + 2)?.try_into().ok()?);
        let ip = if family == libc::AF_INET {
            IpAddr::from(<[u8; 4]>::try_from(answer.get(ADDRESS..ADDRESS + 4)?).ok()?)
        } else {
            IpAddr::from(<[u8; 16]>::try_from(answer.get(ADDRESS..ADDRESS + 16)?).ok()?)
        };
        let v6_only = attribute(attributes, ATTR_V6_ONLY).is_some_and(|value| value.first() != Some(&0));
        Some(Self { ip, port, v6_only, inode: u32_at(answer, SOCKET_INODE)? })
    }

    /// `None` if a connection to `address` does not reach this listener. Of several that fit, the kernel takes a bound address
    /// before the wildcard, and IPv4 before IPv6 (`compute_score` in net/ipv4/inet_hashtables.c).
    fn fit(&self, address: SocketAddr) -> Option<(bool, bool)> {
        if self.port != address.port() {
            return None;
        }
        let wanted = address.ip().to_canonical();
        let is_v4 = self.ip.is_ipv4();
        match (self.ip, wanted) {
            (ip, wanted) if ip.to_canonical() == wanted => Some((true, is_v4)),
            (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(_)) => Some((false, true)),
            (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(_)) => Some((false, false)),
            (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(_)) if !self.v6_only => Some((false, false)),
            _ => None,
        }
    }
}
