//! Between fork and exec: what turns a copy of the keeper into the daemon.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

use ally_base::wire::{Order, Stage};

/// Where the child tells why it could not become the daemon; closed by a successful exec.
pub const FAILURE: usize = 8;

pub fn encode_failure(stage: Stage, errno: i32) -> [u8; FAILURE] {
    let stage = if stage == Stage::Folder { 1_i32 } else { 2 };
    let mut out = [0; FAILURE];
    out[..4].copy_from_slice(&stage.to_ne_bytes());
    out[4..].copy_from_slice(&errno.to_ne_bytes());
    out
}

pub fn decode_failure(bytes: [u8; FAILURE]) -> (Stage, i32) {
    let (stage, errno) = bytes.split_at(4);
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, i32::from_ne_bytes);
    (if word(stage) == 1 { Stage::Folder } else { Stage::Exec }, word(errno))
}

/// Does not return: becomes the daemon, or tells `failure` why not and exits.
pub fn become_daemon(order: &Order, keeper: i32, outputs: [&OwnedFd; 2], failure: OwnedFd) -> ! {
    let (stage, errno) = match attempt(order, keeper, outputs) {
        Ok(never) => match never {},
        Err((stage, error)) => (stage, error.raw_os_error().unwrap_or(libc::EINVAL)),
    };
    // If the keeper is gone there is nobody to tell.
    super::sys::ignore(File::from(failure).write_all(&encode_failure(stage, errno)));
    // SAFETY: ends this process without running what belongs to the keeper.
    unsafe { libc::_exit(127) }
}

fn attempt(order: &Order, keeper: i32, outputs: [&OwnedFd; 2]) -> Result<std::convert::Infallible, (Stage, io::Error)> {
    let exec = |error: io::Error| (Stage::Exec, error);
    // A session of its own: no terminal to scribble on, and a group to be found by.
    nix::unistd::setsid().map_err(|error| exec(error.into()))?;
    die_with(keeper).map_err(exec)?;
    default_dispositions();
    std::env::set_current_dir(OsStr::from_bytes(order.folder)).map_err(|error| (Stage::Folder, error))?;
    let null = File::open("/dev/null").map_err(exec)?;
    for (from, to) in [(null.as_raw_fd(), 0), (outputs[0].as_raw_fd(), 1), (outputs[1].as_raw_fd(), 2)] {
        // SAFETY: both are open; 0 to 2 are nobody's in this process. Unlike its source the copy survives
        // exec; one that is in its place already is told to.
        let placed = unsafe { if from == to { libc::fcntl(to, libc::F_SETFD, 0) } else { libc::dup2(from, to) } };
        if placed < 0 {
            return Err(exec(io::Error::last_os_error()));
        }
    }
    let programs = strings(&order.programs).map_err(exec)?;
    let args = strings(&order.args).map_err(exec)?;
    let env = strings(&order.env).map_err(exec)?;
    let (args, env) = (pointers(&args), pointers(&env));
    // Last of all, so that a signal meets the daemon's dispositions and nothing of ours.
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).map_err(|error| exec(error.into()))?;
    let mut denied = false;
    let mut last = libc::ENOENT;
    for program in &programs {
        // SAFETY: NUL-terminated strings and NULL-terminated arrays of such, all alive.
        unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
        last = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
        match last {
            // As execvp(3): go on looking, but remember that there was one that may not be run.
            libc::EACCES => denied = true,
            libc::ENOENT | libc::ENOTDIR => {}
            _ => break,
        }
    }
    let absent = matches!(last, libc::ENOENT | libc::ENOTDIR);
    Err(exec(io::Error::from_raw_os_error(if denied && absent { libc::EACCES } else { last })))
}

/// If the keeper is killed, its leader must not live on unwatched. Works because a keeper has one
/// thread (prctl(2): the signal comes when the *thread* that forked ends).
#[cfg(target_os = "linux")]
fn die_with(keeper: i32) -> io::Result<()> {
    // SAFETY: integers only.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if nix::unistd::getppid().as_raw() != keeper {
        // SAFETY: as above; the keeper died before the request was in force.
        unsafe { libc::_exit(127) };
    }
    Ok(())
}

#[cfg(target_os = "macos")]
fn die_with(_keeper: i32) -> io::Result<()> {
    Ok(())
}

/// Node ignores SIGPIPE and SIGXFSZ, and what is ignored stays ignored over exec.
fn default_dispositions() {
    for signal in 1..=64 {
        reset(signal);
    }
}

/// Past the C library, which keeps two signals to itself and leaves them ignored in what it spawns.
#[cfg(target_os = "linux")]
fn reset(signal: libc::c_int) {
    /// At least as long as the kernel's `struct sigaction` of any of our machines; all zeros say
    /// SIG_DFL, no flags, an empty mask.
    const DEFAULT: [u64; 4] = [0; 4];
    // SAFETY: the structure outlives the call, and 8 is the size of the kernel's signal sets. SIGKILL and
    // SIGSTOP are refused, which is fine.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), ptr::null_mut::<u64>(), 8) };
}

#[cfg(target_os = "macos")]
fn reset(signal: libc::c_int) {
    // SAFETY: resets a disposition; the numbers that no handler may be set for are refused, which is fine.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

fn strings(list: &[&[u8]]) -> io::Result<Vec<CString>> {
    list.iter().map(|bytes| CString::new(*bytes).map_err(io::Error::from)).collect()
}

fn pointers(list: &[CString]) -> Vec<*const libc::c_char> {
    list.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}
