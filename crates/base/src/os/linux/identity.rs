//! The identity of a process: pid, start time and boot id. The start time is in clock ticks since the boot (field 22 of
//! /proc/PID/stat, proc_pid_stat(5)): a start time of the wall clock changes when the clock is set.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::SplitAsciiWhitespace;

use crate::os::{NO_BOOT_ID, Process};

/// The source of the boot id, for messages.
pub const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The id of this boot and of this pid namespace: a pid of another container names another process here. If /proc does not
/// show the id of the boot (mount option `subset=pid`), it is [`NO_BOOT_ID`].
pub fn boot_id() -> io::Result<String> {
    let boot = match read(BOOT_ID) {
        Ok(boot) => String::from_utf8(boot).map_err(io::Error::other)?,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES | libc::EPERM)) => {
            NO_BOOT_ID.to_owned()
        }
        Err(error) => return Err(error),
    };
    let namespace = namespace("pid")?.unwrap_or_default();
    Ok(format!("{} {namespace}", boot.trim()))
}

/// The network namespace of this process. A process can't ask for the sockets of another one.
pub fn network_namespace() -> io::Result<Option<String>> {
    namespace("net")
}

/// `None` if the kernel has no such namespaces.
fn namespace(kind: &str) -> io::Result<Option<String>> {
    Ok(unless_gone(fs::read_link(format!("/proc/self/ns/{kind}")))?.map(|link| link.display().to_string()))
}

/// `None` if there is no such process, or if [`identify`] fails.
pub fn look_up(pid: i32) -> Option<Process> {
    identify(pid).ok().flatten()
}

/// `None` if there is no such process.
///
/// # Errors
/// EMFILE or ENFILE. EACCES if /proc hides the process.
pub fn identify(pid: i32) -> io::Result<Option<Process>> {
    if pid <= 0 {
        return Ok(None);
    }
    let Some(stat) = unless_gone(read(format!("/proc/{pid}/stat")))? else {
        return if exists(pid) { Err(io::Error::from_raw_os_error(libc::EACCES)) } else { Ok(None) };
    };
    parse_stat(pid, &stat).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Reads a whole file of /proc. stat(2) reports the size 0 there, so the buffer starts at 1 KiB: most files then need few
/// system calls, and a scan reads many files.
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    const SIZE_MAX: u64 = 16 * 1024 * 1024;
    let mut bytes = Vec::with_capacity(1024);
    fs::File::open(path)?.take(SIZE_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether a process has this pid, also if /proc hides the process (mount option `hidepid`).
fn exists(pid: i32) -> bool {
    // SAFETY: integers only; signal 0 sends nothing.
    unsafe { libc::kill(pid, 0) == 0 || *libc::__errno_location() != libc::ESRCH }
}

/// `None` if the process or thread is gone: ENOENT of a file in /proc, ESRCH of a system call.
pub fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// `None` if the process is gone or a zombie.
pub fn start_time(pid: i32) -> Option<u64> {
    look_up(pid).filter(|process| !process.zombie).map(|process| process.start)
}

/// The supplementary groups of this process, by getgroups(2).
pub fn supplementary_groups() -> Vec<u32> {
    // SAFETY: with the size 0 the call returns the number of groups and writes nothing.
    let count = unsafe { libc::getgroups(0, std::ptr::null_mut()) };
    let mut groups = vec![0; usize::try_from(count).unwrap_or_default()];
    // SAFETY: the buffer has room for `count` groups.
    let count = if count > 0 { unsafe { libc::getgroups(count, groups.as_mut_ptr()) } } else { 0 };
    groups.truncate(usize::try_from(count).unwrap_or_default());
    groups
}

/// Checks that /proc shows the pid namespace of this process. Otherwise a pid in /proc would name another process for kill(2).
///
/// # Errors
/// /proc is missing, or was mounted for another pid namespace.
pub fn must_be_visible() -> io::Result<()> {
    if fs::read_link("/proc/self")?.as_os_str() == std::process::id().to_string().as_str() {
        Ok(())
    } else {
        Err(io::Error::other("shows another pid namespace's processes; mount it anew in this one"))
    }
}

/// Whether the kernel writes the core dump of the process. The process then runs no code of its own any more, but its
/// descriptors and locks stay until the dump is complete.
pub fn is_dumping_core(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| status.lines().any(|line| line == "CoreDumping:\t1"))
}

/// Whether the end of the process is certain: the process is exiting, or SIGKILL is pending.
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

/// Whether the process got this variable with this value at execve(2). False if this user may not read the environment.
///
/// # Errors
/// EMFILE, ENFILE.
pub fn began_with(pid: i32, variable: &str, value: &str) -> io::Result<bool> {
    let wanted = format!("{variable}={value}");
    match unless_gone(read(format!("/proc/{pid}/environ"))) {
        Ok(env) => Ok(env.is_some_and(|env| env.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes()))),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        Err(error) => Err(error),
    }
}

