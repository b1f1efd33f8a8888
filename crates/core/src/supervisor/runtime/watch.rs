//! Watches of folders and files. All watches of the process share one inotify or kqueue descriptor.

use std::collections::HashMap;
use std::fs::File;
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
    watchers: Vec<Arc<Notify>>,
    is_file: bool,
}

static WATCHER: OnceCell<Arc<Watcher>> = OnceCell::new();

/// A watch of one folder or file. The drop of the last watch of a folder removes it from the system.
pub struct FolderChanges {
    key: Key,
    changes: Arc<Notify>,
    watcher: Arc<Watcher>,
}

impl FolderChanges {
    /// Must run on the supervisor's thread.
    ///
    /// # Errors
    /// ENOENT if there is no such folder; ENOSPC if the limit of watches is reached. The caller then polls.
    pub fn of(folder: &Path) -> io::Result<Self> {
        Self::start(|watcher| watcher.add(folder), false)
    }

    /// The changes of the names of an open file: [`FolderWatcher::add_file`]. Must run on the supervisor's thread.
    ///
    /// # Errors
    /// EMFILE if the user's inotify instances are used up; ENOSPC if the limit of watches is reached.
    pub fn of_file(file: &File) -> io::Result<Self> {
        Self::start(|watcher| watcher.add_file(file), true)
    }

    /// The changes of the names of a socket's file. Must run on the supervisor's thread.
    ///
    /// # Errors
    /// As [`Self::of_file`]; ENOENT.
    pub fn of_socket(path: &Path) -> io::Result<Self> {
        Self::start(|watcher| watcher.add_socket(path), true)
    }

    fn start(add: impl FnOnce(&FolderWatcher) -> io::Result<Key>, is_file: bool) -> io::Result<Self> {
        let watcher = Arc::clone(WATCHER.get_or_try_init(Watcher::start)?);
        // Locked across the system call: otherwise the drop of the folder's last watch could remove the new one.
        let mut folders = watcher.lock();
        let key = add(watcher.source.get_ref())?;
        let watched = folders.entry(key).or_default();
        let changes = Arc::new(Notify::new());
        watched.watchers.push(Arc::clone(&changes));
        watched.is_file = is_file;
        drop(folders);
        Ok(Self { key, changes, watcher })
    }

    /// Resolves at the next change. Changes are read on the same thread, so a caller that awaits nothing between its probe
    /// and this call misses none.
    pub async fn next(&self) {
        self.changes.notified().await;
    }
}

impl Drop for FolderChanges {
    fn drop(&mut self) {
        let mut folders = self.watcher.lock();
        let Some(watched) = folders.get_mut(&self.key) else { return };
        watched.watchers.retain(|changes| !Arc::ptr_eq(changes, &self.changes));
        if watched.watchers.is_empty() {
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
                Ok(Some(keys)) => self.notify(&keys),
                Err(error) => {
                    tracing::warn!(target: TARGET, %error, "folder changes can't be read");
                    ready.clear_ready();
                }
            }
        }
    }

    fn notify(&self, keys: &[Option<Key>]) {
        let folders = self.lock();
        for key in keys {
            match key {
                Some(key) => folders.get(key).into_iter().for_each(Self::wake),
                // After an overflow (IN_Q_OVERFLOW) the changed folder is unknown, so all waiters are woken.
                None => folders.values().for_each(Self::wake),
            }
        }
    }

    fn wake(watched: &Watched) {
        for changes in &watched.watchers {
            if watched.is_file {
                // A removed file has no second change, so a waiter that does something else now must find this one later.
                changes.notify_one();
            } else {
                changes.notify_waiters();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Watched>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
