//! The child between fork(2) and execve(2): from a copy of the keeper to the leader of the daemon.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

use ally_base::wire::{Order, Stage};

use super::limits;
use super::sys;

/// The number of the listening socket in the leader: `SD_LISTEN_FDS_START` of sd_listen_fds(3).
const LISTENER: i32 = 3;

/// The open files of the leader, beside /dev/null as its stdin.
pub struct LeaderFiles<'a> {
    /// stdout and stderr.
    pub outputs: [&'a OwnedFd; 2],
    pub listener: Option<&'a OwnedFd>,
}

/// The size of a failure message, which the child writes to the keeper if it can't become the leader. A successful execve(2)
/// closes the pipe without a message.
pub const FAILURE_SIZE: usize = 8;

pub fn encode_failure(stage: Stage, errno: i32) -> [u8; FAILURE_SIZE] {
    let mut out = [0; FAILURE_SIZE];
    out[0] = stage as u8;
    out[4..].copy_from_slice(&errno.to_ne_bytes());
    out
}

pub fn decode_failure(bytes: [u8; FAILURE_SIZE]) -> (Stage, i32) {
    let (stage, errno) = bytes.split_at(4);
    (Stage::of(stage[0]).unwrap_or(Stage::Exec), errno.try_into().map_or(0, i32::from_ne_bytes))
}

/// Does not return: execve(2) succeeds, or the failure is written to `failure` and the child exits.
///
/// `group`: a process group in the POSIX session of the keeper.
pub fn become_daemon(order: &Order, keeper: i32, group: i32, files: &LeaderFiles, mut failure: OwnedFd) -> ! {
    let moved = if files.listener.is_some() { move_away(&mut failure) } else { Ok(()) };
    let (stage, errno) = match moved.map_err(|error| (Stage::Exec, error)).and_then(|()| set_up_and_exec(order, keeper, group, files)) {
        Ok(never) => match never {},
        Err((stage, error)) => (stage, error.raw_os_error().unwrap_or(libc::EINVAL)),
    };
    // EPIPE: the keeper is gone.
    sys::ignore(File::from(failure).write_all(&encode_failure(stage, errno)));
    // SAFETY: _exit(2) runs no exit handlers, which belong to the keeper.
    unsafe { libc::_exit(127) }
}

/// The write end of the failure pipe may have the number that the listening socket gets.
fn move_away(failure: &mut OwnedFd) -> io::Result<()> {
    if failure.as_raw_fd() == LISTENER {
        *failure = nix::fcntl::fcntl(&*failure, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(LISTENER + 1)).map(|raw| {
            // SAFETY: the kernel just opened this descriptor, and no other value owns it.
            unsafe { OwnedFd::from_raw_fd(raw) }
        })?;
    }
    Ok(())
}

fn set_up_and_exec(order: &Order, keeper: i32, group: i32, files: &LeaderFiles) -> Result<std::convert::Infallible, (Stage, io::Error)> {
    let exec = |error: io::Error| (Stage::Exec, error);
    // The keeper does the same, and reaps the process that made the group. The first of both calls counts.
    sys::join_group(0, group).map_err(exec)?;
    set_parent_death_signal(keeper).map_err(exec)?;
    reset_dispositions();
    std::env::set_current_dir(OsStr::from_bytes(order.folder)).map_err(|error| (Stage::Folder, error))?;
    let null = File::open("/dev/null").map_err(exec)?;
    let [stdout, stderr] = files.outputs.map(AsRawFd::as_raw_fd);
    let listener = files.listener.map(|listener| (listener.as_raw_fd(), LISTENER));
    // The listening socket comes last: whatever else has its number is in its place by then.
    for (from, to) in [(null.as_raw_fd(), 0), (stdout, 1), (stderr, 2)].into_iter().chain(listener) {
        // SAFETY: both descriptors are open. No value owns 1 and 2. 0 may be the read end of the failure pipe, and 3 any descriptor but
        // its write end: the child uses neither any more. dup2(2) clears close-on-exec in the copy; if source and target are equal,
        // F_SETFD clears it.
        let placed = unsafe { if from == to { libc::fcntl(to, libc::F_SETFD, 0) } else { libc::dup2(from, to) } };
        if placed < 0 {
            return Err(exec(io::Error::last_os_error()));
        }
    }
    let programs = strings(&order.programs).map_err(exec)?;
    let args = strings(&order.args).map_err(exec)?;
    let mut env = strings(&order.env).map_err(exec)?;
    if files.listener.is_some() {
        env.extend(listening_variables());
    }
    let (args, env) = (pointers(&args), pointers(&env));
    // After all memory and all descriptors: with a low limit there may be no more.
    limits::apply(&order.limits)?;
    // Last: a pending signal then acts on the default dispositions, not on the handlers of the keeper.
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).map_err(|error| exec(error.into()))?;
    let mut denied = false;
    let mut last = libc::ENOENT;
    for program in &programs {
        // SAFETY: the strings are NUL-terminated, the arrays are NULL-terminated, and all are alive.
        unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
        last = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
        match last {
            // As execvp(3): try the next path, and report EACCES if no path can be executed.
            libc::EACCES => denied = true,
            libc::ENOENT | libc::ENOTDIR => {}
            libc::ENOEXEC => {
                run_by_shell(program, &args, &env);
                break;
            }
            _ => break,
        }
    }
    let absent = matches!(last, libc::ENOENT | libc::ENOTDIR);
    Err(exec(io::Error::from_raw_os_error(if denied && absent { libc::EACCES } else { last })))
}

