//! System calls of the guardian and its keepers: processes here, the rest by topic.

mod descriptors;
mod messages;
mod signals;

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use ally_base::wire::LeaderUsage;
use nix::errno::Errno;

pub use descriptors::{close_all_but, discard, is_closed, is_readable, pipe, poll};
pub use messages::{Payload, receive, receive_hello, receive_order, send};
pub use signals::{clear_stop_request, stop_requested, stop_requested_by, wait_for};

/// For a failure without a remedy: the owner is gone, or the process is gone.
pub fn ignore<T>(result: io::Result<T>) {
    drop(result);
}

/// # Errors
/// ENOTSOCK if `owner` is no socket, and errors of the system calls.
pub fn become_guardian(owner: &OwnedFd) -> io::Result<()> {
    nix::sys::socket::getsockopt(owner, nix::sys::socket::sockopt::SockType)?;
    signals::block_all()?;
    // setsid(2) fails only in a group leader, which the addon does not make of the guardian. The guardian also works without a
    // POSIX session of its own.
    ignore(nix::unistd::setsid().map_err(io::Error::from));
    std::env::set_current_dir("/")?;
    // No value of this program owns a descriptor above 2 yet.
    close_all_but(vec![0, 1, 2]);
    become_subreaper()
}

#[cfg(target_os = "linux")]
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: integers only.
    if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// macOS has no subreapers (docs/limits.md, "macOS").
#[cfg(target_os = "macos")]
#[expect(clippy::unnecessary_wraps, reason = "the signature of Linux")]
pub fn become_subreaper() -> io::Result<()> {
    Ok(())
}

/// Sets the process name, so that `ps` shows guardian, keepers and probe keepers by different names. At most 15 bytes.
#[cfg(target_os = "linux")]
pub fn set_process_name(name: &std::ffi::CStr) {
    // SAFETY: PR_SET_NAME reads a NUL-terminated string, at most 16 bytes of it.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

#[cfg(target_os = "macos")]
pub fn set_process_name(_name: &std::ffi::CStr) {}

/// Sets the process name `ally-log`.
#[cfg(target_os = "linux")]
pub fn set_log_name() {
    // SAFETY: as for the keeper's name.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"ally-log".as_ptr(), 0, 0, 0) };
}

#[cfg(target_os = "macos")]
pub fn set_log_name() {}

/// The pid of the child. 0 in the child.
pub fn fork() -> io::Result<i32> {
    // SAFETY: this program has one thread, so all functions are allowed in the child.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Child => Ok(0),
        nix::unistd::ForkResult::Parent { child } => Ok(child.as_raw()),
    }
}

/// Forks a process that is no child of this one, and so none of the daemon's tree. Returns whether this is the new process.
///
/// Linux: `CLONE_PARENT` makes a child of the parent, which is the guardian, or after its death whoever adopted this process.
/// Nothing between the system call and the return depends on what fork(3) does beside it, because this program has one thread.
///
/// # Errors
/// EAGAIN, ENOMEM.
#[cfg(target_os = "linux")]
pub fn fork_sibling() -> io::Result<bool> {
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: without CLONE_VM and with a NULL stack this is fork(2); the other arguments are unused, in the order of any machine.
    match unsafe { libc::syscall(libc::SYS_clone, libc::c_ulong::try_from(flags).unwrap_or_default(), 0_usize, 0_usize, 0_usize, 0_usize) }
    {
        0 => Ok(true),
        1.. => Ok(false),
        _ => Err(io::Error::last_os_error()),
    }
}

/// macOS has no subreapers: launchd adopts the child of a child that has ended.
#[cfg(target_os = "macos")]
pub fn fork_sibling() -> io::Result<bool> {
    let child = match fork()? {
        0 => {
            if fork().is_ok_and(|grandchild| grandchild == 0) {
                return Ok(true);
            }
            // SAFETY: _exit(2) runs no exit handlers, which belong to the parent.
            unsafe { libc::_exit(0) }
        }
        child => child,
    };
    reap_child(child).map(|()| false)
}

