//! Scans of /proc for the descendants of a process and for the members of a POSIX session.
//!
//! If a process loses its parent, the nearest subreaper becomes its parent (prctl(2), `PR_SET_CHILD_SUBREAPER`). So the
//! descendants of a keeper are exactly its daemon's tree.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use super::identity::{began_with, identify, read, unless_gone};
use crate::os::{Process, ProcessScan};

/// Whether the keeper becomes the parent of every descendant that loses its parent.
pub const HAS_SUBREAPER: bool = true;

/// If processes fork and end faster than a scan reads them, the scan has no end. A scan is given up after this many processes
/// that ended during the scan, and this time. A zombie from before the scan does not count: a daemon that reaps no child may
/// have thousands of them in front of a living process.
const ENDED_MAX: u32 = 100;
const SCAN_DURATION_MAX: Duration = Duration::from_millis(50);
/// proc_sys_kernel(5).
const PID_MAX_LIMIT: i32 = 1 << 22;

/// The tree of the subreaper `root`. `on_found` is called for each process as soon as the scan finds the process. The other
/// parameters are for systems without subreapers.
pub fn members(root: i32, _session: &mut Option<i32>, _seen: &[Process], on_found: &mut dyn FnMut(&Process)) -> ProcessScan {
    scan_descendants(root, on_found)
}

/// All descendants of `root` without zombies, parents before children.
///
/// A process that is forked during the scan may be missed, but not its parent. If a subreaper scans its own descendants, an
/// empty result is a proof: a process that loses its parent during the scan becomes a child of `root`, and the scan reads the
/// children of `root` until no new child appears. For a scan from another process an empty result is no proof: while a child
/// is reaped, the list in /proc may lack another child of the same parent.
pub fn descendants(root: i32) -> ProcessScan {
    scan_descendants(root, &mut |_| {})
}

fn scan_descendants(root: i32, on_found: &mut dyn FnMut(&Process)) -> ProcessScan {
    let deadline = Instant::now() + SCAN_DURATION_MAX;
    let mut scan = ProcessScan::default();
    let Some(root) = scan.keep_error(identify(root)) else { return scan };
    let mut known = HashSet::new();
    let mut ended = 0;
    // A zombie in a later round was forked during the scan, or lost its parent during the scan.
    let mut first_round = true;
    loop {
        // Also set for a new pid that is gone at `identify`: the children of the ended process may now be children of `root`.
        let mut found_new = false;
        let mut parents = vec![root];
        while let Some(parent) = parents.pop() {
            for pid in scan.keep_error(children(&parent)) {
                if known.contains(&pid) {
                    continue;
                }
                found_new = true;
                if ended > ENDED_MAX && Instant::now() > deadline {
                    scan.failed.get_or_insert_with(too_many_changes);
                    return scan;
                }
                match identify(pid) {
                    Ok(Some(process)) if process.parent == parent.pid => {
                        known.insert(pid);
                        parents.push(process);
                        if process.zombie {
                            ended += u32::from(!first_round);
                        } else {
                            on_found(&process);
                            scan.seen.push(process);
                        }
                    }
                    // The process is gone, or its parent is gone. In the second case the next round lists the process as a child
                    // of `root`.
                    Ok(_) => ended += 1,
                    Err(error) => {
                        known.insert(pid);
                        scan.failed.get_or_insert(error);
                    }
                }
            }
        }
        if !found_new {
            return scan;
        }
        first_round = false;
    }
}

/// The children of this process, including zombies, without those in `known`.
///
/// The list is read until no new child appears: if a child ends during the scan, its own children become children of this
/// process.
pub fn own_children(known: &HashSet<i32>) -> ProcessScan {
    let mut scan = ProcessScan::default();
    let own = scan.keep_error(i32::try_from(std::process::id()).map_err(io::Error::other).and_then(identify));
    let Some(own) = own else { return scan };
    let mut listed = HashSet::new();
    for _ in 0..ENDED_MAX {
        let mut new = scan.keep_error(children(&own));
        new.retain(|pid| !known.contains(pid) && listed.insert(*pid));
        if new.is_empty() {
            return scan;
        }
        let found = scan.processes_of(ProcessScan::of(Ok(new)));
        scan.seen.extend(found.into_iter().filter(|process| process.parent == own.pid));
    }
    scan.failed.get_or_insert_with(too_many_changes);
    scan
}

fn too_many_changes() -> io::Error {
    io::Error::other("the processes change faster than they can be looked at")
}

/// The children of `parent`. Empty if another process now has its pid.
fn children(parent: &Process) -> io::Result<Vec<i32>> {
    let pids = child_pids(parent.pid)?;
    let same = identify(parent.pid)?.is_some_and(|now| now.is(parent));
    Ok(if same { pids } else { Vec::new() })
}

