//! Who a process is: pid, start time in clock ticks since the boot (field 22 of /proc/PID/stat,
//! proc_pid_stat(5)), and the boot's own id. Wall-clock start times drift, so none is used.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::SplitAsciiWhitespace;

use crate::os::Process;

/// Where the boot's id is to be had.
pub const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Differs after every boot of the machine, and between its pid namespaces: a pid of another container
/// means nothing here.
pub fn boot_id() -> io::Result<String> {
    let boot = String::from_utf8(read(BOOT_ID)?).map_err(io::Error::other)?;
    let namespace = match fs::read_link("/proc/self/ns/pid") {
        // A kernel without namespaces.
        Err(error) if error.kind() == io::ErrorKind::NotFound => PathBuf::new(),
        other => other?,
    };
    Ok(format!("{} {}", boot.trim(), namespace.display()))
}

/// `None` if there is no such process, or nobody may know.
pub fn look_up(pid: i32) -> Option<Process> {
    identify(pid).ok().flatten()
}

/// `None` if there is no such process.
///
/// # Errors
/// Where it can't be found out: EMFILE, ENFILE, EACCES.
pub fn identify(pid: i32) -> io::Result<Option<Process>> {
    if pid <= 0 {
        return Ok(None);
    }
    let Some(stat) = unless_gone(read(format!("/proc/{pid}/stat")))? else {
        return if exists(pid) { Err(io::Error::from_raw_os_error(libc::EACCES)) } else { Ok(None) };
    };
    parse_stat(pid, &stat).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A whole file of /proc, which has no size to go by. Few system calls: walks are made of these.
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    const MOST: u64 = 16 * 1024 * 1024;
    let mut bytes = Vec::with_capacity(1024);
    fs::File::open(path)?.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether anyone has this pid, also where /proc hides it (its mount option hidepid, from a process that may not be traced).
fn exists(pid: i32) -> bool {
    // SAFETY: integers only; signal 0 is none.
    unsafe { libc::kill(pid, 0) == 0 || *libc::__errno_location() != libc::ESRCH }
}

/// What /proc tells of a process, or of a thread: nothing once that is gone.
pub fn unless_gone<T>(told: io::Result<T>) -> io::Result<Option<T>> {
    match told {
        Ok(told) => Ok(Some(told)),
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Of a process that is alive; a zombie has none.
pub fn start_time(pid: i32) -> Option<u64> {
    look_up(pid).filter(|process| !process.zombie).map(|process| process.start)
}

/// The groups that this process is in besides its own.
pub fn supplementary_groups() -> Vec<u32> {
    // SAFETY: asks for the number alone, and writes nothing.
    let count = unsafe { libc::getgroups(0, std::ptr::null_mut()) };
    let mut groups = vec![0; usize::try_from(count).unwrap_or_default()];
    // SAFETY: there is room for so many.
    let count = if count > 0 { unsafe { libc::getgroups(count, groups.as_mut_ptr()) } } else { 0 };
    groups.truncate(usize::try_from(count).unwrap_or_default());
    groups
}

/// Whether what we learn of processes is about those that we see and signal.
///
/// # Errors
/// Where /proc is missing, or was mounted for another pid namespace: its numbers mean others there.
pub fn must_be_visible() -> io::Result<()> {
    if fs::read_link("/proc/self")?.as_os_str() == std::process::id().to_string().as_str() {
        Ok(())
    } else {
        Err(io::Error::other("shows another pid namespace's processes; mount it anew in this one"))
    }
}

/// Whether it is past saving: it ends, or SIGKILL is on its way to it.
pub fn is_ending(pid: i32) -> bool {
    /// `PF_EXITING` of linux/sched.h, in field 9 of /proc/PID/stat.
    const EXITING: u64 = 4;
    let Ok(stat) = read(format!("/proc/{pid}/stat")) else { return false };
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    let flags = after_name(&stat).and_then(|mut fields| fields.nth(6)?.parse::<u64>().ok()).unwrap_or_default();
    let pending = status.lines().filter_map(|line| line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:")));
    let killed = pending.filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok()).any(|mask| mask & (1 << (libc::SIGKILL - 1)) != 0);
    flags & EXITING != 0 || killed
}

/// Whether this variable was in the environment that the process began with. False where nobody may know.
///
/// # Errors
/// Where it can't be found out: EMFILE, ENFILE.
pub fn began_with(pid: i32, variable: &str, value: &str) -> io::Result<bool> {
    let wanted = format!("{variable}={value}");
    match unless_gone(read(format!("/proc/{pid}/environ"))) {
        Ok(env) => Ok(env.is_some_and(|env| env.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes()))),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether this process is called `name` (the kernel's word for it, of at most 15 bytes) and has `file` open.
pub fn holds(pid: i32, name: &str, file: &fs::File) -> bool {
    let Ok(wanted) = file.metadata() else { return false };
    let called = fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name);
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    called
        && descriptors
            .filter_map(|entry| fs::metadata(entry.path()).ok())
            .any(|open| (open.dev(), open.ino()) == (wanted.dev(), wanted.ino()))
}

pub fn working_directory(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// The fields from the third on. The name in the second may hold anything, parentheses and blanks too: what counts begins
/// after the last ')'.
fn after_name(stat: &[u8]) -> Option<SplitAsciiWhitespace<'_>> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    Some(std::str::from_utf8(stat.get(end + 1..)?).ok()?.split_ascii_whitespace())
}

pub fn parse_stat(pid: i32, stat: &[u8]) -> Option<Process> {
    let mut fields = after_name(stat)?;
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    // state, ppid, pgrp and session were fields 3 to 6; the number of threads is field 20, the start time field 22.
    let threads: i64 = fields.nth(13)?.parse().ok()?;
    let start = fields.nth(1)?.parse().ok()?;
    // A process whose first thread has ended looks like a zombie for as long as its others go on.
    let zombie = matches!(state, "Z" | "X" | "x") && threads <= 1;
    Some(Process { pid, parent, group, session, start, zombie })
}
