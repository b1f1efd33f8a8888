//! Makes a log file anew that somebody has moved or removed, also while its daemon writes nothing. The log process looks only before
//! it writes. It does not watch: that takes an inotify instance per process, and a user has 128 of them. This owner needs one for all.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use ally_base::log_file;
use tokio::time::sleep;

use crate::config::LogConfig;
use crate::supervisor::runtime::{FolderChanges, Work, off_thread};

/// From a change of the file's names to the look. A rotation is over by then, and so is `rm -r` of the folder, whose last step fails
/// if the folder has a file again. The new file is promised within a second.
const SETTLED: Duration = Duration::from_millis(700);

/// Does not end while the file can be made and watched. Otherwise the log process makes it at the next line, or reports why not.
pub async fn keep_in_place(config: LogConfig) {
    let config = Arc::new(config);
    loop {
        let Some(file) = look(&config, open).await else { return };
        let Ok(changes) = FolderChanges::of_file(&file) else { return };
        // It may have been moved before the watch began.
        if look(&config, move |config| is_in_place(config, &file)).await == Some(true) {
            changes.next().await;
        }
        drop(changes);
        sleep(SETTLED).await;
    }
}

/// In a thread of its own: the disk may hang.
async fn look<T: Send + 'static>(config: &Arc<LogConfig>, read: impl FnOnce(&LogConfig) -> Option<T> + Send + 'static) -> Option<T> {
    let config = Arc::clone(config);
    off_thread(Work::OpenFile, move || read(&config)).await
}

/// Opens the file, or makes it. A folder that is gone is not made: it may be gone for good.
fn open(config: &LogConfig) -> Option<File> {
    log_file::open(File::open(config.folder()).ok()?, config.name()).ok()
}

fn is_in_place(config: &LogConfig, file: &File) -> Option<bool> {
    log_file::is_at(File::open(config.folder()).ok()?, config.name(), file).ok()
}
