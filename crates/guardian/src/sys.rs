//! The system calls that the guardian and its keepers share.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recv, recvmsg};

use ally_base::wire::{DESCRIPTORS_MAX, HEADER, Hello, ORDER, PAYLOAD_MAX, parse_header};

/// Whether someone asked, by SIGTERM, for the end of a tree whose owner is gone.
static ASKED_TO_STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn note_signal(signal: libc::c_int) {
    if signal == libc::SIGTERM {
        ASKED_TO_STOP.store(true, Ordering::Relaxed);
    }
}

pub fn asked_to_stop() -> bool {
    ASKED_TO_STOP.load(Ordering::Relaxed)
}

/// What was asked of the parent was not asked of this process.
pub fn forget_requests() {
    ASKED_TO_STOP.store(false, Ordering::Relaxed);
}

/// For failures that nobody can do anything about: the owner is gone, or the process is.
pub fn ignore<T>(result: io::Result<T>) {
    drop(result);
}

/// # Errors
/// ENOTSOCK if `owner` is no socket; what the system says otherwise.
pub fn become_guardian(owner: &OwnedFd) -> io::Result<()> {
    nix::sys::socket::getsockopt(owner, nix::sys::socket::sockopt::SockType)?;
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?;
    let noted = SigAction::new(SigHandler::Handler(note_signal), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGCHLD, Signal::SIGTERM] {
        // SAFETY: the handler only stores to an atomic.
        unsafe { sigaction(signal, &noted) }?;
    }
    // Fails only for a group leader, which the addon doesn't make of us; without a session of our own we still work.
    ignore(nix::unistd::setsid().map_err(io::Error::from));
    std::env::set_current_dir("/")?;
    close_inherited();
    become_subreaper()
}

#[cfg(target_os = "linux")]
fn close_inherited() {
    // SAFETY: integers only. Nothing in this program owns a descriptor above 2 yet.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if closed != 0 {
        close_listed("/proc/self/fd");
    }
}

#[cfg(target_os = "macos")]
fn close_inherited() {
    close_listed("/dev/fd");
}

/// Linux before 5.9, and macOS, have no close_range(2).
fn close_listed(folder: &str) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let listed: Vec<RawFd> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in listed.into_iter().filter(|fd| *fd > 2) {
        // SAFETY: nothing in this program owns a descriptor above 2 yet; the listing's own is closed already.
        unsafe { libc::close(fd) };
    }
}

#[cfg(target_os = "linux")]
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: integers only.
    if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// macOS has none: what leaves its group and its parent is lost there (README, limits).
#[cfg(target_os = "macos")]
pub fn become_subreaper() -> io::Result<()> {
    Ok(())
}

/// 0 in the child.
pub fn fork() -> io::Result<i32> {
    // SAFETY: this program has one thread, so the child may do whatever its parent might.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Child => Ok(0),
        nix::unistd::ForkResult::Parent { child } => Ok(child.as_raw()),
    }
}

pub enum Reaped {
    Child {
        pid: i32,
        status: i32,
    },
    /// There are children, and all live.
    Nobody,
    /// There are no children.
    Childless,
}

