//! Linux and macOS behind one interface, one file per topic:
//!
//! - `identity`: the properties of a process, and its identity beyond the pid;
//! - `tree`: scans for the descendants of a process and for the members of a POSIX session;
//! - `handle`: signals that can't reach another process of the same pid;
//! - `peer`: the process at the other end of a Unix socket;
//! - `boundary`: the namespaces and the sandbox of a process;
//! - `accept_queue`: whether a listener has accepted a connection;
//! - `arrivals`: connections to listening sockets, and their hang-up;
//! - `exchange`: two files change their names in one step;
//! - `holders`: the processes that hold a socket file;
//! - `listener`: a listening socket of this process that a daemon gets, and its use;
//! - `listeners`: whether a process tree listens at a socket file; `leader_socket`: the same, sooner, of a leader's own socket;
//! - `limits`: the limits, the umask and the niceness of this process;
//! - `tcp_listeners`: whether a process tree listens at a TCP address;
//! - `pipe`: the capacity of a pipe;
//! - `priority`: the priority of a thread;
//! - `random`: random bytes of the kernel;
//! - `usage`: CPU time, memory and descriptors of a tree;
//! - `datagram`, `sender`: datagram sockets, and the senders of their datagrams;
//! - `watch`: changes in a folder.
//!
//! These modules report facts. Decisions are made by their callers.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub use linux::*;

#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
pub use macos::*;

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
compile_error!("only Linux and macOS are supported");

mod datagram;
mod listener;
pub use datagram::{Datagram, Sender, datagram_socket, is_datagram_socket_alive, receive_datagram};
pub use listener::{
    BoundBy, ListenerUse, Waiting, close_first, is_nonblocking, is_shut_down, lengthen_queue, listen_at, make_blocking, refuse_connections,
};

use std::io;
use std::ops::Range;
use std::time::Duration;

/// In the place of the boot's id, if the system does not show it.
pub const NO_BOOT_ID: &str = "-";
use nix::sys::socket::SockType;

use crate::wire::ResourceLimit;

/// Whether a listener has accepted a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptState {
    Waiting,
    Accepted,
}

/// What a listening socket is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArrivalInterest {
    /// shutdown(2) of the socket.
    HangUp,
    /// A connection, and shutdown(2).
    Connection,
}

/// An event of a listening socket: a connection, or its hang-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    pub key: u64,
    pub hung_up: bool,
}

/// Whether a process holds a socket that is bound to a file. A later variant is stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Held {
    No,
    /// The kernel shows a socket that may be bound to the file under another name.
    Unknown,
    Yes,
}

/// Whether a process tree listens at a socket file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listening {
    /// A process of the tree has a listening socket of this type open.
    Tree(SockType),
    /// A socket of this type listens. The descriptors of the tree that can be read do not lead to it.
    NotFound(SockType),
    /// The kernel shows no listening socket for the file.
    Nobody,
}

/// The socket that is bound to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    Listening,
    /// bind(2) was called, and listen(2) was not.
    NotListening,
    /// A datagram socket, which never listens.
    Datagram,
    /// The kernel shows none. There may be one in another network namespace.
    Unknown,
}

/// Who listens at a TCP address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortListening {
    /// A process of the tree.
    Tree,
    /// A process outside the tree. The pid is 0 if no process that holds the listener can be found.
    Other(i32),
    /// The kernel shows no listener: it is in another network namespace or on another machine. Or the kernel shows one, and does
    /// not show whether a process of the tree holds it.
    Unknown,
}

/// The properties of a process at the time of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    pub group: i32,
    /// The POSIX session: the pid of the process that called setsid(2). The kernel does not reuse this pid while the POSIX
    /// session has members.
    pub session: i32,
    /// Linux: clock ticks from the boot to the start of the process. macOS: the serial number of the process since the boot.
    /// A process that started later never has a smaller value. Pid, start and boot together name one process.
    pub start: u64,
    /// The process has ended, and its parent has not reaped it.
    pub zombie: bool,
}

impl Process {
    /// Whether both are the same process. The other fields may differ between two scans.
    pub const fn is(&self, other: &Self) -> bool {
        self.pid == other.pid && self.start == other.start
    }

    /// Whether this process, and no later process of its pid, is alive. A zombie is not alive.
    ///
    /// # Errors
    /// Errors of [`identify`].
    pub fn lives(&self) -> io::Result<bool> {
        Ok(identify(self.pid)?.is_some_and(|now| now.is(self) && !now.zombie))
    }
}

