//! The daemon that is probed, and what its probes remember from one question to the next.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::socket::SockType;
use tokio::time::Instant;

use super::connection::ProbeConnection;
use super::exec::CommandRunner;
use super::lookup::Lookup;
use crate::model::{Pid, ProbeRole};
use crate::supervisor::notify::NotifySocket;
use crate::supervisor::socket::{HeldListener, SocketFileId, holders};
use ally_base::os;

/// If a daemon exits this soon after a probe has connected, the connection is the likely reason.
const SOON: Duration = Duration::from_millis(100);

/// The processes that may answer a probe: the leader, and each descendant of the keeper.
#[derive(Debug, Clone)]
pub struct ProbedDaemon {
    pub leader: Pid,
    pub keeper: Pid,
    /// Runs the commands of its probes.
    pub commands: Arc<CommandRunner>,
    /// `None` if no probe is `notify`.
    pub notify: Option<Arc<NotifySocket>>,
    /// `None` if the daemon makes the socket itself.
    pub held: Option<HeldProbe>,
    memory: Arc<Mutex<Memory>>,
}

/// The socket that the manager holds for this daemon.
#[derive(Debug, Clone)]
pub struct HeldProbe {
    pub listener: Arc<HeldListener>,
    /// A connection starts the daemon, so readiness makes none of its own.
    pub on_connect: bool,
}

#[derive(Debug, Default)]
struct Memory {
    /// A socket of the tree that a process outside the tree made, and the pid of that process. Cached, because the search
    /// for the holders of a socket scans all processes.
    inherited: Option<(SocketFileId, Pid)>,
    /// The type of the socket that listens at a file, once the kernel has told.
    kind: Option<(SocketFileId, SockType)>,
    /// The connection of an earlier check, if the daemon had not accepted it.
    waiting: Option<ProbeConnection>,
    connected: Option<(ProbeRole, Instant)>,
    /// The last lookup of a host's name.
    lookup: Option<Lookup>,
}

pub enum Answering {
    Daemon,
    /// The pid is 0 if the process is outside this PID namespace.
    Other(Pid),
    /// The maker of the socket is gone, and the scan found no holder.
    NoHolder,
}

impl ProbedDaemon {
    pub fn new(leader: Pid, keeper: Pid, commands: CommandRunner, notify: Option<Arc<NotifySocket>>, held: Option<HeldProbe>) -> Self {
        Self { leader, keeper, commands: Arc::new(commands), notify, held, memory: Arc::default() }
    }

    /// False for a process that is gone, because its pid may belong to another process.
    ///
    /// # Errors
    /// A scan that failed.
    fn includes(&self, pid: Pid) -> io::Result<bool> {
        Ok(pid == self.leader || os::descends_from(pid, self.keeper)?)
    }

    /// The process that answers at `path`. `listener`: the process that called listen(2). If the listener is gone, another
    /// process holds the socket, and the listener's pid may be reused.
    ///
    /// # Errors
    /// A scan that failed.
    pub fn answering_process(&self, listener: Pid, path: &Path) -> io::Result<Answering> {
        if self.includes(listener)? {
            return Ok(Answering::Daemon);
        }
        let socket = SocketFileId::at(path).map(|id| (id, listener));
        if socket.is_some() && self.memory().inherited == socket {
            return Ok(Answering::Daemon);
        }
        let holders = holders(path, Some(listener));
        for holder in &holders {
            if self.includes(*holder)? {
                self.memory().inherited = socket;
                return Ok(Answering::Daemon);
            }
        }
        // A listener outside this PID namespace has the pid 0, and is another process.
        let outside = (listener <= 0).then_some(listener);
        Ok(holders.first().copied().or(outside).map_or(Answering::NoHolder, Answering::Other))
    }

    /// The type of the socket that listens at this file. SOCK_STREAM if the kernel has not told.
    pub fn kind(&self, file: Option<&SocketFileId>) -> SockType {
        let memory = self.memory();
        let known = memory.kind.as_ref().filter(|(known, _)| Some(known) == file);
        known.map_or(SockType::Stream, |(_, kind)| *kind)
    }

    pub fn remember_kind(&self, file: SocketFileId, kind: SockType) {
        self.memory().kind = Some((file, kind));
    }

    pub fn remember_connection(&self, role: ProbeRole) {
        self.memory().connected = Some((role, Instant::now()));
    }

    /// The role of the probe that connected last, if that was a moment ago.
    pub fn recently_connected(&self) -> Option<ProbeRole> {
        self.memory().connected.filter(|(_, at)| at.elapsed() <= SOON).map(|(role, _)| role)
    }

    pub fn keep_waiting(&self, connection: ProbeConnection) {
        self.memory().waiting = Some(connection);
    }

    pub fn has_waiting(&self) -> bool {
        self.memory().waiting.is_some()
    }

    pub fn take_waiting(&self) -> Option<ProbeConnection> {
        self.memory().waiting.take()
    }

    /// The addresses of a host whose name must be looked up. getaddrinfo(3) may block for seconds, so it runs on a thread of its
    /// own, one at a time.
    ///
    /// # Errors
    /// The reason why there are none.
    pub async fn resolve(&self, host: &str, port: u16, deadline: Instant) -> Result<Vec<SocketAddr>, String> {
        let kept = self.memory().lookup.take().filter(|lookup| lookup.is_of(host));
        let mut lookup = kept.unwrap_or_else(|| Lookup::start(host.to_owned()));
        let ips = lookup.ips(deadline).await;
        self.memory().lookup = Some(lookup);
        Ok(ips?.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
