//! What wakes a readiness probe before its next try is due: a change in the socket's folder, a line. Each source exists only for
//! the probes that it can make pass.

use std::future::pending;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::schedule::LONG_PAUSE;
use crate::config::Probe;
use crate::supervisor::output::LineMatch;
use crate::supervisor::runtime::FolderChanges;

/// Some file systems report no events (some overlays, network mounts), so a missing file is looked for at this interval too.
const EVENT_TIMEOUT: Duration = Duration::from_millis(250);

pub struct Wakeups<'a> {
    /// `None` if the probe needs no socket.
    folder: Option<&'a Path>,
    changes: Option<FolderChanges>,
    lines: Option<Arc<LineMatch>>,
}

impl<'a> Wakeups<'a> {
    pub fn of(probe: &Probe, socket: &'a Path, lines: Option<Arc<LineMatch>>) -> Self {
        let folder = probe.needs_socket().then(|| socket.parent().unwrap_or(socket));
        Self { folder, changes: folder.and_then(|folder| FolderChanges::of(folder).ok()), lines }
    }

    /// Waits for a change in the folder of a socket file that is missing.
    pub async fn folder_changed(&mut self) {
        let Some(folder) = self.folder else { return };
        match &self.changes {
            // After an event and after the timeout alike, the next step is a try.
            Some(changes) => drop(timeout(EVENT_TIMEOUT, changes.next()).await),
            None => {
                sleep(LONG_PAUSE).await;
                // The daemon may make the folder itself.
                self.changes = FolderChanges::of(folder).ok();
            }
        }
    }

    /// Waits for news of the daemon, at most until `due`.
    pub async fn news(&self, due: Option<Instant>) {
        let line = async {
            match &self.lines {
                Some(lines) => lines.changed().await,
                None => pending().await,
            }
        };
        let due = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = line => {}
            () = due => {}
        }
    }
}