/// The resources of one living process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessUsage {
    pub pid: i32,
    pub threads: u32,
    /// Bytes. A page that processes share counts in each.
    pub resident: u64,
}

/// The name of a process that is the keeper of a probe's command: see `ally-guardian`.
pub const PROBE_KEEPER: &str = "ally-probe";

/// The resources of the tree of a keeper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeUsage {
    pub processes: Vec<ProcessUsage>,
    /// The CPU time of the living, of those that they waited for, and of those that the keeper reaped.
    pub cpu: Duration,
}

/// The result of a scan.
#[derive(Debug, Default)]
pub struct ProcessScan {
    pub seen: Vec<Process>,
    /// The first error of the scan, or an error of its own if the scan was given up. If there is an error, the scan may have
    /// missed processes: an empty list is then no proof.
    pub failed: Option<io::Error>,
}

impl ProcessScan {
    /// Whether the scan proves that there is no process.
    pub fn is_certainly_empty(&self) -> bool {
        self.seen.is_empty() && self.failed.is_none()
    }

    /// # Errors
    /// The first error of the scan.
    pub fn whole(self) -> io::Result<Vec<Process>> {
        self.failed.map_or(Ok(self.seen), Err)
    }

    fn of(pids: io::Result<Vec<i32>>) -> Self {
        let mut scan = Self::default();
        for pid in scan.keep_error(pids) {
            let process = scan.keep_error(identify(pid));
            scan.seen.extend(process);
        }
        scan
    }

    /// The value of `result`. The first error is kept in the scan.
    fn keep_error<T: Default>(&mut self, result: io::Result<T>) -> T {
        result.unwrap_or_else(|error| {
            self.failed.get_or_insert(error);
            T::default()
        })
    }

    /// The processes of another scan. The first error is kept in this scan.
    fn processes_of(&mut self, other: Self) -> Vec<Process> {
        if let Some(error) = other.failed {
            self.failed.get_or_insert(error);
        }
        other.seen
    }
}

/// Whether `pid` is `ancestor` or descends from it.
///
/// # Errors
/// Errors of [`identify`].
pub fn descends_from(pid: i32, ancestor: i32) -> io::Result<bool> {
    // If a process of the chain dies during the walk, its children get another parent, and the chain must be read again.
    for _ in 0..3 {
        if parent_chain_contains(pid, ancestor)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn parent_chain_contains(pid: i32, ancestor: i32) -> io::Result<bool> {
    let mut current = pid;
    // A longer chain can only come from pids that are reused during the walk.
    for _ in 0..1024 {
        if current == ancestor {
            return Ok(true);
        }
        match identify(current) {
            Ok(Some(process)) if process.parent > 0 => current = process.parent,
            Ok(_) => return Ok(false),
            // If /proc hides the processes of other users (`hidepid`), every chain ends with this error, at pid 1 at the latest.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// Whether the process with this pid and start time lives. If /proc hides the process of this pid (`hidepid`), the process
/// counts as alive: only what is seen to be gone is gone.
pub fn may_live(pid: i32, start: u64) -> bool {
    match identify(pid) {
        Ok(process) => process.is_some_and(|process| process.start == start && !process.zombie),
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    }
}

/// The name of this machine or container. `None` if it is not set or not text.
pub fn host_name() -> Option<String> {
    let mut name = [0_u8; 256];
    // SAFETY: the buffer is longer by one byte than the length that is passed, so it ends with NUL in any case.
    if unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) } != 0 {
        return None;
    }
    let name = std::ffi::CStr::from_bytes_until_nul(&name).ok()?.to_str().ok()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// The limits of this process among these resources. A resource that the kernel does not know has none.
fn resource_limits_of(resources: Range<i32>) -> Vec<ResourceLimit> {
    let limit = |resource| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the structure outlives the call. The type of the number differs between the C libraries.
        let known = unsafe { libc::getrlimit(resource as _, &raw mut limit) } == 0;
        known.then_some(ResourceLimit { resource, soft: limit.rlim_cur, hard: limit.rlim_max })
    };
    resources.filter_map(limit).collect()
}

/// The niceness of this process. On Linux each thread has its own; this is that of the first one.
pub fn niceness() -> Option<i32> {
    nix::errno::Errno::clear();
    // SAFETY: integers only. -1 is a niceness as well as a failure, so errno tells.
    let niceness = unsafe { libc::getpriority(libc::PRIO_PROCESS, own_pid() as _) };
    (nix::errno::Errno::last_raw() == 0).then_some(niceness)
}

pub fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}
