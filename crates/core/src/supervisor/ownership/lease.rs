//! The lease of a plugin's name, and the preparation that obtains it: folder, lock, orphans, socket path.

use std::path::Path;
use std::sync::Arc;

use ally_base::os;
use ally_base::record::{LOCK_FILE, LockNote};
use ally_base::text::printable;

use super::acquire::acquire;
use super::{Folder, Lock, live_managers, orphans};
use crate::config::ProcessConfig;
use crate::error::Failure;
use crate::supervisor::report::{Reporter, log};
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
        log_modes(&folder, envs_dir, reporter);
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

fn log_modes(folder: &Folder, envs_dir: &Path, reporter: &Reporter) {
    let text = |path: &Path| printable(&path.display().to_string());
    if let Some(mode) = folder.envs_dir_open.filter(|_| live_managers::is_first_warning(reporter.manager)) {
        log!(
            reporter,
            warn,
            "others than its owner can write in envsDir {} (mode {mode:04o}), and can replace plugins' folders",
            text(envs_dir)
        );
    }
    if let Some(mode) = folder.closed_from {
        log!(reporter, info, "closed the plugin's folder {} (mode {mode:04o}) to other users", text(folder.path()));
    }
}
