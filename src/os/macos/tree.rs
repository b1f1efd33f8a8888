//! What descends from a process. There is no subreaper: what loses its parent goes to launchd, and is
//! found again by its session, or because it was seen before.

use std::io;
use std::mem;
use std::os::fd::OwnedFd;

use super::identity::look_up;
use super::kqueue;
use crate::os::Process;

/// Whether every descendant that loses its parent becomes the keeper's child.
pub const CHILDREN_COME_BACK: bool = false;

pub fn descendants(root: i32) -> Vec<Process> {
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        let known: Vec<i32> = found.iter().map(|process| process.pid).collect();
        for process in children(parent, root, &known) {
            parents.push(process.pid);
            found.push(process);
        }
    }
    found
}

/// The children of `parent` without those known. There is no subreaper.
pub fn children(parent: i32, _subreaper: i32, known: &[i32]) -> Vec<Process> {
    // SAFETY: the buffer is as long as said.
    let mut children = living(list(|buffer, size| unsafe { libc::proc_listchildpids(parent, buffer, size) }));
    children.retain(|process| process.parent == parent && !known.contains(&process.pid));
    children
}

/// The children of `root`, the session that the leader made, what is left of those that were `seen` of the tree before,
/// and whatever descends from any of these. The leader's group is part of its session.
pub fn members(root: i32, leader: i32, seen: &[Process]) -> Vec<Process> {
    let mut found: Vec<Process> = Vec::new();
    let lives = |process: &&Process| look_up(process.pid).is_some_and(|now| now.start == process.start && !now.zombie);
    let known = seen.iter().filter(lives).filter_map(|process| look_up(process.pid));
    for process in children(root, root, &[]).into_iter().chain(session(leader)).chain(known) {
        if !found.iter().any(|other| other.pid == process.pid) {
            found.push(process);
        }
    }
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|process| process.pid) {
        let known: Vec<i32> = found.iter().map(|process| process.pid).collect();
        found.extend(children(parent, root, &known));
        next += 1;
    }
    found
}

/// The members of the session that `leader` made.
pub fn session(leader: i32) -> Vec<Process> {
    living(everyone()).into_iter().filter(|process| process.session == leader).collect()
}

pub fn everyone() -> Vec<i32> {
    // SAFETY: the buffer is as long as said.
    list(|buffer, size| unsafe { libc::proc_listallpids(buffer, size) })
}

fn list(ask: impl Fn(*mut libc::c_void, libc::c_int) -> libc::c_int) -> Vec<i32> {
    let mut pids = vec![0_i32; 16 * 1024];
    let size = libc::c_int::try_from(mem::size_of_val(pids.as_slice())).unwrap_or(libc::c_int::MAX);
    let count = ask(pids.as_mut_ptr().cast(), size);
    pids.truncate(usize::try_from(count).unwrap_or(0));
    pids
}

fn living(pids: Vec<i32>) -> Vec<Process> {
    pids.into_iter().filter_map(look_up).filter(|process| !process.zombie).collect()
}

/// A process, and a descriptor that becomes readable when it ends.
#[derive(Debug)]
pub struct Handle {
    process: Process,
    pub fd: Option<OwnedFd>,
}

/// # Errors
/// A pid that is none.
pub fn open(process: &Process) -> io::Result<Option<Handle>> {
    let ident = usize::try_from(process.pid).map_err(io::Error::other)?;
    let watched = kqueue::new().and_then(|queue| kqueue::add(&queue, ident, libc::EVFILT_PROC, libc::NOTE_EXIT).map(|()| queue));
    let fd = match watched {
        Ok(queue) => Some(queue),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        // No descriptor left, or another user's: a process that must be ended is, without one.
        Err(_) => None,
    };
    let handle = Handle { process: *process, fd };
    Ok(handle.is_same().then_some(handle))
}

impl Handle {
    fn is_same(&self) -> bool {
        look_up(self.process.pid).is_some_and(|now| now.start == self.process.start)
    }

    /// # Errors
    /// EPERM where the process belongs to someone else. One that is gone is no error.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        // There is no signal by handle; between this look and the call the pid could only be reused if
        // the process ended and was reaped, and pids are not reused that soon.
        if !self.is_same() {
            return Ok(());
        }
        // SAFETY: integers only.
        if unsafe { libc::kill(self.process.pid, signal) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) }
    }
}

/// # Errors
/// EPERM, and those of [`open`].
pub fn signal(process: &Process, signal: i32) -> io::Result<()> {
    open(process)?.map_or(Ok(()), |handle| handle.signal(signal))
}
