//! What happens at listening sockets, by kqueue(2) and EVFILT_READ. Nothing is accepted.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use super::kqueue;
use crate::os::{Arrival, ArrivalInterest};

/// Its descriptor is readable while [`Self::take`] has events to return.
///
/// A kqueue has no interest in the hang-up alone, so a connection to a listener that is watched for
/// [`ArrivalInterest::HangUp`] is an event that its reader drops.
pub struct ArrivalWatcher(OwnedFd);

impl ArrivalWatcher {
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn new() -> io::Result<Self> {
        kqueue::new().map(Self)
    }

    /// Watches a listener. [`Self::again`] must follow an event.
    ///
    /// # Errors
    /// Errors of kevent(2).
    pub fn add(&self, listener: &impl AsFd, key: u64, _interest: ArrivalInterest) -> io::Result<()> {
        let ident = usize::try_from(listener.as_fd().as_raw_fd()).map_err(io::Error::other)?;
        kqueue::add_keyed(&self.0, ident, libc::EVFILT_READ, key)
    }

    /// Watches a listener anew. What has happened already is an event.
    ///
    /// # Errors
    /// Errors of kevent(2).
    pub fn again(&self, listener: &impl AsFd, key: u64, interest: ArrivalInterest) -> io::Result<()> {
        self.add(listener, key, interest)
    }

    /// Must precede the close of the listener.
    ///
    /// # Errors
    /// ENOENT if the listener is not watched.
    pub fn remove(&self, listener: &impl AsFd) -> io::Result<()> {
        let ident = usize::try_from(listener.as_fd().as_raw_fd()).map_err(io::Error::other)?;
        kqueue::delete(&self.0, ident, libc::EVFILT_READ)
    }

    /// The events that are there. Empty if none is left.
    ///
    /// # Errors
    /// Errors of kevent(2).
    pub fn take(&self) -> io::Result<Vec<Arrival>> {
        let events = kqueue::take_events(&self.0)?;
        Ok(events.into_iter().map(|event| Arrival { key: event.udata as u64, hung_up: event.flags & libc::EV_EOF != 0 }).collect())
    }
}

impl AsRawFd for ArrivalWatcher {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
