//! Readiness: the kernel tells when a file appears in the socket's folder; the daemon is ready when it answers itself.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

use super::accepted::{Refused, wait_accepted};
use super::{Answering, ProbedDaemon};
use crate::config::Probe;
use crate::error::{Failure, Occupant};
use crate::supervisor::runtime::FolderNews;
use crate::supervisor::socket::{SocketFileId, dial};
use ally_base::os;
use ally_base::text::{errno_text, io_text};

/// Between bind(2) and listen(2) there is no event, and usually no time either.
const EAGER_TRIES: u32 = 20;
const EAGER: Duration = Duration::from_millis(1);
const EAGER_TIME: Duration = Duration::from_millis(200);
const PATIENT: Duration = Duration::from_millis(5);
/// Without an event, for file systems that report none (some overlays, network mounts).
const WITHOUT_EVENT: Duration = Duration::from_millis(250);

/// How long a connection waits to be accepted before it is asked whether it leads to the socket still.
const STILL_THERE: Duration = Duration::from_secs(1);

enum ProbeResult {
    Ready,
    /// There is a socket, and the daemon doesn't answer there yet, for this reason.
    NoAnswer(String),
    NoSocket,
}

/// Why the last try found the daemon not ready, for the message of a start that timed out.
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

/// Until the daemon is ready. The limit is the lifecycle's.
///
/// # Errors
/// `SocketInUse` if somebody else answers.
pub async fn await_ready(path: &Path, probe: Probe, daemon: &ProbedDaemon, status: &ReadinessStatus) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(path);
    let mut news = FolderNews::of(folder).ok();
    let mut silent_since: Option<Instant> = None;
    let mut tries = 0;
    loop {
        match probe_once(path, probe, daemon, status).await? {
            ProbeResult::Ready => return Ok(()),
            ProbeResult::NoAnswer(reason) => {
                *status.slot() = Some(reason);
                let since = *silent_since.get_or_insert_with(Instant::now);
                tries += 1;
                if tries <= EAGER_TRIES {
                    yield_now().await;
                } else if since.elapsed() < EAGER_TIME {
                    sleep(EAGER).await;
                } else {
                    sleep(PATIENT).await;
                }
            }
            ProbeResult::NoSocket => {
                *status.slot() = Some("there is no such file".to_owned());
                silent_since = None;
                tries = 0;
                match &news {
                    // Elapsed or woken, it is time to try.
                    Some(news) => drop(timeout(WITHOUT_EVENT, news.next()).await),
                    None => {
                        sleep(PATIENT).await;
                        // The daemon may make the folder itself.
                        news = FolderNews::of(folder).ok();
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
        // Only macOS forgets the peer so soon.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(ProbeResult::NoAnswer("it hung up at once".to_owned())),
        Err(_) => 0,
    };
    match daemon.who_answers(listener, path) {
        Ok(Answering::Ours) => {}
        Ok(Answering::Nobody) => return Ok(ProbeResult::NoAnswer(format!("it belongs to process {listener}, which is gone"))),
        Ok(Answering::Other(pid)) => {
            let by = if pid > 0 { Occupant::Process(pid) } else { Occupant::Unknown };
            return Err(Failure::SocketInUse { path: path.display().to_string(), by });
        }
        Err(error) => return Ok(ProbeResult::NoAnswer(format!("who answers there can't be found out: {}", io_text(&error)))),
    }
    match probe {
        Probe::Socket => Ok(ProbeResult::Ready),
        Probe::Accept => {
            *status.slot() = Some("the connection was not accepted".to_owned());
            let accepted = loop {
                match wait_accepted(&client, Instant::now() + STILL_THERE).await {
                    // Another connection would take the place of a client.
                    Err(Refused::Late) if SocketFileId::at(path) == dialled => {}
                    accepted => break accepted,
                }
            };
            Ok(match accepted {
                Ok(()) => ProbeResult::Ready,
                Err(Refused::By(reason) | Refused::Unasked(reason)) => ProbeResult::NoAnswer(reason),
                // The daemon has bound another socket since, and may never accept from the first.
                Err(Refused::Late) => ProbeResult::NoAnswer("the connection was not accepted".to_owned()),
            })
        }
    }
}
