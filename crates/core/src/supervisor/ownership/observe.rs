//! What a plugin's files and the kernel tell about its daemon, for a process that is not the owner. An observation takes no lock,
//! signals nobody and changes nothing, so it works while the owner is alive, suspended or dead.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ally_base::os::{self, Held, Listeners, Listening, Process, SockDiag};
use ally_base::record::{Elsewhere, Identity, LOCK_FILE, LockNote, RecordFiles, SameBoot, own_place};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

use super::leader::{find_leader, same_boot};
use super::lock;
use super::{leftovers, posix_session_members};
use crate::error::Failure;
use crate::model::Pid;
use crate::supervisor::metrics::quick_memory;

/// The process that holds the plugin's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    Nobody,
    Owner(Pid),
    /// The owner is dead, and this keeper still has the tree.
    Keeper(Pid),
    /// The note is of another machine or container, in which the pid counts. Whether that process lives can't be seen from here.
    Elsewhere(Pid, Elsewhere),
}

#[derive(Debug)]
pub struct Observation {
    pub holder: Holder,
    /// The serving generation first.
    pub generations: Vec<Generation>,
    /// The pid of a `daemon.pid` that no identity names, and whether a process has this pid.
    pub unidentified: Option<(Pid, bool)>,
    pub log_path: Option<PathBuf>,
    /// The socket at its default path, if nobody holds the name and no process holds the socket.
    pub stale_socket: Option<PathBuf>,
}

#[derive(Debug)]
pub struct Generation {
    pub identity: Identity,
    pub boot: SameBoot,
    /// Whether the leader lives, by pid, start and boot.
    pub lives: bool,
    /// Whether a process of the tree listens at the plugin's socket.
    pub listens: bool,
    pub usage: Option<Usage>,
    /// If the keeper is dead: the processes that certainly belong to the tree, with the leader.
    pub left: Vec<Pid>,
    /// If the keeper is dead: processes that may belong to the tree.
    pub doubtful: Vec<Pid>,
}

/// The sums over a tree.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    pub cpu: Duration,
    pub memory: u64,
    pub processes: usize,
}

/// Observes plugins of one `envsDir`. The kernel's list of listening sockets is read once for all of them.
pub struct Observer<'a> {
    envs_dir: &'a Path,
    listeners: Option<Listeners>,
}

impl<'a> Observer<'a> {
    pub fn new(envs_dir: &'a Path) -> Self {
        // Without netlink or unix_diag no plugin is seen to listen.
        let listeners = SockDiag::open().and_then(|diag| Listeners::read(&diag)).ok();
        Self { envs_dir, listeners }
    }

    /// # Errors
    /// `Io`: the folder is no folder of this user's, or one of its files or /proc can't be read.
    pub fn observe(&self, plugin: &str) -> Result<Observation, Failure> {
        let path = self.envs_dir.join(plugin);
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
        let folder = openat(AT_FDCWD, &path, flags, Mode::empty()).map(File::from).map_err(|error| Failure::call("open", &path, error))?;
        let files = RecordFiles::of(&folder);
        let failed = |error: ally_base::record::RecordError| Failure::call(error.call, &path.join(&error.file), error.error);
        let identities = files.identities().map_err(failed)?;
        let pid = files.pid().map_err(failed)?.filter(|pid| identities.iter().all(|identity| identity.leader != *pid));
        let log_path = files.log_path().map_err(failed)?;
        let holder = find_holder(&folder, &path, &identities)?;
        let generations = identities.into_iter().map(|identity| self.generation(plugin, identity)).collect::<Result<Vec<_>, _>>()?;
        // As for kill(2): a process that /proc hides lives too.
        let unidentified = pid.map(|pid| (pid, os::identify(pid).map_or(true, |process| process.is_some_and(|process| !process.zombie))));
        let is_held = holder != Holder::Nobody || generations.iter().any(|generation| !generation.left.is_empty());
        let stale_socket = Some(leftovers::default_socket(self.envs_dir, plugin)).filter(|socket| !is_held && is_stale(socket));
        Ok(Observation { holder, generations, unidentified, log_path, stale_socket })
    }

    fn generation(&self, plugin: &str, identity: Identity) -> Result<Generation, Failure> {
        let boot = same_boot(&identity)?;
        let leader = find_leader(&identity)?;
        let keeper = leader.and_then(|leader| keeper_of(&identity, &leader));
        let listens = leader.is_some_and(|leader| self.listens(plugin, &identity, &leader));
        let usage = keeper.and_then(|keeper| usage_of(&keeper));
        let mut generation = Generation { boot, lives: leader.is_some(), listens, usage, left: Vec::new(), doubtful: Vec::new(), identity };
        if keeper.is_none() {
            // A scan of /proc: not for a daemon that has its keeper.
            let config = leftovers::config(self.envs_dir, plugin)?;
            let members = posix_session_members(&generation.identity, &config, &[])?;
            let pids = |processes: Vec<Process>| processes.into_iter().map(|process| process.pid).collect();
            (generation.left, generation.doubtful) = (pids(members.certain), pids(members.doubtful));
        }
        Ok(generation)
    }

