//! The counters of one plugin. They live as long as the manager knows the plugin, and are never reset.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::durations::{Durations, Recent};
use super::sample::Sample;
use crate::lifecycle::{Effect, Notice, Now};
use crate::model::{ExitReason, Pid, ProcessState};
use crate::supervisor::output::OutputCounts;

/// The numbers of one plugin, for getters and for metrics as text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginMetrics {
    pub plugin: String,
    /// Whether other sessions may tell the same numbers.
    pub shared: bool,
    pub state: ProcessState,
    /// Milliseconds since RUNNING.
    pub uptime: Option<f64>,
    pub counts: Counts,
    /// The median and the 99th percentile of the last health checks.
    pub check_quantiles: Option<[Duration; 2]>,
    pub output: OutputCounts,
    /// Of the newest sample, while RUNNING.
    pub resources: Option<Resources>,
    /// The CPU time of all trees of this plugin, as far as it is known.
    pub cpu_time: Duration,
}

impl PluginMetrics {
    /// Of a plugin that was never started.
    pub fn none(plugin: &str) -> Self {
        Self {
            plugin: plugin.to_owned(),
            shared: false,
            state: ProcessState::Stopped,
            uptime: None,
            counts: Counts::NONE,
            check_quantiles: None,
            output: OutputCounts::default(),
            resources: None,
            cpu_time: Duration::ZERO,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Leaders that were made, by starts and by restarts.
    pub starts: u64,
    /// Restarts by the restart policy, by the reason of the restart: `restarts[ExitReason::Crashed as usize]`.
    pub restarts: [u64; ExitReason::ALL.len()],
    /// Exits of leaders, by reason.
    pub exits: [u64; ExitReason::ALL.len()],
    /// From the spawn of the leader to RUNNING.
    pub ready: Durations,
    pub checks_passed: u64,
    pub checks_failed: u64,
    /// The duration of each health check.
    pub checks: Durations,
    pub last_check: Option<Duration>,
    /// Milliseconds since 1970, while the leader lives.
    pub leader_since: Option<f64>,
}

impl Counts {
    const NONE: Self = Self {
        starts: 0,
        restarts: [0; ExitReason::ALL.len()],
        exits: [0; ExitReason::ALL.len()],
        ready: Durations { buckets: [0; Durations::BOUNDS.len()], count: 0, sum: Duration::ZERO },
        checks_passed: 0,
        checks_failed: 0,
        checks: Durations { buckets: [0; Durations::BOUNDS.len()], count: 0, sum: Duration::ZERO },
        last_check: None,
        leader_since: None,
    };
}

/// A sample of a whole tree.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// 100 is one busy CPU. Over the time since the sample before, or since the start.
    pub cpu_percent: f64,
    /// Of the living processes, and of those that were reaped.
    pub cpu_time: Duration,
    /// Bytes.
    pub memory: u64,
    pub processes: u32,
    pub threads: u32,
    pub open_files: u32,
}

/// The kernel tells CPU times in ticks of this length.
const CPU_TIME_RESOLUTION: Duration = Duration::from_millis(10);

pub struct Counters(Mutex<Inner>);

struct Inner {
    counts: Counts,
    recent_checks: Recent,
    /// The reason of the last scheduled restart.
    scheduled: ExitReason,
    /// The number of restarts that `counts` has.
    restarts: u64,
    /// While it lives.
    leader: Option<Pid>,
    /// The monotonic time at which the leader was made.
    spawned: Duration,
    /// During an upgrade: the leader of the new generation, and when it was made.
    successor: Option<(Pid, Now)>,
    /// The tree that lives now.
    tree: Option<Tree>,
    /// The CPU time of the trees that are gone.
    former_cpu: Duration,
}

/// The keeper of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeId {
    pub keeper: Pid,
    /// As [`ally_base::os::Process::start`].
    pub keeper_start: u64,
}

#[derive(Debug, Clone, Copy)]
struct Tree {
    id: TreeId,
    /// The monotonic time of the newest sample, and the sample. Before the first sample: the time of the start.
    sampled: (Duration, Option<(Sample, Resources)>),
}

impl Counters {
    pub const fn new() -> Self {
        Self(Mutex::new(Inner {
            counts: Counts::NONE,
            recent_checks: Recent::NONE,
            scheduled: ExitReason::Crashed,
            restarts: 0,
            leader: None,
            spawned: Duration::ZERO,
            successor: None,
            tree: None,
            former_cpu: Duration::ZERO,
        }))
    }