/// The value that the variable had at execve(2), for display only: the process may have written over it. `None` if this user may not
/// read the environment.
pub fn initial_variable(pid: i32, variable: &str) -> Option<String> {
    let env = read(format!("/proc/{pid}/environ")).ok()?;
    let mut entries = env.split(|byte| *byte == 0).filter_map(|entry| std::str::from_utf8(entry).ok()?.split_once('='));
    entries.find_map(|(name, value)| (name == variable).then(|| value.to_owned()))
}

/// Whether this process can read what [`began_with`] reads.
///
/// # Errors
/// The errno of the refusal.
pub fn check_environment_is_readable() -> io::Result<()> {
    read(ENVIRONMENT).map(drop)
}

/// The file of [`check_environment_is_readable`], for messages.
pub const ENVIRONMENT: &str = "/proc/self/environ";

/// Whether the process has the name `name` (/proc/PID/comm, at most 15 bytes) and has `file` open.
pub fn holds(pid: i32, name: &str, file: &fs::File) -> bool {
    let Ok(wanted) = file.metadata() else { return false };
    let has_name = fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name);
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    has_name
        && descriptors
            .filter_map(|entry| fs::metadata(entry.path()).ok())
            .any(|open| (open.dev(), open.ino()) == (wanted.dev(), wanted.ino()))
}

pub fn working_directory(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// Whether no thread of the process runs code of the process: each was stopped by a signal or a tracer, or has ended.
///
/// # Errors
/// EMFILE or ENFILE. EACCES if /proc hides the process.
pub fn is_stopped(pid: i32) -> io::Result<bool> {
    let Some(threads) = unless_gone(fs::read_dir(format!("/proc/{pid}/task")))? else {
        return if exists(pid) { Err(io::Error::from_raw_os_error(libc::EACCES)) } else { Ok(true) };
    };
    for thread in threads {
        let Some(stat) = unless_gone(thread.and_then(|thread| read(thread.path().join("stat"))))? else { continue };
        if !after_name(&stat).and_then(|mut fields| fields.next()).is_some_and(|state| matches!(state, "T" | "t" | "Z" | "X" | "x")) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The fields from the third on. The second field is the name in parentheses, which may contain parentheses and blanks: the
/// third field begins after the last ')'.
pub fn after_name(stat: &[u8]) -> Option<SplitAsciiWhitespace<'_>> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    Some(std::str::from_utf8(stat.get(end + 1..)?).ok()?.split_ascii_whitespace())
}

pub fn parse_stat(pid: i32, stat: &[u8]) -> Option<Process> {
    let mut fields = after_name(stat)?;
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    // Fields 3 to 6 are read: state, ppid, pgrp, session. The number of threads is field 20, the start time field 22.
    let threads: i64 = fields.nth(13)?.parse().ok()?;
    let start = fields.nth(1)?.parse().ok()?;
    // If the first thread has ended and other threads run, the state is Z although the process is alive.
    let zombie = matches!(state, "Z" | "X" | "x") && threads <= 1;
    Some(Process { pid, parent, group, session, start, zombie })
}
