//! The process of the host: detached from the session that made it, with nothing of it but the socket, the lock and its sandbox.
//!
//! ```text
//!   session ── spawn ──▶ starter ── fork, ends ──▶ host ── guardian ── keeper ── daemon
//! ```
//!
//! The session gives the listener as descriptor 0, the lock as descriptor 1, and a stream as descriptor 2, on which the host reports
//! that it serves.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{self, ExitCode};

use ally_build_id::{BUILD_ID, VERSION};
use ally_core::sharing::host::{HostOptions, Shutdown, inherited, serve, write_note};
use ally_core::supervisor::{GuardianProgram, spawn, start};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{ForkResult, chdir, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};

/// Runs the host until it leaves. The descriptors above 2 are closed already.
pub fn run(envs_dir: PathBuf) -> ExitCode {
    match begin(envs_dir) {
        Ok(code) => code,
        Err(error) => {
            eprint!("{error}");
            ExitCode::from(2)
        }
    }
}

fn begin(envs_dir: PathBuf) -> io::Result<ExitCode> {
    // SAFETY: this process has one thread.
    if let ForkResult::Parent { .. } = unsafe { fork() }? {
        return Ok(ExitCode::SUCCESS);
    }
    let listener = UnixListener::from(inherited(0)?);
    let lock = File::from(inherited(1)?);
    let mut report = File::from(inherited(2)?);
    detach()?;
    write_note(&lock, BUILD_ID)?;
    // The program as it runs: an update or a removal of the package changes nothing for this host.
    let path = if cfg!(target_os = "linux") { PathBuf::from("/proc/self/exe") } else { std::env::current_exe()? };
    let guardian = GuardianProgram { path, version: VERSION, build: BUILD_ID };
    start()?;
    let options = HostOptions { envs_dir, guardian, lock, listener };
    let shutdown = Shutdown::default();
    let requested = shutdown.clone();
    let serving = spawn(async move {
        // The closure owns the stream, so that the session reads its end after the call.
        let served = serve(options, requested, move |outcome| {
            let text = outcome.map_or_else(ToString::to_string, |()| "serves".to_owned());
            // If the session is gone, nobody reads it.
            drop(report.write_all(text.as_bytes()));
        });
        process::exit(i32::from(served.await.is_err()));
    });
    if serving.is_none() {
        return Ok(ExitCode::FAILURE);
    }
    // As a service: told to end, it ends everything first, and its end ends this wait.
    let mut signals = SigSet::empty();
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().for_each(|signal| signals.add(signal));
    loop {
        signals.wait()?;
        shutdown.request();
    }
}

/// Leaves the session's terminal, folder and descriptors.
fn detach() -> io::Result<()> {
    setsid()?;
    chdir("/")?;
    umask(Mode::from_bits_truncate(0o077));
    let null = OwnedFd::from(File::options().read(true).write(true).open("/dev/null")?);
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: no handler is set.
        unsafe { sigaction(signal, &default) }?;
    }
    // A broken pipe is an error of the call, and signals that end everything are read.
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?;
    // A session that lowered its own score keeps that for itself. A higher one can't be lowered without privileges.
    drop(std::fs::write("/proc/self/oom_score_adj", "0"));
    Ok(())
}
