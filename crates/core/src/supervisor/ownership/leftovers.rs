//! The end of what dead owners left, for a caller that starts nothing. The configuration of the daemon is not known: the whole tree is
//! stopped, with the default grace period. A keeper that still has the tree uses the configuration of its daemon.

use std::path::{Path, PathBuf};

use ally_base::os;
use ally_base::record::{Identity, LOCK_FILE, LockNote};

use super::acquire::acquire;
use super::leader::check_identifiable;
use super::{Folder, LockGuard, orphans, posix_session_members};
use crate::config::{ProcessConfig, Raw, parse};
use crate::error::Failure;
use crate::model::Pid;
use crate::supervisor::report::Reporter;
use crate::supervisor::socket;

/// A path that can't be a socket's, in place of a default that is too long for one.
const NO_SOCKET: &str = "/dev/null/daemon.sock";

/// The defaults that configFromManifest has for the two fields which a configuration must have.
const STARTUP_TIMEOUT_MS: f64 = 30_000.0;
const GRACE_PERIOD_MS: f64 = 5_000.0;

/// The plugin's socket, unless its configuration names another one.
pub fn default_socket(envs_dir: &Path, plugin: &str) -> PathBuf {
    envs_dir.join(plugin).join("daemon.sock")
}

/// A configuration with the defaults of all fields.
///
/// # Errors
/// `InvalidConfig`: no plugin can have this name.
pub fn config(envs_dir: &Path, plugin: &str) -> Result<ProcessConfig, Failure> {
    let of_socket = |socket: &Path| {
        let text = |path: &Path| Raw::String(path.display().to_string());
        let fields = [
            ("pluginName", Raw::String(plugin.to_owned())),
            ("pluginPath", text(&envs_dir.join(plugin))),
            ("command", Raw::String("true".to_owned())),
            ("args", Raw::Array(Vec::new())),
            ("socketPath", text(socket)),
            ("startupTimeout", Raw::Number(STARTUP_TIMEOUT_MS)),
            ("shutdownGracePeriod", Raw::Number(GRACE_PERIOD_MS)),
        ];
        parse(&Raw::Object(fields.map(|(key, value)| (key.to_owned(), value)).to_vec())).map(|parsed| parsed.config)
    };
    match of_socket(&default_socket(envs_dir, plugin)) {
        Err(Failure::InvalidConfig { field, .. }) if field == "socketPath" => of_socket(Path::new(NO_SOCKET)),
        found => found,
    }
}

/// Stops what a dead owner left, and removes its record and its socket. Waits for keepers that are ending their trees.
///
/// # Errors
/// `NotFound` without a folder of the plugin; `OwnedElsewhere`, `OwnedOutside`: nothing was signalled; `StopFailed`; `Io`.
pub async fn stop(envs_dir: &Path, plugin: &str, reporter: &Reporter) -> Result<(), Failure> {
    let config = config(envs_dir, plugin)?;
    let folder = open(envs_dir, plugin)?;
    let own = os::look_up(os::own_pid()).ok_or_else(|| Failure::Internal { problem: "/proc does not show this process".to_owned() })?;
    let lock = acquire(&folder, config.shutdown_grace_period, &own, reporter).await?;
    note(&folder, &lock, reporter)?;
    refuse_unidentified(&folder)?;
    orphans::stop(&folder, &config, reporter).await?;
    clear(&folder, &config)
}

/// Removes the record and the socket of a dead owner, if no process of its trees lives. Signals nobody and waits for nobody.
///
/// # Errors
/// `NotFound`; `OwnedElsewhere`; `StopFailed` with the processes that live, and the files stay; `Io`.
pub fn tidy(envs_dir: &Path, plugin: &str, reporter: &Reporter) -> Result<(), Failure> {
    let config = config(envs_dir, plugin)?;
    let folder = open(envs_dir, plugin)?;
    let lock = match folder.try_lock()? {
        Ok(lock) => LockGuard::of(lock),
        Err(held) => {
            let owner = match held.note {
                LockNote::Owner { pid, .. } | LockNote::Keeper { pid, .. } => Some(pid),
                LockNote::Nobody => held.locker,
            };
            return Err(Failure::OwnedElsewhere { owner });
        }
    };
    note(&folder, &lock, reporter)?;
    refuse_unidentified(&folder)?;
    let mut living: Vec<Pid> = Vec::new();
    for identity in folder.read_identities()? {
        let members = posix_session_members(&identity, &config, &[])?;
        living.extend(members.certain.iter().chain(&members.doubtful).map(|process| process.pid));
    }
    if !living.is_empty() {
        return Err(Failure::StopFailed { survivors: living });
    }
    folder.remove_record()?;
    clear(&folder, &config)
}

/// The folder of a known plugin, which is not made here.
pub(super) fn open(envs_dir: &Path, plugin: &str) -> Result<Folder, Failure> {
    os::must_be_visible().map_err(|error| Failure::at(Path::new("/proc"), error))?;
    check_identifiable()?;
    if !std::fs::symlink_metadata(envs_dir.join(plugin)).is_ok_and(|found| found.is_dir()) {
        return Err(Failure::NotFound);
    }
    let folder = Folder::open(envs_dir, plugin)?;
    folder.check_places()?;
    Ok(folder)
}

/// A start of another process in the meantime is told who holds the name.
fn note(folder: &Folder, lock: &LockGuard, reporter: &Reporter) -> Result<(), Failure> {
    let own = os::look_up(os::own_pid()).map_or(0, |own| own.start);
    let note = LockNote::Owner { pid: os::own_pid(), start: own, manager: reporter.manager };
    lock.note(&note).map_err(|error| Failure::at(&folder.join(LOCK_FILE), error))
}

/// A living process that only `daemon.pid` names: the TypeScript original may run it, which takes no lock. Its configuration would
/// be needed to recognise it.
fn refuse_unidentified(folder: &Folder) -> Result<(), Failure> {
    let identities = folder.read_identities()?;
    let is_unknown = |pid: &Pid| identities.iter().all(|identity: &Identity| identity.leader != *pid);
    match folder.read_pid()?.filter(is_unknown) {
        Some(pid) if os::identify(pid).map_or(true, |process| process.is_some_and(|process| !process.zombie)) => {
            Err(Failure::OwnedElsewhere { owner: Some(pid) })
        }
        _ => Ok(()),
    }
}

/// The record is gone. A socket that another process holds stays.
fn clear(folder: &Folder, config: &ProcessConfig) -> Result<(), Failure> {
    folder.remove_temporaries()?;
    match socket::remove_dead(&config.socket_path) {
        Err(Failure::SocketInUse { .. }) | Ok(()) => Ok(()),
        Err(failure) => Err(failure),
    }
}
