//! A health check.

use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use tokio::time::{Instant, sleep, sleep_until};

use super::accepted::is_own_error;
use super::question::{Answer, Question};
use super::{ProbedDaemon, ReadinessStatus};
use crate::config::Health;
use crate::model::ProbeRole;
use crate::supervisor::TARGET;
use ally_base::os;
use ally_base::text::errno_text;

/// If the listener's queue is full, connect(2) is repeated: the kernel has no event for a free place.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(5);
/// If the daemon was asked between two system calls.
const TOO_EARLY_PAUSE: Duration = Duration::from_millis(1);
/// If the check could not be made, for example because of EMFILE.
const NOT_MADE_PAUSE: Duration = Duration::from_millis(200);

pub struct HealthCheck {
    pub latency: Duration,
    pub outcome: Result<(), String>,
}

/// Repeats a check that could not be made: EMFILE in this process is no failure of the daemon.
pub async fn check(path: &Path, health: &Health, daemon: &ProbedDaemon) -> HealthCheck {
    let mut logged = false;
    loop {
        let begun = Instant::now();
        match ask(path, health, daemon, begun + health.timeout).await {
            Ok(outcome) => return HealthCheck { latency: begun.elapsed(), outcome },
            Err(NotMade(reason)) => {
                if !std::mem::replace(&mut logged, true) {
                    tracing::warn!(target: TARGET, pid = daemon.leader, reason, "a health check can't be made; trying until it can");
                }
                sleep(NOT_MADE_PAUSE).await;
            }
        }
    }
}

/// With the reason.
struct NotMade(String);

/// Asks until the deadline, as long as another try may pass at once.
async fn ask(path: &Path, health: &Health, daemon: &ProbedDaemon, deadline: Instant) -> Result<Result<(), String>, NotMade> {
    let status = ReadinessStatus::default();
    let mut question = Question::new(ProbeRole::Health, path, &health.probe, daemon);
    let timeout = health.timeout.as_millis();
    loop {
        let late = Instant::now() >= deadline;
        let (reason, pause) = match question.ask(&status, deadline).await {
            // If the daemon has changed its user, its descriptors are unreadable, and no holder is found.
            Answer::Passed | Answer::NoHolder(_) => return Ok(Ok(())),
            Answer::Failed(reason) | Answer::Refused(reason) => return Ok(Err(reason)),
            Answer::NotAccepted => return Ok(Err(format!("the connection was not accepted within {timeout} ms"))),
            Answer::NotListening => return Ok(Err(format!("nobody listens at {}", path.display()))),
            Answer::Other(pid) => return Ok(Err(format!("another process answers at {} (pid {pid})", path.display()))),
            Answer::NotMade(reason) => return Err(NotMade(reason)),
            Answer::Unjudged(problem) => return Err(NotMade(format!("who answers can't be found out ({problem})"))),
            Answer::TooEarly(reason) => (reason, TOO_EARLY_PAUSE),
            Answer::Unreachable(error) if is_queue_full(error, path, daemon) => {
                (format!("the socket's queue stayed full for {timeout} ms"), QUEUE_FULL_PAUSE)
            }
            Answer::Unreachable(error) if is_own_error(&error.into()) => return Err(NotMade(errno_text(error as i32))),
            Answer::Unreachable(error) => return Ok(Err(format!("{} ({})", errno_text(error as i32), path.display()))),
        };
        if late {
            return Ok(Err(reason));
        }
        sleep_until(deadline.min(Instant::now() + pause)).await;
    }
}

fn is_queue_full(error: Errno, path: &Path, daemon: &ProbedDaemon) -> bool {
    error == Errno::EAGAIN || (error == Errno::ECONNREFUSED && os::refuses_when_full(path, daemon.keeper, daemon.leader))
}
