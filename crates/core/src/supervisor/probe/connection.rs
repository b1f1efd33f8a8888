//! The probes `socket` and `accept`: a connection to the socket. Probe `http` over the socket begins with one too.
//!
//! A connection takes a place in the listener's queue until the daemon accepts it, whether or not the client has closed it. So a
//! check keeps its connection, and the next check asks about the same one.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{Shutdown, shutdown};
use tokio::time::Instant;

use super::ReadinessStatus;
use super::accepted::{Acceptance, acceptance, is_own_error, wait_accepted};
use super::daemon::{Answering, ProbedDaemon};
use super::held::taken_by_another;
use super::listen::datagram;
use super::question::Answer;
use crate::model::ProbeRole;
use crate::supervisor::socket::{OwnConnection, SocketFileId, dial, dial_kind};
use ally_base::os::{self, Bound, Listeners, SockDiag};
use ally_base::text::{errno_text, io_text};

/// A connection of a probe. Its sending half is closed, so the daemon reads end of file.
#[derive(Debug)]
pub struct ProbeConnection {
    client: OwnedFd,
    /// The socket file to which it leads.
    file: Option<SocketFileId>,
    /// The reason why the holder of the socket is not known.
    no_holder: Option<String>,
    /// At a held socket: the connection counts for no use of the daemon.
    own: Option<OwnConnection>,
}

/// One probe of one daemon that connects.
pub struct Caller<'a> {
    pub path: &'a Path,
    pub daemon: &'a ProbedDaemon,
    /// `None` if the probe is `listen`, which connects where the kernel can't tell.
    pub role: Option<ProbeRole>,
}

