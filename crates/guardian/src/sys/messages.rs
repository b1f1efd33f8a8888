//! Messages on a stream socket: frames, the owner's `Hello`, and orders with descriptors.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recv, recvmsg};

use ally_base::wire::{DESCRIPTORS_MAX, HEADER, Hello, ORDER, PAYLOAD_MAX, parse_header};

/// Sends a whole frame.
///
/// # Errors
/// EPIPE if the other end is closed.
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

/// The payload of an order, in an anonymous mapping: munmap(2) returns the memory to the kernel at once.
pub struct Payload {
    start: *mut libc::c_void,
    length: usize,
}

impl Payload {
    fn new(length: usize) -> io::Result<Self> {
        // SAFETY: a new private mapping, which no other value refers to.
        let start = unsafe {
            libc::mmap(ptr::null_mut(), length.max(1), libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON, -1, 0)
        };
        if start == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self { start, length }) }
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `length` bytes are mapped until the drop, and the kernel has set them to zero.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.length) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast(), self.length) }
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        // SAFETY: `new` has mapped this range, and no borrow outlives `self`.
        unsafe { libc::munmap(self.start, self.length.max(1)) };
    }
}

/// Reads the available bytes, and the descriptors that come with them, as far as the limit of descriptors permits. The count is 0
/// at end of file.
///
/// # Errors
/// Errors of recvmsg(2).
pub fn receive(stream: &OwnedFd, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([RawFd; DESCRIPTORS_MAX]);
    #[cfg(target_os = "linux")]
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    #[cfg(target_os = "macos")]
    let flags = MsgFlags::empty();
    let mut parts = [IoSliceMut::new(bytes)];
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut descriptors = Vec::new();
    // An error means that no descriptor was free (MSG_CTRUNC after EMFILE or ENFILE): the bytes come without theirs.
    for control in message.cmsgs().into_iter().flatten() {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: the kernel just opened these descriptors, and no other value owns them.
            descriptors.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    #[cfg(target_os = "macos")]
    for descriptor in &descriptors {
        nix::fcntl::fcntl(descriptor, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    }
    Ok((message.bytes, descriptors))
}

/// Reads the owner's `Hello` and no byte more: the next bytes may come with descriptors, which only [`receive`] takes.
///
/// # Errors
/// End of file, or other bytes than a `Hello`.
pub fn receive_hello(owner: &OwnedFd) -> io::Result<Hello> {
    let mut prefix = [0; Hello::PREFIX];
    read_whole(owner, &mut prefix)?;
    let mut rest = vec![0; Hello::length(prefix).map_err(io::Error::other)?];
    read_whole(owner, &mut rest)?;
    Hello::decode(&rest).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// # Errors
/// End of file, a frame that is no order, or errors of the system calls.
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
