//! What descends from a process. Everything that flees its parent comes back to the nearest
//! subreaper (prctl(2)), so a keeper's descendants are exactly its daemon's tree.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use super::identity::{identify, read, unless_gone};
use crate::os::{Process, ProcessScan};

/// Whether every descendant that loses its parent becomes the keeper's child.
pub const HAS_SUBREAPER: bool = true;

/// Where processes fork and end faster than they can be looked at, a look would never come to an end. So many may have ended
/// before they were looked at, or else it ends after this time.
const CHURN: u32 = 100;
const LONGEST_LOOK: Duration = Duration::from_millis(50);

/// Everything of a tree whose subreaper is `root`; each is handed to `on_found` in the moment in which it is found. Neither the
/// leader's session nor what was `seen` of the tree before needs a look of its own here.
pub fn members(root: i32, _session_of: &mut Option<i32>, _seen: &[Process], on_found: &mut dyn FnMut(&Process)) -> ProcessScan {
    walk(root, on_found)
}

/// All that descend from `root`, zombies left out, parents before children. One that is forked during the walk may be missed,
/// but not its parent. If a subreaper looks at its own and finds nobody, then there is nobody: whoever loses its parent
/// during the walk turns up among its own children, which are looked at again until no more turn up. (Not so from outside:
/// a list in /proc may skip one while another of it is being reaped.)
pub fn descendants(root: i32) -> ProcessScan {
    walk(root, &mut |_| {})
}

fn walk(root: i32, on_found: &mut dyn FnMut(&Process)) -> ProcessScan {
    let until = Instant::now() + LONGEST_LOOK;
    let mut look = ProcessScan::default();
    let Some(root) = look.note_error(identify(root)) else { return look };
    let mut known = HashSet::new();
    let mut ended = 0;
    loop {
        // Also one that is gone when it is looked at: it may have left another one.
        let mut news = false;
        let mut parents = vec![root];
        while let Some(parent) = parents.pop() {
            for pid in look.note_error(children(&parent)) {
                if known.contains(&pid) {
                    continue;
                }
                news = true;
                if ended > CHURN && Instant::now() > until {
                    look.failed.get_or_insert_with(endless);
                    return look;
                }
                match identify(pid) {
                    Ok(Some(process)) if process.parent == parent.pid => {
                        known.insert(pid);
                        parents.push(process);
                        if process.zombie {
                            ended += 1;
                        } else {
                            on_found(&process);
                            look.seen.push(process);
                        }
                    }
                    // Gone, or its parent is: then it is now a child of `root`, and listed again.
                    Ok(_) => ended += 1,
                    Err(error) => {
                        known.insert(pid);
                        look.failed.get_or_insert(error);
                    }
                }
            }
        }
        if !news {
            return look;
        }
    }
}

/// The children of this process, zombies too, without those known. Looked at again until no more turn up: one that ends
/// during the look leaves its own here.
pub fn own_children(known: &HashSet<i32>) -> ProcessScan {
    let mut look = ProcessScan::default();
    let own = look.note_error(i32::try_from(std::process::id()).map_err(io::Error::other).and_then(identify));
    let Some(own) = own else { return look };
    let mut met = HashSet::new();
    for _ in 0..CHURN {
        let mut new = look.note_error(children(&own));
        new.retain(|pid| !known.contains(pid) && met.insert(*pid));
        if new.is_empty() {
            return look;
        }
        let found = look.take(ProcessScan::of(Ok(new)));
        look.seen.extend(found.into_iter().filter(|process| process.parent == own.pid));
    }
    look.failed.get_or_insert_with(endless);
    look
}

fn endless() -> io::Error {
    io::Error::other("the processes change faster than they can be looked at")
}

/// Who was a child of `parent` a moment ago; of that one, and not of a later process of its pid.
fn children(parent: &Process) -> io::Result<Vec<i32>> {
    let pids = child_pids(parent.pid)?;
    let same = identify(parent.pid)?.is_some_and(|now| now.is(parent));
    Ok(if same { pids } else { Vec::new() })
}

