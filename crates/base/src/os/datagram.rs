//! Datagram sockets at a file, and the senders of their datagrams.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use super::{CREDENTIALS_SIZE, RECEIVE_FLAGS, pass_credentials, sender_in};

/// The most descriptors that one message carries (`SCM_MAX_FD` of Linux; macOS has a lower limit).
const DESCRIPTORS_MAX: usize = 253;
/// In words of 8 bytes, so that the buffer is aligned. 128 bytes are more than two headers with their padding.
const CONTROL_WORDS: usize = (DESCRIPTORS_MAX * size_of::<RawFd>() + CREDENTIALS_SIZE + 128) / 8;

/// The process that sent a datagram, as the kernel names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// 0: a process of another pid namespace, which has no pid here.
    pub pid: i32,
    /// The real user.
    pub user: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    pub length: usize,
    /// The datagram was longer than the buffer.
    pub is_truncated: bool,
    /// `None` on macOS, which has no credentials of datagrams.
    pub sender: Option<Sender>,
}

/// A socket that never blocks and tells the senders of its datagrams.
///
/// # Errors
/// EMFILE or ENFILE.
pub fn datagram_socket() -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::empty(), None)?;
    fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    pass_credentials(&socket)?;
    Ok(socket)
}

/// Receives a datagram. Descriptors that come with it are closed.
///
/// # Errors
/// EAGAIN if there is none.
pub fn receive_datagram(socket: &impl AsRawFd, bytes: &mut [u8]) -> io::Result<Datagram> {
    let mut control = [0_u64; CONTROL_WORDS];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: zero is a valid value of the structure.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = mem::size_of_val(&control) as _;
    let length = loop {
        // SAFETY: the header refers to the two buffers, which outlive the call.
        let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, RECEIVE_FLAGS | libc::MSG_DONTWAIT) };
        match usize::try_from(length) {
            Ok(length) => break length,
            Err(_) if Errno::last() == Errno::EINTR => {}
            Err(_) => return Err(io::Error::last_os_error()),
        }
    };
    let mut sender = None;
    // SAFETY: the kernel has filled the control buffer, and the macros of cmsg(3) walk within its length.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    while !message.is_null() {
        // SAFETY: not null, so the kernel has written this header and its data.
        let (level, kind, data, size) = unsafe {
            let data = libc::CMSG_DATA(message);
            let size = ((*message).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
            ((*message).cmsg_level, (*message).cmsg_type, data, size)
        };
        // SAFETY: `size` bytes of data follow the header.
        let data = unsafe { std::slice::from_raw_parts(data, size) };
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => close_all(data),
            (libc::SOL_SOCKET, kind) => sender = sender.or_else(|| sender_in(kind, data)),
            _ => {}
        }
        // SAFETY: as above.
        message = unsafe { libc::CMSG_NXTHDR(&raw const header, message) };
    }
    Ok(Datagram { length, is_truncated: header.msg_flags & libc::MSG_TRUNC != 0, sender })
}

fn close_all(descriptors: &[u8]) {
    for raw in descriptors.as_chunks().0 {
        // SAFETY: the kernel just opened this descriptor, and no other value owns it.
        drop(unsafe { OwnedFd::from_raw_fd(RawFd::from_ne_bytes(*raw)) });
    }
}

/// Whether a datagram socket is bound to this file: connect(2) finds one. The socket's process does not notice.
///
/// # Errors
/// EACCES, EMFILE. ENOENT if there is no such file. It is then unknown.
pub fn is_datagram_socket_alive(path: &std::path::Path) -> io::Result<bool> {
    let probe = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::empty(), None)?;
    match connect(probe.as_raw_fd(), &UnixAddr::new(path)?) {
        Ok(()) => Ok(true),
        Err(Errno::ECONNREFUSED) => Ok(false),
        // A socket of another type.
        Err(Errno::EPROTOTYPE) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
