//! The listening socket of this process that a daemon gets.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, accept, bind, recv, shutdown, socket};
use nix::sys::socket::{MsgFlags, Shutdown};

/// Who may connect: the user of this process.
const MODE: u32 = 0o600;

/// shutdown(2) of the receiving half alone. macOS reports POLLHUP for both halves.
#[cfg(target_os = "linux")]
const HANG_UP: libc::c_short = libc::POLLRDHUP;
#[cfg(target_os = "macos")]
const HANG_UP: libc::c_short = 0;

/// The connections that wait in a listener's queue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Waiting {
    pub count: u32,
    /// The socket of each client, in the order of the queue. 0: the client has closed it. Shorter than the queue if the kernel does
    /// not tell.
    pub clients: Vec<u64>,
}

/// The use of a listener and of the connections that came through it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListenerUse {
    /// The connections that wait in the queue.
    pub waiting: u32,
    /// The sockets of the clients whose connections were accepted. A client that has closed its end is not among them.
    pub clients: Vec<u64>,
}

/// The processes that have a socket bound to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoundBy {
    /// A process of the tree, perhaps among others.
    Tree,
    Others,
    Nobody,
}

/// Makes a listening socket at a new file. At no moment can another user connect to it, whatever the umask. Its queue is the longest
/// that the system allows.
///
/// # Errors
/// Errors of socket(2), bind(2), chmod(2) and listen(2). EADDRINUSE: there is a file.
pub fn listen_at(path: &Path) -> io::Result<OwnedFd> {
    let address = UnixAddr::new(path)?;
    let listener = socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None)?;
    fcntl(&listener, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // Linux: the file gets the mode of the socket, less the umask. macOS refuses this call.
    if cfg!(target_os = "linux") {
        nix::sys::stat::fchmod(&listener, nix::sys::stat::Mode::from_bits_truncate(MODE as libc::mode_t))?;
    }
    bind(listener.as_raw_fd(), &address)?;
    // Before listen(2) every connection is refused, so the rights do not matter yet.
    let listening = permit(path).and_then(|()| lengthen_queue(&listener));
    if let Err(error) = listening {
        // The failure of the first call is the one that matters.
        drop(fs::remove_file(path));
        return Err(error);
    }
    Ok(listener)
}

fn permit(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.permissions().mode() & 0o7777 == MODE {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))
}

/// listen(2) with the longest queue. For a socket that listens already: a process that shares it may have shortened its queue.
///
/// # Errors
/// EINVAL: the socket is not bound.
pub fn lengthen_queue(listener: &impl AsRawFd) -> io::Result<()> {
    // The kernel shortens the number to its own limit (`somaxconn`).
    // SAFETY: integers only.
    if unsafe { libc::listen(listener.as_raw_fd(), libc::c_int::MAX) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether accept(2) does not wait, for all processes that share this socket.
///
/// # Errors
/// Errors of fcntl(2).
pub fn is_nonblocking(listener: &impl AsFd) -> io::Result<bool> {
    Ok(OFlag::from_bits_truncate(fcntl(listener, FcntlArg::F_GETFL)?).contains(OFlag::O_NONBLOCK))
}

/// # Errors
/// Errors of fcntl(2).
pub fn make_blocking(listener: &impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_truncate(fcntl(listener, FcntlArg::F_GETFL)?);
    fcntl(listener, FcntlArg::F_SETFL(flags.difference(OFlag::O_NONBLOCK)))?;
    Ok(())
}

/// shutdown(2): from now on the socket refuses connections, in all processes that share it.
///
/// # Errors
/// ENOTCONN on macOS, if it was shut down before.
pub fn refuse_connections(listener: &impl AsRawFd) -> io::Result<()> {
    Ok(shutdown(listener.as_raw_fd(), Shutdown::Both)?)
}

/// Whether shutdown(2) was called on the socket, in any process.
#[must_use]
pub fn is_shut_down(listener: &impl AsRawFd) -> bool {
    let mut polled = libc::pollfd { fd: listener.as_raw_fd(), events: HANG_UP, revents: 0 };
    // SAFETY: one entry, which outlives the call.
    unsafe { libc::poll(&raw mut polled, 1, 0) };
    polled.revents & (HANG_UP | libc::POLLHUP) != 0
}

/// Accepts the first connection of the queue and closes it, so that its client reads end of file. False if the queue is empty. Only
/// after [`refuse_connections`]: accept(2) would wait otherwise.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM.
pub fn close_first(listener: &impl AsRawFd) -> io::Result<bool> {
    let connection = loop {
        match accept(listener.as_raw_fd()) {
            // SAFETY: the kernel just opened this descriptor, and no other value owns it.
            Ok(raw) => break unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(raw) },
            // EINVAL: shut down, and nothing waits. EAGAIN: a process has set O_NONBLOCK. ECONNABORTED: macOS, after shutdown(2).
            Err(Errno::EINVAL | Errno::EAGAIN | Errno::ECONNABORTED) => return Ok(false),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    // Without this, the client could go on to send, and close(2) with unread bytes would give it ECONNRESET.
    // ENOTCONN: the client has closed its end (macOS).
    if shutdown(connection.as_raw_fd(), Shutdown::Both).is_ok() {
        discard(&connection);
    }
    Ok(true)
}

fn discard(connection: &OwnedFd) {
    let mut buffer = [0_u8; 16 * 1024];
    // Ends, because nothing comes after shutdown(2). Descriptors that came along are closed, because there is no room for them.
    while matches!(recv(connection.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT), Ok(1..) | Err(Errno::EINTR)) {}
}
