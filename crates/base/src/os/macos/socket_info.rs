//! The Unix sockets of a process, by libproc: `struct socket_fdinfo` of sys/proc_info.h.

use std::fs;
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::descriptors::{descriptors, query};
use super::identity::working_directory;

/// `PROC_PIDFDSOCKETINFO` of sys/proc_info.h.
pub const SOCKET_INFO: libc::c_int = 3;

/// `struct socket_fdinfo` of a Unix socket.
#[repr(C)]
pub struct SocketInfo {
    /// `struct proc_fileinfo`.
    file: [u32; 6],
    stat: libc::vinfo_stat,
    /// The kernel's id of the socket. Not an address of this process.
    pub so: u64,
    pcb: u64,
    /// `SOCK_…`.
    pub kind: i32,
    protocol: i32,
    family: i32,
    options: i16,
    linger: i16,
    state: i16,
    /// The number of connections that wait for accept(2).
    pub queue: i16,
    incomplete: i16,
    queue_limit: i16,
    timeout: i16,
    error: u16,
    out_of_band: u32,
    /// Two `struct sockbuf_info`.
    buffers: [u32; 12],
    details: i32,
    reserved: u32,
    /// `so` of the socket at the other end. 0 if there is none.
    pub peer_so: u64,
    peer_pcb: u64,
    address: [u8; 255],
    peer_address: [u8; 255],
}

// The layout of the kernel on x64 and arm64.
const _: () = assert!(mem::size_of::<SocketInfo>() == 792 && mem::offset_of!(SocketInfo, queue) == 194);

impl SocketInfo {
    /// `None` if the descriptor is closed or is no Unix socket.
    pub fn of(pid: i32, descriptor: i32) -> Option<Self> {
        query::<Self>(pid, descriptor, SOCKET_INFO).filter(|info| info.family == libc::AF_UNIX)
    }

    /// The path of bind(2). Empty if the socket is not bound.
    pub fn bound_name(&self) -> &[u8] {
        // sockaddr_un: length and family, a byte each, then the path.
        first_string(self.address.get(2..).unwrap_or_default())
    }

    /// Whether this socket of the process `holder` is bound to `file`. An accepted connection has its listener's name but does
    /// not count: a new client can't reach it.
    pub fn is_bound_to(&self, holder: i32, path: &Path, file: &fs::Metadata) -> bool {
        let bound = PathBuf::from(std::ffi::OsStr::from_bytes(self.bound_name()));
        if self.peer_so != 0 || bound.as_os_str().is_empty() {
            return false;
        }
        // A relative name is relative to the working directory at bind(2). The current one is the best guess.
        let bound = if bound.is_absolute() { bound } else { working_directory(holder).unwrap_or_default().join(bound) };
        match fs::symlink_metadata(&bound) {
            Ok(named) => (named.dev(), named.ino()) == (file.dev(), file.ino()),
            // The file was renamed or moved, so only the file names can be compared. A wrong yes leaves a dead file, a wrong no
            // takes the socket from its holder.
            Err(_) => bound.file_name() == path.file_name(),
        }
    }

    pub fn listens(&self) -> bool {
        libc::c_int::from(self.options) & libc::SO_ACCEPTCONN != 0
    }
}

/// If a program passes the size of the whole sockaddr_un to bind(2), as libuv does, NULs follow the name.
pub fn first_string(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

pub fn sockets_of(pid: i32) -> Vec<SocketInfo> {
    descriptors(pid, libc::PROX_FDTYPE_SOCKET).into_iter().filter_map(|descriptor| SocketInfo::of(pid, descriptor)).collect()
}
