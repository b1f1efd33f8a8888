//! Makes a log file anew that somebody has moved or removed, also while its daemon writes nothing. The log process looks only before
//! it writes. It does not watch: that takes an inotify instance per process, and a user has 128 of them. This owner needs one for all.

use std::fs::File;
use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use ally_base::log_file::{self, Unfit};
use nix::errno::Errno;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::config::LogConfig;
use crate::supervisor::runtime::{AbortOnDrop, FolderChanges, Work, off_thread};

/// From a change of the file's names to the look. A rotation is over by then, and mostly an `rm -r` of the folder, whose last step
/// fails if the folder has a file again. The new file is promised within a second.
const SETTLED: Duration = Duration::from_millis(700);
/// After a look for which the system was short of descriptors, watches or room on the disk, which no event ends.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

struct Place {
    config: LogConfig,
    /// The one that the log process has. Its path may lead elsewhere by now.
    folder: OwnedFd,
}

/// The watch of one log process's file, until it is dropped.
pub struct LogWatch {
    _task: AbortOnDrop,
    /// The log process has found the file missing, and opened it again.
    pub reopened: Arc<Notify>,
}

impl LogWatch {
    /// # Errors
    /// EMFILE.
    pub fn start(config: &LogConfig, folder: &OwnedFd) -> io::Result<Self> {
        let place = Arc::new(Place { config: config.clone(), folder: folder.try_clone()? });
        let reopened = Arc::new(Notify::new());
        Ok(Self { _task: AbortOnDrop::spawn(keep_in_place(place, Arc::clone(&reopened))), reopened })
    }
}

async fn keep_in_place(mut place: Arc<Place>, reopened: Arc<Notify>) {
    let mut changes = None;
    loop {
        let Some(opened) = look(&place, open).await else { return };
        // A change of its names may make an unfit file fit. If the folder is gone, the log process tells when it has another one.
        let mut is_moved = false;
        let mut is_short = matches!(opened, Err(Unfit::Refused(errno)) if errno != Errno::ENOENT);
        if let Ok((file, folder)) = opened {
            if let Some(folder) = folder {
                place = Arc::new(Place { config: place.config.clone(), folder });
            }
            changes = FolderChanges::of_file(&file).ok();
            is_short = changes.is_none();
            // Before the watch began.
            is_moved = look(&place, move |place| is_in_place(place, &file)).await != Some(true);
        }
        if !is_moved {
            tokio::select! {
                () = next(changes.as_ref()) => {}
                () = reopened.notified() => {}
                () = sleep(RETRY_INTERVAL), if is_short => {}
            }
        }
        sleep(SETTLED).await;
    }
}

async fn next(changes: Option<&FolderChanges>) {
    match changes {
        Some(changes) => changes.next().await,
        None => pending().await,
    }
}

/// In a thread of its own: the disk may hang. `None` if the watch was dropped before: nobody will write the file.
async fn look<T: Send + 'static>(place: &Arc<Place>, read: impl FnOnce(&Place) -> T + Send + 'static) -> Option<T> {
    let watched = Arc::downgrade(place);
    off_thread(Work::OpenFile, move || watched.upgrade().map(|place| read(&place))).await
}

/// Opens the file, or makes it. If the folder was removed: in the one that has its path now, as the log process does.
fn open(place: &Place) -> Result<(File, Option<OwnedFd>), Unfit> {
    let name = place.config.name();
    match log_file::open(&place.folder, name) {
        Err(Unfit::Refused(Errno::ENOENT)) => {
            let folder = log_file::open_folder(place.config.folder())?;
            Ok((log_file::open(&folder, name)?, Some(folder)))
        }
        opened => Ok((opened?, None)),
    }
}

fn is_in_place(place: &Place, file: &File) -> bool {
    log_file::is_at(&place.folder, place.config.name(), file).unwrap_or(false)
}
