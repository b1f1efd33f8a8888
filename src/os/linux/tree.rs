//! What descends from a process. Everything that flees its parent comes back to the nearest
//! subreaper (prctl(2)), so a keeper's descendants are exactly its daemon's tree.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::identity::look_up;
use crate::os::Process;

/// Whether every descendant that loses its parent becomes the keeper's child.
pub const CHILDREN_COME_BACK: bool = true;

/// Everything of a tree whose subreaper is `root`. Neither the leader's group nor what was `seen` of the tree before needs
/// a look of its own here.
pub fn members(root: i32, _group: i32, _seen: &[Process]) -> Vec<Process> {
    descendants(root)
}

/// All that descend from `root`, zombies left out, parents before children. A process that is born
/// during the walk may be missed; whoever must have them all walks again until nothing is left.
pub fn descendants(root: i32) -> Vec<Process> {
    let mut found: Vec<Process> = Vec::new();
    let mut known = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for process in children(parent, root, &known) {
            known.push(process.pid);
            parents.push(process.pid);
            if !process.zombie {
                found.push(process);
            }
        }
    }
    found
}

/// The children of `parent`, zombies too, without those known.
pub fn children(parent: i32, subreaper: i32, known: &[i32]) -> Vec<Process> {
    let unknown = child_pids(parent).into_iter().filter(|pid| !known.contains(pid));
    // Between the list and this look the child may have died and its pid gone to a stranger: then its
    // parent is another one. A child whose parent just died now belongs to the subreaper.
    unknown.filter_map(look_up).filter(|process| process.parent == parent || process.parent == subreaper).collect()
}

/// /proc/PID/task/TID/children lists per thread; every thread has children of its own.
fn child_pids(parent: i32) -> Vec<i32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{parent}/task")) else { return Vec::new() };
    let mut pids = Vec::new();
    for task in tasks.flatten() {
        match fs::read_to_string(task.path().join("children")) {
            Ok(list) => pids.extend(list.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok())),
            // Kernels without CONFIG_PROC_CHILDREN have no such file; a thread that just ended has none either.
            Err(_) if !task.path().exists() => {}
            Err(_) => return children_by_sweep(parent),
        }
    }
    pids
}

fn children_by_sweep(parent: i32) -> Vec<i32> {
    everyone().filter(|process| process.parent == parent).map(|process| process.pid).collect()
}

/// The members of the session that `leader` made, or had made. A look at every process there is: for
/// the rare case that whoever kept them is gone.
pub fn session(leader: i32) -> Vec<Process> {
    everyone().filter(|process| process.session == leader && !process.zombie).collect()
}

fn everyone() -> impl Iterator<Item = Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| look_up(entry.file_name().to_str()?.parse().ok()?))
}

/// A process that can't be confused with a later one of the same pid.
#[derive(Debug)]
pub struct Handle {
    pid: i32,
    /// A pidfd, readable when the process has ended. Kernels before 5.3 have none, nor has who ran out of descriptors.
    pub fd: Option<OwnedFd>,
}

/// Opens `process` if it is still the same one; `None` if it is gone.
///
/// # Errors
/// A descriptor that is none, which the kernel doesn't give.
pub fn open(process: &Process) -> io::Result<Option<Handle>> {
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, process.pid, 0) };
    let fd = if fd >= 0 {
        let raw = i32::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: the kernel just handed out this descriptor, close-on-exec, and nobody else knows it.
        Some(unsafe { OwnedFd::from_raw_fd(raw) })
    } else {
        if io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH) {
            return Ok(None);
        }
        // ENOSYS, a seccomp filter, no descriptor left: a process that must be ended is, without one.
        None
    };
    // Looked at after the open: if it is the same process now, the descriptor can mean no other.
    let same = look_up(process.pid).is_some_and(|now| now.start == process.start);
    Ok(same.then_some(Handle { pid: process.pid, fd }))
}

impl Handle {
    /// # Errors
    /// EPERM where the process belongs to someone else. One that is gone is no error.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let result = match &self.fd {
            // SAFETY: integers and a null siginfo, which the call allows.
            Some(fd) => unsafe {
                libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
            },
            // SAFETY: integers only. The pid was verified a moment ago, which is all that such a kernel offers.
            None => i64::from(unsafe { libc::kill(self.pid, signal) }),
        };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) }
    }
}

/// Signals exactly this process, or nobody.
///
/// # Errors
/// EPERM, and those of [`open`].
pub fn signal(process: &Process, signal: i32) -> io::Result<()> {
    open(process)?.map_or(Ok(()), |handle| handle.signal(signal))
}
