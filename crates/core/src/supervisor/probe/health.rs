//! A health check.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use tokio::time::{Instant, sleep, sleep_until};

use super::accepted::{ProbeError, is_own_error, wait_accepted};
use super::{Answering, ProbedDaemon};
use crate::config::{Health, Probe};
use crate::supervisor::TARGET;
use crate::supervisor::socket::dial;
use ally_base::os;
use ally_base::text::{errno_text, io_text};

/// If the listener's queue is full, connect(2) is repeated: the kernel has no event for a free place.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(5);
/// If the daemon closed the connection before its peer was read.
const CLOSED_PAUSE: Duration = Duration::from_millis(1);
/// If the check could not be made, for example because of EMFILE.
const NOT_MADE_PAUSE: Duration = Duration::from_millis(200);

pub struct HealthCheck {
    pub latency: Duration,
    pub outcome: Result<(), String>,
}

/// Repeats a check that could not be made: EMFILE in this process is no failure of the daemon.
pub async fn check(path: &Path, health: Health, daemon: &ProbedDaemon) -> HealthCheck {
    let mut logged = false;
    loop {
        let begun = Instant::now();
        let outcome = match ask(path, health, daemon, begun + health.timeout).await {
            Ok(()) => Ok(()),
            Err(ProbeError::Failed(reason)) => Err(reason),
            Err(ProbeError::TimedOut) => Err(format!("the connection was not accepted within {} ms", health.timeout.as_millis())),
            Err(ProbeError::NotMade(reason)) => {
                if !std::mem::replace(&mut logged, true) {
                    tracing::warn!(target: TARGET, pid = daemon.leader, reason, "a health check can't be made; trying until it can");
                }
                sleep(NOT_MADE_PAUSE).await;
                continue;
            }
        };
        return HealthCheck { latency: begun.elapsed(), outcome };
    }
}

async fn ask(path: &Path, health: Health, daemon: &ProbedDaemon, deadline: Instant) -> Result<(), ProbeError> {
    let (client, listener) = loop {
        let client = connect(path, health.timeout, daemon, deadline).await?;
        match os::peer_pid(&client) {
            Ok(listener) => break (client, listener),
            // The daemon has closed the connection. Only macOS then reports ENOTCONN for the peer.
            Err(error) if error.kind() == io::ErrorKind::NotConnected && Instant::now() < deadline => sleep(CLOSED_PAUSE).await,
            Err(error) => return Err(ProbeError::Failed(io_text(&error))),
        }
    };
    match daemon.answering_process(listener, path) {
        // If the daemon has changed its user, its descriptors are unreadable, and no holder is found.
        Ok(Answering::Daemon | Answering::NoHolder) => {}
        Ok(Answering::Other(pid)) => return Err(ProbeError::Failed(format!("another process answers at {} (pid {pid})", path.display()))),
        Err(error) => return Err(ProbeError::NotMade(format!("who answers can't be found out ({})", io_text(&error)))),
    }
    match health.probe {
        Probe::Socket => Ok(()),
        Probe::Accept => wait_accepted(&client, deadline).await,
    }
}

async fn connect(path: &Path, limit: Duration, daemon: &ProbedDaemon, deadline: Instant) -> Result<OwnedFd, ProbeError> {
    loop {
        let late = Instant::now() >= deadline;
        let error = match dial(path) {
            Ok(client) => return Ok(client),
            Err(error) => error,
        };
        let full = error == Errno::EAGAIN || (error == Errno::ECONNREFUSED && os::refuses_when_full(path, daemon.keeper, daemon.leader));
        if full && late {
            return Err(ProbeError::Failed(format!("the socket's queue stayed full for {} ms", limit.as_millis())));
        } else if full {
            sleep_until(deadline.min(Instant::now() + QUEUE_FULL_PAUSE)).await;
        } else if is_own_error(&error.into()) {
            return Err(ProbeError::NotMade(errno_text(error as i32)));
        } else {
            return Err(ProbeError::Failed(format!("{} ({})", errno_text(error as i32), path.display())));
        }
    }
}