    /// Counts the effects of one step of the machine. `total_restarts`: as of the snapshot after the step.
    pub fn count(&self, effects: &[Effect], total_restarts: u64, now: Now) {
        let mut inner = self.lock();
        for effect in effects {
            if let Effect::Notify(notice) = effect {
                inner.count(notice, now);
            }
        }
        // A restart has no notice of its own: the state is STARTING since the exit.
        let reason = inner.scheduled as usize;
        let begun = total_restarts.saturating_sub(std::mem::replace(&mut inner.restarts, total_restarts));
        inner.counts.restarts[reason] += begun;
    }

    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// As [`PluginMetrics::check_quantiles`].
    pub fn check_quantiles(&self) -> Option<[Duration; 2]> {
        self.lock().recent_checks.quantiles([0.5, 0.99])
    }

    pub fn begin_tree(&self, id: TreeId, now: Duration) {
        self.lock().tree = Some(Tree { id, sampled: (now, None) });
    }

    /// `cpu`: of the whole tree, by the keeper. `None` if the keeper was killed.
    pub fn end_tree(&self, cpu: Option<Duration>) {
        let mut inner = self.lock();
        let sampled = inner.tree.take().and_then(|tree| tree.sampled.1).map_or(Duration::ZERO, |(_, sample)| sample.cpu_time);
        inner.former_cpu += cpu.unwrap_or_default().max(sampled);
    }

    /// The tree of another generation, which began at `spawned`, serves from now on. Returns the CPU time of the former one that is
    /// counted so far.
    pub fn change_tree(&self, id: TreeId, spawned: Duration) -> Duration {
        let mut inner = self.lock();
        let former = inner.tree.replace(Tree { id, sampled: (spawned, None) });
        let counted = former.and_then(|tree| tree.sampled.1).map_or(Duration::ZERO, |(_, resources)| resources.cpu_time);
        inner.former_cpu += counted;
        counted
    }

    /// CPU time of a generation that does not serve.
    pub fn add_cpu(&self, cpu: Duration) {
        self.lock().former_cpu += cpu;
    }

    /// The tree that lives now.
    pub fn tree(&self) -> Option<TreeId> {
        self.lock().tree.map(|tree| tree.id)
    }

    /// The tree, if its newest sample is at least so old.
    pub fn tree_to_sample(&self, age: Duration, now: Duration) -> Option<TreeId> {
        let tree = self.lock().tree?;
        (tree.sampled.1.is_none() || now.saturating_sub(tree.sampled.0) >= age).then_some(tree.id)
    }

    /// The newest sample, if it is of this tree.
    pub fn former_sample(&self, id: TreeId) -> Option<Sample> {
        self.lock().tree.filter(|tree| tree.id == id)?.sampled.1.map(|(sample, _)| sample)
    }

    /// Keeps a sample, unless its tree is gone by now.
    pub fn keep_sample(&self, id: TreeId, sample: Sample, now: Duration) {
        let mut inner = self.lock();
        let Some(tree) = inner.tree.as_mut().filter(|tree| tree.id == id) else { return };
        let (before, former) = tree.sampled;
        let former_cpu = former.map_or(Duration::ZERO, |(_, former)| former.cpu_time);
        // A process that ended during the scan may be missing in its sums.
        let cpu_time = sample.cpu.max(former_cpu);
        let elapsed = now.saturating_sub(before).max(CPU_TIME_RESOLUTION);
        let cpu_percent = cpu_time.saturating_sub(former_cpu).as_secs_f64() / elapsed.as_secs_f64() * 100.0;
        let Sample { memory, processes, threads, open_files, .. } = sample;
        tree.sampled = (now, Some((sample, Resources { cpu_percent, cpu_time, memory, processes, threads, open_files })));
    }

