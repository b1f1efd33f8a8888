//! Where a daemon with a socket of its own makes it. The first generation makes it at `socketPath`. During an upgrade that path leads
//! to the old generation, so the new one is told another path, and its socket is renamed to `socketPath` when it is ready.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, mem};

use super::Job;
use crate::supervisor::socket::{OtherName, remove_dead};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Public,
    Beside(OtherName),
}

/// The path that a generation is told, and the path at which clients find it.
#[derive(Debug, Clone)]
pub struct SocketPlace {
    public: PathBuf,
    told: Told,
}

impl SocketPlace {
    pub fn at(path: &Path) -> Self {
        Self { public: path.to_owned(), told: Told::Public }
    }

    /// A place that no generation uses that was told one of `used`.
    pub fn beside<'a>(path: &Path, used: impl IntoIterator<Item = &'a Self>) -> Self {
        let used: Vec<Told> = used.into_iter().filter(|place| place.public == path).map(|place| place.told).collect();
        let names = [OtherName::Next1, OtherName::Next2].map(Told::Beside);
        // There is one other generation at most.
        let told = names.into_iter().find(|told| !used.contains(told)).unwrap_or(names[0]);
        Self { public: path.to_owned(), told }
    }

    pub const fn is_public(&self) -> bool {
        matches!(self.told, Told::Public)
    }

    /// The path that the generation is told.
    pub fn told(&self) -> PathBuf {
        match self.told {
            Told::Public => self.public.clone(),
            Told::Beside(name) => name.of(&self.public),
        }
    }

    /// The configuration that a daemon at this place gets.
    pub fn tell(&self, job: &Arc<Job>) -> Arc<Job> {
        if self.is_public() {
            return Arc::clone(job);
        }
        let mut told = (**job).clone();
        told.config.socket_path = self.told();
        Arc::new(told)
    }

    /// Clients reach this generation from now on. Returns what keeps its second name.
    ///
    /// # Errors
    /// Errors of rename(2). Nothing has changed then.
    pub fn publish(&self) -> io::Result<SecondName> {
        fs::rename(self.told(), &self.public)?;
        // Clients reach it, with a second name or without.
        Ok(SecondName::of(&self.public).unwrap_or_else(|_| SecondName { path: self.public.clone(), second: None }))
    }
}

/// A second name of the socket that serves, as long as an older generation may unlink the first.
#[derive(Debug)]
pub struct SecondName {
    path: PathBuf,
    /// `None` if the file system can't link sockets.
    second: Option<PathBuf>,
}

impl SecondName {
    /// Puts the socket back at its path, if an older generation has unlinked it. Returns whether it was missing.
    ///
    /// # Errors
    /// Errors of link(2) and rename(2).
    pub fn put_back(&self) -> io::Result<bool> {
        let Some(second) = &self.second else { return Ok(false) };
        // Another generation may have made a socket there. If it is dead, that generation has failed.
        if let (Ok(there), Ok(own)) = (fs::symlink_metadata(&self.path), fs::symlink_metadata(second))
            && (there.dev(), there.ino()) != (own.dev(), own.ino())
            && remove_dead(&self.path).is_err()
        {
            return Ok(false);
        }
        // A link and not a rename of the second name, which may be needed again. It waits for a removal that is under way.
        match fs::hard_link(second, &self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The folder in which the names are.
    pub fn folder(&self) -> Option<&Path> {
        self.path.parent()
    }

    /// Of the socket at this path, before another generation may unlink it.
    pub fn of(path: &Path) -> io::Result<Self> {
        let second = OtherName::Held.of(path);
        remove(&second)?;
        let kept = fs::hard_link(path, &second).is_ok();
        Ok(Self { path: path.to_owned(), second: kept.then_some(second) })
    }

    /// The next second name takes the place of this one.
    pub fn leave(mut self) {
        self.second = None;
    }
}

impl Drop for SecondName {
    fn drop(&mut self) {
        if let Some(Err(error)) = mem::take(&mut self.second).map(|second| remove(&second)) {
            tracing::warn!(target: crate::supervisor::TARGET, %error, "the second name of a socket stays");
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
