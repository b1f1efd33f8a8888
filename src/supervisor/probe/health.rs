//! One health check.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use tokio::time::{Instant, sleep, timeout_at};

use super::Daemon;
use super::taken::taken;
use crate::config::{Health, Probe};
use crate::error::errno_text;
use crate::os;
use crate::supervisor::socket::dial;

/// A full queue is tried again: it empties when the daemon accepts, of which nobody else is told.
const QUEUE_FULL: Duration = Duration::from_millis(5);

pub struct Checkup {
    pub latency: Duration,
    pub outcome: Result<(), String>,
}

pub async fn check(path: &Path, health: Health, daemon: Daemon) -> Checkup {
    let begun = Instant::now();
    let deadline = begun + health.timeout;
    let outcome = match timeout_at(deadline, ask(path, health, daemon, deadline)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("the connection was not accepted within {} ms", health.timeout.as_millis())),
    };
    Checkup { latency: begun.elapsed(), outcome }
}

async fn ask(path: &Path, health: Health, daemon: Daemon, deadline: Instant) -> Result<(), String> {
    let client = connect(path, health.timeout, deadline).await?;
    let listener = os::peer_pid(&client).map_err(|error| error.to_string())?;
    if !daemon.includes(listener) && os::start_time(listener).is_some() {
        return Err(format!("another process answers at {} (pid {listener})", path.display()));
    }
    match health.probe {
        Probe::Socket => Ok(()),
        Probe::Accept => taken(&client).await,
    }
}

async fn connect(path: &Path, limit: Duration, deadline: Instant) -> Result<OwnedFd, String> {
    loop {
        match dial(path) {
            Ok(client) => return Ok(client),
            Err(Errno::EAGAIN) if Instant::now() + QUEUE_FULL < deadline => sleep(QUEUE_FULL).await,
            Err(Errno::EAGAIN) => return Err(format!("the socket's queue stayed full for {} ms", limit.as_millis())),
            Err(error) => return Err(format!("{} ({})", errno_text(error as i32), path.display())),
        }
    }
}
