//! Starts and stops of several plugins in the order of their dependencies. The order itself is pure:
//! [`crate::lifecycle::dependencies`].

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::registry::dependents;
use super::{ManagerContext, check};
use crate::config::{Parsed, Raw};
use crate::error::{DependencyProblem, Failure};
use crate::lifecycle::dependencies::{dependents_first, stop_order};
use crate::lifecycle::{Event, Ticket};
use crate::supervisor::daemon::{Daemon, Job};
use crate::supervisor::output::same_log_file;
use crate::supervisor::report::{MemberStart, Message, Refusal, log};

/// One call of startGroup.
#[derive(Debug)]
pub struct GroupStart {
    begun: Instant,
    failed: watch::Sender<bool>,
}

/// A group of which the starts were requested.
pub struct Begun<F> {
    /// Per plugin: its job, or 0.
    pub jobs: Vec<Ticket>,
    pub group: Arc<GroupStart>,
    /// Resolves when all have started, or have failed and are stopped.
    pub started: F,
}

/// A plugin of a group that is being started.
#[derive(Debug)]
pub struct Member {
    group: Arc<GroupStart>,
    /// From the call on: when all that the plugin depends on ran, and when its process was spawned.
    queued: OnceLock<Duration>,
    spawned: OnceLock<Duration>,
}

impl GroupStart {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { begun: Instant::now(), failed: watch::Sender::new(false) })
    }

    /// A plugin of the same call has failed that is not among these: they are undone.
    pub fn fail(&self) {
        self.failed.send_replace(true);
    }

    pub fn member(self: &Arc<Self>) -> Arc<Member> {
        Arc::new(Member { group: Arc::clone(self), queued: OnceLock::new(), spawned: OnceLock::new() })
    }
}

impl Member {
    /// Everything that the plugin depends on runs.
    ///
    /// # Errors
    /// Another plugin of the group has failed, so this one must not be started.
    pub fn queue(&self) -> Result<(), Failure> {
        // The watch is borrowed until the time is set, so a plugin either waits at the failure, or counts as started.
        let failed = self.group.failed.borrow();
        if *failed {
            return Err(group_failed());
        }
        self.queued.get_or_init(|| self.group.begun.elapsed());
        Ok(())
    }

    pub fn set_spawned(&self) {
        self.spawned.get_or_init(|| self.group.begun.elapsed());
    }

    fn is_started(&self) -> bool {
        self.queued.get().is_some()
    }

    /// Resolves when another plugin of the group has failed.
    async fn group_failed(&self) {
        let mut failed = self.group.failed.subscribe();
        // The sender lives as long as this member.
        if failed.wait_for(|failed| *failed).await.is_err() {
            pending::<()>().await;
        }
    }
}

const fn group_failed() -> Failure {
    Failure::Dependency { problem: DependencyProblem::GroupFailed }
}

/// Waits until everything that a plugin depends on runs.
///
/// # Errors
/// `Dependency`: one of them is at rest or comes to rest, or another plugin of the group fails.
pub async fn await_dependencies(context: Arc<ManagerContext>, job: Arc<Job>) -> Result<(), Failure> {
    let mut running = JoinSet::new();
    for name in &job.config.depends_on {
        running.spawn(until_running(Arc::clone(&context), name.clone()));
    }
    let all_run = async {
        while let Some(outcome) = running.join_next().await {
            outcome.unwrap_or_else(|error| Err(Failure::Internal { problem: error.to_string() }))?;
        }
        Ok(())
    };
    let Some(member) = &job.member else { return all_run.await };
    tokio::select! {
        biased;
        () = member.group_failed() => Err(group_failed()),
        outcome = all_run => outcome.and_then(|()| member.queue()),
    }
}

async fn until_running(context: Arc<ManagerContext>, name: String) -> Result<(), Failure> {
    let not_running = |name, failure| Failure::Dependency { problem: DependencyProblem::NotRunning { name, cause: Box::new(failure) } };
    let Some(daemon) = context.daemons.get_known(&name) else {
        let Some(usable) = context.shared_plugins().and_then(|shared| shared.until_usable(&name)) else {
            return Err(not_running(name, Failure::NotFound));
        };
        return usable.await.map_err(|failure| not_running(name, failure));
    };
    let (ticket, answer) = context.tickets.for_supervisor();
    let wait = Wait { daemon, ticket };
    wait.daemon.feed(Event::UseRequested { ticket });
    // Without an answer the manager is closed, and this task ends with it.
    answer.await.unwrap_or(Ok(())).map_err(|refusal| not_running(name, refusal.failure))
}

/// A wait for a daemon, which is over at a drop.
struct Wait {
    daemon: Arc<Daemon>,
    ticket: Ticket,
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.daemon.feed(Event::WaitAborted { ticket: self.ticket });
    }
}

/// One plugin of a group, and the answer to its start.
pub struct Starting {
    pub daemon: Arc<Daemon>,
    pub member: Arc<Member>,
    pub answer: tokio::sync::oneshot::Receiver<Result<(), Refusal>>,
}

