//! Who a process is: pid, start time in microseconds (`proc_bsdinfo` of libproc, fixed when the process
//! is made), and the session id of the boot.

use std::ffi::{CStr, OsStr};
use std::io;
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;

use crate::os::Process;

/// `SZOMB` of sys/proc.h.
const ZOMBIE: u32 = 5;

pub fn boot_id() -> io::Result<String> {
    let mut buffer = [0_u8; 64];
    let mut length = buffer.len();
    // SAFETY: the name is NUL-terminated, and the buffer is as long as said.
    let result =
        unsafe { libc::sysctlbyname(c"kern.bootsessionuuid".as_ptr(), buffer.as_mut_ptr().cast(), &raw mut length, ptr::null_mut(), 0) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let text = CStr::from_bytes_until_nul(&buffer).map_err(io::Error::other)?;
    Ok(text.to_string_lossy().into_owned())
}

/// `None` if there is no such process; libproc doesn't tell that from other failures.
pub fn identify(pid: i32) -> io::Result<Option<Process>> {
    Ok(look_up(pid))
}

pub fn look_up(pid: i32) -> Option<Process> {
    if pid <= 0 {
        return None;
    }
    let info: libc::proc_bsdinfo = query(pid, libc::PROC_PIDTBSDINFO)?;
    Some(Process {
        pid,
        parent: i32::try_from(info.pbi_ppid).ok()?,
        group: i32::try_from(info.pbi_pgid).ok()?,
        // SAFETY: an integer only.
        session: unsafe { libc::getsid(pid) },
        start: info.pbi_start_tvsec * 1_000_000 + info.pbi_start_tvusec,
        zombie: info.pbi_status == ZOMBIE,
    })
}

pub fn start_time(pid: i32) -> Option<u64> {
    look_up(pid).filter(|process| !process.zombie).map(|process| process.start)
}

/// macOS shows a process's environment to its own user only through a sysctl without a fixed form; so
/// nothing is proven by it there.
pub fn began_with(_pid: i32, _variable: &str, _value: &str) -> bool {
    false
}

/// Whether this process runs our guardian. What it has open is not looked at here.
pub fn holds(pid: i32, _name: &str, _file: &std::fs::File) -> bool {
    let mut path = [0_u8; libc::PROC_PIDPATHINFO_MAXSIZE as usize];
    // SAFETY: the buffer is as long as said.
    let length = unsafe { libc::proc_pidpath(pid, path.as_mut_ptr().cast(), libc::PROC_PIDPATHINFO_MAXSIZE as u32) };
    let path = usize::try_from(length).ok().and_then(|length| path.get(..length));
    path.is_some_and(|path| path.ends_with(b"/ally-guardian"))
}

pub fn working_directory(pid: i32) -> Option<PathBuf> {
    let info: libc::proc_vnodepathinfo = query(pid, libc::PROC_PIDVNODEPATHINFO)?;
    let path = info.pvi_cdir.vip_path;
    // SAFETY: MAXPATHLEN bytes, declared as an array of arrays because of an old limit of the compiler's.
    let bytes = unsafe { std::slice::from_raw_parts(path.as_ptr().cast::<u8>(), mem::size_of_val(&path)) };
    let text = CStr::from_bytes_until_nul(bytes).ok()?;
    Some(PathBuf::from(OsStr::from_bytes(text.to_bytes())))
}

fn query<T>(pid: i32, flavor: libc::c_int) -> Option<T> {
    let size = libc::c_int::try_from(mem::size_of::<T>()).ok()?;
    let mut info = mem::MaybeUninit::<T>::zeroed();
    // SAFETY: the buffer is as long as said.
    let written = unsafe { libc::proc_pidinfo(pid, flavor, 0, info.as_mut_ptr().cast(), size) };
    // SAFETY: the kernel filled it whole, and both structures are plain numbers.
    (written == size).then(|| unsafe { info.assume_init() })
}
