//! The resources of a process and of a tree, by libproc.

use std::io;
use std::mem;
use std::time::Duration;

use once_cell::sync::Lazy;

use super::descriptors::count;
use super::identity::{identify, query};
use super::tree::members;
use crate::os::{ProcessUsage, TreeUsage};

/// The tree of a keeper. `None` if the keeper is gone, or if another process has its pid.
///
/// # Errors
/// Errors of libproc.
pub fn tree_usage(keeper: i32, keeper_start: u64) -> io::Result<Option<TreeUsage>> {
    if identify(keeper)?.is_none_or(|root| root.start != keeper_start) {
        return Ok(None);
    }
    let Some(root) = unless_gone(rusage(keeper))? else { return Ok(None) };
    let mut tree = TreeUsage { processes: Vec::new(), cpu: cpu(root.ri_child_user_time, root.ri_child_system_time) };
    // The keeper is no subreaper here: what launchd reaps is in nobody's sum.
    for process in members(keeper, &mut Some(keeper), &[], &mut |_| {}).whole()? {
        let Some(usage) = unless_gone(rusage(process.pid))? else { continue };
        let Some(task) = unless_gone(query::<libc::proc_taskinfo>(process.pid, libc::PROC_PIDTASKINFO))? else { continue };
        tree.cpu += cpu(usage.ri_user_time, usage.ri_system_time) + cpu(usage.ri_child_user_time, usage.ri_child_system_time);
        let threads = u32::try_from(task.pti_threadnum).unwrap_or_default();
        tree.processes.push(ProcessUsage { pid: process.pid, threads, resident: usage.ri_resident_size });
    }
    Ok(Some(tree))
}

/// Always fails: libproc does not tell how many processes share a page. The resident size counts instead.
///
/// # Errors
/// `Unsupported`.
pub fn shared_memory_size(_pid: i32) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The number of open descriptors, and [`reserved_files`] with it.
///
/// # Errors
/// EPERM for a process of another user; ESRCH if the process is gone.
pub fn open_files(pid: i32) -> io::Result<(u32, u64)> {
    Ok((count(pid)?, 0))
}

/// Always 0: libproc does not tell.
///
/// # Errors
/// Never. Linux has errors.
pub const fn reserved_files(_pid: i32) -> io::Result<u64> {
    Ok(0)
}

fn rusage(pid: i32) -> io::Result<libc::rusage_info_v2> {
    let mut usage = mem::MaybeUninit::<libc::rusage_info_v2>::zeroed();
    // SAFETY: the buffer is the structure of this flavor, although the parameter is declared as a pointer to a pointer.
    let result = unsafe { libc::proc_pid_rusage(pid, libc::RUSAGE_INFO_V2, usage.as_mut_ptr().cast()) };
    // SAFETY: the structure was zeroed and then filled by the kernel, and consists of integers.
    if result == 0 { Ok(unsafe { usage.assume_init() }) } else { Err(io::Error::last_os_error()) }
}

fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The kernel counts in units of mach_absolute_time.
fn cpu(user: u64, system: u64) -> Duration {
    let (numerator, denominator) = *TIMEBASE;
    Duration::from_nanos((u128::from(user.saturating_add(system)) * numerator / denominator) as u64)
}

static TIMEBASE: Lazy<(u128, u128)> = Lazy::new(timebase);

#[expect(deprecated, reason = "libc points to the crate mach2, of which only this function would be used")]
fn timebase() -> (u128, u128) {
    let mut info = libc::mach_timebase_info { numer: 0, denom: 0 };
    // SAFETY: the structure outlives the call.
    let result = unsafe { libc::mach_timebase_info(&raw mut info) };
    if result == 0 && info.denom > 0 { (info.numer.into(), info.denom.into()) } else { (1, 1) }
}
