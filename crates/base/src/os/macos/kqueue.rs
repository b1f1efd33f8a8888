//! Wrappers of kqueue(2) and kevent(2).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

pub fn new() -> io::Result<OwnedFd> {
    // SAFETY: no arguments. A child of fork(2) does not inherit a kqueue, and exec closes it.
    let raw = unsafe { libc::kqueue() };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just opened this descriptor, and no other value owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

pub fn add(queue: &OwnedFd, ident: usize, filter: i16, interest: u32) -> io::Result<()> {
    apply(queue, &libc::kevent { ident, filter, flags: libc::EV_ADD | libc::EV_CLEAR, fflags: interest, data: 0, udata: ptr::null_mut() })
}

/// As [`add`]. The events have `key` as their `udata`.
pub fn add_keyed(queue: &OwnedFd, ident: usize, filter: i16, key: u64) -> io::Result<()> {
    let udata = ptr::without_provenance_mut(usize::try_from(key).map_err(io::Error::other)?);
    apply(queue, &libc::kevent { ident, filter, flags: libc::EV_ADD | libc::EV_CLEAR, fflags: 0, data: 0, udata })
}

pub fn delete(queue: &OwnedFd, ident: usize, filter: i16) -> io::Result<()> {
    apply(queue, &libc::kevent { ident, filter, flags: libc::EV_DELETE, fflags: 0, data: 0, udata: ptr::null_mut() })
}

fn apply(queue: &OwnedFd, change: &libc::kevent) -> io::Result<()> {
    // SAFETY: the change list has one entry; the event list is null with the size 0; the timeout is null.
    let result = unsafe { libc::kevent(queue.as_raw_fd(), ptr::from_ref(change), 1, ptr::null_mut(), 0, ptr::null()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The idents of the pending events. Does not wait.
pub fn take(queue: &OwnedFd) -> io::Result<Vec<usize>> {
    Ok(take_events(queue)?.into_iter().map(|event| event.ident).collect())
}

/// The pending events. Does not wait.
pub fn take_events(queue: &OwnedFd) -> io::Result<Vec<libc::kevent>> {
    const ROOM: libc::c_int = 32;
    let no_wait = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let empty = libc::kevent { ident: 0, filter: 0, flags: 0, fflags: 0, data: 0, udata: ptr::null_mut() };
    let mut events = [empty; ROOM as usize];
    // SAFETY: the change list is null with the size 0; the event list has ROOM entries.
    let count = unsafe { libc::kevent(queue.as_raw_fd(), ptr::null(), 0, events.as_mut_ptr(), ROOM, &raw const no_wait) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    Ok(events.into_iter().take(count).collect())
}