    /// The newest sample of the living tree, and the CPU time of all trees.
    pub fn resources(&self) -> (Option<Resources>, Duration) {
        let inner = self.lock();
        let newest = inner.tree.and_then(|tree| tree.sampled.1).map(|(_, resources)| resources);
        (newest, inner.former_cpu + newest.map_or(Duration::ZERO, |newest| newest.cpu_time))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn count(&mut self, notice: &Notice, now: Now) {
        let counts = &mut self.counts;
        match notice {
            Notice::Spawned { pid } => {
                counts.starts += 1;
                if self.leader.is_some() {
                    self.successor = Some((*pid, now));
                } else {
                    self.set_leader(*pid, now);
                }
            }
            Notice::StateChanged { to: ProcessState::Running, .. } => self.count_ready(now),
            // The state stays RUNNING, unless the former generation has crashed.
            Notice::ChangedOver { former: Some(_), .. } => self.count_ready(now),
            Notice::UpgradeFailed { .. } => self.count_successor_exit(ExitReason::Startup),
            Notice::StateChanged { to: ProcessState::Stopped | ProcessState::Error, .. } => {
                self.count_successor_exit(ExitReason::Stopped);
            }
            Notice::StateChanged { .. }
            | Notice::Armed
            | Notice::Disarmed
            | Notice::Connected
            | Notice::ChangedOver { former: None, .. }
            | Notice::NotDrained { .. } => {}
            Notice::Exited { pid, reason, .. } => {
                counts.exits[*reason as usize] += 1;
                // After a change-over the leader of the new generation lives on.
                if self.leader == Some(*pid) {
                    self.leader = None;
                    counts.leader_since = None;
                }
                self.successor = self.successor.filter(|(successor, _)| successor != pid);
            }
            Notice::RestartScheduled { reason, .. } => self.scheduled = *reason,
            Notice::Checked { healthy, latency, .. } => {
                let number = if *healthy { &mut counts.checks_passed } else { &mut counts.checks_failed };
                *number += 1;
                counts.checks.add(*latency);
                counts.last_check = Some(*latency);
                self.recent_checks.add(*latency);
            }
        }
    }

    const fn set_leader(&mut self, pid: Pid, spawned: Now) {
        self.leader = Some(pid);
        self.counts.leader_since = Some(spawned.wall);
        self.spawned = spawned.mono;
    }

    /// The leader serves: of an upgrade that of the new generation.
    fn count_ready(&mut self, now: Now) {
        if let Some((pid, spawned)) = self.successor.take() {
            self.set_leader(pid, spawned);
        }
        self.counts.ready.add(now.mono.saturating_sub(self.spawned));
    }

    /// Its exit has no notice.
    fn count_successor_exit(&mut self, reason: ExitReason) {
        if self.successor.take().is_some() {
            self.counts.exits[reason as usize] += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Exit;

    const PID: i32 = 7;

    fn at(ms: u64) -> Now {
        Now { mono: Duration::from_millis(ms), wall: 1e12 + ms as f64 }
    }

    fn state(to: ProcessState) -> Effect {
        Effect::Notify(Notice::StateChanged { at: 0.0, from: None, to, pid: Some(PID), reason: None })
    }

    fn checked(healthy: bool, ms: u64) -> Effect {
        Effect::Notify(Notice::Checked { healthy, latency: Duration::from_millis(ms), failures: 0, error: None })
    }

    #[test]
    fn a_crash_and_its_restart_are_counted_by_reason() {
        let counters = Counters::new();
        let spawned = || Effect::Notify(Notice::Spawned { pid: PID });
        counters.count(&[state(ProcessState::Starting), spawned()], 0, at(10));
        assert_eq!(counters.counts().leader_since, Some(at(10).wall));
        counters.count(&[state(ProcessState::Running)], 0, at(30));
        let (exit, reason) = (Exit::UNKNOWN, ExitReason::Crashed);
        let scheduled = Notice::RestartScheduled { attempt: 1, delay: Duration::ZERO, reason };
        counters.count(&[Effect::Notify(Notice::Exited { pid: PID, exit, reason }), Effect::Notify(scheduled)], 0, at(50));
        assert_eq!((counters.counts().leader_since, counters.counts().restarts), (None, [0; ExitReason::ALL.len()]));
        counters.count(&[], 1, at(60));
        counters.count(&[spawned()], 1, at(61));
        let counts = counters.counts();
        let crashed = ExitReason::Crashed as usize;
        assert_eq!((counts.starts, counts.restarts[crashed], counts.exits[crashed]), (2, 1, 1));
        assert_eq!((counts.restarts.iter().sum::<u64>(), counts.exits.iter().sum::<u64>()), (1, 1));
        assert_eq!((counts.ready.count, counts.ready.sum), (1, Duration::from_millis(20)));
    }

    #[test]
    fn the_leader_of_an_upgrade_counts_when_it_serves_and_its_exit_if_it_never_does() {
        let (counters, new) = (Counters::new(), PID + 1);
        let notice = |notice| Effect::Notify(notice);
        let exited = |pid, reason| notice(Notice::Exited { pid, exit: Exit::UNKNOWN, reason });
        counters.count(&[notice(Notice::Spawned { pid: PID })], 0, at(10));
        counters.count(&[state(ProcessState::Running)], 0, at(20));
        counters.count(&[notice(Notice::Spawned { pid: new })], 0, at(30));
        assert_eq!(counters.counts().leader_since, Some(at(10).wall), "the former one serves");
        counters.count(&[notice(Notice::ChangedOver { former: Some(PID), pid: new })], 0, at(70));
        counters.count(&[exited(PID, ExitReason::Upgraded)], 0, at(80));
        let counts = counters.counts();
        assert_eq!((counts.leader_since, counts.ready.count, counts.ready.sum), (Some(at(30).wall), 2, Duration::from_millis(50)));
        // The next upgrade fails.
        let failure = crate::error::Failure::Stopped;
        counters.count(&[notice(Notice::Spawned { pid: PID })], 0, at(90));
        counters.count(&[notice(Notice::UpgradeFailed { failure })], 0, at(95));
        // During the one after it the former leader crashes, and a caller stops the plugin.
        counters.count(&[notice(Notice::Spawned { pid: PID }), exited(new, ExitReason::Crashed)], 0, at(99));
        counters.count(&[state(ProcessState::Stopped)], 0, at(100));
        let counts = counters.counts();
        assert_eq!((counts.leader_since, counts.starts, counts.exits.iter().sum::<u64>()), (None, 4, 4));
        assert_eq!((counts.exits[ExitReason::Startup as usize], counts.exits[ExitReason::Stopped as usize]), (1, 1));
        // A leader whose exit was told, whatever it was taken for, counts once.
        counters.count(&[notice(Notice::Spawned { pid: PID }), notice(Notice::Spawned { pid: new })], 0, at(110));
        counters.count(&[exited(new, ExitReason::Startup), state(ProcessState::Error)], 0, at(120));
        assert_eq!(counters.counts().exits.iter().sum::<u64>(), 5);
    }

    #[test]
    fn cpu_percent_is_over_the_time_since_the_sample_before_or_since_the_start() {
        let (counters, ms) = (Counters::new(), Duration::from_millis);
        let id = TreeId { keeper: PID, keeper_start: 5 };
        let sample = |cpu| Sample { cpu: ms(cpu), memory: 1, processes: 1, threads: 1, open_files: 1, reserved_files: 1 };
        let percent = || counters.resources().0.map(|resources| resources.cpu_percent.round());
        counters.begin_tree(id, ms(1_000));
        assert_eq!(percent(), None);
        counters.keep_sample(id, sample(50), ms(1_200));
        assert_eq!(percent(), Some(25.0));
        counters.keep_sample(id, sample(1_050), ms(1_700));
        assert_eq!(percent(), Some(200.0));
        counters.keep_sample(id, sample(900), ms(2_700));
        assert_eq!((percent(), counters.resources().1), (Some(0.0), ms(1_050)), "CPU time never decreases");
        assert_eq!(counters.tree_to_sample(ms(500), ms(3_100)), None);
        assert_eq!(counters.tree_to_sample(ms(500), ms(3_200)), Some(id));
    }

    #[test]
    fn cpu_time_of_trees_that_are_gone_is_kept() {
        let (counters, ms) = (Counters::new(), Duration::from_millis);
        let id = |keeper| TreeId { keeper, keeper_start: 5 };
        let sample = Sample { cpu: ms(70), memory: 1, processes: 1, threads: 1, open_files: 1, reserved_files: 1 };
        counters.begin_tree(id(1), ms(0));
        counters.end_tree(Some(ms(40)));
        counters.begin_tree(id(2), ms(0));
        counters.keep_sample(id(2), sample, ms(1));
        assert_eq!(counters.resources().1, ms(110));
        // A killed keeper reports no sum.
        counters.end_tree(None);
        counters.keep_sample(id(2), sample, ms(2));
        assert_eq!(counters.resources(), (None, ms(110)), "a late sample of a tree that is gone is dropped");
    }

    #[test]
    fn health_checks_are_counted_with_their_durations() {
        let counters = Counters::new();
        assert_eq!((counters.counts().last_check, counters.check_quantiles()), (None, None));
        counters.count(&[checked(true, 2), checked(false, 9)], 0, at(0));
        let counts = counters.counts();
        assert_eq!((counts.checks_passed, counts.checks_failed, counts.checks.count), (1, 1, 2));
        assert_eq!(counts.last_check, Some(Duration::from_millis(9)));
        assert_eq!(counters.check_quantiles(), Some([Duration::from_millis(2), Duration::from_millis(9)]));
    }
}
