//! What the kernel knows about Unix sockets, asked of libproc: every descriptor of a process, and what
//! socket it is (`struct socket_fdinfo` of sys/proc_info.h).
//!
//! A connection has its far end from connect(2) on. It waits in the listener's queue until somebody
//! accepts it; an empty queue means that everything was taken, ours too. Where the queue isn't empty, ours
//! was taken if a descriptor of the listening process is the far end of our own.

use std::ffi::CStr;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::socket::{UnixAddr, getpeername};

use super::peer::peer_pid;

/// `PROC_PIDFDSOCKETINFO` of sys/proc_info.h.
const SOCKET_INFO: libc::c_int = 3;
/// Of one process; more than the limit that launchd gives.
const DESCRIPTORS_MAX: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    Waiting,
    Accepted,
}

/// `struct socket_fdinfo`, of a Unix socket.
#[repr(C)]
struct SocketInfo {
    /// `struct proc_fileinfo`.
    file: [u32; 6],
    stat: libc::vinfo_stat,
    /// Names one socket among all, in no other sense an address.
    so: u64,
    pcb: u64,
    kind: i32,
    protocol: i32,
    family: i32,
    options: i16,
    linger: i16,
    state: i16,
    /// Connections that wait to be accepted.
    queue: i16,
    incomplete: i16,
    queue_limit: i16,
    timeout: i16,
    error: u16,
    out_of_band: u32,
    /// Two `struct sockbuf_info`.
    buffers: [u32; 12],
    details: i32,
    reserved: u32,
    /// `so` of the far end.
    far: u64,
    far_pcb: u64,
    address: [u8; 255],
    far_address: [u8; 255],
}

// As the kernel has it on x64 and on arm64: another layout must not compile.
const _: () = assert!(mem::size_of::<SocketInfo>() == 792 && mem::offset_of!(SocketInfo, queue) == 194);

impl SocketInfo {
    /// `None` for what is no Unix socket, or is closed by now.
    fn of(pid: i32, descriptor: i32) -> Option<Self> {
        let size = libc::c_int::try_from(mem::size_of::<Self>()).ok()?;
        let mut info = mem::MaybeUninit::<Self>::zeroed();
        // SAFETY: the buffer is as long as said.
        let written = unsafe { libc::proc_pidfdinfo(pid, descriptor, SOCKET_INFO, info.as_mut_ptr().cast(), size) };
        // SAFETY: zeroed, then filled by the kernel; every field is plain bits.
        (written == size).then(|| unsafe { info.assume_init() }).filter(|info| info.family == libc::AF_UNIX)
    }

    fn is_bound_to(&self, path: &Path) -> bool {
        // sockaddr_un: two bytes of length and family, then the path.
        let bound = self.address.get(2..).and_then(|path| CStr::from_bytes_until_nul(path).ok());
        bound.is_some_and(|bound| bound.to_bytes() == path.as_os_str().as_bytes())
    }

    fn listens(&self) -> bool {
        libc::c_int::from(self.options) & libc::SO_ACCEPTCONN != 0
    }
}

pub fn accept_queue_is_visible() -> bool {
    true
}

/// Whether the listener has accepted this connected client.
///
/// # Errors
/// ENOTCONN once the other side has hung up; EPERM where the listening process shows nothing of itself.
pub fn was_taken(client: &(impl AsFd + AsRawFd)) -> io::Result<Taken> {
    let bound: UnixAddr = getpeername(client.as_raw_fd())?;
    let path = bound.path().ok_or_else(|| io::Error::from_raw_os_error(libc::ENOTCONN))?;
    let sockets = sockets_of(peer_pid(client)?);
    let mut listeners = sockets.iter().filter(|socket| socket.listens() && socket.is_bound_to(path)).peekable();
    if listeners.peek().is_none() {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    let own = SocketInfo::of(nix::unistd::getpid().as_raw(), client.as_raw_fd());
    let held = own.is_some_and(|own| own.far != 0 && sockets.iter().any(|socket| socket.so == own.far));
    Ok(if held || listeners.all(|listener| listener.queue == 0) { Taken::Accepted } else { Taken::Waiting })
}

/// Whether any process of ours holds the socket that is bound here, listening or only bound. Other users'
/// are not shown.
pub fn is_held(path: &Path) -> io::Result<bool> {
    Ok(holder(path).is_some())
}

/// The process that holds it, where we may see that. A look at every process's descriptors: for the rare
/// case that somebody is in the way and doesn't answer.
pub fn holder(path: &Path) -> Option<i32> {
    let mut pids = vec![0_i32; 16 * 1024];
    let size = libc::c_int::try_from(mem::size_of_val(pids.as_slice())).ok()?;
    // SAFETY: the buffer is as long as said.
    let count = unsafe { libc::proc_listallpids(pids.as_mut_ptr().cast(), size) };
    pids.truncate(usize::try_from(count).unwrap_or(0));
    pids.into_iter().find(|pid| sockets_of(*pid).iter().any(|socket| socket.is_bound_to(path)))
}

fn sockets_of(pid: i32) -> Vec<SocketInfo> {
    let list = |buffer: *mut libc::c_void, size: usize| {
        let size = libc::c_int::try_from(size).unwrap_or(libc::c_int::MAX);
        // SAFETY: the buffer, if there is one, is as long as said.
        let written = unsafe { libc::proc_pidinfo(pid, libc::PROC_PIDLISTFDS, 0, buffer, size) };
        usize::try_from(written).unwrap_or(0) / mem::size_of::<libc::proc_fdinfo>()
    };
    // Without a buffer the kernel says how many there may be.
    let room = list(std::ptr::null_mut(), 0).min(DESCRIPTORS_MAX);
    let mut descriptors: Vec<libc::proc_fdinfo> = Vec::with_capacity(room);
    let count = list(descriptors.as_mut_ptr().cast(), room * mem::size_of::<libc::proc_fdinfo>());
    // SAFETY: the kernel filled so many, and no more than there is room for.
    unsafe { descriptors.set_len(count.min(room)) };
    let sockets = descriptors.iter().filter(|entry| i64::from(entry.proc_fdtype) == i64::from(libc::PROX_FDTYPE_SOCKET));
    sockets.filter_map(|entry| SocketInfo::of(pid, entry.proc_fd)).collect()
}