/// The kernel lists children per thread: /proc/PID/task/TID/children.
pub fn child_pids(parent: i32) -> io::Result<Vec<i32>> {
    let Some(tasks) = unless_gone(fs::read_dir(format!("/proc/{parent}/task")))? else { return Ok(Vec::new()) };
    let mut pids = Vec::new();
    for task in tasks {
        let Some(task) = unless_gone(task)? else { continue };
        match unless_gone(read(task.path().join("children")))? {
            Some(list) => pids.extend(String::from_utf8_lossy(&list).split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok())),
            // The file is missing if the thread has ended, or if the kernel has no CONFIG_PROC_CHILDREN.
            None if !task.path().try_exists()? => {}
            None => return child_pids_by_full_scan(parent),
        }
    }
    Ok(pids)
}

fn child_pids_by_full_scan(parent: i32) -> io::Result<Vec<i32>> {
    let processes = ProcessScan::of(all_pids()).whole()?;
    Ok(processes.into_iter().filter(|process| process.parent == parent).map(|process| process.pid).collect())
}

/// The members of the POSIX session `number`, without zombies. The scan reads all processes: use it only if the keeper is gone.
pub fn posix_session(number: i32) -> ProcessScan {
    // SAFETY: an integer only. getsid(2) also answers for a process that /proc hides; `ProcessScan::of` then keeps an error.
    let pids = all_pids().map(|pids| pids.into_iter().filter(|pid| unsafe { libc::getsid(*pid) } == number).collect());
    let mut scan = ProcessScan::of(pids);
    scan.seen.retain(|process| process.session == number && !process.zombie);
    scan
}

/// Whether the process group `number` has a member that /proc does not show (mount option `hidepid`), and no living one that it
/// shows.
///
/// # Errors
/// A file of /proc can't be read.
pub fn hides_group(number: i32) -> io::Result<bool> {
    // SAFETY: integers only; signal 0 sends nothing. EPERM: there are members, all of other users.
    let exists = || number > 1 && unsafe { libc::kill(-number, 0) == 0 || *libc::__errno_location() == libc::EPERM };
    if !exists() {
        return Ok(false);
    }
    // SAFETY: an integer only.
    let is_member = |pid: &i32| unsafe { libc::getpgid(*pid) } == number;
    let mut shown = all_pids()?;
    shown.retain(is_member);
    match ProcessScan::of(Ok(shown.clone())).whole() {
        Ok(seen) if seen.iter().all(|process| process.zombie) => {}
        Ok(_) => return Ok(false),
        // Another user's process, which `hidepid=1` shows by its pid alone.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(false),
        Err(error) => return Err(error),
    }
    if shown.is_empty() {
        // The last member, perhaps a zombie, may have been reaped before the list was read.
        return Ok(exists());
    }
    if !may_hide()? {
        return Ok(false);
    }
    // A zombie that its parent does not reap keeps the group, so `exists` says nothing. getpgid(2) knows hidden processes too.
    Ok((1..=pid_max()).any(|pid| is_member(&pid) && !shown.contains(&pid)))
}

/// Whether /proc is mounted with `hidepid`: proc_pid_mountinfo(5).
fn may_hide() -> io::Result<bool> {
    let mounts = fs::read("/proc/self/mountinfo")?;
    let mounts = String::from_utf8_lossy(&mounts);
    // Of several mounts at one place any may be the one that is seen.
    let mut of_proc = mounts.lines().filter(|mount| mount.split(' ').nth(4) == Some("/proc")).peekable();
    Ok(of_proc.peek().is_none() || of_proc.any(|mount| mount.contains("hidepid=")))
}

/// Every pid is lower, unless root has lowered the limit since. With the mount option `subset=pid` there is no such file, and the
/// kernel's own limit counts.
fn pid_max() -> i32 {
    let text = fs::read_to_string("/proc/sys/kernel/pid_max");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(PID_MAX_LIMIT)
}

/// The processes that began with this variable of this value, as far as this user may read environments. The scan reads all
/// processes.
pub fn all_that_began_with(variable: &str, value: &str) -> ProcessScan {
    let mut scan = ProcessScan::default();
    let mut pids = scan.keep_error(all_pids());
    pids.retain(|pid| scan.keep_error(began_with(*pid, variable, value)));
    let found = scan.processes_of(ProcessScan::of(Ok(pids)));
    scan.seen.extend(found.into_iter().filter(|process| !process.zombie));
    scan
}

pub fn all_pids() -> io::Result<Vec<i32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        pids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    Ok(pids)
}