/// Makes a process group in the POSIX session of this process, and returns its number: the pid of a child that made the group
/// and ended. [`reap_child`] must follow, when another process has joined the group.
///
/// The leader of a daemon must be neither the leader of its group nor of its POSIX session: setpgid(2) and setsid(2) then
/// succeed in the leader, as under child_process, and a terminal that the leader opens does not become its controlling terminal.
///
/// # Errors
/// Errors of fork(2) and waitid(2).
pub fn make_group() -> io::Result<i32> {
    let child = match fork()? {
        0 => {
            let made = join_group(0, 0);
            // SAFETY: _exit(2) runs no exit handlers, which belong to the keeper.
            unsafe { libc::_exit(i32::from(made.is_err())) }
        }
        child => child,
    };
    // A zombie keeps its group.
    await_child(child, libc::WNOWAIT)?;
    Ok(child)
}

/// Moves `process` (0: this process) to `group` (0: a new group of its own number).
///
/// # Errors
/// EPERM: no such group in the POSIX session. EACCES: the process is a child that has called execve(2).
pub fn join_group(process: i32, group: i32) -> io::Result<()> {
    // SAFETY: integers only.
    if unsafe { libc::setpgid(process, group) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits for the end of a child, and reaps the child.
///
/// # Errors
/// Errors of waitid(2).
pub fn reap_child(child: i32) -> io::Result<()> {
    await_child(child, 0)
}

fn await_child(child: i32, flags: i32) -> io::Result<()> {
    let child = libc::id_t::try_from(child).map_err(io::Error::other)?;
    loop {
        // SAFETY: zero is a valid value of the structure, which outlives the call.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        if unsafe { libc::waitid(libc::P_PID, child, &raw mut info, libc::WEXITED | flags) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// For a child that this process has not reaped, because the kernel does not reuse its pid before; and for the parent.
///
/// # Errors
/// EPERM.
pub fn kill_relative(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: integers only.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The result of a call of wait4(2) for any child.
pub enum Reaped {
    Child {
        pid: i32,
        status: i32,
        usage: LeaderUsage,
    },
    /// There are children, but no ended child to reap.
    NoneEnded,
    /// ECHILD: there are no children.
    NoChildren,
}

pub fn reap() -> Reaped {
    reap_any_of(-1)
}

/// As [`reap`]. `before` is called with the pid of the ended child while its entry in /proc still exists.
pub fn reap_after(before: impl FnOnce(i32)) -> Reaped {
    loop {
        // SAFETY: zero is a valid value of the structure. The pid stays 0 if no child has ended.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` outlives the call.
        let waited = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT) };
        // SAFETY: waitid(2) sets the pid.
        match unsafe { info.si_pid() } {
            _ if waited != 0 && Errno::last() == Errno::EINTR => {}
            _ if waited != 0 => return Reaped::NoChildren,
            0 => return Reaped::NoneEnded,
            pid => {
                before(pid);
                return reap_any_of(pid);
            }
        }
    }
}

/// The CPU time, in microseconds, of all children that this process has reaped.
pub fn reaped_cpu_us() -> u64 {
    // SAFETY: zero is a valid value of the structure.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` outlives the call, which fails for no valid pointer.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    cpu_us(&usage)
}

fn cpu_us(usage: &libc::rusage) -> u64 {
    let micros = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    (micros(usage.ru_utime) + micros(usage.ru_stime)).as_micros() as u64
}

/// `ru_maxrss` is in KiB on Linux, and in bytes on macOS.
fn memory_peak(usage: &libc::rusage) -> u64 {
    usage.ru_maxrss as u64 * if cfg!(target_os = "macos") { 1 } else { 1024 }
}

/// `pid`: as for waitpid(2).
pub fn reap_any_of(pid: i32) -> Reaped {
    loop {
        let mut status = 0;
        // SAFETY: zero is a valid value of the structure.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: `status` and `usage` outlive the call.
        let pid = unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage) };
        match pid {
            0 => return Reaped::NoneEnded,
            1.. => return Reaped::Child { pid, status, usage: LeaderUsage { memory_peak: memory_peak(&usage), cpu_us: cpu_us(&usage) } },
            _ if Errno::last() == Errno::EINTR => {}
            _ => return Reaped::NoChildren,
        }
    }
}