/// Waits for all starts of a group. If one fails, what was started is stopped, dependents first. `None` if the manager is closed.
///
/// # Errors
/// The failures of its plugins. None of them if the group was made to fail ([`GroupStart::fail`]) before all had started.
pub async fn finish_group(
    context: Arc<ManagerContext>,
    group: Arc<GroupStart>,
    starting: Vec<Starting>,
) -> Option<Result<Vec<MemberStart>, Refusal>> {
    let mut answers = JoinSet::new();
    let mut members = Vec::new();
    for Starting { daemon, member, answer } in starting {
        let index = members.len();
        members.push((daemon, member));
        answers.spawn(async move { (index, answer.await) });
    }
    let count = members.len();
    let mut ready = vec![None; count];
    let mut failures: Vec<(usize, Refusal)> = Vec::new();
    let mut undo = None;
    let mut is_failed_outside = false;
    let mut failed = group.failed.subscribe();
    let stop_started = |but: Option<usize>| {
        let started = members.iter().enumerate().filter(|(other, (_, member))| Some(*other) != but && member.is_started());
        let daemons = started.map(|(_, (daemon, _))| Arc::clone(daemon)).collect();
        tokio::spawn(stop_in_order(Arc::clone(&context), daemons, |ticket| Event::StopRequested { ticket }))
    };
    loop {
        let answered = tokio::select! {
            biased;
            answered = answers.join_next() => answered,
            // The sender lives as long as the group.
            _ = failed.wait_for(|failed| *failed), if undo.is_none() => {
                is_failed_outside = true;
                undo = Some(stop_started(None));
                continue;
            }
        };
        let Some(answered) = answered else { break };
        match answered {
            Ok((index, Ok(Ok(())))) => ready[index] = Some(group.begun.elapsed()),
            Ok((index, Ok(Err(refusal)))) => {
                failures.push((index, refusal));
                if undo.is_none() {
                    group.fail();
                    undo = Some(stop_started(Some(index)));
                }
            }
            // Nobody waits for the answer.
            Ok((_, Err(_))) | Err(_) => return None,
        }
    }
    if undo.is_none() {
        tokio::select! {
            biased;
            _ = failed.wait_for(|failed| *failed) => {
                is_failed_outside = true;
                undo = Some(stop_started(None));
            }
            at_rest = first_at_rest(&context, &members) => if let Some((index, refusal)) = at_rest {
                failures.push((index, refusal));
                group.fail();
                undo = Some(stop_started(Some(index)));
            }
        }
    }
    let Some(undo) = undo else {
        let starts = members.iter().zip(ready).map(|((daemon, member), ready)| MemberStart {
            plugin: daemon.name.clone(),
            queued: member.queued.get().copied().unwrap_or_default(),
            spawned: member.spawned.get().copied().unwrap_or_default(),
            ready: ready.unwrap_or_default(),
        });
        return Some(Ok(starts.collect()));
    };
    let left = undo.await.unwrap_or_default();
    let names: Vec<&str> = members.iter().map(|(daemon, _)| daemon.name.as_str()).collect();
    let causes = own_failures(&names, failures, is_failed_outside).into_iter().chain(left).collect();
    Some(Err(not_started(count, causes)))
}

/// A plugin that was stopped, or ended for good, after it had started and before the others had. Waits for a pending restart.
async fn first_at_rest(context: &ManagerContext, members: &[(Arc<Daemon>, Arc<Member>)]) -> Option<(usize, Refusal)> {
    for (index, (daemon, _)) in members.iter().enumerate() {
        let (ticket, answer) = context.tickets.for_supervisor();
        let wait = Wait { daemon: Arc::clone(daemon), ticket };
        wait.daemon.feed(Event::UseRequested { ticket });
        // Without an answer the manager is closed.
        if let Err(Refusal { plugin, failure, causes }) = answer.await.unwrap_or(Ok(())) {
            let failure = if matches!(failure, Failure::AtRest | Failure::NotFound) { Failure::Stopped } else { failure };
            return Some((index, Refusal { plugin, failure, causes }));
        }
    }
    None
}

/// Tells the caller of startGroup.
pub fn settle_group(context: &ManagerContext, ticket: Ticket, outcome: Result<Vec<MemberStart>, Refusal>) {
    match outcome {
        Ok(starts) => context.mailbox.post(Message::GroupStarted { ticket, starts }),
        Err(refusal) => context.tickets.settle(ticket, Err(refusal)),
    }
}

/// Without the failures that follow from the failure of another plugin of the group. `is_failed_outside`: of none of these.
fn own_failures(names: &[&str], failures: Vec<(usize, Refusal)>, is_failed_outside: bool) -> Vec<Refusal> {
    let follows = |failure: &Failure| match failure {
        Failure::Dependency { problem: DependencyProblem::GroupFailed } => true,
        Failure::Dependency { problem: DependencyProblem::NotRunning { name, .. } } => names.contains(&name.as_str()),
        _ => false,
    };
    let own = failures.iter().position(|(_, refusal)| !follows(&refusal.failure));
    let first = own.unwrap_or_default();
    let is_own = |(at, (_, refusal)): &(usize, (usize, Refusal))| {
        // The first one caused the stop of the others.
        (*at == first && !is_failed_outside) || !(follows(&refusal.failure) || refusal.failure == Failure::Stopped)
    };
    failures.into_iter().enumerate().filter(is_own).map(|(_, (_, refusal))| refusal).collect()
}