    fn listens(&self, plugin: &str, identity: &Identity, leader: &Process) -> bool {
        let (Some(listeners), Some(keeper)) = (&self.listeners, identity.keeper) else { return false };
        let is_listening = |path: &PathBuf| matches!(listeners.listening(path, keeper, leader.pid), Ok(Listening::Tree(_)));
        self.socket_paths(plugin, leader).iter().any(is_listening)
    }

    /// Where the daemon was told to listen. After an upgrade the socket has the public path, which the daemon was not told.
    fn socket_paths(&self, plugin: &str, leader: &Process) -> Vec<PathBuf> {
        const OTHER_NAMES: [&str; 2] = [".nxt1", ".nxt2"];
        let mut paths = vec![leftovers::default_socket(self.envs_dir, plugin)];
        if let Some(told) = os::initial_variable(leader.pid, "SOCKET_PATH") {
            paths.extend(OTHER_NAMES.iter().filter_map(|ending| told.strip_suffix(ending).map(PathBuf::from)));
            paths.push(PathBuf::from(told));
        }
        paths
    }
}

/// Whether no process holds the socket. Without a connection, which a process could take for a client's.
fn is_stale(socket: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(socket).is_ok_and(|found| found.file_type().is_socket());
    is_socket && matches!(os::is_held(socket), Ok(Held::No))
}

/// The keeper of a living leader.
fn keeper_of(identity: &Identity, leader: &Process) -> Option<Process> {
    os::look_up(identity.keeper?).filter(|keeper| !keeper.zombie && leader.parent == keeper.pid && keeper.start <= leader.start)
}

fn usage_of(keeper: &Process) -> Option<Usage> {
    let tree = os::tree_usage(keeper.pid, keeper.start).ok().flatten()?;
    Some(Usage { cpu: tree.cpu, memory: quick_memory(&tree), processes: tree.processes.len() })
}

/// The holder by the note in the lock file and by the kernel's list of locks.
fn find_holder(folder: &File, path: &Path, identities: &[Identity]) -> Result<Holder, Failure> {
    let scan_failure = |error: io::Error| Failure::at(Path::new("/proc"), error);
    let lock_file = open_lock(folder).map_err(|error| Failure::call("open", &path.join(LOCK_FILE), error))?;
    if let Some((file, text)) = &lock_file {
        let held = lock::Held::of(file.try_clone().map_err(|error| Failure::at(path, error))?, text);
        let elsewhere = held.elsewhere().map_err(scan_failure)?;
        match (held.note.clone(), elsewhere) {
            (LockNote::Owner { pid, .. } | LockNote::Keeper { pid, .. }, Some(place)) if !is_earlier_boot(&place)? => {
                return Ok(Holder::Elsewhere(pid, place));
            }
            (LockNote::Owner { pid, start, .. }, None)
                if os::may_live(pid, start) && !os::is_ending(pid) && os::is_flocked(file) != Some(false) =>
            {
                return Ok(Holder::Owner(pid));
            }
            _ => {}
        }
        let noted = held.keepers.iter().filter_map(|note| match *note {
            LockNote::Keeper { pid, start, .. } => os::look_up(pid).filter(|process| process.start == start),
            LockNote::Owner { .. } | LockNote::Nobody => None,
        });
        // A keeper that was suspended before its owner died has written no note.
        let recorded = identities.iter().filter_map(|identity| os::look_up(identity.keeper?));
        let is_holder = |keeper: &Process| os::holds(keeper.pid, super::plugin_folder::KEEPER, file);
        if let Some(keeper) = noted.chain(recorded).find(is_holder) {
            return Ok(Holder::Keeper(keeper.pid));
        }
    }
    // The folder was cleared, and the owner has not made the lock file anew yet.
    Ok(os::flock_holder(folder).filter(|pid| !os::is_ending(*pid)).map_or(Holder::Nobody, Holder::Owner))
}

/// A note of an earlier boot of this machine: its process is gone.
fn is_earlier_boot(place: &Elsewhere) -> Result<bool, Failure> {
    let Elsewhere::Machine(noted) = place else { return Ok(false) };
    let own = own_place().map_err(|error| Failure::at(Path::new("/proc"), error))?;
    Ok(own.split(' ').nth(3) == Some(noted))
}

/// The lock file and its text. `None` without a plain file.
pub(super) fn open_lock(folder: &impl AsFd) -> nix::Result<Option<(File, String)>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let file = match openat(folder.as_fd(), LOCK_FILE, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::ENOENT | Errno::ELOOP | Errno::ENXIO | Errno::EOPNOTSUPP) => return Ok(None),
        Err(error) => return Err(error),
    };
    if !file.metadata().is_ok_and(|found| found.is_file()) {
        return Ok(None);
    }
    let text = super::plugin_folder::read_note(&file);
    Ok(Some((file, text)))
}
