//! The socket paths that the plugins of one manager use, from the preparation of an attempt until the name is released.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::ProcessConfig;
use crate::error::{Failure, Occupant};

#[derive(Debug, Default)]
pub struct SocketClaims(Mutex<HashMap<PathBuf, String>>);

impl SocketClaims {
    /// # Errors
    /// The name of the plugin that uses the path.
    fn claim(&self, path: &Path, plugin: &str) -> Result<(), String> {
        let mut claims = self.lock();
        let claimant = claims.entry(path.to_owned()).or_insert_with(|| plugin.to_owned());
        if claimant == plugin { Ok(()) } else { Err(claimant.clone()) }
    }

    /// Claims `socketPath`, if the configuration needs it.
    ///
    /// # Errors
    /// `SocketInUse` with the plugin that uses the path.
    pub fn claim_needed(&self, config: &ProcessConfig, plugin: &str) -> Result<(), Failure> {
        let Some(path) = config.needed_socket() else { return Ok(()) };
        self.claim(path, plugin).map_err(|other| Failure::SocketInUse { path: path.display().to_string(), by: Occupant::Plugin(other) })
    }

    pub fn release(&self, path: &Path, plugin: &str) {
        let mut claims = self.lock();
        if claims.get(path).is_some_and(|claimant| claimant == plugin) {
            claims.remove(path);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
