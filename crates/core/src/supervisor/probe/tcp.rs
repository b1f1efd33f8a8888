//! A connection to a TCP port of the daemon: the probe `tcp`, and the beginning of `http` with `port`.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::accepted::is_own_error;
use super::daemon::ProbedDaemon;
use super::question::Answer;
use crate::config::TcpAddress;
use crate::model::{Pid, ProbeRole};
use crate::supervisor::socket::is_local;
use ally_base::os::{PortListening, TcpListeners};
use ally_base::text::io_text;

/// A name may stand for any number of addresses.
const ADDRESSES_MAX: usize = 8;

pub struct PortCaller<'a> {
    pub address: &'a TcpAddress,
    pub daemon: &'a ProbedDaemon,
    pub role: ProbeRole,
}

/// Why there is no connection to one address.
enum Missed {
    Refused,
    /// The system has no such address, for example without IPv6.
    NoAddress(io::Error),
    Failed(io::Error),
    Other(Pid),
}

impl PortCaller<'_> {
    pub async fn ask(&self, deadline: Instant) -> Answer {
        self.connect(deadline).await.map_or_else(|answer| answer, |_| Answer::Passed)
    }

    /// Connects to all addresses at the same time, because a connection to the wrong one may hang. Returns the first one that a
    /// process of the daemon listens at.
    pub async fn connect(&self, deadline: Instant) -> Result<OwnedFd, Answer> {
        let addresses = match self.address.known() {
            Some(addresses) => addresses,
            None => self.daemon.resolve(&self.address.host, self.address.port, deadline).await.map_err(Answer::NoConnection)?,
        };
        let addresses = addresses.get(..ADDRESSES_MAX).unwrap_or(&addresses);
        let mut tries = JoinSet::new();
        for address in addresses.iter().copied() {
            tries.spawn(async move { (address, TcpStream::connect(address).await) });
        }
        let mut missed = Vec::new();
        loop {
            match timeout_at(deadline, tries.join_next()).await {
                Ok(Some(Ok((address, connected)))) => match self.judge(connected) {
                    Ok(connection) => return connection.into_std().map(OwnedFd::from).map_err(|error| Answer::NotMade(io_text(&error))),
                    Err(reason) => missed.push((address, reason)),
                },
                // A panic of the task.
                Ok(Some(Err(error))) => return Err(Answer::NotMade(error.to_string())),
                Ok(None) => return Err(no_connection(missed, &[])),
                Err(_) => {
                    let silent: Vec<_> = addresses.iter().filter(|address| !missed.iter().any(|(known, _)| known == *address)).collect();
                    return Err(no_connection(missed, &silent));
                }
            }
        }
    }

    fn judge(&self, connected: io::Result<TcpStream>) -> Result<TcpStream, Missed> {
        let connection = connected.map_err(|error| match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => Missed::Refused,
            Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT) => Missed::NoAddress(error),
            _ => Missed::Failed(error),
        })?;
        let (Ok(local), Ok(peer)) = (connection.local_addr(), connection.peer_addr()) else {
            // The daemon has closed the connection (macOS).
            return Ok(connection);
        };
        // If nobody listens at a port of the range for clients, the kernel may give the client that very port, and the client
        // connects to itself: simultaneous open, RFC 9293, section 3.5.
        if local == peer {
            return Err(Missed::Refused);
        }
        if self.role == ProbeRole::Health {
            self.daemon.remember_connection(self.role);
        }
        if is_local(peer.ip()) {
            match listening(peer, self.daemon) {
                Ok(PortListening::Other(pid)) => return Err(Missed::Other(pid)),
                Err(error) if is_own_error(&error) => return Err(Missed::Failed(error)),
                // Without inet_diag the connection alone decides.
                Ok(PortListening::Tree | PortListening::Unknown) | Err(_) => {}
            }
        }
        Ok(connection)
    }
}

/// Who listens at the address to which a connection has succeeded.
fn listening(address: SocketAddr, daemon: &ProbedDaemon) -> io::Result<PortListening> {
    let look = || TcpListeners::read().map(|list| list.listening(address, Some((daemon.keeper, daemon.leader))));
    match look()? {
        // A process of the tree may have forked or passed its listener on during the look.
        PortListening::Other(_) => look(),
        certain => Ok(certain),
    }
}

/// The answer without a connection. `silent`: the addresses that have not answered in time. Another process at any address is the
/// answer, because a client of the daemon may meet it.
fn no_connection(missed: Vec<(SocketAddr, Missed)>, silent: &[&SocketAddr]) -> Answer {
    let mut refused: Vec<String> = Vec::new();
    let mut reasons: Vec<String> = Vec::new();
    let mut absent: Vec<String> = Vec::new();
    for (address, reason) in missed {
        match reason {
            Missed::Other(pid) => return Answer::OtherAtPort { at: address.to_string(), pid },
            Missed::Failed(error) if is_own_error(&error) => return Answer::NotMade(io_text(&error)),
            Missed::Refused => refused.push(address.to_string()),
            Missed::Failed(error) => reasons.push(format!("{} at {address}", io_text(&error))),
            Missed::NoAddress(error) => absent.push(format!("{} at {address}", io_text(&error))),
        }
    }
    if !refused.is_empty() {
        refused.sort_unstable();
        reasons.insert(0, format!("connection refused at {}", refused.join(" and ")));
    }
    reasons.extend(silent.iter().map(|address| format!("no answer at {address}")));
    Answer::NoConnection(if reasons.is_empty() { absent } else { reasons }.join(", "))
}
