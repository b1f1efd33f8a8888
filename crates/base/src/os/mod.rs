//! Linux and macOS behind one interface, one file a concern:
//!
//! - `identity`: who a process is, beyond its pid;
//! - `tree`: what descends from a process, and signals that can't hit a stranger;
//! - `peer`: who listens at the other end of a Unix socket;
//! - `queue`: whether a listener took a connection, and whether anyone holds a socket file;
//! - `watch`: tells when something appears in a folder.
//!
//! Nothing here decides anything.

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

use std::io;

/// One process as it was when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    pub group: i32,
    /// The pid of the process that made the session. The system gives that pid to nobody else while
    /// the session has members.
    pub session: i32,
    /// Clock ticks from the boot to its beginning on Linux, its running number since the boot on macOS: never smaller
    /// for one that began later. With the pid and the boot it names one process for good.
    pub start: u64,
    /// A zombie is gone, for all but its parent.
    pub zombie: bool,
}

impl Process {
    /// Whether both are one process, whatever became of it between two looks.
    pub const fn is(&self, other: &Self) -> bool {
        self.pid == other.pid && self.start == other.start
    }

    /// Whether this process, and no other of its pid, is still there; a zombie is gone.
    ///
    /// # Errors
    /// Where that can't be found out.
    pub fn lives(&self) -> io::Result<bool> {
        Ok(identify(self.pid)?.is_some_and(|now| now.is(self) && !now.zombie))
    }
}

/// One scan of many processes.
#[derive(Debug, Default)]
pub struct ProcessScan {
    pub seen: Vec<Process>,
    /// The first error, or that the scan never came to an end. Then it may have missed some: the processes seen are there, but
    /// an empty list doesn't mean that there are none.
    pub failed: Option<io::Error>,
}

impl ProcessScan {
    /// Whether there is certainly no process.
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
        for pid in scan.note_error(pids) {
            let process = scan.note_error(identify(pid));
            scan.seen.extend(process);
        }
        scan
    }

    /// The value; an error is kept in the scan.
    fn note_error<T: Default>(&mut self, result: io::Result<T>) -> T {
        result.unwrap_or_else(|error| {
            self.failed.get_or_insert(error);
            T::default()
        })
    }

    /// The processes of another scan; its error is kept.
    fn take(&mut self, other: Self) -> Vec<Process> {
        if let Some(error) = other.failed {
            self.failed.get_or_insert(error);
        }
        other.seen
    }
}

/// Whether `pid` is `ancestor` or descends from it.
///
/// # Errors
/// Where that can't be found out.
pub fn descends_from(pid: i32, ancestor: i32) -> io::Result<bool> {
    // A chain breaks where one of it dies during the walk; its children have another parent then.
    for _ in 0..3 {
        if climbs_to(pid, ancestor)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn climbs_to(pid: i32, ancestor: i32) -> io::Result<bool> {
    let mut current = pid;
    // No chain of parents is longer than this unless it changes under our eyes.
    for _ in 0..1024 {
        if current == ancestor {
            return Ok(true);
        }
        match identify(current) {
            Ok(Some(process)) if process.parent > 0 => current = process.parent,
            Ok(_) => return Ok(false),
            // Where /proc hides other users' processes every chain ends so, at the first one at the latest.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

pub fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}
