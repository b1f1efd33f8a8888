//! The lease of a plugin's name, and the preparation that obtains it: folder, lock, orphans, socket path.

use std::path::Path;
use std::sync::Arc;

use ally_base::os;
use ally_base::record::{LOCK_FILE, LockNote};

use super::acquire::acquire;
use super::{Folder, Lock, orphans};
use crate::config::ProcessConfig;
use crate::error::Failure;
use crate::supervisor::report::Reporter;
use crate::supervisor::socket;

/// The right to a plugin's name: the folder and the lock.
pub struct Lease {
    pub folder: Folder,
    pub lock: Arc<Lock>,
}

impl Lease {
    /// The preparation before the first spawn.
    ///
    /// # Errors
    /// `Io`, `OwnedElsewhere`, `StopFailed` for an orphan that can't be killed, `SocketInUse`.
    pub async fn prepare(envs_dir: &Path, config: &ProcessConfig, reporter: &Reporter) -> Result<Self, Failure> {
        os::must_be_visible().map_err(|error| Failure::at(Path::new("/proc"), error))?;
        let folder = Folder::open(envs_dir, &config.plugin_name)?;
        folder.check_places()?;
        let io_failure = |error: std::io::Error| Failure::at(&folder.join(LOCK_FILE), error);
        let own = os::identify(os::own_pid()).map_err(io_failure)?.ok_or_else(|| io_failure(std::io::ErrorKind::NotFound.into()))?;
        let lock = acquire(&folder, config.shutdown_grace_period, &own).await?;
        lock.note(&LockNote::Owner { pid: own.pid, start: own.start, manager: reporter.manager }).map_err(io_failure)?;
        orphans::stop(&folder, config, reporter).await?;
        socket::remove_dead(&config.socket_path)?;
        Ok(Self { lock: lock.keep(), folder })
    }
}
