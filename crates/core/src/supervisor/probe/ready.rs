//! Readiness. A folder watch (inotify, kqueue) reports a new file in the socket's folder. The daemon is ready when a process
//! of its tree answers at the socket path.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

use super::accepted::{ProbeError, wait_accepted};
use super::{Answering, ProbedDaemon};
use crate::config::Probe;
use crate::error::{Failure, Occupant};
use crate::supervisor::runtime::FolderChanges;
use crate::supervisor::socket::{SocketFileId, dial};
use ally_base::os;
use ally_base::text::{errno_text, io_text};

/// Between bind(2) and listen(2) there is no event. Most daemons call listen(2) within microseconds, so the first tries have
/// no pause, the tries of the first 200 ms a short one, and all others a long one.
const TRIES_WITHOUT_PAUSE: u32 = 20;
const SHORT_PAUSE: Duration = Duration::from_millis(1);
const SHORT_PAUSE_TIME: Duration = Duration::from_millis(200);
const LONG_PAUSE: Duration = Duration::from_millis(5);
/// A search for the holder of a socket reads the descriptors of all processes, and one thread serves all daemons. So the pause
/// is doubled after each search that fails, up to this one.
const LONGEST_SEARCH_PAUSE: Duration = Duration::from_millis(640);
/// Some file systems report no events (some overlays, network mounts), so the probe runs at this interval too.
const EVENT_TIMEOUT: Duration = Duration::from_millis(250);

/// A connection that waits to be accepted keeps waiting only while the path leads to the same socket. This is the interval
/// of that check.
const SAME_SOCKET_INTERVAL: Duration = Duration::from_secs(1);

enum ProbeResult {
    Ready,
    /// There is a socket, and the daemon does not answer yet. With the reason.
    NoAnswer(String),
    /// The search of all processes has not found the holder of the socket. With the reason.
    NoHolder(String),
    NoSocket,
}

/// The reason of the last failed try, for the message of ERR_STARTUP_TIMEOUT.
#[derive(Debug, Clone, Default)]
pub struct ReadinessStatus(Arc<Mutex<Option<String>>>);

impl ReadinessStatus {
    pub fn last(&self) -> Option<String> {
        self.slot().clone()
    }

    fn slot(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until the daemon is ready. The machine limits the time.
///
/// # Errors
/// `SocketInUse` if a process outside the tree answers.
pub async fn await_ready(path: &Path, probe: Probe, daemon: &ProbedDaemon, status: &ReadinessStatus) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(path);
    let mut changes = FolderChanges::of(folder).ok();
    let mut unanswered_since: Option<Instant> = None;
    let mut tries = 0;
    let mut search_pause = LONG_PAUSE;
    loop {
        match probe_once(path, probe, daemon, status).await? {
            ProbeResult::Ready => return Ok(()),
            ProbeResult::NoAnswer(reason) => {
                *status.slot() = Some(reason);
                let since = *unanswered_since.get_or_insert_with(Instant::now);
                tries += 1;
                if tries <= TRIES_WITHOUT_PAUSE {
                    yield_now().await;
                } else if since.elapsed() < SHORT_PAUSE_TIME {
                    sleep(SHORT_PAUSE).await;
                } else {
                    sleep(LONG_PAUSE).await;
                }
            }
            ProbeResult::NoHolder(reason) => {
                *status.slot() = Some(reason);
                sleep(search_pause).await;
                search_pause = (search_pause * 2).min(LONGEST_SEARCH_PAUSE);
            }
            ProbeResult::NoSocket => {
                *status.slot() = Some("there is no such file".to_owned());
                unanswered_since = None;
                tries = 0;
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
        }
    }
}

async fn probe_once(path: &Path, probe: Probe, daemon: &ProbedDaemon, status: &ReadinessStatus) -> Result<ProbeResult, Failure> {
    let dialled = SocketFileId::at(path);
    let client = match dial(path) {
        Ok(client) => client,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(ProbeResult::NoSocket),
        Err(Errno::ECONNREFUSED) => return Ok(ProbeResult::NoAnswer("nobody listens on it".to_owned())),
        Err(Errno::EAGAIN) => return Ok(ProbeResult::NoAnswer("its queue of connections is full".to_owned())),
        Err(error) => return Ok(ProbeResult::NoAnswer(format!("it can't be connected to: {}", errno_text(error as i32)))),
    };
    let listener = match os::peer_pid(&client) {
        Ok(pid) => pid,
        // The daemon has closed the connection. Only macOS then reports ENOTCONN for the peer.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(ProbeResult::NoAnswer("it hung up at once".to_owned())),
        Err(_) => 0,
    };
    match daemon.answering_process(listener, path) {
        Ok(Answering::Daemon) => {}
        Ok(Answering::NoHolder) => {
            return Ok(ProbeResult::NoHolder(format!(
                "it was made by process {listener}, which is gone, and no process that holds it can be found; \
                 a process that is not dumpable hides what it holds"
            )));
        }
        Ok(Answering::Other(pid)) => {
            let by = if pid > 0 { Occupant::Process(pid) } else { Occupant::Unknown };
            return Err(Failure::SocketInUse { path: path.display().to_string(), by });
        }
        Err(error) => return Ok(ProbeResult::NoHolder(format!("who answers there can't be found out: {}", io_text(&error)))),
    }
    match probe {
        Probe::Socket => Ok(ProbeResult::Ready),
        Probe::Accept => {
            *status.slot() = Some("the connection was not accepted".to_owned());
            let accepted = loop {
                match wait_accepted(&client, Instant::now() + SAME_SOCKET_INTERVAL).await {
                    // A new connection would take a place in the queue from a client.
                    Err(ProbeError::TimedOut) if SocketFileId::at(path) == dialled => {}
                    accepted => break accepted,
                }
            };
            Ok(match accepted {
                Ok(()) => ProbeResult::Ready,
                Err(ProbeError::Failed(reason) | ProbeError::NotMade(reason)) => ProbeResult::NoAnswer(reason),
                // The daemon has bound another socket since, and may never accept from the first one.
                Err(ProbeError::TimedOut) => ProbeResult::NoAnswer("the connection was not accepted".to_owned()),
            })
        }
    }
}
