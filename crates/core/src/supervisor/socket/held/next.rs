//! An upgrade: each generation has a socket of its own. The next one's has a name of its own until it takes over the path.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::place::next_name;
use super::{HeldListener, HeldSocket, close};
use crate::error::Failure;
use crate::supervisor::socket::remove_dead;

/// A socket without names. The daemon that has it works off its queue.
pub struct RetiredSocket(Arc<HeldListener>);

impl HeldSocket {
    /// A socket for the next generation, at `socketPath` with the ending `.next`. [`Self::promote`] puts it at `socketPath`.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub fn successor(&self) -> Result<Self, Failure> {
        let name = next_name(&self.path);
        remove_dead(&name)?;
        Self::bind_at(&self.path, &name)
    }

    /// Where [`Self::successor`] has bound this socket. Probes of the next generation connect there.
    pub(super) fn next_path(&self) -> PathBuf {
        next_name(&self.path)
    }

    /// Puts a successor at `socketPath` in one step. The socket that was there has no name from then on: [`Self::retire`].
    ///
    /// # Errors
    /// `Io` if rename(2) fails. Both sockets are then as before.
    pub fn promote(&mut self) -> Result<(), Failure> {
        fs::rename(self.next_path(), &self.path).map_err(|error| Failure::call("rename", &self.path, error))?;
        self.is_next = false;
        // rename(2) puts it over the second name of the old one.
        self.link();
        Ok(())
    }

    /// After the promotion of its successor.
    pub fn retire(self) -> RetiredSocket {
        RetiredSocket(self.listener)
    }

    /// The next generation failed: closes a successor that was not promoted.
    ///
    /// # Errors
    /// `Io` if its name stays.
    pub fn discard_successor(self) -> Result<(), Failure> {
        let removed = remove_next(&self);
        drop(self.watch);
        close::close(self.listener);
        removed
    }
}

fn remove_next(successor: &HeldSocket) -> Result<(), Failure> {
    let name = successor.next_path();
    match fs::remove_file(&name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::call("unlink", &name, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

impl RetiredSocket {
    pub fn listener(&self) -> Arc<HeldListener> {
        Arc::clone(&self.0)
    }

    /// Closes what still waits.
    pub fn close(self) {
        close::close(self.0);
    }
}
