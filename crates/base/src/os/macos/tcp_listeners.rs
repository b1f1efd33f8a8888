//! Who listens at a TCP address, by the sockets of processes (`proc_pidfdinfo`): `struct socket_fdinfo` of sys/proc_info.h, with
//! `struct tcp_sockinfo`. No connection is made.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::descriptors::{descriptors, query};
use super::socket_info::SOCKET_INFO;
use super::tree::{all_pids, members};
use crate::os::PortListening;

/// `INI_IPV4`: the socket takes IPv4 connections.
const TAKES_V4: u8 = 1;
/// `TSI_S_LISTEN`.
const LISTEN: i32 = 1;

/// `struct socket_fdinfo` of a TCP socket.
#[repr(C)]
struct TcpInfo {
    /// `struct proc_fileinfo`.
    file: [u32; 6],
    stat: libc::vinfo_stat,
    so: u64,
    pcb: u64,
    kind: i32,
    protocol: i32,
    family: i32,
    /// From `soi_options` to `soi_error`.
    state: [u16; 8],
    out_of_band: u32,
    /// Two `struct sockbuf_info`.
    buffers: [u32; 12],
    details: i32,
    reserved: u32,
    foreign_port: i32,
    /// In network byte order.
    local_port: i32,
    generation: u64,
    flags: u32,
    flow: u32,
    versions: u8,
    hops: u8,
    reserved_2: u32,
    foreign: [u32; 4],
    /// An IPv4 address is the last of the four words.
    local: [u32; 4],
    type_of_service: u8,
    v6_details: [u32; 3],
    tcp_state: i32,
    /// The rest of `struct tcp_sockinfo`, and what other kinds of sockets have in their place: `struct un_sockinfo` is the longest.
    rest: [u32; 111],
}

// The layout of the kernel on x64 and arm64: the union of all kinds of sockets begins at 264.
const _: () = assert!(mem::size_of::<TcpInfo>() == 792 && mem::offset_of!(TcpInfo, foreign_port) == 264);

/// Empty: macOS lists the sockets of a process, not those of the system.
pub struct TcpListeners;

impl TcpListeners {
    /// # Errors
    /// None. On Linux the request can fail.
    pub const fn read() -> io::Result<Self> {
        Ok(Self)
    }

    /// Who takes a connection to `address`. `tree`: the keeper and the leader of a daemon. The sockets of another user's process
    /// can't be read. So without a holder in sight the answer is `Unknown`.
    pub fn listening(&self, address: SocketAddr, tree: Option<(i32, i32)>) -> PortListening {
        let in_tree = |(keeper, leader): (i32, i32)| {
            listens(leader, address)
                || members(keeper, &mut Some(keeper), &[], &mut |_| {}).seen.iter().any(|process| listens(process.pid, address))
        };
        if tree.is_some_and(in_tree) {
            return PortListening::Tree;
        }
        let all = all_pids().unwrap_or_default();
        all.into_iter().find(|pid| listens(*pid, address)).map_or(PortListening::Unknown, PortListening::Other)
    }
}

fn listens(pid: i32, address: SocketAddr) -> bool {
    let infos = descriptors(pid, libc::PROX_FDTYPE_SOCKET).into_iter().filter_map(|fd| query::<TcpInfo>(pid, fd, SOCKET_INFO));
    infos.filter(TcpInfo::is_listener).any(|info| info.takes(address))
}

impl TcpInfo {
    fn is_listener(&self) -> bool {
        matches!(self.family, libc::AF_INET | libc::AF_INET6) && self.protocol == libc::IPPROTO_TCP && self.tcp_state == LISTEN
    }

    fn takes(&self, address: SocketAddr) -> bool {
        let port = u16::from_be((self.local_port & 0xffff) as u16);
        port == address.port()
            && match address.ip().to_canonical() {
                IpAddr::V4(wanted) => {
                    let local = Ipv4Addr::from(self.local[3].to_ne_bytes());
                    self.versions & TAKES_V4 != 0 && (local == wanted || local.is_unspecified())
                }
                IpAddr::V6(wanted) => {
                    let mut bytes = [0; 16];
                    bytes.chunks_exact_mut(4).zip(self.local).for_each(|(place, word)| place.copy_from_slice(&word.to_ne_bytes()));
                    let local = Ipv6Addr::from(bytes);
                    self.family == libc::AF_INET6 && (local == wanted || local.is_unspecified())
                }
            }
    }
}
