//! What happens at listening sockets, by epoll(7). Nothing is accepted.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::os::{Arrival, ArrivalInterest};

/// The events of one call.
const ROOM: usize = 32;

/// Its descriptor is readable while [`Self::take`] has events to return.
///
/// The kernel wakes nobody for an event that no listener is watched for: a connection to a listener that is watched for
/// [`ArrivalInterest::HangUp`] costs nothing.
pub struct ArrivalWatcher(OwnedFd);

impl ArrivalWatcher {
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn new() -> io::Result<Self> {
        // SAFETY: integers only.
        let raw = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just opened this descriptor, and no other value owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(raw) }))
    }

    /// Watches a listener until its next event. [`Self::again`] must follow then.
    ///
    /// # Errors
    /// ENOSPC if the user's watches are used up (`fs.epoll.max_user_watches`).
    pub fn add(&self, listener: &impl AsFd, key: u64, interest: ArrivalInterest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, listener, key, interest)
    }

    /// Changes the interest in a listener, and watches it until its next event. What has happened already is an event.
    ///
    /// # Errors
    /// ENOENT if the listener is not watched.
    pub fn again(&self, listener: &impl AsFd, key: u64, interest: ArrivalInterest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, listener, key, interest)
    }

    /// Must precede the close of the listener: the kernel goes on to watch a socket that another process has open.
    ///
    /// # Errors
    /// ENOENT if the listener is not watched.
    pub fn remove(&self, listener: &impl AsFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, listener, 0, ArrivalInterest::HangUp)
    }

    fn control(&self, operation: libc::c_int, listener: &impl AsFd, key: u64, interest: ArrivalInterest) -> io::Result<()> {
        // EPOLLHUP is reported in any case, and EPOLLRDHUP is what shutdown(2) of the receiving half alone causes.
        let events = libc::EPOLLONESHOT | libc::EPOLLRDHUP | if interest == ArrivalInterest::Connection { libc::EPOLLIN } else { 0 };
        let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: key };
        // SAFETY: the event outlives the call.
        let result = unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, listener.as_fd().as_raw_fd(), ptr::from_mut(&mut event)) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The events that are there. Empty if none is left.
    ///
    /// # Errors
    /// Errors of epoll_wait(2).
    pub fn take(&self) -> io::Result<Vec<Arrival>> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; ROOM];
        let room = libc::c_int::try_from(ROOM).unwrap_or(1);
        // SAFETY: the buffer has room for as many events, and outlives the call.
        let count = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), room, 0) };
        let Ok(count) = usize::try_from(count) else {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(Vec::new()) } else { Err(error) };
        };
        let hung_up = |events: u32| events & (libc::EPOLLHUP | libc::EPOLLRDHUP).cast_unsigned() != 0;
        Ok(events.iter().take(count).map(|event| Arrival { key: event.u64, hung_up: hung_up(event.events) }).collect())
    }
}

impl AsRawFd for ArrivalWatcher {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