/// /proc/PID/task/TID/children lists per thread; every thread has children of its own.
fn child_pids(parent: i32) -> io::Result<Vec<i32>> {
    let Some(tasks) = unless_gone(fs::read_dir(format!("/proc/{parent}/task")))? else { return Ok(Vec::new()) };
    let mut pids = Vec::new();
    for task in tasks {
        let Some(task) = unless_gone(task)? else { continue };
        match unless_gone(read(task.path().join("children")))? {
            Some(list) => pids.extend(String::from_utf8_lossy(&list).split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok())),
            // Kernels without CONFIG_PROC_CHILDREN have no such file; a thread that just ended has none either.
            None if !task.path().try_exists()? => {}
            None => return children_by_sweep(parent),
        }
    }
    Ok(pids)
}

fn children_by_sweep(parent: i32) -> io::Result<Vec<i32>> {
    let everyone = ProcessScan::of(everyone()).whole()?;
    Ok(everyone.into_iter().filter(|process| process.parent == parent).map(|process| process.pid).collect())
}

/// The members of the session that `leader` made, or had made. A look at every process there is: for
/// the rare case that whoever kept them is gone.
pub fn posix_session(leader: i32) -> ProcessScan {
    // SAFETY: an integer only. Unlike /proc it tells of everyone, hidden or not.
    let pids = everyone().map(|pids| pids.into_iter().filter(|pid| unsafe { libc::getsid(*pid) } == leader).collect());
    let mut look = ProcessScan::of(pids);
    look.seen.retain(|process| process.session == leader && !process.zombie);
    look
}

fn everyone() -> io::Result<Vec<i32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        pids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    Ok(pids)
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
/// Where it can't be found out whether it is the same one.
pub fn open(process: &Process) -> io::Result<Option<Handle>> {
    let fd = match unless_gone(pidfd(process.pid)) {
        Ok(None) => return Ok(None),
        Ok(fd) => fd,
        // ENOSYS, a seccomp filter, no descriptor left: a process that must be ended is, without one.
        Err(_) => None,
    };
    // Looked at after the open: if it is the same process now, the descriptor can mean no other.
    let same = identify(process.pid)?.is_some_and(|now| now.is(process));
    Ok(same.then_some(Handle { pid: process.pid, fd }))
}

impl Handle {
    /// # Errors
    /// EPERM where the process belongs to someone else. One that is gone is no error.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let Some(fd) = &self.fd else {
            // SAFETY: integers only. The pid was verified a moment ago, which is all that such a kernel offers.
            let sent = unsafe { libc::kill(self.pid, signal) };
            return unless_gone(if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }).map(|_| ());
        };
        send(fd, signal, 0)
    }
}

/// The group of a process that is still there, by something that means no later group of its number.
#[derive(Debug)]
pub struct Group(OwnedFd);

impl Group {
    /// `leader` must not have been reaped yet.
    ///
    /// # Errors
    /// ENOSYS before Linux 5.3; EMFILE.
    pub fn of(leader: i32) -> io::Result<Self> {
        pidfd(leader).map(Self)
    }

    /// Signals all of it at once: no fork can slip through.
    ///
    /// # Errors
    /// EINVAL before Linux 6.9. An empty group is no error.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        /// `PIDFD_SIGNAL_PROCESS_GROUP` of linux/pidfd.h.
        const PROCESS_GROUP: u32 = 4;
        send(&self.0, signal, PROCESS_GROUP)
    }
}

fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let raw = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel just handed out this descriptor, close-on-exec, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn send(pidfd: &OwnedFd, signal: i32, flags: u32) -> io::Result<()> {
    // SAFETY: integers and a null siginfo, which the call allows.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), flags) };
    unless_gone(if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }).map(|_| ())
}

/// Signals exactly this process, or nobody.
///
/// # Errors
/// EPERM, and those of [`open`].
pub fn signal(process: &Process, signal: i32) -> io::Result<()> {
    open(process)?.map_or(Ok(()), |handle| handle.signal(signal))
}
