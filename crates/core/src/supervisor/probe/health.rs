//! One health check.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use tokio::time::{Instant, sleep, sleep_until};

use super::accepted::{Refused, is_own_error, wait_accepted};
use super::{Answering, ProbedDaemon};
use crate::config::{Health, Probe};
use crate::supervisor::TARGET;
use crate::supervisor::socket::dial;
use ally_base::os;
use ally_base::text::{errno_text, io_text};

/// A full queue is tried again: it gets room when the daemon accepts, for which the kernel has no event.
const QUEUE_FULL: Duration = Duration::from_millis(5);
const HUNG_UP: Duration = Duration::from_millis(1);
/// If the check could not be made, mostly for want of descriptors.
const RETRY_UNASKED: Duration = Duration::from_millis(200);

pub struct HealthCheck {
    pub latency: Duration,
    pub outcome: Result<(), String>,
}

/// Tries until the check could be made: an error of this process says nothing about the daemon.
pub async fn check(path: &Path, health: Health, daemon: &ProbedDaemon) -> HealthCheck {
    let mut logged = false;
    loop {
        let begun = Instant::now();
        let outcome = match ask(path, health, daemon, begun + health.timeout).await {
            Ok(()) => Ok(()),
            Err(Refused::By(reason)) => Err(reason),
            Err(Refused::Late) => Err(format!("the connection was not accepted within {} ms", health.timeout.as_millis())),
            Err(Refused::Unasked(reason)) => {
                if !std::mem::replace(&mut logged, true) {
                    tracing::warn!(target: TARGET, pid = daemon.leader, reason, "a health check can't be made; trying until it can");
                }
                sleep(RETRY_UNASKED).await;
                continue;
            }
        };
        return HealthCheck { latency: begun.elapsed(), outcome };
    }
}

async fn ask(path: &Path, health: Health, daemon: &ProbedDaemon, deadline: Instant) -> Result<(), Refused> {
    let (client, listener) = loop {
        let client = connect(path, health.timeout, daemon, deadline).await?;
        match os::peer_pid(&client) {
            Ok(listener) => break (client, listener),
            // The daemon has hung up already. Only macOS forgets the peer so soon.
            Err(error) if error.kind() == io::ErrorKind::NotConnected && Instant::now() < deadline => sleep(HUNG_UP).await,
            Err(error) => return Err(Refused::By(io_text(&error))),
        }
    };
    match daemon.who_answers(listener, path) {
        // No holder is seen: a daemon that has changed its user shows none.
        Ok(Answering::Ours | Answering::Nobody) => {}
        Ok(Answering::Other(pid)) => return Err(Refused::By(format!("another process answers at {} (pid {pid})", path.display()))),
        Err(error) => return Err(Refused::Unasked(format!("who answers can't be found out ({})", io_text(&error)))),
    }
    match health.probe {
        Probe::Socket => Ok(()),
        Probe::Accept => wait_accepted(&client, deadline).await,
    }
}

async fn connect(path: &Path, limit: Duration, daemon: &ProbedDaemon, deadline: Instant) -> Result<OwnedFd, Refused> {
    loop {
        let late = Instant::now() >= deadline;
        let error = match dial(path) {
            Ok(client) => return Ok(client),
            Err(error) => error,
        };
        let full = error == Errno::EAGAIN || (error == Errno::ECONNREFUSED && os::refuses_when_full(path, daemon.keeper, daemon.leader));
        if full && late {
            return Err(Refused::By(format!("the socket's queue stayed full for {} ms", limit.as_millis())));
        } else if full {
            sleep_until(deadline.min(Instant::now() + QUEUE_FULL)).await;
        } else if is_own_error(&error.into()) {
            return Err(Refused::Unasked(errno_text(error as i32)));
        } else {
            return Err(Refused::By(format!("{} ({})", errno_text(error as i32), path.display())));
        }
    }
}
