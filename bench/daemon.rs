//! The benchmark's daemon: as little as a daemon can do, so that what is measured is the manager.
//!
//! ```text
//! bench-daemon               listens at SOCKET_PATH, accepts and hangs up; unlinks and exits on SIGTERM
//!   --flood MIB              on SIGUSR1 writes that much to stdout, in lines of 100 bytes;
//!                            without SOCKET_PATH at once, and that was all
//!   --spawn COUNT FOLDER     posix_spawn alone: makes COUNT daemons, and ends them at the end of stdin
//!   --dial                   connects to SOCKET_PATH without a pause until it can
//! ```
//!
//! What happens is appended to the file BENCH_STAMP, where that is set: a word, CLOCK_REALTIME in
//! microseconds and the pid, one line each.

use std::ffi::{CString, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{FromRawFd, IntoRawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};

const LINE: usize = 100;
/// As many lines as fit a pipe.
const BLOCK: usize = 655 * LINE;

/// Both for the signal handler, which can't be handed anything.
static STAMPS: AtomicI32 = AtomicI32::new(-1);
static SOCKET: AtomicPtr<libc::c_char> = AtomicPtr::new(ptr::null_mut());

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let mode = args.next();
    let number = args.next().and_then(|text| text.parse::<usize>().ok()).unwrap_or_default();
    let socket = std::env::var_os("SOCKET_PATH");
    if let Some(path) = std::env::var_os("BENCH_STAMP") {
        STAMPS.store(OpenOptions::new().append(true).create(true).open(path)?.into_raw_fd(), Ordering::Relaxed);
    }
    match (mode.as_deref(), socket) {
        (Some("--spawn"), _) => spawn(number, &args.next().unwrap_or_default()),
        (Some("--dial"), Some(socket)) => {
            while UnixStream::connect(&socket).is_err() {}
            stamp(b"connected ");
            Ok(())
        }
        (Some("--flood"), None) => flood(number),
        (mode, Some(socket)) => serve(socket, (mode == Some("--flood")).then_some(number)),
        (_, None) => Err(io::Error::other("SOCKET_PATH is not set")),
    }
}

fn serve(socket: OsString, mib: Option<usize>) -> io::Result<()> {
    let text = CString::new(socket.clone().into_vec())?;
    SOCKET.store(text.into_raw(), Ordering::Relaxed);
    let handler: extern "C" fn(libc::c_int) = end;
    // SAFETY: the handler calls nothing but what signal-safety(7) lists.
    unsafe { libc::signal(libc::SIGTERM, handler as libc::sighandler_t) };
    if let Some(mib) = mib {
        flood_when_told(mib);
    }
    if let Err(error) = std::fs::remove_file(&socket)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let listener = UnixListener::bind(&socket)?;
    stamp(b"listen ");
    listener.incoming().for_each(drop);
    Ok(())
}

extern "C" fn end(_signal: libc::c_int) {
    stamp(b"asked ");
    // SAFETY: a NUL-terminated string that is never freed.
    unsafe { libc::unlink(SOCKET.load(Ordering::Relaxed)) };
    stamp(b"exit ");
    // SAFETY: ends the process.
    unsafe { libc::_exit(0) };
}

/// Without allocating, because a signal handler calls it.
fn stamp(word: &[u8]) {
    let fd = STAMPS.load(Ordering::Relaxed);
    if fd < 0 {
        return;
    }
    let mut now = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: writes to the struct that it is given; the clock exists.
    let now = unsafe {
        libc::clock_gettime(libc::CLOCK_REALTIME, now.as_mut_ptr());
        now.assume_init()
    };
    let mut line = [b' '; 48];
    line[..word.len()].copy_from_slice(word);
    let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
    let end = word.len() + 24;
    digits(&mut line[word.len()..word.len() + 16], micros);
    digits(&mut line[word.len() + 17..end], std::process::id().into());
    line[end] = b'\n';
    // SAFETY: a live buffer of at least `end` bytes. A stamp that can't be written is missed by its reader.
    unsafe { libc::write(fd, line.as_ptr().cast(), end + 1) };
}

fn digits(place: &mut [u8], mut number: i64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn flood_when_told(mib: usize) {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is initialised before it is used; the mask is this thread's and those it makes.
    let set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGUSR1);
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut());
        set.assume_init()
    };
    std::thread::spawn(move || {
        let mut signal = 0;
        // SAFETY: both are alive for the call.
        while unsafe { libc::sigwait(&raw const set, &raw mut signal) } == 0 {
            if flood(mib).is_err() {
                return;
            }
        }
    });
}

fn flood(mib: usize) -> io::Result<()> {
    // SAFETY: descriptor 1 is stdout, and is not closed here. Not through io::stdout, which looks for newlines.
    let mut stdout = ManuallyDrop::new(unsafe { File::from_raw_fd(1) });
    let mut line = [b'.'; LINE];
    line[LINE - 1] = b'\n';
    let block = line.repeat(BLOCK / LINE);
    let mut left = mib * 1024 * 1024 / LINE * LINE - LINE;
    stamp(b"begin ");
    while left > 0 {
        let count = left.min(BLOCK);
        stdout.write_all(&block[..count])?;
        left -= count;
    }
    line[..7].copy_from_slice(b"the end");
    stdout.write_all(&line)?;
    stamp(b"done ");
    Ok(())
}

/// std takes posix_spawn(3) for a child that is only given an environment.
fn spawn(count: usize, folder: &str) -> io::Result<()> {
    let own = std::env::current_exe()?;
    let mut daemons = Vec::<Child>::with_capacity(count);
    stamp(b"begin ");
    for index in 0..count {
        let place = format!("{folder}/p{index}");
        daemons.push(Command::new(&own).env("SOCKET_PATH", format!("{place}.sock")).env("BENCH_STAMP", format!("{place}.stamp")).spawn()?);
    }
    stamp(b"done ");
    io::stdin().read_to_end(&mut Vec::new())?;
    for daemon in &daemons {
        // SAFETY: integers only; a child of ours that has not been reaped.
        unsafe { libc::kill(daemon.id().cast_signed(), libc::SIGTERM) };
    }
    daemons.iter_mut().try_for_each(|daemon| daemon.wait().map(drop))
}
