//! Stops orphans. An orphan is identified by more than its pid, and is stopped as a whole tree.

use std::path::Path;

use ally_base::os::{self, Process};
use ally_base::stop::{StopStep, time_of_leader};
use nix::errno::Errno;
use tokio::time::Instant;

use super::doubtful::log_doubtful;
use super::dying_tree::DyingTree;
use super::leader::scan_failure;
use super::{Folder, posix_session_members};
use crate::config::ProcessConfig;
use crate::error::Failure;
use crate::lifecycle::KILL_TIMEOUT;
use crate::model::Pid;
use crate::supervisor::report::{Reporter, log};
use crate::supervisor::socket::dial;

#[derive(Clone, Copy)]
enum Stage {
    StopSignal(StopStep),
    Kill,
}

/// Stops the orphan that the plugin's record names. A process with a doubtful identity is not signalled.
///
/// # Errors
/// `StopFailed` with the survivors of SIGKILL; `Io`, also if a scan fails.
pub async fn stop(folder: &Folder, config: &ProcessConfig, reporter: &Reporter) -> Result<(), Failure> {
    let ProcessConfig { shutdown_grace_period: grace, stop_signal, stop_signal_to, kill_mode, .. } = *config;
    let mut tree = DyingTree::default();
    log_doubtful(folder, config, reporter)?;
    let mut begun: Option<(Instant, Stage)> = None;
    // A process may fork just before it ends, so the orphans are gone only when a scan finds none.
    loop {
        let found = find(folder, config)?;
        if begun.is_none() {
            found.log(reporter);
        }
        let leader = found.leader;
        tree.add(found.all(), kill_mode).map_err(|error| scan_failure(&error))?;
        if tree.is_empty() {
            return folder.remove_record();
        }
        let first_stage =
            || if grace.is_zero() { Stage::Kill } else { Stage::StopSignal(StopStep::first(stop_signal_to, leader.is_some())) };
        let (since, stage) = begun.unwrap_or_else(|| (Instant::now(), first_stage()));
        let ended = match stage {
            Stage::StopSignal(step) => {
                tree.send_stop_signal(step, leader.as_ref(), stop_signal);
                match leader.filter(|_| step == StopStep::Leader) {
                    Some(leader) => tree.wait_for(&leader, since + time_of_leader(grace)).await,
                    None => tree.wait(since + grace).await,
                }
            }
            Stage::Kill => {
                tree.kill(kill_mode).map_err(|error| scan_failure(&error))?;
                tree.wait(since + KILL_TIMEOUT).await
            }
        };
        begun = Some(match (stage, ended) {
            (Stage::StopSignal(StopStep::Leader), true) => (since, Stage::StopSignal(StopStep::Remaining)),
            (Stage::StopSignal(StopStep::Leader), false) => (since, Stage::StopSignal(StopStep::Tree)),
            (stage, true) => (since, stage),
            (Stage::StopSignal(_), false) => (Instant::now(), Stage::Kill),
            (Stage::Kill, false) => return Err(Failure::StopFailed { survivors: tree.survivors() }),
        });
    }
}

/// The processes that are to be stopped.
struct Found {
    /// The process of a `daemon.pid` without `daemon.id`. Its owner takes no lock, so that owner may be alive.
    of_the_original: Vec<Process>,
    of_a_dead_owner: Vec<Process>,
    /// The leader, if it lives.
    leader: Option<Process>,
}

impl Found {
    fn log(&self, reporter: &Reporter) {
        if !self.of_the_original.is_empty() {
            let pids = pids(&self.of_the_original);
            log!(reporter, warn, pids, "stopping the listener at socketPath that daemon.pid names without a daemon.id");
        }
        if !self.of_a_dead_owner.is_empty() {
            let pids = pids(&self.of_a_dead_owner);
            log!(reporter, warn, pids, "stopping what a dead owner left");
        }
    }

    fn all(self) -> Vec<Process> {
        self.of_the_original.into_iter().chain(self.of_a_dead_owner).collect()
    }
}

pub(super) fn pids(processes: &[Process]) -> String {
    processes.iter().map(|process| process.pid.to_string()).collect::<Vec<_>>().join(", ")
}

fn find(folder: &Folder, config: &ProcessConfig) -> Result<Found, Failure> {
    let identity = folder.read_identity()?;
    let recorded = folder.read_pid()?;
    // If `daemon.id` is missing or names another pid, the TypeScript original or another program wrote `daemon.pid`.
    let unidentified = recorded.filter(|pid| identity.as_ref().is_none_or(|identity| identity.leader != *pid));
    let of_the_original = unidentified.map(|pid| daemon_of_the_original(pid, config)).transpose()?.flatten();
    let members = identity.as_ref().map(|identity| posix_session_members(identity, config, &[])).transpose()?.unwrap_or_default();
    let of_the_original = without_own_chain(of_the_original.into_iter().collect())?;
    let of_a_dead_owner = without_own_chain(members.certain)?;
    let is_leader =
        |process: &&Process| identity.as_ref().is_some_and(|identity| (process.pid, process.start) == (identity.leader, identity.start));
    let leader = of_a_dead_owner.iter().find(is_leader).or(of_the_original.first()).copied();
    Ok(Found { of_the_original, of_a_dead_owner, leader })
}

/// This process and its ancestors are never orphans, even if a record names one of them.
pub(super) fn without_own_chain(found: Vec<Process>) -> Result<Vec<Process>, Failure> {
    let mut orphans = Vec::new();
    for process in found {
        if !os::descends_from(os::own_pid(), process.pid).map_err(|error| scan_failure(&error))? {
            orphans.push(process);
        }
    }
    Ok(orphans)
}

/// The process of a `daemon.pid` without `daemon.id`. It counts as an orphan only if it listens at the plugin's socket and its
/// working directory is the plugin's folder.
fn daemon_of_the_original(pid: Pid, config: &ProcessConfig) -> Result<Option<Process>, Failure> {
    let process = os::identify(pid).map_err(|error| scan_failure(&error))?;
    let Some(process) = process.filter(|process| !process.zombie) else { return Ok(None) };
    // The holders count and not the maker of the socket, because the maker's pid may be reused.
    let answers = matches!(dial(&config.socket_path), Ok(_) | Err(Errno::EAGAIN));
    let listens = answers && os::holders(&config.socket_path).contains(&pid);
    let works_there = listens && os::working_directory(pid).is_some_and(|folder| same_folder(&folder, &config.plugin_path));
    // If the process still lives, all of the checks above were about this process and not about a reused pid.
    Ok(Some(process).filter(|process| works_there && process.lives().is_ok_and(|lives| lives)))
}

fn same_folder(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        (Err(_), _) | (_, Err(_)) => false,
    }
}
