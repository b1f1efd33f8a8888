//! The identity of a process: pid, serial number (`p_uniqueid`) and boot id. The start time of libproc is a time of the wall
//! clock, which can be set back, so it is not used.

use std::ffi::{CStr, OsStr};
use std::fs;
use std::io;
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::ptr;

use super::descriptors::{descriptors, file_behind};
use crate::os::Process;

/// `PROC_PIDT_SHORTBSDINFO` and `PROC_PIDUNIQIDENTIFIERINFO` of sys/proc_info.h. Unlike `PROC_PIDTBSDINFO` they also work for
/// processes of other users: a process of a tree can have changed its user.
const SHORT_INFO: libc::c_int = 13;
const UNIQUE_IDENTIFIER: libc::c_int = 17;

/// `struct proc_bsdshortinfo`.
#[repr(C)]
struct ShortInfo {
    pid: u32,
    parent: u32,
    group: u32,
    status: u32,
    command: [u8; 16],
    flags: u32,
    users: [u32; 6],
    reserved: u32,
}

/// `struct proc_uniqidentifierinfo`.
#[repr(C)]
struct UniqueIdentifier {
    program: [u8; 16],
    /// The serial number: larger for each later process, never reused, unchanged by exec.
    number: u64,
    parent: u64,
    versions: [i32; 2],
    reserved: [u64; 2],
}

const _: () = assert!(mem::size_of::<ShortInfo>() == 64 && mem::size_of::<UniqueIdentifier>() == 56);

/// `SZOMB` of sys/proc.h.
const ZOMBIE: u32 = 5;

/// The source of the boot id, for messages: the name of a sysctl.
pub const BOOT_ID: &str = "kern.bootsessionuuid";

