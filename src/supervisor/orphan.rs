//! What a dead owner left: recognised by more than a pid, and stopped as a whole tree.

use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::files::{Folder, Identity};
use super::guardian_client::Maker;
use super::socket::dial;
use crate::config::ProcessConfig;
use crate::error::Failure;
use crate::lifecycle::{KILL_PATIENCE, Pid};
use crate::os::{self, Handle, Process};

/// Where the system gives no handle that tells of an exit.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// What SIGKILL hasn't ended by then may never end, and a look at all processes has its price.
const LOOK_AGAIN_LATER: Duration = Duration::from_secs(1);

/// Ends what the plugin's record names, if that is beyond doubt. What can't be verified is not signalled.
///
/// # Errors
/// `StopFailed` with what could not be killed; `Io`.
pub async fn clear(folder: &Folder, config: &ProcessConfig, manager: u64) -> Result<(), Failure> {
    let mut orphans = find(folder, config)?;
    // Neither ourselves nor anything that we descend from, whatever a file says.
    orphans.retain(|orphan| !os::descends_from(own_pid(), orphan.pid));
    if !orphans.is_empty() {
        let pids = orphans.iter().map(|orphan| orphan.pid.to_string()).collect::<Vec<_>>().join(", ");
        tracing::warn!(target: super::TARGET, manager, plugin = config.plugin_name, pids, "stopping what a dead owner left");
        stop(&orphans, config).await?;
    }
    folder.forget_record()
}

fn find(folder: &Folder, config: &ProcessConfig) -> Result<Vec<Process>, Failure> {
    let identity = folder.read_identity()?;
    let recorded = folder.read_pid()?;
    // A pid that our own identity doesn't speak of was written by the TypeScript original, if by anyone.
    let unknown = recorded.filter(|pid| identity.as_ref().is_none_or(|identity| identity.leader != *pid));
    let mut found: Vec<Process> = unknown.and_then(|pid| bare(pid, config)).into_iter().collect();
    let Some(identity) = identity else { return Ok(found) };
    if !identity.is_of_this_boot().map_err(|error| Failure::io(&folder.join("daemon.id"), crate::error::io_text(&error)))? {
        return Ok(found);
    }
    // The leader dies with its keeper, and what it made stays behind in its session. A session of that
    // number that began with our socket path in its environment is no accident.
    let socket = config.socket_path.display().to_string();
    let mut session = os::session(identity.leader);
    session.retain(|process| process.start >= identity.start && os::began_with(process.pid, "SOCKET_PATH", &socket));
    session.retain(|process| process.pid != identity.leader);
    found.extend(session.into_iter().chain(identity.find()));
    Ok(found)
}

fn own_pid() -> Pid {
    nix::unistd::getpid().as_raw()
}

/// A pid file of the TypeScript original: counts only if that process listens at the plugin's socket and
/// works in the plugin's folder.
fn bare(pid: Pid, config: &ProcessConfig) -> Option<Process> {
    let before = os::look_up(pid).filter(|process| !process.zombie)?;
    let listens = match dial(&config.socket_path) {
        Ok(client) => os::peer_pid(&client).ok()? == pid,
        // A hung one whose queue is full.
        Err(Errno::EAGAIN) => os::holders(&config.socket_path).contains(&pid),
        Err(_) => false,
    };
    (listens && same_folder(&os::working_directory(pid)?, &config.plugin_path)).then_some(before)
}

fn same_folder(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        (Err(_), _) | (_, Err(_)) => false,
    }
}

async fn stop(roots: &[Process], config: &ProcessConfig) -> Result<(), Failure> {
    let mut tree = Vec::new();
    if !config.shutdown_grace_period.is_zero() {
        enlist(&mut tree, roots)?;
        for (_, handle) in &tree {
            signal(handle, config.stop_signal);
            signal(handle, libc::SIGCONT);
        }
        if gone(&mut tree, Instant::now() + config.shutdown_grace_period).await {
            return Ok(());
        }
    }
    enlist(&mut tree, roots)?;
    for (_, handle) in &tree {
        signal(handle, libc::SIGKILL);
    }
    if gone(&mut tree, Instant::now() + KILL_PATIENCE).await {
        return Ok(());
    }
    Err(Failure::StopFailed { survivors: tree.iter().map(|(process, _)| process.pid).collect() })
}

