//! kqueue(2), as much of it as is used here.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

pub fn new() -> io::Result<OwnedFd> {
    // SAFETY: no arguments. A kqueue is never inherited by fork, and closes at exec.
    let raw = unsafe { libc::kqueue() };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

pub fn add(queue: &OwnedFd, ident: usize, filter: i16, interest: u32) -> io::Result<()> {
    let change = libc::kevent { ident, filter, flags: libc::EV_ADD | libc::EV_CLEAR, fflags: interest, data: 0, udata: ptr::null_mut() };
    // SAFETY: one change, no room for events, no timeout.
    let result = unsafe { libc::kevent(queue.as_raw_fd(), &raw const change, 1, ptr::null_mut(), 0, ptr::null()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The idents of the events that are there, without waiting.
pub fn take(queue: &OwnedFd) -> io::Result<Vec<usize>> {
    const ROOM: usize = 32;
    let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let empty = libc::kevent { ident: 0, filter: 0, flags: 0, fflags: 0, data: 0, udata: ptr::null_mut() };
    let mut events = [empty; ROOM];
    // SAFETY: no changes, and room for as many events as said.
    let count = unsafe { libc::kevent(queue.as_raw_fd(), ptr::null(), 0, events.as_mut_ptr(), ROOM as libc::c_int, &raw const none) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    Ok(events.iter().take(count).map(|event| event.ident).collect())
}
