//! The names of a held socket: `socketPath`, and a second hard link beside it, from which the first one is put back.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ally_base::os::{self, BoundBy};
use nix::fcntl::AT_FDCWD;

use super::{HeldListener, HeldSocket, close, in_use, watch};
use crate::error::{Failure, Occupant};
use crate::model::Pid;
use crate::supervisor::TARGET;
use crate::supervisor::socket::{FileId, remove_dead};

/// The second name, as long as the socket is held.
const HELD: &str = ".held";
/// The name of a socket that is about to take the place of another one.
const NEW: &str = ".bind";
/// The socket of the next generation in an upgrade.
const NEXT: &str = ".next";

/// The tries, if the files change during the check.
const ATTEMPTS: u32 = 3;

/// What was found at `socketPath`, and put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    InPlace,
    /// The name was missing, or led to a dead socket.
    PutBack,
    /// A process of the daemon had bound a socket of its own there.
    PutBackOverDaemon,
    /// No name was left, or the file system can't link sockets: there is a new socket, which the daemon does not have.
    Replaced,
    /// The daemon had shut the socket down: there is a new socket, which the daemon does not have.
    AfterShutdown,
}

pub fn held_name(path: &Path) -> PathBuf {
    beside(path, HELD)
}

pub(super) fn next_name(path: &Path) -> PathBuf {
    beside(path, NEXT)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

/// Removes what a killed owner has left beside the socket.
///
/// # Errors
/// As [`remove_dead`].
pub fn remove_dead_names(path: &Path) -> Result<(), Failure> {
    [HELD, NEW, NEXT].into_iter().try_for_each(|ending| remove_dead(&beside(path, ending)))
}

impl HeldSocket {
    /// Makes `socketPath` lead to this socket, or to a new one if this one refuses connections. `tree`: keeper and leader, if a process of the daemon may live.
    ///
    /// # Errors
    /// `SocketTaken` if a process outside the tree holds the socket there, or if the file is no socket; `Io`.
    pub fn restore(&mut self, tree: Option<(Pid, Pid)>) -> Result<Restored, Failure> {
        if self.is_shut_down() {
            return self.replace().map(|()| Restored::AfterShutdown);
        }
        if self.is_lost {
            return self.replace().map(|()| Restored::Replaced);
        }
        for _ in 0..ATTEMPTS {
            if let Some(restored) = self.try_restore(tree)? {
                return Ok(restored);
            }
        }
        Err(taken(&self.path, Occupant::Unknown))
    }

    /// Whether the daemon has called shutdown(2).
    pub fn is_shut_down(&self) -> bool {
        os::is_shut_down(self.listener.socket())
    }

    /// `None` if another file came into the way.
    fn try_restore(&mut self, tree: Option<(Pid, Pid)>) -> Result<Option<Restored>, Failure> {
        // stat(2) does not wait for a removal that is under way.
        os::has_name(AT_FDCWD, &self.path);
        match FileId::find(&self.path) {
            Ok(file) if file == self.listener.file() => {
                self.restore_second_name();
                return Ok(Some(Restored::InPlace));
            }
            Ok(_) => {
                if let Some((keeper, leader)) = tree
                    && os::bound_by(&self.path, keeper, leader).is_ok_and(|by| by == BoundBy::Tree)
                {
                    self.put_back_over()?;
                    return Ok(Some(Restored::PutBackOverDaemon));
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::call("stat", &self.path, error)),
        }
        // Also a symlink that leads to nothing.
        remove_dead(&self.path).map_err(|failure| match failure {
            Failure::SocketInUse { by, .. } => taken(&self.path, by),
            other => other,
        })?;
        self.put_back()
    }

    /// The name is free.
    fn put_back(&mut self) -> Result<Option<Restored>, Failure> {
        if self.second_name_leads_here() {
            match fs::hard_link(held_name(&self.path), &self.path) {
                Ok(()) => return Ok(Some(Restored::PutBack)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
                Err(error) => tracing::debug!(target: TARGET, %error, "a held socket can't be linked"),
            }
        }
        self.replace()?;
        Ok(Some(Restored::Replaced))
    }

    /// rename(2) puts a name over the other socket, so that clients always find one.
    fn put_back_over(&mut self) -> Result<(), Failure> {
        let new = beside(&self.path, NEW);
        remove_dead(&new)?;
        if self.second_name_leads_here() && fs::hard_link(held_name(&self.path), &new).is_ok() {
            return fs::rename(&new, &self.path).map_err(|error| Failure::call("rename", &self.path, error));
        }
        self.replace()
    }

    /// Makes a new socket in the place of this one. What waits at the old one is closed.
    ///
    /// # Errors
    /// `Io`, for example if the folder is gone.
    fn replace(&mut self) -> Result<(), Failure> {
        self.is_lost = true;
        let new = beside(&self.path, NEW);
        remove_dead(&new)?;
        let listener = Arc::new(HeldListener::bind(&new)?);
        let watch = watch(&listener, &new)?;
        fs::rename(&new, &self.path).map_err(|error| {
            drop(fs::remove_file(&new));
            Failure::call("rename", &self.path, error)
        })?;
        let was_armed = self.watch.is_armed();
        // The old watch ends before its socket.
        self.watch = watch;
        close::close(std::mem::replace(&mut self.listener, listener));
        self.is_lost = false;
        self.link();
        if self.is_watched {
            self.watch_file();
        }
        if was_armed { self.arm().map_err(|error| Failure::call("epoll_ctl", &self.path, error)) } else { Ok(()) }
    }

    /// Makes the second name.
    pub(super) fn link(&mut self) {
        let second = held_name(&self.path);
        // rename(2) replaces the second name of a former socket. Without links there is none.
        let new = beside(&self.path, NEW);
        let linked = fs::hard_link(&self.path, &new).and_then(|()| fs::rename(&new, &second).inspect_err(|_| drop(fs::remove_file(&new))));
        self.can_link = linked.is_ok();
        if let Err(error) = linked {
            tracing::debug!(target: TARGET, %error, path = %self.path.display(), "a held socket can't be linked");
        }
    }

    fn restore_second_name(&mut self) {
        if self.can_link && !os::has_name(AT_FDCWD, &held_name(&self.path)) {
            self.link();
        }
    }

    fn second_name_leads_here(&self) -> bool {
        FileId::find_here(&held_name(&self.path)).is_ok_and(|file| file == self.listener.file())
    }

    /// Removes the names that lead to this socket, and a dead socket that the daemon has left at `socketPath`.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn remove_names(&self) -> Result<(), Failure> {
        let removed = [self.path.clone(), held_name(&self.path)].map(|name| match FileId::find_here(&name) {
            Ok(file) if file == self.listener.file() => unlink(&name),
            Ok(_) | Err(_) => Ok(()),
        });
        let left = match remove_dead(&self.path) {
            // Somebody else's by now.
            Err(Failure::SocketInUse { .. }) => Ok(()),
            other => other,
        };
        removed.into_iter().chain([left]).find(Result::is_err).unwrap_or(Ok(()))
    }
}

fn unlink(name: &Path) -> Result<(), Failure> {
    match fs::remove_file(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::call("unlink", name, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn taken(path: &Path, by: Occupant) -> Failure {
    match in_use(path) {
        Failure::SocketInUse { path, .. } => Failure::SocketTaken { path, by },
        other => other,
    }
}
