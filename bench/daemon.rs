//! The benchmark's daemon. It does as little as possible, so that the manager is measured.
//!
//! ```text
//! bench-daemon               listens at SOCKET_PATH, accepts and closes; on SIGTERM unlinks the socket and exits
//!   --flood MIB              on SIGUSR1 writes MIB to stdout, in lines of 100 bytes;
//!                            without SOCKET_PATH writes at once, and exits
//!   --workers COUNT          forks so many children, which sleep
//!   --delay MS               listens so many milliseconds later
//!   --spawn COUNT FOLDER     posix_spawn alone: spawns COUNT daemons, and ends them at the end of stdin
//!   --http                   the same, and answers each request with 200
//!   --port PORT              listens at 127.0.0.1:PORT in place of SOCKET_PATH, and answers each request with 200
//!   --line                   prints `ready`, and listens nowhere
//!   --notify                 sends READY=1 to NOTIFY_SOCKET, if it is set, and waits
//!   --dial                   connects to SOCKET_PATH without a pause until a connection succeeds
//! ```
//!
//! If BENCH_STAMP is set, the daemon appends a line to this file for each event: a word, CLOCK_REALTIME
//! in microseconds, the pid.

use std::ffi::{CString, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::net::TcpListener;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Child, Command};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};
use std::time::Duration;

const LINE: usize = 100;
/// The number of whole lines that fit a pipe of 64 KiB.
const BLOCK: usize = 655 * LINE;

/// Static, because a signal handler has no argument for them.
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
        (Some("--notify"), _) => notify(),
        (Some("--flood"), None) => flood(number),
        (Some("--line"), _) => line(),
        (Some("--port"), _) => serve_port(number),
        (Some("--workers"), Some(socket)) => {
            fork_workers(number);
            serve(socket, None, false)
        }
        (Some("--delay"), Some(socket)) => {
            std::thread::sleep(Duration::from_millis(number as u64));
            serve(socket, None, false)
        }
        (mode, Some(socket)) => serve(socket, (mode == Some("--flood")).then_some(number), mode == Some("--http")),
        (_, None) => Err(io::Error::other("SOCKET_PATH is not set")),
    }
}

fn fork_workers(count: usize) {
    for _ in 0..count {
        // SAFETY: this process has one thread.
        if unsafe { libc::fork() } == 0 {
            loop {
                // SAFETY: no arguments.
                unsafe { libc::pause() };
            }
        }
    }
}

fn serve(socket: OsString, mib: Option<usize>, http: bool) -> io::Result<()> {
    let text = CString::new(socket.clone().into_vec())?;
    SOCKET.store(text.into_raw(), Ordering::Relaxed);
    let handler: extern "C" fn(libc::c_int) = end;
    // SAFETY: the handler calls only functions of signal-safety(7).
    unsafe { libc::signal(libc::SIGTERM, handler as libc::sighandler_t) };
    if let Some(mib) = mib {
        flood_on_sigusr1(mib);
    }
    if let Err(error) = std::fs::remove_file(&socket)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let listener = UnixListener::bind(&socket)?;
    stamp(b"listen ");
    listener.incoming().flatten().filter(|_| http).for_each(answer);
    Ok(())
}

fn serve_port(port: usize) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", u16::try_from(port).map_err(io::Error::other)?))?;
    stamp(b"listen ");
    listener.incoming().flatten().for_each(answer);
    Ok(())
}

/// A probe may close its connection at any time.
fn answer(mut connection: impl Read + Write) {
    if connection.read(&mut [0; 1024]).is_ok_and(|count| count > 0) {
        drop(connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    }
}

fn line() -> io::Result<()> {
    stamp(b"listen ");
    io::stdout().write_all(b"ready\n")?;
    loop {
        std::thread::park();
    }
}

fn notify() -> io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    stamp(b"ready ");
    if let Some(path) = std::env::var_os("NOTIFY_SOCKET") {
        sender.send_to(b"READY=1", path)?;
    }
    loop {
        std::thread::park();
    }
}

extern "C" fn end(_signal: libc::c_int) {
    stamp(b"asked ");
    // SAFETY: a NUL-terminated string that is never freed.
    unsafe { libc::unlink(SOCKET.load(Ordering::Relaxed)) };
    stamp(b"exit ");
    // SAFETY: ends the process.
    unsafe { libc::_exit(0) };
}

/// Does not allocate, because a signal handler calls it.
fn stamp(word: &[u8]) {
    let fd = STAMPS.load(Ordering::Relaxed);
    if fd < 0 {
        return;
    }
    let mut now = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: `now` is writable; the clock exists.
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
    // SAFETY: a live buffer of more than `end` bytes. If the write fails, the reader of the stamps times out.
    unsafe { libc::write(fd, line.as_ptr().cast(), end + 1) };
}

fn digits(place: &mut [u8], mut number: i64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn flood_on_sigusr1(mib: usize) {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is initialised before its use; the mask is that of this thread and its later threads.
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
    // SAFETY: descriptor 1 is stdout, and is not closed here. io::stdout would search for newlines.
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

/// std uses posix_spawn(3) if a child only has an environment set.
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
        // SAFETY: integers only; a child of this process that is not reaped.
        unsafe { libc::kill(daemon.id().cast_signed(), libc::SIGTERM) };
    }
    daemons.iter_mut().try_for_each(|daemon| daemon.wait().map(drop))
}
