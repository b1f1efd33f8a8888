//! What a process has open (libproc).

use std::mem;

/// Of one process; more than the limit that launchd gives.
const DESCRIPTORS_MAX: usize = 64 * 1024;
/// `PROC_PIDFDVNODEINFO` of sys/proc_info.h.
const VNODE_INFO: libc::c_int = 1;

/// Its descriptors of this kind (`PROX_FDTYPE_…`).
pub fn descriptors(pid: i32, kind: libc::c_int) -> Vec<i32> {
    let list = |buffer: *mut libc::c_void, size: usize| {
        let size = libc::c_int::try_from(size).unwrap_or(libc::c_int::MAX);
        // SAFETY: the buffer, if there is one, is as long as said.
        let written = unsafe { libc::proc_pidinfo(pid, libc::PROC_PIDLISTFDS, 0, buffer, size) };
        usize::try_from(written).unwrap_or(0) / mem::size_of::<libc::proc_fdinfo>()
    };
    // Without a buffer the kernel says how many there may be.
    let room = list(std::ptr::null_mut(), 0).min(DESCRIPTORS_MAX);
    let mut found: Vec<libc::proc_fdinfo> = Vec::with_capacity(room);
    let count = list(found.as_mut_ptr().cast(), room * mem::size_of::<libc::proc_fdinfo>());
    // SAFETY: the kernel filled so many, and no more than there is room for.
    unsafe { found.set_len(count.min(room)) };
    found.iter().filter(|entry| i64::from(entry.proc_fdtype) == i64::from(kind)).map(|entry| entry.proc_fd).collect()
}

/// What the kernel tells of one of them, whole or not at all.
pub fn query<T>(pid: i32, descriptor: i32, flavor: libc::c_int) -> Option<T> {
    let size = libc::c_int::try_from(mem::size_of::<T>()).ok()?;
    let mut info = mem::MaybeUninit::<T>::zeroed();
    // SAFETY: the buffer is as long as said.
    let written = unsafe { libc::proc_pidfdinfo(pid, descriptor, flavor, info.as_mut_ptr().cast(), size) };
    // SAFETY: zeroed, then filled by the kernel; what is asked for here is plain bits throughout.
    (written == size).then(|| unsafe { info.assume_init() })
}

/// `struct vnode_fdinfo`: `struct proc_fileinfo`, then what stat(2) would tell.
#[repr(C)]
struct VnodeInfo {
    file: [u32; 6],
    vnode: libc::vnode_info,
}

/// Device and inode of the file that it is open on.
pub fn file_behind(pid: i32, descriptor: i32) -> Option<(u64, u64)> {
    let info: VnodeInfo = query(pid, descriptor, VNODE_INFO)?;
    Some((info.vnode.vi_stat.vst_dev.into(), info.vnode.vi_stat.vst_ino))
}