/// Only for a child of our own that we have not reaped: nobody else has its pid.
///
/// # Errors
/// EPERM.
pub fn kill(child: i32, signal: i32) -> io::Result<()> {
    // SAFETY: integers only.
    if unsafe { libc::kill(child, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

pub fn reap() -> Reaped {
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        match pid {
            0 => return Reaped::Nobody,
            1.. => return Reaped::Child { pid, status },
            _ if Errno::last() == Errno::EINTR => {}
            _ => return Reaped::Childless,
        }
    }
}

/// Sleeps until one of `fds` is readable, a child has ended, SIGTERM has come or the time is up.
/// SIGCHLD and SIGTERM are let in only here, so none is missed.
pub fn wait_for<const N: usize>(fds: [Option<RawFd>; N], timeout: Option<Duration>) -> [bool; N] {
    let mut readable = [false; N];
    let mut open = SigSet::all();
    open.remove(Signal::SIGCHLD);
    open.remove(Signal::SIGTERM);
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    // SAFETY: an fd_set is plain bits, for which zero is a value; this program never has descriptors beyond
    // FD_SETSIZE, because it closes all it inherited and holds a handful; all pointers outlive the call.
    unsafe {
        let mut set: libc::fd_set = std::mem::zeroed();
        let mut highest = -1;
        for fd in fds.into_iter().flatten() {
            libc::FD_SET(fd, &raw mut set);
            highest = highest.max(fd);
        }
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        let mask: *const libc::sigset_t = open.as_ref();
        if libc::pselect(highest + 1, &raw mut set, ptr::null_mut(), ptr::null_mut(), timeout, mask) > 0 {
            for (fd, readable) in fds.into_iter().zip(&mut readable) {
                *readable = fd.is_some_and(|fd| libc::FD_ISSET(fd, &raw const set));
            }
        }
    }
    readable
}

/// Sleeps until something is to be told of one of `fds`, and tells it (poll(2)). Nothing wakes it but that and `timeout`.
pub fn poll<const N: usize>(fds: [(Option<&OwnedFd>, libc::c_short); N], timeout: Option<Duration>) -> [libc::c_short; N] {
    let mut polled = fds.map(|(fd, events)| libc::pollfd { fd: fd.map_or(-1, AsRawFd::as_raw_fd), events, revents: 0 });
    let timeout = timeout.map_or(-1, |timeout| libc::c_int::try_from(timeout.as_millis()).unwrap_or(libc::c_int::MAX));
    let count = libc::nfds_t::try_from(N).unwrap_or_default();
    // SAFETY: an array of as many as said, which outlives the call. A negative descriptor is passed over.
    unsafe { libc::poll(polled.as_mut_ptr(), count, timeout) };
    polled.map(|one| one.revents)
}

/// Reads a little and forgets it, so that whoever does so stays small. False at the end.
pub fn discard(fd: &OwnedFd) -> bool {
    let mut buffer = [0; 4096];
    matches!(nix::unistd::read(fd, &mut buffer), Ok(1..) | Err(Errno::EINTR | Errno::EAGAIN))
}

/// A frame, whole.
///
/// # Errors
/// EPIPE if nobody reads any more.
pub fn send(stream: &OwnedFd, frame: &[u8]) -> io::Result<()> {
    let mut rest = frame;
    while !rest.is_empty() {
        match nix::sys::socket::send(stream.as_raw_fd(), rest, ally_base::os::NO_SIGPIPE) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// An anonymous mapping.
pub struct Payload {
    start: *mut libc::c_void,
    length: usize,
}

impl Payload {
    fn new(length: usize) -> io::Result<Self> {
        // SAFETY: a fresh private mapping; nothing else knows it.
        let start = unsafe {
            libc::mmap(ptr::null_mut(), length.max(1), libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON, -1, 0)
        };
        if start == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self { start, length }) }
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for `length` bytes until dropped, and initialised to zero by the kernel.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.length) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast(), self.length) }
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and no borrow outlives self.
        unsafe { libc::munmap(self.start, self.length.max(1)) };
    }
}

/// Reads what is there, with the descriptors that came with it; 0 at the end of file.
///
/// # Errors
/// What the system says.
pub fn receive(stream: &OwnedFd, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([RawFd; DESCRIPTORS_MAX]);
    #[cfg(target_os = "linux")]
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    #[cfg(target_os = "macos")]
    let flags = MsgFlags::empty();
    let mut parts = [IoSliceMut::new(bytes)];
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: the kernel just installed these for this process alone.
            descriptors.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    #[cfg(target_os = "macos")]
    for descriptor in &descriptors {
        nix::fcntl::fcntl(descriptor, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    }
    Ok((message.bytes, descriptors))
}

/// The owner's greeting and nothing behind it: the next bytes may come with descriptors, which only [`receive`] takes.
///
/// # Errors
/// End of file; anything but a greeting.
pub fn receive_hello(owner: &OwnedFd) -> io::Result<Hello> {
    let mut prefix = [0; Hello::PREFIX];
    read_whole(owner, &mut prefix)?;
    let mut rest = vec![0; Hello::length(prefix).map_err(io::Error::other)?];
    read_whole(owner, &mut rest)?;
    Hello::decode(&rest).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// # Errors
/// End of file, a frame that is no order, or what the system says.
pub fn receive_order(owner: &OwnedFd) -> io::Result<(Payload, Vec<OwnedFd>)> {
    let mut header = [0; HEADER];
    let (count, descriptors) = receive(owner, &mut header)?;
    if count == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    read_whole(owner, &mut header[count..])?;
    let Ok((ORDER, length)) = parse_header(header, PAYLOAD_MAX) else { return Err(io::ErrorKind::InvalidData.into()) };
    let mut payload = Payload::new(length)?;
    read_whole(owner, payload.bytes_mut())?;
    Ok((payload, descriptors))
}

fn read_whole(owner: &OwnedFd, mut rest: &mut [u8]) -> io::Result<()> {
    while !rest.is_empty() {
        match recv(owner.as_raw_fd(), rest, MsgFlags::MSG_WAITALL) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => rest = rest.get_mut(count..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
