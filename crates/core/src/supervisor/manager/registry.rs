//! The daemons of one manager.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::lifecycle::dependencies::Dependent;
use crate::supervisor::daemon::{Daemon, Job};

#[derive(Default)]
pub struct Registry {
    daemons: RwLock<HashMap<String, Arc<Daemon>>>,
    /// Whether a configuration has had `dependsOn`. Without one, no call looks for dependents.
    has_dependents: AtomicBool,
}

impl Registry {
    /// The daemon of this name. `make`: makes one if there is none.
    pub fn get_or_insert(&self, name: &str, make: impl FnOnce() -> Arc<Daemon>) -> Arc<Daemon> {
        if let Some(daemon) = self.get(name) {
            return daemon;
        }
        let daemon = make();
        self.write().insert(name.to_owned(), Arc::clone(&daemon));
        daemon
    }

    pub fn get(&self, name: &str) -> Option<Arc<Daemon>> {
        self.read().get(name).cloned()
    }

    /// Without a daemon that callers never see.
    pub fn get_known(&self, name: &str) -> Option<Arc<Daemon>> {
        self.get(name).filter(is_known)
    }

    /// Reads one value of a known daemon without a copy of its reference.
    pub fn peek<T>(&self, name: &str, read: impl FnOnce(&Arc<Daemon>) -> T) -> Option<T> {
        self.read().get(name).filter(|daemon| is_known(daemon)).map(read)
    }

    pub fn known(&self) -> Vec<Arc<Daemon>> {
        self.read().values().filter(|daemon| is_known(daemon)).cloned().collect()
    }

    /// Removes a daemon if `wanted` returns a value, and returns both.
    pub fn take_if<T>(&self, name: &str, wanted: impl FnOnce(&Arc<Daemon>) -> Option<T>) -> Option<(Arc<Daemon>, T)> {
        let mut daemons = self.write();
        let value = daemons.get(name).and_then(wanted)?;
        Some((daemons.remove(name)?, value))
    }

    pub fn take_all(&self) -> Vec<Arc<Daemon>> {
        self.write().drain().map(|(_, daemon)| daemon).collect()
    }

    pub fn note_dependents(&self) {
        self.has_dependents.store(true, Ordering::Relaxed);
    }

    pub fn has_dependents(&self) -> bool {
        self.has_dependents.load(Ordering::Relaxed)
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<String, Arc<Daemon>>> {
        self.daemons.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<String, Arc<Daemon>>> {
        self.daemons.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A first start that was refused before it changed anything leaves a daemon that callers never see.
fn is_known(daemon: &Arc<Daemon>) -> bool {
    daemon.peek(|snapshot| snapshot.known)
}

/// Each job as a plugin with its dependencies.
pub fn dependents(jobs: &[Arc<Job>]) -> Vec<Dependent<'_>> {
    jobs.iter().map(|job| Dependent { name: &job.config.plugin_name, depends_on: &job.config.depends_on }).collect()
}
