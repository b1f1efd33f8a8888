//! What descends from a process. There is no subreaper: what loses its parent goes to launchd, and is
//! found again by its session, or because it was seen before.

use std::collections::HashSet;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;

use nix::errno::Errno;

use super::identity::identify;
use super::kqueue;
use crate::os::{Process, ProcessScan};

/// Whether every descendant that loses its parent becomes the keeper's child.
pub const HAS_SUBREAPER: bool = false;

/// More than the system allows to run.
const PIDS_MAX: usize = 128 * 1024;

pub fn descendants(root: i32) -> ProcessScan {
    let mut look = ProcessScan::default();
    let root = look.note_error(identify(root));
    look.with_descendants(root.into_iter().collect())
}

/// The children of this process, without those known.
pub fn own_children(known: &HashSet<i32>) -> ProcessScan {
    let mut look = ProcessScan::default();
    let own = look.note_error(i32::try_from(std::process::id()).map_err(io::Error::other).and_then(identify));
    let Some(own) = own else { return look };
    let mut children = children(&own);
    children.seen.retain(|child| !known.contains(&child.pid));
    children
}

/// The children of `root`, the session that the leader made, what is left of those that were `seen` of the tree before,
/// and whatever descends from any of these. The leader's group is part of its session. Once that session is empty it is not
/// asked for again: its number may be given to a stranger.
/// Each is handed to `on_found`.
pub fn members(root: i32, session_of: &mut Option<i32>, seen: &[Process], on_found: &mut dyn FnMut(&Process)) -> ProcessScan {
    let mut look = ProcessScan::default();
    let root = look.note_error(identify(root));
    let mut roots: Vec<Process> = root.map(|root| look.take(children(&root))).unwrap_or_default();
    if let Some(leader) = *session_of {
        let session = posix_session(leader);
        // A leader that nobody has reaped yet has its number still.
        if session.is_certainly_empty() && identify(leader).is_ok_and(|leader| leader.is_none()) {
            *session_of = None;
        }
        roots.extend(look.take(session));
    }
    for process in seen {
        let now = look.note_error(identify(process.pid));
        roots.extend(now.filter(|now| now.start == process.start && !now.zombie));
    }
    for process in roots {
        if !look.seen.iter().any(|other| other.pid == process.pid) {
            look.seen.push(process);
        }
    }
    let roots = look.seen.clone();
    let look = look.with_descendants(roots);
    look.seen.iter().for_each(on_found);
    look
}

impl ProcessScan {
    /// Adds whatever descends from these.
    fn with_descendants(mut self, mut parents: Vec<Process>) -> Self {
        while let Some(parent) = parents.pop() {
            for process in self.take(children(&parent)) {
                if !self.seen.iter().any(|known| known.pid == process.pid) {
                    parents.push(process);
                    self.seen.push(process);
                }
            }
        }
        self
    }
}

/// There is no subreaper: whoever loses its parent is launchd's.
fn children(parent: &Process) -> ProcessScan {
    // SAFETY: the buffer is as long as said.
    let mut look = living(list(|buffer, size| unsafe { libc::proc_listchildpids(parent.pid, buffer, size) }));
    look.seen.retain(|process| process.parent == parent.pid);
    // Between the list and this look its pid may have gone to a stranger.
    let now = look.note_error(identify(parent.pid));
    if now.is_none_or(|now| now.start != parent.start) {
        look.seen.clear();
    }
    look
}

/// The members of the session that `leader` made.
pub fn posix_session(leader: i32) -> ProcessScan {
    let mut look = living(everyone());
    look.seen.retain(|process| process.session == leader);
    look
}

pub fn everyone() -> io::Result<Vec<i32>> {
    // SAFETY: the buffer is as long as said.
    list(|buffer, size| unsafe { libc::proc_listallpids(buffer, size) })
}

fn list(ask: impl Fn(*mut libc::c_void, libc::c_int) -> libc::c_int) -> io::Result<Vec<i32>> {
    let mut pids = vec![0_i32; PIDS_MAX];
    let size = libc::c_int::try_from(mem::size_of_val(pids.as_slice())).map_err(io::Error::other)?;
    // libproc says 0 where the kernel says -1.
    Errno::clear();
    let count = usize::try_from(ask(pids.as_mut_ptr().cast(), size)).unwrap_or(0);
    if count == 0 && Errno::last_raw() != 0 {
        return Err(io::Error::last_os_error());
    }
    if count >= pids.len() {
        return Err(io::Error::other("there are more processes than can be listed"));
    }
    pids.truncate(count);
    Ok(pids)
}

fn living(pids: io::Result<Vec<i32>>) -> ProcessScan {
    let mut look = ProcessScan::of(pids);
    look.seen.retain(|process| !process.zombie);
    look
}

/// A process, and a descriptor that becomes readable when it ends.
#[derive(Debug)]
pub struct Handle {
    process: Process,
    pub fd: Option<OwnedFd>,
}

/// # Errors
/// Where it can't be found out whether it is the same one.
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
    Ok(handle.is_same()?.then_some(handle))
}

impl Handle {
    fn is_same(&self) -> io::Result<bool> {
        Ok(identify(self.process.pid)?.is_some_and(|now| now.start == self.process.start))
    }

    /// # Errors
    /// EPERM where the process belongs to someone else, and where it can't be found out whether it is still the same. One
    /// that is gone is no error.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        // There is no signal by handle; between this look and the call the pid could only be reused if
        // the process ended and was reaped, and pids are not reused that soon.
        if !self.is_same()? {
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

/// The group of a process.
#[derive(Debug)]
pub struct Group;

impl Group {
    /// # Errors
    /// There is nothing here that means one group and no later one of its number.
    pub fn of(_leader: i32) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// # Errors
    /// None: there is no such group.
    pub fn signal(&self, _signal: i32) -> io::Result<()> {
        Ok(())
    }
}

/// # Errors
/// EPERM, and those of [`open`].
pub fn signal(process: &Process, signal: i32) -> io::Result<()> {
    open(process)?.map_or(Ok(()), |handle| handle.signal(signal))
}
