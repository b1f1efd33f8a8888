//! Whether anybody uses a held socket, by the kernel's word and without the daemon's help: a look, and a watch that looks again and
//! again until nobody has for long enough.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ally_base::os::{SockDiag, SocketTable};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::{HeldListener, HeldSocket};
use crate::model::Pid;
use crate::supervisor::TARGET;
use crate::supervisor::runtime;

/// The looks within an idle time.
const LOOKS: u32 = 4;
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Looks that are due within this time are one.
const TOGETHER: Duration = Duration::from_millis(25);

/// The use of a held socket at one moment. The connections of probes do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Activity {
    /// The connections in the queue. A client that has closed its end counts, because the daemon has not seen it.
    pub waiting: u32,
    /// The accepted connections whose client lives. A Unix socket of the tree that the kernel does not list counts as one.
    pub open: u32,
}

impl Activity {
    pub const fn is_none(self) -> bool {
        self.waiting == 0 && self.open == 0
    }

    fn of(listener: &HeldListener, table: &SocketTable, (keeper, leader): (Pid, Pid)) -> io::Result<Self> {
        let used = table.use_of(&**listener.socket(), keeper, leader)?;
        let waiting = used.waiting.saturating_sub(listener.count_own_waiting(used.waiting)?);
        let open = listener.count_others(&used.clients);
        // The scan of the tree is made only if its answer counts.
        let is_unlisted = waiting == 0 && open == 0 && table.misses_socket_of(keeper, leader);
        Ok(Self { waiting, open: open + u32::from(is_unlisted) })
    }
}

impl HeldSocket {
    /// `tree`: keeper and leader.
    ///
    /// # Errors
    /// The kernel doesn't tell.
    pub fn look(&self, tree: (Pid, Pid)) -> io::Result<Activity> {
        Activity::of(&self.listener, &SocketTable::read(&SockDiag::open()?)?, tree)
    }
}

/// The daemon that a watch looks at.
pub struct WatchedDaemon {
    pub listener: Arc<HeldListener>,
    /// Keeper and leader.
    pub tree: (Pid, Pid),
    pub idle_timeout: Duration,
}

type OnIdle = Box<dyn FnOnce() + Send>;

struct Entry {
    key: u64,
    daemon: WatchedDaemon,
    next_look: Instant,
    /// The first look since which nobody has used the socket. `None`: somebody used it at the last look.
    idle_since: Option<Instant>,
    is_paused: bool,
    /// Whether the last look has seen somebody.
    is_used: bool,
    /// `None` after the call.
    on_idle: Option<OnIdle>,
}

/// The looks at all daemons of one manager. Each look is one request to the kernel, for all daemons that are due. The task exists
/// while there is a daemon to look at.
#[derive(Default)]
pub struct IdleWatch {
    entries: Mutex<Entries>,
    changed: Notify,
}

#[derive(Default)]
struct Entries {
    list: Vec<Entry>,
    last_key: u64,
    has_task: bool,
}

/// The watch of one daemon. A drop ends it.
pub struct IdleGuard {
    key: u64,
    watch: Arc<IdleWatch>,
}

impl IdleWatch {
    /// Calls `on_idle` once, on the supervisor's thread, when no look has seen anybody for the idle time. It counts from the first look
    /// that saw nobody, so it is never shorter than the time without a connection.
    pub fn watch(self: &Arc<Self>, daemon: WatchedDaemon, on_idle: impl FnOnce() + Send + 'static) -> IdleGuard {
        let now = Instant::now();
        let mut entries = self.lock();
        entries.last_key += 1;
        let key = entries.last_key;
        let next_look = now + pause(daemon.idle_timeout);
        entries.list.push(Entry {
            key,
            daemon,
            next_look,
            idle_since: Some(now),
            is_paused: false,
            is_used: false,
            on_idle: Some(Box::new(on_idle)),
        });
        if !std::mem::replace(&mut entries.has_task, true) {
            drop(runtime::spawn(Arc::clone(self).run()));
        }
        drop(entries);
        self.changed.notify_one();
        IdleGuard { key, watch: Arc::clone(self) }
    }

    async fn run(self: Arc<Self>) {
        while self.goes_on() {
            match self.next_look() {
                Some(next) => tokio::select! {
                    () = sleep_until(next) => self.look(),
                    () = self.changed.notified() => {}
                },
                None => self.changed.notified().await,
            }
        }
    }

    /// The task ends if there is no daemon.
    fn goes_on(&self) -> bool {
        let mut entries = self.lock();
        entries.has_task = !entries.list.is_empty();
        entries.has_task
    }

    /// `None` if all are paused.
    fn next_look(&self) -> Option<Instant> {
        self.lock().list.iter().filter(|entry| entry.is_watched()).map(|entry| entry.next_look).min()
    }

    fn look(&self) {
        let table = SockDiag::open().and_then(|diag| SocketTable::read(&diag));
        let now = Instant::now();
        let mut idle = Vec::new();
        for entry in self.lock().list.iter_mut().filter(|entry| entry.is_watched() && entry.next_look <= now + TOGETHER) {
            entry.next_look = now + pause(entry.daemon.idle_timeout);
            let activity = match &table {
                Ok(table) => Activity::of(&entry.daemon.listener, table, entry.daemon.tree),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            };
            entry.is_used = activity.as_ref().is_ok_and(|activity| !activity.is_none());
            match activity {
                Ok(activity) if activity.is_none() => {
                    let due = *entry.idle_since.get_or_insert(now) + entry.daemon.idle_timeout;
                    if due <= now {
                        idle.extend(entry.on_idle.take());
                    }
                    entry.next_look = entry.next_look.min(due);
                }
                Ok(_) => entry.idle_since = None,
                Err(error) => {
                    // Nobody can tell, so the socket counts as used.
                    entry.idle_since = None;
                    tracing::debug!(target: TARGET, %error, "whether a daemon is idle can't be found out");
                }
            }
        }
        // Without the lock: they may end or begin a watch.
        idle.into_iter().for_each(|on_idle| on_idle());
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn is_watched(&self) -> bool {
        !self.is_paused && self.on_idle.is_some()
    }
}

impl IdleGuard {
    /// Whether somebody used the socket at the last look.
    pub fn was_used(&self) -> bool {
        self.watch.lock().list.iter().any(|entry| entry.key == self.key && entry.is_used)
    }

    /// No look is made while a health check is under way.
    pub fn pause(&self, paused: bool) {
        if let Some(entry) = self.watch.lock().list.iter_mut().find(|entry| entry.key == self.key) {
            entry.is_paused = paused;
        }
        self.watch.changed.notify_one();
    }
}

impl Drop for IdleGuard {
    fn drop(&mut self) {
        self.watch.lock().list.retain(|entry| entry.key != self.key);
        self.watch.changed.notify_one();
    }
}

fn pause(idle_timeout: Duration) -> Duration {
    (idle_timeout / LOOKS).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}
