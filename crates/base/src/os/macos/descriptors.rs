//! The open descriptors of a process, by libproc.

use std::io;
use std::mem;

/// The maximum per process: more than launchd's limit.
const DESCRIPTORS_MAX: usize = 64 * 1024;
/// `PROC_PIDFDVNODEINFO` of sys/proc_info.h.
const VNODE_INFO: libc::c_int = 1;

/// The number of descriptors.
///
/// # Errors
/// EPERM for a process of another user; ESRCH if the process is gone.
pub fn count(pid: i32) -> io::Result<u32> {
    list(pid).map(|found| u32::try_from(found.len()).unwrap_or(u32::MAX))
}

fn list(pid: i32) -> io::Result<Vec<libc::proc_fdinfo>> {
    let list = |buffer: *mut libc::c_void, size: usize| {
        let size = libc::c_int::try_from(size).unwrap_or(libc::c_int::MAX);
        // SAFETY: the buffer is null with the size 0, or has `size` bytes.
        let written = unsafe { libc::proc_pidinfo(pid, libc::PROC_PIDLISTFDS, 0, buffer, size) };
        if written <= 0 { Err(io::Error::last_os_error()) } else { Ok(written as usize / mem::size_of::<libc::proc_fdinfo>()) }
    };
    // Without a buffer proc_pidinfo returns an upper limit of the size.
    let room = list(std::ptr::null_mut(), 0)?.min(DESCRIPTORS_MAX);
    let mut found: Vec<libc::proc_fdinfo> = Vec::with_capacity(room);
    let count = list(found.as_mut_ptr().cast(), room * mem::size_of::<libc::proc_fdinfo>())?;
    // SAFETY: the kernel has filled `count` entries; `room` is the capacity.
    unsafe { found.set_len(count.min(room)) };
    Ok(found)
}

/// The descriptors of this kind (`PROX_FDTYPE_…`).
pub fn descriptors(pid: i32, kind: libc::c_int) -> Vec<i32> {
    let found = list(pid).unwrap_or_default();
    found.iter().filter(|entry| i64::from(entry.proc_fdtype) == i64::from(kind)).map(|entry| entry.proc_fd).collect()
}

/// The information that proc_pidfdinfo returns for a descriptor. `None` unless the structure is complete.
pub fn query<T>(pid: i32, descriptor: i32, flavor: libc::c_int) -> Option<T> {
    let size = libc::c_int::try_from(mem::size_of::<T>()).ok()?;
    let mut info = mem::MaybeUninit::<T>::zeroed();
    // SAFETY: the buffer has `size` bytes.
    let written = unsafe { libc::proc_pidfdinfo(pid, descriptor, flavor, info.as_mut_ptr().cast(), size) };
    // SAFETY: the structure was zeroed and then filled by the kernel; each `T` of this module's callers consists of integers.
    (written == size).then(|| unsafe { info.assume_init() })
}

/// `struct vnode_fdinfo`: `struct proc_fileinfo`, then `struct vnode_info`.
#[repr(C)]
struct VnodeInfo {
    file: [u32; 6],
    vnode: libc::vnode_info,
}

/// Device and inode of the file that the descriptor refers to.
pub fn file_behind(pid: i32, descriptor: i32) -> Option<(u64, u64)> {
    let info: VnodeInfo = query(pid, descriptor, VNODE_INFO)?;
    Some((info.vnode.vi_stat.vst_dev.into(), info.vnode.vi_stat.vst_ino))
}
