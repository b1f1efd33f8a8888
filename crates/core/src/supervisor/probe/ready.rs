//! Readiness: woken by the kernel when something appears at the socket's folder, believed only when
//! the daemon itself answers.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

use super::taken::{Refused, taken};
use super::{Answering, Daemon};
use crate::config::Probe;
use crate::error::{Failure, Occupant};
use crate::supervisor::socket::{dial, mark};
use crate::supervisor::watch::FolderNews;
use ally_base::os;
use ally_base::text::{errno_text, io_text};

/// Between bind(2) and listen(2) there is no event, and usually no time either.
const EAGER_LOOKS: u32 = 20;
const EAGER: Duration = Duration::from_millis(1);
const EAGER_TIME: Duration = Duration::from_millis(200);
const PATIENT: Duration = Duration::from_millis(5);
/// A look without an event, for file systems that report none (some overlays, network mounts).
const UNTOLD: Duration = Duration::from_millis(250);

/// How long a connection waits to be accepted before it is asked whether it leads to the socket still.
const STILL_THERE: Duration = Duration::from_secs(1);

enum Look {
    Ready,
    /// There is a socket, and the daemon doesn't answer there yet, for this reason.
    Silent(String),
    /// There is nothing.
    Absent,
}

/// What stood against readiness at the last look, for the message of a start that was given up.
#[derive(Debug, Clone, Default)]
pub struct Sight(Arc<Mutex<Option<String>>>);

impl Sight {
    pub fn last(&self) -> Option<String> {
        self.slot().clone()
    }

    fn slot(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resolves when the daemon is ready. Waits without end: the lifecycle limits it.
///
/// # Errors
/// `SocketInUse` if somebody else answers.
pub async fn await_ready(path: &Path, probe: Probe, daemon: &Daemon, sight: &Sight) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(path);
    let mut news = FolderNews::of(folder).ok();
    let mut silent_since: Option<Instant> = None;
    let mut looks = 0;
    loop {
        match look(path, probe, daemon, sight).await? {
            Look::Ready => return Ok(()),
            Look::Silent(reason) => {
                *sight.slot() = Some(reason);
                let since = *silent_since.get_or_insert_with(Instant::now);
                looks += 1;
                if looks <= EAGER_LOOKS {
                    yield_now().await;
                } else if since.elapsed() < EAGER_TIME {
                    sleep(EAGER).await;
                } else {
                    sleep(PATIENT).await;
                }
            }
            Look::Absent => {
                *sight.slot() = Some("there is no such file".to_owned());
                silent_since = None;
                looks = 0;
                match &news {
                    // Elapsed or woken, it is time for a look.
                    Some(news) => drop(timeout(UNTOLD, news.next()).await),
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

async fn look(path: &Path, probe: Probe, daemon: &Daemon, sight: &Sight) -> Result<Look, Failure> {
    let dialled = mark(path);
    let client = match dial(path) {
        Ok(client) => client,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(Look::Absent),
        Err(Errno::ECONNREFUSED) => return Ok(Look::Silent("nobody listens on it".to_owned())),
        Err(Errno::EAGAIN) => return Ok(Look::Silent("its queue of connections is full".to_owned())),
        Err(error) => return Ok(Look::Silent(format!("it can't be connected to: {}", errno_text(error as i32)))),
    };
    let listener = match os::peer_pid(&client) {
        Ok(pid) => pid,
        // Only macOS forgets so soon who it was.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(Look::Silent("it hung up at once".to_owned())),
        Err(_) => 0,
    };
    match daemon.who_answers(listener, path) {
        Ok(Answering::Ours) => {}
        Ok(Answering::Nobody) => return Ok(Look::Silent(format!("it belongs to process {listener}, which is gone"))),
        Ok(Answering::Other(pid)) => {
            let by = if pid > 0 { Occupant::Process(pid) } else { Occupant::Unknown };
            return Err(Failure::SocketInUse { path: path.display().to_string(), by });
        }
        Err(error) => return Ok(Look::Silent(format!("who answers there can't be found out: {}", io_text(&error)))),
    }
    match probe {
        Probe::Socket => Ok(Look::Ready),
        Probe::Accept => {
            *sight.slot() = Some("the connection was not accepted".to_owned());
            let accepted = loop {
                match taken(&client, Instant::now() + STILL_THERE).await {
                    // Another connection would only take the place of a client.
                    Err(Refused::Late) if mark(path) == dialled => {}
                    accepted => break accepted,
                }
            };
            Ok(match accepted {
                Ok(()) => Look::Ready,
                Err(Refused::By(reason) | Refused::Unasked(reason)) => Look::Silent(reason),
                // It has bound another one since, and may never accept from the first.
                Err(Refused::Late) => Look::Silent("the connection was not accepted".to_owned()),
            })
        }
    }
}
