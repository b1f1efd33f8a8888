//! Signals are blocked, except in [`wait_for`].

use std::io;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction};

/// Whether SIGTERM has come. A keeper then ends its tree.
static STOP_REQUESTED: AtomicBool = AtomicBool::new(false);

/// The pid of a process of this user that has sent SIGTERM.
static STOP_REQUESTED_BY: AtomicI64 = AtomicI64::new(NOBODY);
const NOBODY: i64 = -1;

extern "C" fn on_signal(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    if signal != libc::SIGTERM {
        return;
    }
    STOP_REQUESTED.store(true, Ordering::Relaxed);
    // SAFETY: with SA_SIGINFO the kernel passes a siginfo_t, which for SIGTERM has the sender. getuid(2) may be called in a handler.
    let (pid, uid, own) = unsafe { ((*info).si_pid(), (*info).si_uid(), libc::getuid()) };
    if uid == own {
        STOP_REQUESTED_BY.store(pid.into(), Ordering::Relaxed);
    }
}

pub fn stop_requested() -> bool {
    STOP_REQUESTED.load(Ordering::Relaxed)
}

/// The sender of SIGTERM, if it is a process of this user. Root can end what it wants, but speaks for nobody.
pub fn stop_requested_by() -> Option<i32> {
    i32::try_from(STOP_REQUESTED_BY.load(Ordering::Relaxed)).ok().filter(|pid| *pid >= 0)
}

/// Clears the request: a SIGTERM to the parent, or of another user before the owner's death, is no request to this keeper.
pub fn clear_stop_request() {
    STOP_REQUESTED.store(false, Ordering::Relaxed);
    STOP_REQUESTED_BY.store(NOBODY, Ordering::Relaxed);
}

/// Blocks all signals, and sets handlers for SIGCHLD and SIGTERM, which [`wait_for`] lets in.
pub fn block_all() -> io::Result<()> {
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?;
    let action = SigAction::new(SigHandler::SigAction(on_signal), SaFlags::SA_SIGINFO, SigSet::empty());
    for signal in [Signal::SIGCHLD, Signal::SIGTERM] {
        // SAFETY: the handler only stores to atomics.
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
