//! Stops orphans. An orphan is identified by more than its pid, and is stopped as a whole tree.

use std::future::{Future, poll_fn};
use std::path::Path;
use std::task::Poll;

use ally_base::os::{self, Process};
use ally_base::record::Identity;
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

/// Stops the orphans that the plugin's record names, and removes the record: the tree of each generation, all at the same time. A
/// process with a doubtful identity is not signalled.
///
/// # Errors
/// `StopFailed` with the survivors of SIGKILL; `Io`, also if a scan fails.
pub async fn stop(folder: &Folder, config: &ProcessConfig, reporter: &Reporter) -> Result<(), Failure> {
    log_doubtful(folder, config, reporter)?;
    let orphans = orphans_of(folder)?;
    log_found(&orphans, config, reporter)?;
    let mut stops: Vec<_> = orphans.iter().map(|orphan| Some(Box::pin(orphan.stop(config)))).collect();
    let mut stopped = Ok(());
    // A tree that can't be stopped does not end the stop of the others.
    poll_fn(|context| {
        for stop in &mut stops {
            if let Some(Poll::Ready(result)) = stop.as_mut().map(|stop| stop.as_mut().poll(context)) {
                *stop = None;
                stopped = join(std::mem::replace(&mut stopped, Ok(())), result);
            }
        }
        if stops.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    stopped?;
    folder.remove_record()
}

/// The first failure. The survivors of all trees are named.
fn join(first: Result<(), Failure>, second: Result<(), Failure>) -> Result<(), Failure> {
    match (first, second) {
        (Err(Failure::StopFailed { mut survivors }), Err(Failure::StopFailed { survivors: further })) => {
            survivors.extend(further);
            Err(Failure::StopFailed { survivors })
        }
        (first, second) => first.and(second),
    }
}

/// What the record names.
enum Orphan {
    /// The pid in a `daemon.pid` that no identity names: the TypeScript original or another program wrote it. Its owner takes no
    /// lock, so that owner may be alive.
    OfTheOriginal(Pid),
    /// One generation of a dead owner.
    OfADeadOwner(Identity),
}

fn orphans_of(folder: &Folder) -> Result<Vec<Orphan>, Failure> {
    let identities = folder.read_identities()?;
    let unidentified = folder.read_pid()?.filter(|pid| identities.iter().all(|identity| identity.leader != *pid));
    Ok(unidentified.map(Orphan::OfTheOriginal).into_iter().chain(identities.into_iter().map(Orphan::OfADeadOwner)).collect())
}

fn log_found(orphans: &[Orphan], config: &ProcessConfig, reporter: &Reporter) -> Result<(), Failure> {
    let (mut of_the_original, mut of_a_dead_owner) = (Vec::new(), Vec::new());
    for orphan in orphans {
        let found = orphan.find(config)?.processes;
        match orphan {
            Orphan::OfTheOriginal(_) => of_the_original.extend(found),
            Orphan::OfADeadOwner(_) => of_a_dead_owner.extend(found),
        }
    }
    if !of_the_original.is_empty() {
        let pids = pids(&of_the_original);
        log!(reporter, warn, pids, "stopping the listener at socketPath that daemon.pid names without a daemon.id");
    }
    if !of_a_dead_owner.is_empty() {
        let pids = pids(&of_a_dead_owner);
        log!(reporter, warn, pids, "stopping what a dead owner left");
    }
    Ok(())
}

/// The processes that are to be stopped.
struct Found {
    processes: Vec<Process>,
    /// The leader, if it lives.
    leader: Option<Process>,
}

impl Orphan {
    fn find(&self, config: &ProcessConfig) -> Result<Found, Failure> {
        let (processes, leader) = match self {
            Self::OfTheOriginal(pid) => (daemon_of_the_original(*pid, config)?.into_iter().collect(), *pid),
            Self::OfADeadOwner(identity) => (posix_session_members(identity, config, &[])?.certain, identity.leader),
        };
        let processes = without_own_chain(processes)?;
        let is_leader = |process: &&Process| match self {
            Self::OfTheOriginal(_) => process.pid == leader,
            Self::OfADeadOwner(identity) => (process.pid, process.start) == (leader, identity.start),
        };
        let leader = processes.iter().find(is_leader).copied();
        Ok(Found { processes, leader })
    }

    async fn stop(&self, config: &ProcessConfig) -> Result<(), Failure> {
        let ProcessConfig { shutdown_grace_period: grace, stop_signal, stop_signal_to, kill_mode, .. } = *config;
        let mut tree = DyingTree::default();
        let mut begun: Option<(Instant, Stage)> = None;
        // A process may fork just before it ends, so the orphan is gone only when a scan finds none.
        loop {
            let Found { processes, leader } = self.find(config)?;
            tree.add(processes, kill_mode).map_err(|error| scan_failure(&error))?;
            if tree.is_empty() {
                return Ok(());
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
}

pub(super) fn pids(processes: &[Process]) -> String {
    processes.iter().map(|process| process.pid.to_string()).collect::<Vec<_>>().join(", ")
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