/// The refusal of a group of `count` plugins, of which some failed.
pub fn not_started(count: usize, causes: Vec<Refusal>) -> Refusal {
    let problem = summary(count, &causes);
    Refusal { plugin: String::new(), failure: Failure::GroupNotStarted { problem }, causes }
}

pub fn not_stopped(count: usize, causes: Vec<Refusal>) -> Refusal {
    let problem = summary(count, &causes);
    Refusal { plugin: String::new(), failure: Failure::GroupNotStopped { problem }, causes }
}

fn summary(count: usize, causes: &[Refusal]) -> String {
    let first = causes.first().map(|refusal| refusal.failure.message(&refusal.plugin)).unwrap_or_default();
    format!("{} of {count} plugins failed: {first}", causes.len())
}

/// Checks the configurations of a group.
///
/// # Errors
/// One cause for each that is wrong, with its index.
pub fn parse_all(configs: &[Raw]) -> Result<Vec<Parsed>, Box<Refusal>> {
    let mut parsed: Vec<Parsed> = Vec::new();
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut causes = Vec::new();
    for (index, config) in configs.iter().enumerate() {
        let checked = check(config).and_then(|parsed| match names.insert(parsed.config.plugin_name.clone(), index) {
            None => Ok(parsed),
            Some(first) => {
                Err(Failure::InvalidConfig { field: "pluginName".to_owned(), problem: format!("is also the name of configs[{first}]") })
            }
        });
        let checked = checked.and_then(|checked| match &checked.config.logs {
            Some(logs) => {
                let collides = |other: &&Parsed| other.config.logs.as_ref().is_some_and(|other| other.collides(logs));
                let other = parsed.iter().find(collides).map(|other| same_log_file(&other.config.plugin_name, logs));
                other.map_or(Ok(checked), Err)
            }
            None => Ok(checked),
        });
        match checked {
            Ok(checked) => parsed.push(checked),
            Err(failure) => causes.push(Refusal::new(config.text("pluginName").unwrap_or_default().to_owned(), at_index(index, failure))),
        }
    }
    if causes.is_empty() { Ok(parsed) } else { Err(Box::new(not_started(configs.len(), causes))) }
}

pub fn at_index(index: usize, failure: Failure) -> Failure {
    match failure {
        Failure::InvalidConfig { field, problem } if field == "config" => {
            Failure::InvalidConfig { field: format!("configs[{index}]"), problem }
        }
        Failure::InvalidConfig { field, problem } => Failure::InvalidConfig { field: format!("configs[{index}].{field}"), problem },
        other => other,
    }
}

/// The daemons, each behind those that depend on it.
pub fn in_stop_order(daemons: &[Arc<Daemon>]) -> Vec<&Arc<Daemon>> {
    let jobs: Vec<Arc<Job>> = daemons.iter().map(|daemon| daemon.job()).collect();
    dependents_first(&dependents(&jobs)).into_iter().filter_map(|index| daemons.get(index)).collect()
}

/// Stops each daemon after those that depend on it. Logs and returns the failures.
pub async fn stop_in_order(context: Arc<ManagerContext>, daemons: Vec<Arc<Daemon>>, request: fn(Ticket) -> Event) -> Vec<Refusal> {
    let jobs: Vec<Arc<Job>> = daemons.iter().map(|daemon| daemon.job()).collect();
    let before = stop_order(&dependents(&jobs));
    let stopped: Vec<watch::Sender<bool>> = daemons.iter().map(|_| watch::Sender::new(false)).collect();
    let mut stops = JoinSet::new();
    let failures = Arc::new(Failures::default());
    for ((daemon, before), done) in daemons.into_iter().zip(before).zip(&stopped) {
        let waits: Vec<_> = before.into_iter().filter_map(|index| stopped.get(index)).map(watch::Sender::subscribe).collect();
        let (context, done, failures) = (Arc::clone(&context), done.clone(), Arc::clone(&failures));
        stops.spawn(async move {
            for mut dependent in waits {
                // A sender is dropped only after its stop.
                drop(dependent.wait_for(|stopped| *stopped).await);
            }
            let (ticket, answer) = context.tickets.for_supervisor();
            daemon.feed(request(ticket));
            if let Ok(Err(refusal)) = answer.await {
                log_not_stopped(&context, &refusal);
                failures.lock().push(refusal);
            }
            done.send_replace(true);
        });
    }
    while stops.join_next().await.is_some() {}
    std::mem::take(&mut *failures.lock())
}

pub fn log_not_stopped(context: &ManagerContext, refusal: &Refusal) {
    let problem = refusal.failure.message(&refusal.plugin);
    log!(context.reporter(&refusal.plugin), error, problem, "could not be stopped");
}

#[derive(Default)]
struct Failures(Mutex<Vec<Refusal>>);

impl Failures {
    fn lock(&self) -> MutexGuard<'_, Vec<Refusal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
