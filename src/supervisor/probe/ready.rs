//! Readiness: woken by the kernel when something appears at the socket's folder, believed only when
//! the daemon itself answers.

use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

use super::Daemon;
use super::taken::taken;
use crate::config::Probe;
use crate::error::{Failure, Occupant};
use crate::os;
use crate::supervisor::socket::dial;
use crate::supervisor::watch::FolderNews;

/// Between bind(2) and listen(2) there is no event, and usually no time either.
const EAGER_LOOKS: u32 = 20;
const EAGER: Duration = Duration::from_millis(1);
const EAGER_TIME: Duration = Duration::from_millis(200);
const PATIENT: Duration = Duration::from_millis(5);
/// A look without an event, for file systems that report none (some overlays, network mounts).
const UNTOLD: Duration = Duration::from_millis(250);

enum Look {
    Ready,
    /// There is a socket, and nobody listens on it yet.
    Silent,
    /// There is nothing.
    Absent,
}

/// Resolves when the daemon is ready. Waits without end: the lifecycle limits it.
///
/// # Errors
/// `SocketInUse` if somebody else answers.
pub async fn await_ready(path: &Path, probe: Probe, daemon: Daemon) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(path);
    let mut news = FolderNews::of(folder).ok();
    let mut silent_since: Option<Instant> = None;
    let mut looks = 0;
    loop {
        match look(path, probe, daemon).await? {
            Look::Ready => return Ok(()),
            Look::Silent => {
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

async fn look(path: &Path, probe: Probe, daemon: Daemon) -> Result<Look, Failure> {
    let client = match dial(path) {
        Ok(client) => client,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(Look::Absent),
        Err(_) => return Ok(Look::Silent),
    };
    let listener = os::peer_pid(&client).unwrap_or_default();
    if !daemon.includes(listener) {
        // One that is gone left a listener to somebody: not an answer yet. A living stranger is one.
        if listener > 0 && os::start_time(listener).is_none() {
            return Ok(Look::Silent);
        }
        let by = if listener > 0 { Occupant::Process(listener) } else { Occupant::Unknown };
        return Err(Failure::SocketInUse { path: path.display().to_string(), by });
    }
    match probe {
        Probe::Socket => Ok(Look::Ready),
        Probe::Accept => Ok(if taken(&client, None).await.is_ok() { Look::Ready } else { Look::Silent }),
    }
}
