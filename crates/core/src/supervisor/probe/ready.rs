//! Readiness. The question is put until the daemon passes. What can make it pass wakes the next try, as far as there is an event:
//! [`Wakeups`].

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use tokio::time::Instant;

use super::ProbedDaemon;
use super::question::{Answer, Question};
use super::schedule::Schedule;
use super::wakeups::Wakeups;
use crate::config::Probe;
use crate::error::{Failure, Occupant};
use crate::model::{Pid, ProbeRole};
use crate::supervisor::output::LineMatch;
use crate::supervisor::socket::SocketFileId;
use ally_base::text::errno_text;

/// The longest wait of one try, for example for the accept of a connection.
const TRY_MAX: Duration = Duration::from_secs(1);

/// A try that takes longer than this is the reason of a timeout, in the place of the last one that failed.
const TRY_LONG: Duration = Duration::from_millis(100);

/// The reason of the last failed try, for the message of ERR_STARTUP_TIMEOUT.
#[derive(Debug, Clone, Default)]
pub struct ReadinessStatus {
    tries: Arc<Mutex<Tries>>,
    /// The search of probe `output`, which counts lines without a try.
    lines: Option<Arc<LineMatch>>,
}

#[derive(Debug, Default)]
struct Tries {
    last: Option<String>,
    /// The try that waits for the daemon, with what it waits for.
    waiting: Option<(Instant, String)>,
}

impl ReadinessStatus {
    pub fn new(lines: Option<Arc<LineMatch>>) -> Self {
        Self { tries: Arc::default(), lines }
    }

    pub fn last(&self) -> Option<String> {
        if let Some(lines) = &self.lines {
            return Some(format!("{} (probe output)", lines.problem()));
        }
        let tries = self.lock();
        let waiting = tries.waiting.as_ref().filter(|(since, _)| tries.last.is_none() || since.elapsed() > TRY_LONG);
        waiting.map(|(_, reason)| reason).or(tries.last.as_ref()).cloned()
    }

    pub fn set(&self, reason: String) {
        *self.lock() = Tries { last: Some(reason), waiting: None };
    }

    /// The try waits for the daemon from now on. `reason`: of a timeout in this time.
    pub fn wait(&self, reason: String) {
        self.lock().waiting = Some((Instant::now(), reason));
    }

    /// The try that waits has another reason from now on.
    pub fn waits_because(&self, reason: String) {
        if let Some((_, former)) = &mut self.lock().waiting {
            *former = reason;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tries> {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until the daemon is ready. The machine limits the time.
///
/// # Errors
/// `SocketInUse` if a process outside the tree answers.
pub async fn await_ready(path: &Path, probe: &Probe, daemon: &ProbedDaemon, status: &ReadinessStatus) -> Result<(), Failure> {
    let mut wakeups = Wakeups::of(probe, path, status.lines.clone());
    let mut question = Question::new(ProbeRole::Readiness, path, probe, daemon, status.lines.clone());
    let mut schedule = Schedule::default();
    loop {
        match question.ask(status, Instant::now() + TRY_MAX).await {
            Answer::Passed => {
                // Closed, because there may be no health check that would ask about it.
                drop(daemon.take_waiting());
                return Ok(());
            }
            Answer::Other(pid) => return Err(in_use(path.display().to_string(), pid)),
            Answer::OtherAtPort { at, pid } => return Err(in_use(at, pid)),
            Answer::NoHolder(reason) => {
                status.set(reason);
                schedule.pause_after_search().await;
            }
            Answer::Unjudged(problem) => {
                status.set(format!("who answers there can't be found out: {problem}"));
                schedule.pause_after_search().await;
            }
            Answer::Unreachable(Errno::ENOENT | Errno::ENOTDIR) => {
                status.set("there is no such file".to_owned());
                schedule.restart();
                wakeups.folder_changed().await;
            }
            Answer::Unreachable(error) => {
                status.set(unreachable(error));
                schedule.pause().await;
            }
            Answer::NotListening => {
                status.set(unreachable(Errno::ECONNREFUSED));
                schedule.pause().await;
            }
            Answer::NotAccepted => schedule.pause().await,
            Answer::NoConnection(reason) => {
                status.set(reason);
                schedule.pause_after_port().await;
            }
            Answer::Answered(reason) => {
                status.set(reason);
                schedule.pause_after_answer().await;
            }
            Answer::NoNews { due } => wakeups.news(due).await,
            Answer::Failed(reason) | Answer::TooEarly(reason) | Answer::NotMade(reason) => {
                status.set(reason);
                schedule.pause().await;
            }
        }
    }
}

/// Waits until this daemon is ready at a path at which another one may listen first. A try begins whenever the file there is not
/// `former`, which was there before the spawn.
pub async fn await_other_socket(path: &Path, mut former: Option<SocketFileId>, probe: &Probe, daemon: &ProbedDaemon) {
    let mut wakeups = Wakeups::of(probe, path, None);
    loop {
        // After each try, because a change during it is no event for this task.
        let now = SocketFileId::at(path);
        if now == former || now.is_none() {
            wakeups.folder_changed().await;
            continue;
        }
        former = now;
        if await_ready(path, probe, daemon, &ReadinessStatus::default()).await.is_ok() {
            return;
        }
    }
}

fn in_use(path: String, pid: Pid) -> Failure {
    Failure::SocketInUse { path, by: if pid > 0 { Occupant::Process(pid) } else { Occupant::Unknown } }
}

fn unreachable(error: Errno) -> String {
    match error {
        Errno::ECONNREFUSED => "nobody listens on it".to_owned(),
        Errno::EAGAIN => "its queue of connections is full".to_owned(),
        error => format!("it can't be connected to: {}", errno_text(error as i32)),
    }
}