/// Ends what a keeper that was killed has left. Its guardian, the subreaper above it, does that exactly;
/// if that is gone too, the leader's session is what the kernel still tells of the tree. Does not end before nothing is
/// left: who loses patience is the lifecycle's affair.
pub async fn sweep(mut maker: Option<Maker>, keeper: Pid, mut leader: Option<Identity>, group_only: bool, manager: u64) {
    let mut told = match &mut maker {
        Some(maker) => timeout(KILL_PATIENCE, maker.swept(keeper)).await.is_ok(),
        None => true,
    };
    if !told {
        tracing::warn!(target: super::TARGET, manager, keeper, "the guardian doesn't say that the tree is gone");
    }
    let mut pause = LOOK_AGAIN;
    loop {
        let left = leader.as_ref().map(|leader| left_of(leader, group_only)).unwrap_or_default();
        if left.is_empty() && os::sees() {
            if told {
                return;
            }
            // Once it is empty its number may be given to anyone.
            leader = None;
        }
        for process in left {
            if let Err(error) = os::signal(&process, libc::SIGKILL) {
                tracing::debug!(target: super::TARGET, manager, pid = process.pid, %error, "what a keeper left can't be killed");
            }
        }
        match &mut maker {
            Some(maker) if !told => told = timeout(pause, maker.swept(keeper)).await.is_ok(),
            Some(_) | None => sleep(pause).await,
        }
        pause = (pause * 2).min(LOOK_AGAIN_LATER);
    }
}

/// What is left in the session of a leader whose keeper is gone.
pub fn left_of(leader: &Identity, group_only: bool) -> Vec<Process> {
    let mut left = os::session(leader.leader);
    left.retain(|process| process.start >= leader.start && (!group_only || process.group == leader.leader));
    left
}

/// Adds what descends from the roots, or from anyone already known, and isn't known yet.
fn enlist(tree: &mut Vec<(Process, Handle)>, roots: &[Process]) -> Result<(), Failure> {
    let mut found = roots.to_vec();
    for parent in roots.iter().chain(tree.iter().map(|(process, _)| process)) {
        let children = os::descendants(parent.pid);
        // Its pid may have gone to a stranger since; then those are the stranger's children.
        if os::look_up(parent.pid).is_some_and(|now| now.start == parent.start) {
            found.extend(children);
        }
    }
    for process in found {
        if tree.iter().any(|(known, _)| known.pid == process.pid) {
            continue;
        }
        if let Some(handle) = os::open(&process).map_err(|error| Failure::Internal { problem: crate::error::io_text(&error) })? {
            tree.push((process, handle));
        }
    }
    Ok(())
}

fn signal(handle: &Handle, signal: i32) {
    // What refuses is still there when the patience ends, and is named then.
    if let Err(error) = handle.signal(signal) {
        tracing::debug!(target: super::TARGET, %error, "an orphan can't be signalled");
    }
}

/// Leaves only those that live; true if none does.
async fn gone(tree: &mut Vec<(Process, Handle)>, deadline: Instant) -> bool {
    while let Some((process, handle)) = tree.last() {
        let alive = os::look_up(process.pid).is_some_and(|now| now.start == process.start && !now.zombie);
        if !alive {
            tree.pop();
        } else if Instant::now() >= deadline {
            return false;
        } else {
            wait(handle, deadline).await;
        }
    }
    true
}

async fn wait(handle: &Handle, deadline: Instant) {
    let copy = handle.fd.as_ref().and_then(|fd| fd.try_clone().ok());
    // SAFETY: an OwnedFd keeps its descriptor open and unchanged for as long as it lives.
    let watched = copy.and_then(|fd| unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.ok());
    if let Some(watched) = watched {
        // Elapsed or ended: the caller looks for itself.
        drop(timeout_at(deadline, watched.readable()).await);
    } else {
        sleep(LOOK_AGAIN).await;
    }
}
