//! Makes the host's process.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ally_base::text::io_text;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout_at};

use super::link::Target;
use crate::error::Failure;
use crate::sharing::place::{Place, write_note};
use crate::supervisor::runtime;

/// The first argument of the program, for this role.
pub const ROLE: &str = "host";

/// Makes the socket and a host that listens at it. `lock`: held by this process. Returns when the host serves.
///
/// # Errors
/// `Spawn` or `Unsupported`: the program can't be run. `Io`: the socket can't be made. `HostSilent`: the host has ended, or does not
/// serve in time.
pub async fn spawn_host(place: &Place, lock: File, target: &Target, deadline: Instant) -> Result<(), Failure> {
    // Until the host has written its own.
    write_note(&lock, target.program.build).map_err(|error| Failure::call("write", place.path(), error))?;
    let listener = place.bind()?;
    let failed = |error: io::Error| Failure::guardian(&target.program.path, &error);
    let (ours, theirs) = StdStream::pair().map_err(failed)?;
    // By the standard descriptors: then std uses posix_spawn, which copies no page tables of Node's heap.
    let child = Command::new(&target.program.path)
        .arg(ROLE)
        .arg(&target.envs_dir)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::from(OwnedFd::from(lock)))
        .stderr(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .map_err(failed)?;
    // It forks the host, so that the host is no child of this process, and ends at once.
    drop(runtime::spawn(reap(child)));
    ours.set_nonblocking(true).map_err(failed)?;
    let mut report = UnixStream::from_std(ours).map_err(failed)?;
    let mut text = Vec::new();
    // The host closes the stream when it serves.
    let ended = timeout_at(deadline, report.read_to_end(&mut text)).await;
    match (ended, text.as_slice()) {
        (Ok(Ok(_)), b"serves") => Ok(()),
        (Ok(Ok(_)), []) => Err(Failure::HostSilent { problem: "the host of shared daemons has ended before it served".to_owned() }),
        (Ok(Ok(_)), problem) => {
            Err(Failure::HostSilent { problem: format!("the host of shared daemons can't serve: {}", String::from_utf8_lossy(problem)) })
        }
        (Ok(Err(error)), _) => {
            Err(Failure::HostSilent { problem: format!("the host of shared daemons can't be watched: {}", io_text(&error)) })
        }
        (Err(_), _) => Err(Failure::HostSilent { problem: "the host of shared daemons does not serve in time".to_owned() }),
    }
}

/// Reaps the starter, which has ended, or is about to.
async fn reap(mut child: Child) {
    while matches!(child.try_wait(), Ok(None)) {
        sleep(Duration::from_millis(2)).await;
    }
}
