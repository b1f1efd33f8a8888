//! Which plugin of a manager uses which socket path, from before the spawn until its daemon has come to rest.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub struct SocketClaims(Mutex<HashMap<PathBuf, String>>);

impl SocketClaims {
    /// # Errors
    /// The plugin that uses this path.
    pub fn claim(&self, path: &Path, plugin: &str) -> Result<(), String> {
        let mut claims = self.lock();
        let claimant = claims.entry(path.to_owned()).or_insert_with(|| plugin.to_owned());
        if claimant == plugin { Ok(()) } else { Err(claimant.clone()) }
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
