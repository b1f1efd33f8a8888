//! Folders whose changes somebody waits for. One watcher of the system's for the whole process.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use once_cell::sync::OnceCell;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use ally_base::os::{FolderWatcher, Key};

use crate::supervisor::TARGET;

struct Watcher {
    source: AsyncFd<FolderWatcher>,
    folders: Mutex<HashMap<Key, Watched>>,
}

#[derive(Default)]
struct Watched {
    news: Arc<Notify>,
    watchers: usize,
}

static WATCHER: OnceCell<Arc<Watcher>> = OnceCell::new();

/// Waits for something new in one folder, until dropped.
pub struct FolderNews {
    key: Key,
    news: Arc<Notify>,
    watcher: Arc<Watcher>,
}

impl FolderNews {
    /// Must run on the supervisor's thread.
    ///
    /// # Errors
    /// No such folder, or the system's watches are used up. The caller then looks now and then.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let watcher = Arc::clone(WATCHER.get_or_try_init(Watcher::start)?);
        // Held over the system's call, so that a removal of the same folder's last watch can't come in between.
        let mut folders = watcher.lock();
        let key = watcher.source.get_ref().add(folder)?;
        let watched = folders.entry(key).or_default();
        watched.watchers += 1;
        let news = Arc::clone(&watched.news);
        drop(folders);
        Ok(Self { key, news, watcher })
    }

    /// Resolves at the next change. None is missed by a caller that awaits nothing else between its look
    /// and this: changes are read on the same thread.
    pub async fn next(&self) {
        self.news.notified().await;
    }
}

impl Drop for FolderNews {
    fn drop(&mut self) {
        let mut folders = self.watcher.lock();
        let Some(watched) = folders.get_mut(&self.key) else { return };
        watched.watchers -= 1;
        if watched.watchers == 0 {
            folders.remove(&self.key);
            if let Err(error) = self.watcher.source.get_ref().remove(self.key) {
                tracing::debug!(target: TARGET, %error, "a folder stays watched");
            }
        }
    }
}

impl Watcher {
    fn start() -> io::Result<Arc<Self>> {
        // SAFETY: the watcher owns its descriptor for as long as it lives and never swaps it.
        let source = unsafe { AsyncFd::register_with_interest(FolderWatcher::new()?, Interest::READABLE) }?;
        let watcher = Arc::new(Self { source, folders: Mutex::default() });
        drop(super::spawn(Arc::clone(&watcher).run()));
        Ok(watcher)
    }

    async fn run(self: Arc<Self>) {
        loop {
            let Ok(mut ready) = self.source.readable().await else { return };
            let changed = self.source.get_ref().changed();
            match changed {
                Ok(None) => ready.clear_ready(),
                Ok(Some(keys)) => self.tell(&keys),
                Err(error) => {
                    tracing::warn!(target: TARGET, %error, "folder changes can't be read");
                    ready.clear_ready();
                }
            }
        }
    }

    fn tell(&self, keys: &[Option<Key>]) {
        let folders = self.lock();
        for key in keys {
            match key {
                Some(key) => folders.get(key).into_iter().for_each(Self::wake),
                // A queue that overflowed names no folder: everyone looks.
                None => folders.values().for_each(Self::wake),
            }
        }
    }

    fn wake(watched: &Watched) {
        watched.news.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Watched>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