pub fn boot_id() -> io::Result<String> {
    let mut buffer = [0_u8; 64];
    let mut length = buffer.len();
    // SAFETY: the name is NUL-terminated, and the buffer has `length` bytes.
    let result =
        unsafe { libc::sysctlbyname(c"kern.bootsessionuuid".as_ptr(), buffer.as_mut_ptr().cast(), &raw mut length, ptr::null_mut(), 0) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let text = CStr::from_bytes_until_nul(&buffer).map_err(io::Error::other)?;
    Ok(text.to_string_lossy().into_owned())
}

/// Always `None`: macOS has no network namespaces.
pub const fn network_namespace() -> io::Result<Option<String>> {
    Ok(None)
}

/// `None` if there is no such process, or if [`identify`] fails.
pub fn look_up(pid: i32) -> Option<Process> {
    identify(pid).ok().flatten()
}

/// `None` if there is no such process.
///
/// # Errors
/// Errors of proc_pidinfo other than ESRCH.
pub fn identify(pid: i32) -> io::Result<Option<Process>> {
    if pid <= 0 {
        return Ok(None);
    }
    match query::<ShortInfo>(pid, SHORT_INFO).and_then(|info| Ok((info, query::<UniqueIdentifier>(pid, UNIQUE_IDENTIFIER)?))) {
        Ok((info, unique)) => Ok(Some(Process {
            pid,
            parent: i32::try_from(info.parent).map_err(io::Error::other)?,
            group: i32::try_from(info.group).map_err(io::Error::other)?,
            // SAFETY: an integer only.
            session: unsafe { libc::getsid(pid) },
            start: unique.number,
            zombie: info.status == ZOMBIE,
        })),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The real user of a process. `None` if the process is gone.
pub fn real_user(pid: i32) -> io::Result<Option<u32>> {
    /// The order of the ids: effective user and group, real user and group, saved user and group.
    const REAL_USER: usize = 2;
    match query::<ShortInfo>(pid, SHORT_INFO) {
        Ok(info) => Ok(Some(info.users[REAL_USER])),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Empty: on macOS supplementary groups come from the directory service, not from the process.
pub const fn supplementary_groups() -> Vec<u32> {
    Vec::new()
}

/// Always `Ok`: macOS has no pid namespaces.
pub const fn must_be_visible() -> io::Result<()> {
    Ok(())
}

/// Always false: libproc does not tell.
pub const fn is_dumping_core(_pid: i32) -> bool {
    false
}

/// Whether the process is exiting.
pub fn is_ending(pid: i32) -> bool {
    /// `PROC_FLAG_INEXIT` of sys/proc_info.h.
    const EXITING: u32 = 4;
    query::<ShortInfo>(pid, SHORT_INFO).is_ok_and(|info| info.flags & EXITING != 0)
}

/// Whether the process was stopped by a signal, or has ended.
///
/// # Errors
/// Errors of proc_pidinfo other than ESRCH.
pub fn is_stopped(pid: i32) -> io::Result<bool> {
    /// `SSTOP` of sys/proc.h.
    const STOPPED: u32 = 4;
    match query::<ShortInfo>(pid, SHORT_INFO) {
        Ok(info) => Ok(info.status == STOPPED || info.status == ZOMBIE),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(true),
        Err(error) => Err(error),
    }
}

pub fn start_time(pid: i32) -> Option<u64> {
    look_up(pid).filter(|process| !process.zombie).map(|process| process.start)
}

/// Always false: on macOS the environment of a process is only available through the sysctl `kern.procargs2`, whose format is
/// not fixed, so it proves nothing.
pub fn began_with(_pid: i32, _variable: &str, _value: &str) -> io::Result<bool> {
    Ok(false)
}

/// Always `None`: as [`began_with`].
pub const fn initial_variable(_pid: i32, _variable: &str) -> Option<String> {
    None
}

/// Always `Ok`: the boot always has an id here, so no environment is needed.
pub const fn check_environment_is_readable() -> io::Result<()> {
    Ok(())
}

/// The file of [`check_environment_is_readable`], for messages.
pub const ENVIRONMENT: &str = "kern.procargs2";

/// Whether the process has the guardian's name and has `file` open. On macOS a keeper has the guardian's name.
pub fn holds(pid: i32, _name: &str, file: &fs::File) -> bool {
    let Ok(wanted) = file.metadata() else { return false };
    let has_name = query::<ShortInfo>(pid, SHORT_INFO).is_ok_and(|info| info.command.starts_with(b"ally-guardian"));
    has_name
        && descriptors(pid, libc::PROX_FDTYPE_VNODE)
            .into_iter()
            .filter_map(|descriptor| file_behind(pid, descriptor))
            .any(|(device, inode)| (device, inode) == (wanted.dev(), wanted.ino()))
}

pub fn working_directory(pid: i32) -> Option<PathBuf> {
    let info: libc::proc_vnodepathinfo = query(pid, libc::PROC_PIDVNODEPATHINFO).ok()?;
    let path = info.pvi_cdir.vip_path;
    // SAFETY: the field has MAXPATHLEN contiguous bytes; libc declares it as an array of arrays.
    let bytes = unsafe { std::slice::from_raw_parts(path.as_ptr().cast::<u8>(), mem::size_of_val(&path)) };
    let text = CStr::from_bytes_until_nul(bytes).ok()?;
    Some(PathBuf::from(OsStr::from_bytes(text.to_bytes())))
}

pub fn query<T>(pid: i32, flavor: libc::c_int) -> io::Result<T> {
    let size = libc::c_int::try_from(mem::size_of::<T>()).map_err(io::Error::other)?;
    let mut info = mem::MaybeUninit::<T>::zeroed();
    // SAFETY: the buffer has `size` bytes.
    let written = unsafe { libc::proc_pidinfo(pid, flavor, 0, info.as_mut_ptr().cast(), size) };
    if written == size {
        // SAFETY: the kernel has filled all bytes, and each `T` of this module consists of integers.
        return Ok(unsafe { info.assume_init() });
    }
    Err(if written <= 0 { io::Error::last_os_error() } else { io::ErrorKind::InvalidData.into() })
}
