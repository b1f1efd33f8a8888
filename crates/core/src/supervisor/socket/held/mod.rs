//! The socket that the manager makes for a daemon and holds over its crashes and restarts (`socket: 'manager'`).
//!
//! - `listener`: the socket itself, and what probes ask about it;
//! - `place`: its names, and what is done if they lead to something else;
//! - `close`: the end, after which no client waits;
//! - `next`: the socket of the next generation in an upgrade;
//! - `idle`: whether anybody uses it.

mod close;
pub mod idle;
mod listener;
mod next;
mod place;

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ally_base::os;

use crate::error::{Failure, Occupant};
use crate::supervisor::runtime::{FolderChanges, ListenerEvent, ListenerWatch};

pub use listener::{HeldListener, OwnConnection};
pub use next::RetiredSocket;
pub use place::{Restored, held_name, remove_dead_names};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldEvent {
    /// A connection waits. Only after [`HeldSocket::arm`].
    Connected,
    /// The daemon has called shutdown(2).
    HungUp,
    /// A name of the socket has changed.
    Renamed,
}

/// A drop closes this process's copy and leaves the names: the daemon may live on (`onOwnerDeath: 'keep'`).
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one socket, which no enum would combine")]
pub struct HeldSocket {
    /// `socketPath`.
    path: PathBuf,
    /// Whether it is bound beside `path`, as the socket of a successor.
    is_next: bool,
    listener: Arc<HeldListener>,
    watch: ListenerWatch,
    /// Whether the file system can link sockets.
    can_link: bool,
    /// A new socket is needed, and could not be made yet.
    is_lost: bool,
    /// A process of the daemon lives, and may change the names.
    is_watched: bool,
    /// The changes of its names. `None` also without inotify.
    changes: Option<FolderChanges>,
}

impl HeldSocket {
    /// Makes the socket at a path that is free. Must run on the supervisor's thread.
    ///
    /// # Errors
    /// `SocketInUse` if there is a file by now; `Io`.
    pub fn bind(path: &Path) -> Result<Self, Failure> {
        let mut held = Self::bind_at(path, path)?;
        held.link();
        Ok(held)
    }

    /// A socket for `path` that is bound at `name`.
    fn bind_at(path: &Path, name: &Path) -> Result<Self, Failure> {
        let listener = Arc::new(HeldListener::bind(name)?);
        let watch = watch(&listener, name)?;
        let is_next = name != path;
        Ok(Self { path: path.to_owned(), is_next, listener, watch, can_link: true, is_lost: false, is_watched: false, changes: None })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is the socket of a successor that does not serve yet.
    pub const fn is_next(&self) -> bool {
        self.is_next
    }

    /// Where it is bound. Probes connect there.
    pub fn bound_path(&self) -> PathBuf {
        if self.is_next { self.next_path() } else { self.path.clone() }
    }

    /// For the probes of a daemon that gets this socket.
    pub fn listener(&self) -> &Arc<HeldListener> {
        &self.listener
    }

    /// The next event. Without a socket, waits for ever. Cancel-safe.
    pub async fn next(held: Option<&Self>) -> HeldEvent {
        let Some(held) = held else { return pending().await };
        let renamed = async {
            match &held.changes {
                Some(changes) => changes.next().await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            event = held.watch.next() => match event {
                ListenerEvent::Connected => HeldEvent::Connected,
                ListenerEvent::HungUp => HeldEvent::HungUp,
            },
            () = renamed => HeldEvent::Renamed,
        }
    }

    /// From now on the next connection is an event, and one that waits already. Nothing is accepted.
    ///
    /// # Errors
    /// Errors of epoll_ctl(2).
    pub fn arm(&self) -> io::Result<()> {
        self.watch.arm()
    }

    /// Connections are no events.
    ///
    /// # Errors
    /// Errors of epoll_ctl(2).
    pub fn disarm(&self) -> io::Result<()> {
        self.watch.disarm()
    }

    /// Resolves when a connection waits. A drop of the future leaves the socket armed, at the cost of one wake-up.
    ///
    /// # Errors
    /// Errors of epoll_ctl(2).
    pub async fn connected(&self) -> io::Result<()> {
        if !self.watch.is_armed() {
            self.arm()?;
        }
        while self.watch.next().await != ListenerEvent::Connected {}
        Ok(())
    }

    /// The number of connections that wait.
    ///
    /// # Errors
    /// The kernel doesn't tell.
    pub fn queue_len(&self) -> io::Result<u32> {
        Ok(self.listener.waiting()?.count)
    }

    /// The daemon's copy. Puts right what the last process of the daemon has done to the socket. `others_may_hold`: a process of an
    /// earlier attempt may live, so that the mode of accept(2) is still its own.
    ///
    /// # Errors
    /// As [`Self::restore`]; `Io`, for example with EMFILE.
    pub fn before_spawn(&mut self, others_may_hold: bool) -> Result<OwnedFd, Failure> {
        // The path of a successor leads to the socket of the generation that serves.
        if !self.is_next {
            self.restore(None)?;
        }
        self.prepare_descriptor(others_may_hold).map_err(|error| Failure::at(&self.path, error))
    }

    fn prepare_descriptor(&self, others_may_hold: bool) -> io::Result<OwnedFd> {
        let socket = self.listener.socket();
        os::lengthen_queue(socket)?;
        // The scan for holders reads all of /proc, so it comes last.
        if os::is_nonblocking(socket)? && !(others_may_hold && os::others_have_socket(self.listener.id())) {
            os::make_blocking(socket)?;
        }
        socket.try_clone()
    }

    /// After the exit of a leader: it may have shortened the queue.
    pub fn after_exit(&self) {
        if let Err(error) = os::lengthen_queue(self.listener.socket()) {
            tracing::debug!(target: crate::supervisor::TARGET, %error, "the queue of a held socket could not be lengthened");
        }
    }

    /// A process of the daemon lives, and may change the names of the socket.
    pub fn watch_names(&mut self) {
        self.is_watched = true;
        self.watch_file();
    }

    /// The watch is of the file, not of a name. The daemon has no reason to remove the second name.
    fn watch_file(&mut self) {
        let name = if self.can_link { held_name(&self.path) } else { self.path.clone() };
        // Without inotify (EMFILE, ENOSPC) a name is put back at the exit of the leader, and before the next spawn.
        self.changes = FolderChanges::of_socket(&name).ok();
    }

    /// No process of the daemon is left.
    pub fn unwatch_names(&mut self) {
        self.is_watched = false;
        self.changes = None;
    }
}

/// `name`: where the socket is bound. It is removed if there is no watch.
fn watch(listener: &HeldListener, name: &Path) -> Result<ListenerWatch, Failure> {
    ListenerWatch::of(Arc::clone(listener.socket())).map_err(|error| {
        drop(std::fs::remove_file(name));
        Failure::call("epoll_ctl", name, error)
    })
}

fn in_use(path: &Path) -> Failure {
    Failure::SocketInUse { path: path.display().to_string(), by: Occupant::Unknown }
}