impl Caller<'_> {
    pub fn ask_socket(&self) -> Answer {
        let connection = match self.connection() {
            Ok(connection) => connection,
            Err(answer) => return answer,
        };
        let no_holder = connection.no_holder.clone();
        // A start asks for the holder again, so its connection is not kept.
        if no_holder.is_none() || self.role == Some(ProbeRole::Health) {
            self.daemon.keep_waiting(connection);
        }
        no_holder.map_or(Answer::Passed, Answer::NoHolder)
    }

    /// `status` is set before the wait.
    pub async fn ask_accept(&self, status: &ReadinessStatus, deadline: Instant) -> Answer {
        if let Some(answer) = self.ask_queue(status, deadline).await {
            return answer;
        }
        let mut connection = match self.connection() {
            Ok(connection) => connection,
            Err(answer) => return answer,
        };
        // A daemon that has changed its user hides its descriptors, so a check goes on. A start can't.
        if let (Some(ProbeRole::Readiness), Some(reason)) = (self.role, connection.no_holder.take()) {
            return Answer::NoHolder(reason);
        }
        status.set("the connection was not accepted".to_owned());
        match wait_accepted(&connection.client, deadline).await {
            Ok(Acceptance::Accepted) if self.is_taken_by_another(connection.own.as_ref().map(OwnConnection::client)) => taken_by_another(),
            Ok(Acceptance::Accepted) => Answer::Passed,
            Ok(Acceptance::Waiting) => {
                self.daemon.keep_waiting(connection);
                Answer::NotAccepted
            }
            Ok(Acceptance::Dropped(error)) => {
                Answer::Failed(format!("the connection was dropped unaccepted ({})", errno_text(error as i32)))
            }
            Err(error) => {
                self.daemon.keep_waiting(connection);
                Answer::NotMade(format!("the kernel doesn't tell who waits in the queue ({})", io_text(&error)))
            }
        }
    }

    /// The connection of the last check, if it still waits in the queue of the same socket. Otherwise the last one is closed, and
    /// this is a new one.
    fn connection(&self) -> Result<ProbeConnection, Answer> {
        let file = SocketFileId::at(self.path);
        let Some(kept) = self.daemon.take_waiting().filter(|kept| file.is_some() && kept.file == file) else { return self.connect(file) };
        match acceptance(&kept.client) {
            Ok(Acceptance::Waiting) => Ok(kept),
            Err(error) if is_own_error(&error) => {
                self.daemon.keep_waiting(kept);
                Err(Answer::NotMade(io_text(&error)))
            }
            // If the kernel can't tell, the connection may wait for ever.
            Ok(_) | Err(_) => self.connect(file),
        }
    }

    fn connect(&self, file: Option<SocketFileId>) -> Result<ProbeConnection, Answer> {
        let client = self.dial(file.as_ref())?;
        if let Some(role) = self.role {
            self.daemon.remember_connection(role);
        }
        match shutdown(client.as_raw_fd(), Shutdown::Write) {
            // ENOTCONN: the daemon has closed the connection (macOS).
            Ok(()) | Err(Errno::ENOTCONN) => {}
            Err(error) => return Err(Answer::NotMade(errno_text(error as i32))),
        }
        let no_holder = self.judge(&client)?;
        let own = self.daemon.held.as_ref().map(|held| held.listener.remember_own(&client)).transpose();
        let own = own.map_err(|error| Answer::NotMade(io_text(&error)))?;
        Ok(ProbeConnection { client, file, no_holder, own })
    }

    /// A connection with an open sending half.
    pub fn connect_to_speak(&self) -> Result<OwnedFd, Answer> {
        let client = dial(self.path).map_err(Answer::Unreachable)?;
        if self.role == Some(ProbeRole::Health) {
            self.daemon.remember_connection(ProbeRole::Health);
        }
        match (self.judge(&client)?, self.role) {
            (Some(reason), Some(ProbeRole::Readiness)) => Err(Answer::NoHolder(reason)),
            _ => Ok(client),
        }
    }

    /// Fails if another process answers. Otherwise returns the reason why the holder of the socket is not known, if it is not.
    fn judge(&self, client: &OwnedFd) -> Result<Option<String>, Answer> {
        // listen(2) was called by this process.
        if let Some(held) = &self.daemon.held {
            return self.judge_held(held, client);
        }
        let listener = match os::peer_pid(client) {
            Ok(pid) => pid,
            // The daemon has closed the connection. Only macOS then reports ENOTCONN for the peer.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return Err(Answer::TooEarly("it hung up at once".to_owned())),
            Err(error) => return Err(Answer::Failed(io_text(&error))),
        };
        match self.daemon.answering_process(listener, self.path) {
            Ok(Answering::Daemon) => Ok(None),
            Ok(Answering::NoHolder) => Ok(Some(format!(
                "it was made by process {listener}, which is gone, and no process that holds it can be found; \
                 a process that is not dumpable hides what it holds"
            ))),
            Ok(Answering::Other(pid)) => Err(Answer::Other(pid)),
            Err(error) => Err(Answer::Unjudged(io_text(&error))),
        }
    }

    fn dial(&self, file: Option<&SocketFileId>) -> Result<OwnedFd, Answer> {
        match dial_kind(self.path, self.daemon.kind(file)) {
            Err(Errno::EPROTOTYPE) => self.dial_other_kind(file),
            dialled => dialled.map_err(Answer::Unreachable),
        }
    }

    /// The socket has another type: the kernel tells which.
    fn dial_other_kind(&self, file: Option<&SocketFileId>) -> Result<OwnedFd, Answer> {
        let kind = SockDiag::open().and_then(|diag| Listeners::read(&diag)).and_then(|listeners| listeners.kind_at(self.path));
        if let (Ok(Some(kind)), Some(file)) = (kind, file) {
            self.daemon.remember_kind(file.clone(), kind);
            return dial_kind(self.path, kind).map_err(Answer::Unreachable);
        }
        match os::bound_socket(self.path, self.daemon.keeper, self.daemon.leader) {
            Ok(Bound::Datagram) => Err(Answer::Failed(datagram(self.path))),
            Ok(_) | Err(_) => Err(Answer::Unreachable(Errno::EPROTOTYPE)),
        }
    }
}
