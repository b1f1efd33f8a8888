//! Scans of libproc for the descendants of a process and for the members of a POSIX session.
//!
//! macOS has no subreapers: if a process loses its parent, launchd becomes its parent. A scan finds such a process by its POSIX
//! session, or because an earlier scan has seen the process.

use std::collections::HashSet;
use std::io;
use std::mem;

use nix::errno::Errno;

use super::identity::identify;
use crate::os::{Process, ProcessScan};

/// Whether the keeper becomes the parent of every descendant that loses its parent.
pub const HAS_SUBREAPER: bool = false;

/// False: libproc lists the processes of all users.
///
/// # Errors
/// Never. Linux has errors.
pub const fn hides_group(_: i32) -> io::Result<bool> {
    Ok(false)
}

/// More than `kern.maxproc` allows.
const PIDS_MAX: usize = 128 * 1024;

pub fn descendants(root: i32) -> ProcessScan {
    let mut scan = ProcessScan::default();
    let root = scan.keep_error(identify(root));
    scan.with_descendants(root.into_iter().collect())
}

/// The children of this process, without those in `known`.
pub fn own_children(known: &HashSet<i32>) -> ProcessScan {
    let mut scan = ProcessScan::default();
    let own = scan.keep_error(i32::try_from(std::process::id()).map_err(io::Error::other).and_then(identify));
    let Some(own) = own else { return scan };
    let mut children = children(&own);
    children.seen.retain(|child| !known.contains(&child.pid));
    children
}

/// The children of `root`, the POSIX session `session` without `root`, the processes of `seen` that are alive, and the
/// descendants of all these. `on_found` is called for each process.
///
/// If the POSIX session is empty and its first process is gone, `session` becomes `None`: the kernel may reuse the number.
pub fn members(root: i32, session: &mut Option<i32>, seen: &[Process], on_found: &mut dyn FnMut(&Process)) -> ProcessScan {
    let mut scan = ProcessScan::default();
    let root = scan.keep_error(identify(root));
    let mut roots: Vec<Process> = root.map(|root| scan.processes_of(children(&root))).unwrap_or_default();
    if let Some(number) = *session {
        let members = posix_session(number);
        // While a process is not reaped, the kernel does not reuse its pid.
        if members.is_certainly_empty() && identify(number).is_ok_and(|first| first.is_none()) {
            *session = None;
        }
        roots.extend(scan.processes_of(members));
    }
    // The keeper itself is the first process of the POSIX session.
    roots.retain(|process| root.is_none_or(|root| process.pid != root.pid));
    for process in seen {
        let now = scan.keep_error(identify(process.pid));
        roots.extend(now.filter(|now| now.start == process.start && !now.zombie));
    }
    for process in roots {
        if !scan.seen.iter().any(|other| other.pid == process.pid) {
            scan.seen.push(process);
        }
    }
    let roots = scan.seen.clone();
    let scan = scan.with_descendants(roots);
    scan.seen.iter().for_each(on_found);
    scan
}

impl ProcessScan {
    /// Adds the descendants of `parents`.
    fn with_descendants(mut self, mut parents: Vec<Process>) -> Self {
        while let Some(parent) = parents.pop() {
            for process in self.processes_of(children(&parent)) {
                if !self.seen.iter().any(|known| known.pid == process.pid) {
                    parents.push(process);
                    self.seen.push(process);
                }
            }
        }
        self
    }
}

/// The children of `parent` without zombies. Empty if another process now has its pid.
fn children(parent: &Process) -> ProcessScan {
    // SAFETY: the buffer has `size` bytes.
    let mut scan = living_processes(list_pids(|buffer, size| unsafe { libc::proc_listchildpids(parent.pid, buffer, size) }));
    scan.seen.retain(|process| process.parent == parent.pid);
    let now = scan.keep_error(identify(parent.pid));
    if now.is_none_or(|now| now.start != parent.start) {
        scan.seen.clear();
    }
    scan
}

/// Always empty: environments prove nothing here.
pub fn all_that_began_with(_variable: &str, _value: &str) -> ProcessScan {
    ProcessScan::default()
}

/// The members of the POSIX session `number`, without zombies.
pub fn posix_session(number: i32) -> ProcessScan {
    let mut scan = living_processes(all_pids());
    scan.seen.retain(|process| process.session == number);
    scan
}

pub fn all_pids() -> io::Result<Vec<i32>> {
    // SAFETY: the buffer has `size` bytes.
    list_pids(|buffer, size| unsafe { libc::proc_listallpids(buffer, size) })
}

fn list_pids(fill: impl Fn(*mut libc::c_void, libc::c_int) -> libc::c_int) -> io::Result<Vec<i32>> {
    let mut pids = vec![0_i32; PIDS_MAX];
    let size = libc::c_int::try_from(mem::size_of_val(pids.as_slice())).map_err(io::Error::other)?;
    // If the system call fails, libproc returns 0, so only errno tells a failure from an empty list.
    Errno::clear();
    let count = usize::try_from(fill(pids.as_mut_ptr().cast(), size)).unwrap_or(0);
    if count == 0 && Errno::last_raw() != 0 {
        return Err(io::Error::last_os_error());
    }
    if count >= pids.len() {
        return Err(io::Error::other("there are more processes than can be listed"));
    }
    pids.truncate(count);
    Ok(pids)
}

fn living_processes(pids: io::Result<Vec<i32>>) -> ProcessScan {
    let mut scan = ProcessScan::of(pids);
    scan.seen.retain(|process| !process.zombie);
    scan
}