/// sd_listen_fds(3). LISTEN_PID names the leader alone, so a server that the leader starts finds its socket by ALLY_LISTEN_FD.
fn listening_variables() -> impl Iterator<Item = CString> {
    let pid = ally_base::os::own_pid();
    let variables =
        [format!("LISTEN_PID={pid}"), "LISTEN_FDS=1".to_owned(), "LISTEN_FDNAMES=socket".to_owned(), format!("ALLY_LISTEN_FD={LISTENER}")];
    variables.into_iter().filter_map(|variable| CString::new(variable).ok())
}

/// As execvp(3): a text file without a `#!` line runs by /bin/sh. Returns if the file is another one, or if /bin/sh can't be
/// executed.
fn run_by_shell(program: &CStr, args: &[*const libc::c_char], env: &[*const libc::c_char]) {
    if !File::open(OsStr::from_bytes(program.to_bytes())).is_ok_and(|file| is_shell_script(&file)) {
        return;
    }
    let shell = c"/bin/sh";
    let words = [shell.as_ptr(), program.as_ptr()];
    // Without arguments, only the NULL at the end of `args` follows.
    let args: Vec<_> = words.into_iter().chain(args.get(1..).unwrap_or(&[ptr::null()]).iter().copied()).collect();
    // SAFETY: as for the execve(2) of the file itself.
    unsafe { libc::execve(shell.as_ptr(), args.as_ptr(), env.as_ptr()) };
}

/// As bash judges: the file is not empty, does not begin with `#!`, and the start of its first line holds neither a NUL nor the
/// magic number of an executable.
fn is_shell_script(file: &File) -> bool {
    const START: u64 = 128;
    /// ELF; Mach-O of 32 and 64 bits in both byte orders; universal binaries of 32 and 64 bits.
    const MAGIC: [[u8; 4]; 7] = [
        *b"\x7fELF",
        0xfeed_face_u32.to_be_bytes(),
        0xfeed_facf_u32.to_be_bytes(),
        0xfeed_face_u32.to_le_bytes(),
        0xfeed_facf_u32.to_le_bytes(),
        0xcafe_babe_u32.to_be_bytes(),
        0xcafe_babf_u32.to_be_bytes(),
    ];
    let mut start = Vec::new();
    if file.take(START).read_to_end(&mut start).is_err() || start.is_empty() || start.starts_with(b"#!") {
        return false;
    }
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    !line.contains(&0) && !MAGIC.iter().any(|magic| line.starts_with(magic))
}

/// If the keeper is killed, the kernel kills this child of it, the leader or a probe keeper. PR_SET_PDEATHSIG acts at the end of the *thread* that forked (prctl(2)),
/// which is the end of the keeper because a keeper has one thread.
#[cfg(target_os = "linux")]
pub fn set_parent_death_signal(keeper: i32) -> io::Result<()> {
    // SAFETY: integers only.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if nix::unistd::getppid().as_raw() != keeper {
        // SAFETY: _exit(2) runs no exit handlers. The keeper died before PR_SET_PDEATHSIG was set.
        unsafe { libc::_exit(127) };
    }
    Ok(())
}

#[cfg(target_os = "macos")]
#[expect(clippy::unnecessary_wraps, reason = "the signature of Linux")]
pub fn set_parent_death_signal(_keeper: i32) -> io::Result<()> {
    Ok(())
}

/// An ignored signal stays ignored over execve(2). Node ignores SIGPIPE and SIGXFSZ.
fn reset_dispositions() {
    for signal in 1..=64 {
        reset_disposition(signal);
    }
}

/// By rt_sigaction(2) directly: glibc's sigaction(2) refuses the two signals that glibc reserves, and posix_spawn(3) leaves these
/// two ignored in the guardian.
#[cfg(target_os = "linux")]
fn reset_disposition(signal: libc::c_int) {
    /// At least as long as the kernel's `struct sigaction` on x64 and arm64. All zeros: SIG_DFL, no flags, an empty mask.
    const DEFAULT: [u64; 4] = [0; 4];
    // SAFETY: the structure outlives the call, and 8 is the size of the kernel's sigset_t. For SIGKILL and SIGSTOP the call fails
    // and changes nothing.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), ptr::null_mut::<u64>(), 8) };
}

#[cfg(target_os = "macos")]
fn reset_disposition(signal: libc::c_int) {
    // SAFETY: SIG_DFL is a valid disposition. For SIGKILL, SIGSTOP and unknown numbers the call fails and changes nothing.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

fn strings(list: &[&[u8]]) -> io::Result<Vec<CString>> {
    list.iter().map(|bytes| CString::new(*bytes).map_err(io::Error::from)).collect()
}

fn pointers(list: &[CString]) -> Vec<*const libc::c_char> {
    list.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}
