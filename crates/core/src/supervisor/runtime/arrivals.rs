//! Watches of listening sockets. All watches of the process share one epoll or kqueue descriptor.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use once_cell::sync::OnceCell;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use ally_base::os::{ArrivalInterest, ArrivalWatcher};

use crate::supervisor::TARGET;

struct Watcher {
    source: AsyncFd<ArrivalWatcher>,
    listeners: Mutex<HashMap<u64, Arc<Watched>>>,
}

#[derive(Default)]
struct Watched {
    /// A connection is an event. The next one is the last.
    armed: AtomicBool,
    connected: AtomicBool,
    hung_up: AtomicBool,
    changed: Notify,
}

static WATCHER: OnceCell<Arc<Watcher>> = OnceCell::new();

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerEvent {
    /// A connection waits. Only after [`ListenerWatch::arm`].
    Connected,
    /// shutdown(2) was called on the socket.
    HungUp,
}

/// A watch of one listening socket, from which nothing is accepted. The drop ends it.
pub struct ListenerWatch {
    key: u64,
    socket: Arc<OwnedFd>,
    watched: Arc<Watched>,
    watcher: Arc<Watcher>,
}

impl ListenerWatch {
    /// Waits for the hang-up alone. Must run on the supervisor's thread.
    ///
    /// # Errors
    /// EMFILE; ENOSPC if the limit of watches is reached.
    pub fn of(socket: Arc<OwnedFd>) -> io::Result<Self> {
        static KEYS: AtomicU64 = AtomicU64::new(1);
        let watcher = Arc::clone(WATCHER.get_or_try_init(Watcher::start)?);
        let key = KEYS.fetch_add(1, Ordering::Relaxed);
        let watched = Arc::new(Watched::default());
        // Before the system call, which may cause the first event.
        watcher.lock().insert(key, Arc::clone(&watched));
        if let Err(error) = watcher.source.get_ref().add(&*socket, key, ArrivalInterest::HangUp) {
            watcher.lock().remove(&key);
            return Err(error);
        }
        Ok(Self { key, socket, watched, watcher })
    }

    /// Waits for the next connection too. One that waits already counts.
    ///
    /// # Errors
    /// Errors of epoll_ctl(2).
    pub fn arm(&self) -> io::Result<()> {
        self.watched.armed.store(true, Ordering::Relaxed);
        self.watcher.source.get_ref().again(&*self.socket, self.key, ArrivalInterest::Connection)
    }

    /// Waits for the hang-up alone again.
    ///
    /// # Errors
    /// Errors of epoll_ctl(2).
    pub fn disarm(&self) -> io::Result<()> {
        self.watched.armed.store(false, Ordering::Relaxed);
        self.watched.connected.store(false, Ordering::Relaxed);
        self.watcher.source.get_ref().again(&*self.socket, self.key, ArrivalInterest::HangUp)
    }

    pub fn is_armed(&self) -> bool {
        self.watched.armed.load(Ordering::Relaxed)
    }

    /// The next event. Cancel-safe.
    pub async fn next(&self) -> ListenerEvent {
        loop {
            if self.watched.hung_up.swap(false, Ordering::Relaxed) {
                return ListenerEvent::HungUp;
            }
            if self.watched.connected.swap(false, Ordering::Relaxed) {
                return ListenerEvent::Connected;
            }
            self.watched.changed.notified().await;
        }
    }
}

impl Drop for ListenerWatch {
    fn drop(&mut self) {
        self.watcher.lock().remove(&self.key);
        if let Err(error) = self.watcher.source.get_ref().remove(&*self.socket) {
            tracing::debug!(target: TARGET, %error, "a listening socket stays watched");
        }
    }
}

impl Watcher {
    fn start() -> io::Result<Arc<Self>> {
        // SAFETY: the watcher owns its descriptor for as long as it lives and never swaps it.
        let source = unsafe { AsyncFd::register_with_interest(ArrivalWatcher::new()?, Interest::READABLE) }?;
        let watcher = Arc::new(Self { source, listeners: Mutex::default() });
        drop(super::spawn(Arc::clone(&watcher).run()));
        Ok(watcher)
    }

    async fn run(self: Arc<Self>) {
        loop {
            let Ok(mut ready) = self.source.readable().await else { return };
            match self.source.get_ref().take() {
                Ok(arrivals) if arrivals.is_empty() => ready.clear_ready(),
                Ok(arrivals) => arrivals.into_iter().for_each(|arrival| self.notify(arrival.key, arrival.hung_up)),
                Err(error) => {
                    tracing::warn!(target: TARGET, %error, "events of listening sockets can't be read");
                    ready.clear_ready();
                }
            }
        }
    }

    fn notify(&self, key: u64, hung_up: bool) {
        let Some(watched) = self.lock().get(&key).cloned() else { return };
        if hung_up {
            watched.hung_up.store(true, Ordering::Relaxed);
        } else if watched.armed.swap(false, Ordering::Relaxed) {
            watched.connected.store(true, Ordering::Relaxed);
        } else {
            return;
        }
        watched.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Watched>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
