//! The system's odd corners behind one face, one file a concern:
//!
//! - `identity`: who a process is, beyond its pid;
//! - `tree`: what descends from a process, and signals that can't hit a stranger;
//! - `peer`: who listens at the other end of a Unix socket;
//! - `queue`: whether a listener took a connection, and whether anyone holds a socket file;
//! - `watch`: tells when something appears in a folder.
//!
//! Nothing here decides anything. The addon and the guardian compile the same sources.

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

/// Whether a look that finds nobody means that there is nobody: for want of descriptors or memory it sees nothing at all.
pub fn sees() -> bool {
    i32::try_from(std::process::id()).is_ok_and(|own| look_up(own).is_some())
}

/// Whether `pid` is `ancestor` or descends from it.
pub fn descends_from(pid: i32, ancestor: i32) -> bool {
    // A chain breaks where one of it dies during the walk; its children have another parent then.
    (0..3).any(|_| climbs_to(pid, ancestor))
}

fn climbs_to(pid: i32, ancestor: i32) -> bool {
    let mut current = pid;
    // No chain of parents is longer than this unless it changes under our eyes.
    for _ in 0..1024 {
        if current == ancestor {
            return true;
        }
        match look_up(current) {
            Some(process) if process.parent > 0 => current = process.parent,
            _ => return false,
        }
    }
    false
}
