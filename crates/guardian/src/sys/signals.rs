//! Signals are blocked, except in [`wait_for`].

use std::io;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction};

/// Whether SIGTERM has come. After its owner's death a keeper ends its tree on SIGTERM.
static STOP_REQUESTED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(signal: libc::c_int) {
    if signal == libc::SIGTERM {
        STOP_REQUESTED.store(true, Ordering::Relaxed);
    }
}

pub fn stop_requested() -> bool {
    STOP_REQUESTED.load(Ordering::Relaxed)
}

/// Clears the request: a SIGTERM to the parent, or from before the owner's death, is no request to this keeper.
pub fn clear_stop_request() {
    STOP_REQUESTED.store(false, Ordering::Relaxed);
}

/// Blocks all signals, and sets handlers for SIGCHLD and SIGTERM, which [`wait_for`] lets in.
pub fn block_all() -> io::Result<()> {
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?;
    let action = SigAction::new(SigHandler::Handler(on_signal), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGCHLD, Signal::SIGTERM] {
        // SAFETY: the handler only stores to an atomic.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// Sleeps until one of `fds` is readable, a child has ended, SIGTERM has come or the timeout has elapsed. pselect(2) unblocks
/// SIGCHLD and SIGTERM only while it sleeps, so no signal is lost between a check and the sleep.
pub fn wait_for<const N: usize>(fds: [Option<RawFd>; N], timeout: Option<Duration>) -> [bool; N] {
    let mut readable = [false; N];
    let mut blocked = SigSet::all();
    blocked.remove(Signal::SIGCHLD);
    blocked.remove(Signal::SIGTERM);
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    // SAFETY: an fd_set is plain bits, for which zero is a value. Each descriptor is below FD_SETSIZE (1024): the guardian has
    // closed the inherited descriptors, and an order adds at most DESCRIPTORS_MAX. All pointers outlive the call.
    unsafe {
        let mut set: libc::fd_set = std::mem::zeroed();
        let mut highest = -1;
        for fd in fds.into_iter().flatten() {
            libc::FD_SET(fd, &raw mut set);
            highest = highest.max(fd);
        }
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        let mask: *const libc::sigset_t = blocked.as_ref();
        if libc::pselect(highest + 1, &raw mut set, ptr::null_mut(), ptr::null_mut(), timeout, mask) > 0 {
            for (fd, readable) in fds.into_iter().zip(&mut readable) {
                *readable = fd.is_some_and(|fd| libc::FD_ISSET(fd, &raw const set));
            }
        }
    }
    readable
}
