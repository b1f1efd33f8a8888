//! The places where a daemon is going to listen, before its spawn.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use ally_base::os::{PortListening, TcpListeners};

use super::{held, remove_dead};
use crate::config::{Probe, ProcessConfig, TcpAddress};
use crate::error::{Failure, Occupant};

/// Makes the places free at which the probes look for the daemon, and the names of a socket that the manager is going to make.
/// Nothing connects to a port. `is_held`: the manager has made the socket already.
///
/// # Errors
/// `SocketInUse` with the occupant of a place; `Io` if a system call fails.
pub fn make_free(config: &ProcessConfig, is_held: bool) -> Result<(), Failure> {
    if let Some(path) = config.needed_socket().filter(|_| !is_held) {
        remove_dead(path)?;
        if config.holds_socket() {
            held::remove_dead_names(path)?;
        }
    }
    config.probes().filter_map(Probe::port).try_for_each(check_port)
}

/// A name that must be looked up is not judged: the lookup may take seconds.
fn check_port(address: &TcpAddress) -> Result<(), Failure> {
    let addresses = address.known().unwrap_or_default();
    let mut local = addresses.into_iter().filter(|address| is_local(address.ip())).peekable();
    if local.peek().is_none() {
        return Ok(());
    }
    // If the kernel can't tell, the daemon's own bind(2) decides.
    let Ok(listeners) = TcpListeners::read() else { return Ok(()) };
    for address in local {
        if let PortListening::Other(pid) = listeners.listening(reached(address), None) {
            let by = if pid > 0 { Occupant::Process(pid) } else { Occupant::Unknown };
            return Err(Failure::SocketInUse { path: address.to_string(), by });
        }
    }
    Ok(())
}

/// A connection to the wildcard address goes to the loopback.
fn reached(mut address: std::net::SocketAddr) -> std::net::SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}

/// Whether a connection to this address stays on this machine: bind(2) refuses an address that is not one of its own.
pub fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}
