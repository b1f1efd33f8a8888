//! Readiness. A folder watch (inotify, kqueue) reports a new file in the socket's folder, and the question is put until the
//! daemon passes.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use tokio::time::{Instant, sleep, timeout};

use super::ProbedDaemon;
use super::question::{Answer, Question};
use super::schedule::{LONG_PAUSE, Schedule};
use crate::config::Probe;
use crate::error::{Failure, Occupant};
use crate::model::ProbeRole;
use crate::supervisor::runtime::FolderChanges;
use ally_base::text::errno_text;

/// The longest wait of one try, for example for the accept of a connection.
const TRY_MAX: Duration = Duration::from_secs(1);
/// Some file systems report no events (some overlays, network mounts), so the probe runs at this interval too.
const EVENT_TIMEOUT: Duration = Duration::from_millis(250);

/// The reason of the last failed try, for the message of ERR_STARTUP_TIMEOUT.
#[derive(Debug, Clone, Default)]
pub struct ReadinessStatus(Arc<Mutex<Option<String>>>);

impl ReadinessStatus {
    pub fn last(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set(&self, reason: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }
}

/// Waits until the daemon is ready. The machine limits the time.
///
/// # Errors
/// `SocketInUse` if a process outside the tree answers.
pub async fn await_ready(path: &Path, probe: &Probe, daemon: &ProbedDaemon, status: &ReadinessStatus) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(path);
    let mut changes = if probe.needs_socket() { FolderChanges::of(folder).ok() } else { None };
    let mut question = Question::new(ProbeRole::Readiness, path, probe, daemon);
    let mut schedule = Schedule::default();
    loop {
        match question.ask(status, Instant::now() + TRY_MAX).await {
            Answer::Passed => {
                // Closed, because there may be no health check that would ask about it.
                drop(daemon.take_waiting());
                return Ok(());
            }
            Answer::Other(pid) => {
                let by = if pid > 0 { Occupant::Process(pid) } else { Occupant::Unknown };
                return Err(Failure::SocketInUse { path: path.display().to_string(), by });
            }
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
                match &changes {
                    // After an event and after the timeout alike, the next step is a try.
                    Some(changes) => drop(timeout(EVENT_TIMEOUT, changes.next()).await),
                    None => {
                        sleep(LONG_PAUSE).await;
                        // The daemon may make the folder itself.
                        changes = FolderChanges::of(folder).ok();
                    }
                }
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
            Answer::Refused(reason) => {
                status.set(reason);
                schedule.pause_after_refusal().await;
            }
            Answer::Failed(reason) | Answer::TooEarly(reason) | Answer::NotMade(reason) => {
                status.set(reason);
                schedule.pause().await;
            }
        }
    }
}

fn unreachable(error: Errno) -> String {
    match error {
        Errno::ECONNREFUSED => "nobody listens on it".to_owned(),
        Errno::EAGAIN => "its queue of connections is full".to_owned(),
        error => format!("it can't be connected to: {}", errno_text(error as i32)),
    }
}
