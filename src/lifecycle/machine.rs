//! The total function from (phase, event) to (phase, effects).

use core::mem;
use core::time::Duration;

use super::event::{Effect, Event, Notice, Signal, Timer};
use super::restart::{Dice, History, RestartOn, RestartPlan};
use super::state::{Exit, ExitReason, Generation, Goal, LastExit, Leader, Now, Phase, Pid, ProcessState, Run, Snapshot, Ticket, Tree};
use crate::error::Failure;

/// How long what got SIGKILL may take to be gone before it is reported as unkillable.
pub const KILL_PATIENCE: Duration = Duration::from_secs(2);

/// What the configuration says about the lifecycle.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub socket_path: String,
    pub startup_timeout: Duration,
    pub grace: Duration,
    /// Interval and number of failures in a row, where health is checked.
    pub health: Option<(Duration, u32)>,
    pub restart: RestartPlan,
}

#[derive(Debug)]
pub struct Machine {
    plan: Plan,
    phase: Phase,
    generation: Generation,
    closed: bool,
    attempts: u32,
    history: History,
    dice: Dice,
    failed_checks: u32,
    /// Callers to be answered when the daemon comes to rest, with what they will be told.
    waiting: Vec<(Ticket, Result<(), Failure>)>,
    last_error: Option<Failure>,
    last_state_change: f64,
    last_exit: Option<LastExit>,
    next_restart_at: Option<f64>,
    total_restarts: u64,
    effects: Vec<Effect>,
}

impl Machine {
    pub fn new(plan: Plan, now: Now, seed: u64) -> Self {
        Self {
            plan,
            phase: Phase::Stopped,
            generation: 0,
            closed: false,
            attempts: 0,
            history: History::default(),
            dice: Dice(seed),
            failed_checks: 0,
            waiting: Vec::new(),
            last_error: None,
            last_state_change: now.wall,
            last_exit: None,
            next_restart_at: None,
            total_restarts: 0,
            effects: Vec::new(),
        }
    }

    pub const fn phase(&self) -> &Phase {
        &self.phase
    }

    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// A start with another configuration takes that one, but only where nothing is going on.
    pub fn replan(&mut self, plan: Plan) {
        if self.phase.at_rest() {
            self.plan = plan;
        }
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            state: self.phase.state(),
            pid: self.phase.pid(),
            at_rest: self.phase.at_rest(),
            active: self.phase.is_active(),
            failed_health_checks: self.failed_checks,
            restart_attempts: self.attempts,
            last_error: self.last_error.as_ref().map(ToString::to_string),
            last_state_change: self.last_state_change,
            running_since: match self.phase {
                Phase::Running { since, .. } => Some(since),
                _ => None,
            },
            total_restarts: self.total_restarts,
            last_exit: self.last_exit,
            next_restart_at: self.next_restart_at,
        }
    }

    /// Takes what happened, and says what is to be done about it, in order.
    pub fn on(&mut self, event: Event, now: Now) -> Vec<Effect> {
        if event.generation().is_some_and(|generation| generation != self.generation) {
            return Vec::new();
        }
        match event {
            Event::StartRequested { ticket } => self.start_requested(ticket, now),
            Event::StartAborted { ticket } => self.start_aborted(ticket, now),
            Event::StopRequested { ticket } => self.stop_requested(Some(ticket), now),
            Event::RestartRequested { ticket } => self.restart_requested(ticket, now),
            Event::ShutdownRequested { ticket } => {
                self.closed = true;
                self.stop_requested(Some(ticket), now);
            }
            Event::Prepared { .. } => self.prepared(),
            Event::PrepareFailed { failure, .. } => self.prepare_failed(failure, now),
            Event::Spawned { pid, .. } => self.spawned(pid),
            Event::SpawnFailed { failure, .. } => self.spawn_failed(failure, now),
            Event::RecordFailed { failure, .. } | Event::NotReady { failure, .. } => self.boot_failed(failure, now),
            Event::Ready { .. } => self.ready(now),
            Event::Exited { exit, remains, tail, .. } => self.exited(exit, remains, tail, now),
            Event::TreeGone { .. } => self.tree_gone(now),
            Event::ProbePassed { latency, .. } => self.probe_passed(latency),
            Event::ProbeFailed { latency, error, .. } => self.probe_failed(latency, error, now),
            Event::StartupElapsed { tail, .. } => {
                let failure = Failure::StartupTimeout { socket: self.plan.socket_path.clone(), after: self.plan.startup_timeout, tail };
                self.boot_failed(failure, now);
            }
            Event::GraceElapsed { .. } => self.grace_elapsed(),
            Event::KillElapsed { survivors, .. } => self.kill_elapsed(survivors, now),
            Event::BackoffElapsed { .. } => self.backoff_elapsed(now),
            Event::ProbeDue { .. } => self.probe_due(),
            Event::Faulted { message } => self.faulted(message, now),
        }
        mem::take(&mut self.effects)
    }

    // What callers ask for.

    fn start_requested(&mut self, ticket: Ticket, now: Now) {
        if self.closed {
            return self.settle(ticket, Err(Failure::ShuttingDown));
        }
        match &self.phase {
            Phase::Stopped | Phase::Failed => {
                self.attempts = 0;
                self.history.clear();
                self.prepare(Run::Asked(ticket), None, now);
            }
            // What could not be killed is still running.
            Phase::Stuck { .. } => self.settle(ticket, Err(Failure::AlreadyRunning(ProcessState::Running))),
            Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Booting { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::BackingOff { .. } => self.settle(ticket, Err(Failure::AlreadyRunning(self.phase.state()))),
        }
    }

    fn start_aborted(&mut self, ticket: Ticket, now: Now) {
        let asked = match &self.phase {
            Phase::Preparing { run } | Phase::Spawning { run } | Phase::Booting { run, .. } => *run == Run::Asked(ticket),
            Phase::Stopping { goal, .. } => *goal == Goal::Relaunch(ticket),
            Phase::Stopped | Phase::Failed | Phase::Stuck { .. } | Phase::Running { .. } | Phase::BackingOff { .. } => false,
        };
        if asked {
            self.stop_requested(None, now);
        }
    }

    /// Wins over everything. `ticket`: who is to be told, if anyone.
    fn stop_requested(&mut self, ticket: Option<Ticket>, now: Now) {
        self.waiting.extend(ticket.map(|ticket| (ticket, Ok(()))));
        self.halt(Goal::Halt, now);
    }

    fn restart_requested(&mut self, ticket: Ticket, now: Now) {
        if self.closed {
            return self.settle(ticket, Err(Failure::ShuttingDown));
        }
        match &mut self.phase {
            Phase::Stopped | Phase::Failed => self.start_requested(ticket, now),
            Phase::Stopping { goal: Goal::Relaunch(_), .. } => {
                self.settle(ticket, Err(Failure::AlreadyRunning(ProcessState::Stopping)));
            }
            Phase::Stuck { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Booting { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::BackingOff { .. } => self.halt(Goal::Relaunch(ticket), now),
        }
    }

    /// Whatever is going on, ends it for `goal` (Halt or Relaunch).
    fn halt(&mut self, goal: Goal, now: Now) {
        match mem::replace(&mut self.phase, Phase::Stopped) {
            phase @ (Phase::Stopped | Phase::Failed) => {
                self.phase = phase;
                self.come_to_rest(goal, now);
            }
            Phase::Preparing { run } => {
                self.phase = Phase::Preparing { run };
                self.doom(run);
                self.effects.push(Effect::CancelPrepare);
                self.show_stopping(goal.clone(), now);
                self.come_to_rest(goal, now);
            }
            Phase::Spawning { run } => {
                self.phase = Phase::Spawning { run };
                self.doom(run);
                self.disarm(Timer::Startup);
                self.stop_tree(Leader::Unborn, goal, now);
            }
            Phase::Booting { run, pid } => {
                self.phase = Phase::Booting { run, pid };
                self.doom(run);
                self.disarm(Timer::Startup);
                self.effects.push(Effect::StopAwaiting);
                self.stop_tree(Leader::Alive(pid), goal, now);
            }
            Phase::Running { pid, since } => {
                self.phase = Phase::Running { pid, since };
                self.leave_running();
                self.stop_tree(Leader::Alive(pid), goal, now);
            }
            Phase::Stuck { tree } => {
                self.phase = Phase::Stuck { tree };
                self.stop_tree(tree.leader, goal, now);
            }
            Phase::BackingOff { tree: None, waited } => {
                self.phase = Phase::BackingOff { tree: None, waited };
                self.leave_backoff();
                self.show_stopping(goal.clone(), now);
                self.come_to_rest(goal, now);
            }
            Phase::BackingOff { tree: Some(tree), waited } => {
                self.phase = Phase::BackingOff { tree: Some(tree), waited };
                self.leave_backoff();
                self.enter(Phase::Stopping { tree, goal }, None, now);
            }
            Phase::Stopping { tree, goal: former } => {
                self.phase = Phase::Stopping { tree, goal: former.clone() };
                self.next_restart_at = None;
                match former {
                    // The restart that was asked for is off.
                    Goal::Relaunch(ticket) => self.waiting.push((ticket, Err(Failure::Stopped))),
                    // The start has failed before it was stopped, and is told why it failed.
                    Goal::Fail { failure, .. } => self.last_error = Some(failure),
                    Goal::Halt | Goal::Rest | Goal::Retry { .. } => {}
                }
                self.enter(Phase::Stopping { tree, goal }, None, now);
            }
        }
    }

    // What the supervisor reports.

    fn prepared(&mut self) {
        match self.phase {
            Phase::Preparing { run } => {
                // The same public state, so nothing is shown.
                self.phase = Phase::Spawning { run };
                self.effects.push(Effect::Spawn { generation: self.generation });
                self.arm(Timer::Startup, self.plan.startup_timeout);
            }
            Phase::Stopped
            | Phase::Failed
            | Phase::Stuck { .. }
            | Phase::Spawning { .. }
            | Phase::Booting { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::BackingOff { .. } => {}
        }
    }

    fn prepare_failed(&mut self, failure: Failure, now: Now) {
        match self.phase {
            Phase::Preparing { run } => self.run_failed(run, None, failure, now),
            Phase::Stopped
            | Phase::Failed
            | Phase::Stuck { .. }
            | Phase::Spawning { .. }
            | Phase::Booting { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::BackingOff { .. } => {}
        }
    }

    fn spawned(&mut self, pid: Pid) {
        let generation = self.generation;
        match &mut self.phase {
            Phase::Spawning { run } => {
                self.phase = Phase::Booting { run: *run, pid };
                self.effects.push(Effect::Notify(Notice::Spawned { pid }));
                self.effects.push(Effect::Record { generation, pid });
                self.effects.push(Effect::AwaitReady { generation, pid });
            }
            // Born while it was already to be stopped. Its grace period began with the request.
            Phase::Stopping { tree, .. } | Phase::Stuck { tree } | Phase::BackingOff { tree: Some(tree), .. }
                if tree.leader == Leader::Unborn =>
            {
                tree.leader = Leader::Alive(pid);
                let signal = if tree.killed { Signal::Kill } else { Signal::Terminate };
                self.effects.push(Effect::Notify(Notice::Spawned { pid }));
                self.effects.push(Effect::Record { generation, pid });
                self.effects.push(Effect::Signal { signal });
            }
            Phase::Stopping { .. }
            | Phase::Stuck { .. }
            | Phase::BackingOff { .. }
            | Phase::Stopped
            | Phase::Failed
            | Phase::Preparing { .. }
            | Phase::Booting { .. }
            | Phase::Running { .. } => {}
        }
    }

    fn spawn_failed(&mut self, failure: Failure, now: Now) {
        match &self.phase {
            Phase::Spawning { run } => {
                let run = *run;
                self.disarm(Timer::Startup);
                self.run_failed(run, None, failure, now);
            }
            // There never was a tree.
            Phase::Stopping { tree, .. } | Phase::Stuck { tree } | Phase::BackingOff { tree: Some(tree), .. }
                if tree.leader == Leader::Unborn =>
            {
                self.tree_gone(now);
            }
            Phase::Stopping { .. }
            | Phase::Stuck { .. }
            | Phase::BackingOff { .. }
            | Phase::Stopped
            | Phase::Failed
            | Phase::Preparing { .. }
            | Phase::Booting { .. }
            | Phase::Running { .. } => {}
        }
    }

    /// The process lives, or is being made, but will not become ready.
    fn boot_failed(&mut self, failure: Failure, now: Now) {
        let (run, leader) = match self.phase {
            Phase::Spawning { run } => (run, Leader::Unborn),
            Phase::Booting { run, pid } => (run, Leader::Alive(pid)),
            Phase::Stopped
            | Phase::Failed
            | Phase::Stuck { .. }
            | Phase::Preparing { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::BackingOff { .. } => return,
        };
        self.disarm(Timer::Startup);
        self.effects.push(Effect::StopAwaiting);
        self.run_failed(run, Some(leader), failure, now);
    }

    fn ready(&mut self, now: Now) {
        match self.phase {
            Phase::Booting { run, pid } => {
                self.disarm(Timer::Startup);
                self.attempts = 0;
                self.failed_checks = 0;
                if let Run::Asked(_) = run {
                    self.last_error = None;
                }
                self.enter(Phase::Running { pid, since: now.mono }, None, now);
                if let Some((interval, _)) = self.plan.health {
                    self.arm(Timer::Probe, interval);
                }
                if let Run::Asked(ticket) = run {
                    self.settle(ticket, Ok(()));
                }
            }
            Phase::Stopped
            | Phase::Failed
            | Phase::Stuck { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::BackingOff { .. } => {}
        }
    }

    fn exited(&mut self, exit: Exit, remains: bool, tail: String, now: Now) {
        let Some(pid) = self.phase.pid() else { return };
        let reason = self.exit_reason(exit);
        self.last_exit = Some(LastExit { pid, exit, reason, at: now.wall });
        self.effects.push(Effect::Notify(Notice::Exited { pid, exit, reason }));
        let left = remains.then_some(Leader::Exited);
        match &mut self.phase {
            Phase::Booting { run, .. } => {
                let run = *run;
                self.disarm(Timer::Startup);
                self.effects.push(Effect::StopAwaiting);
                if !remains {
                    self.effects.push(Effect::Clean);
                }
                self.run_failed(run, left, Failure::StartupExit { exit, tail }, now);
            }
            Phase::Running { .. } => {
                self.leave_running();
                if !remains {
                    self.effects.push(Effect::Clean);
                }
                if reason == ExitReason::Exited && self.plan.restart.on == RestartOn::Failure {
                    self.end_with(left, Goal::Rest, now);
                } else {
                    self.retry_or_give_up(left, reason, Failure::Ended { exit, tail }, now);
                }
            }
            Phase::Stopping { tree, .. } | Phase::Stuck { tree } | Phase::BackingOff { tree: Some(tree), .. } => {
                tree.leader = Leader::Exited;
                if !remains {
                    self.tree_gone(now);
                }
            }
            Phase::Stopped | Phase::Failed | Phase::Preparing { .. } | Phase::Spawning { .. } | Phase::BackingOff { tree: None, .. } => {}
        }
    }

    fn tree_gone(&mut self, now: Now) {
        match mem::replace(&mut self.phase, Phase::Stopped) {
            Phase::Stopping { tree, goal } => {
                self.phase = Phase::Stopping { tree, goal: goal.clone() };
                self.disarm(Timer::Grace);
                self.disarm(Timer::Kill);
                self.effects.push(Effect::Clean);
                self.come_to_rest(goal, now);
            }
            Phase::Stuck { .. } => {
                self.effects.push(Effect::Clean);
                self.effects.push(Effect::Release);
                self.phase = Phase::Failed;
            }
            Phase::BackingOff { tree: Some(_), waited } => {
                self.phase = Phase::BackingOff { tree: None, waited };
                self.disarm(Timer::Grace);
                self.disarm(Timer::Kill);
                self.effects.push(Effect::Clean);
                if waited {
                    self.prepare(Run::Restart, None, now);
                }
            }
            phase @ (Phase::Stopped
            | Phase::Failed
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Booting { .. }
            | Phase::Running { .. }
            | Phase::BackingOff { tree: None, .. }) => self.phase = phase,
        }
    }

    fn probe_due(&mut self) {
        if let Phase::Running { .. } = self.phase {
            self.effects.push(Effect::StartProbe { generation: self.generation });
        }
    }

    fn probe_passed(&mut self, latency: Duration) {
        if let (Phase::Running { .. }, Some((interval, _))) = (&self.phase, self.plan.health) {
            self.failed_checks = 0;
            self.effects.push(Effect::Notify(Notice::Checked { healthy: true, latency, failures: 0, error: None }));
            self.arm(Timer::Probe, interval);
        }
    }

    fn probe_failed(&mut self, latency: Duration, error: String, now: Now) {
        let (Phase::Running { pid, .. }, Some((interval, retries))) = (&self.phase, self.plan.health) else { return };
        let pid = *pid;
        self.failed_checks += 1;
        let failures = self.failed_checks;
        self.effects.push(Effect::Notify(Notice::Checked { healthy: false, latency, failures, error: Some(error.clone()) }));
        if failures < retries {
            return self.arm(Timer::Probe, interval);
        }
        let failure = Failure::Unhealthy { checks: failures, last: error };
        self.last_error = Some(failure.clone());
        match self.admit_restart(failure, now) {
            Ok(delay) => {
                self.schedule(delay, ExitReason::Unhealthy, now);
                self.stop_tree(Leader::Alive(pid), Goal::Retry { due: now.mono + delay }, now);
            }
            Err(failure) => {
                let goal = Goal::Fail { failure, shown: ProcessState::Stopping, reason: ExitReason::Unhealthy };
                self.stop_tree(Leader::Alive(pid), goal, now);
            }
        }
    }

    fn grace_elapsed(&mut self) {
        match &mut self.phase {
            Phase::Stopping { tree, .. } | Phase::BackingOff { tree: Some(tree), .. } if !tree.killed => {
                tree.killed = true;
                if tree.leader != Leader::Unborn {
                    self.effects.push(Effect::Signal { signal: Signal::Kill });
                }
                self.arm(Timer::Kill, KILL_PATIENCE);
            }
            Phase::Stopping { .. }
            | Phase::BackingOff { .. }
            | Phase::Stopped
            | Phase::Failed
            | Phase::Stuck { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Booting { .. }
            | Phase::Running { .. } => {}
        }
    }

    fn kill_elapsed(&mut self, survivors: Vec<Pid>, now: Now) {
        let (tree, goal) = match mem::replace(&mut self.phase, Phase::Stopped) {
            Phase::Stopping { tree, goal } if tree.killed => {
                self.phase = Phase::Stopping { tree, goal: goal.clone() };
                (tree, goal)
            }
            Phase::BackingOff { tree: Some(tree), waited } if tree.killed => {
                self.phase = Phase::BackingOff { tree: Some(tree), waited };
                self.leave_backoff();
                (tree, Goal::Rest)
            }
            phase @ (Phase::Stopping { .. }
            | Phase::BackingOff { .. }
            | Phase::Stopped
            | Phase::Failed
            | Phase::Stuck { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Booting { .. }
            | Phase::Running { .. }) => {
                self.phase = phase;
                return;
            }
        };
        let failure = Failure::StopFailed { survivors };
        if let Goal::Relaunch(ticket) = goal {
            self.waiting.push((ticket, Ok(())));
        }
        for (_, outcome) in &mut self.waiting {
            // A start that failed before is told of its own failure.
            if outcome.is_ok() {
                *outcome = Err(failure.clone());
            }
        }
        self.next_restart_at = None;
        self.last_error = Some(failure);
        self.enter(Phase::Stuck { tree }, self.last_error.as_ref().map(ToString::to_string), now);
        self.settle_waiting();
    }

    fn backoff_elapsed(&mut self, now: Now) {
        match &mut self.phase {
            Phase::BackingOff { tree: None, .. } => self.prepare(Run::Restart, None, now),
            Phase::BackingOff { waited, .. } => *waited = true,
            Phase::Stopped
            | Phase::Failed
            | Phase::Stuck { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Booting { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. } => {}
        }
    }

    /// The hands are gone: nothing more can be learned about this daemon, so nobody is kept waiting.
    fn faulted(&mut self, problem: String, now: Now) {
        let failure = Failure::Internal { problem };
        match &self.phase {
            Phase::Preparing { run } | Phase::Spawning { run } | Phase::Booting { run, .. } => {
                if let Run::Asked(ticket) = run {
                    self.waiting.push((*ticket, Ok(())));
                }
            }
            Phase::Stopping { goal, .. } => {
                if let Goal::Relaunch(ticket) = goal {
                    self.waiting.push((*ticket, Ok(())));
                }
            }
            Phase::Stopped | Phase::Failed | Phase::Stuck { .. } | Phase::Running { .. } | Phase::BackingOff { .. } => {}
        }
        for (_, outcome) in &mut self.waiting {
            *outcome = Err(failure.clone());
        }
        self.next_restart_at = None;
        self.last_error = Some(failure);
        self.effects.push(Effect::Abandon);
        self.generation += 1;
        self.enter(Phase::Failed, self.last_error.as_ref().map(ToString::to_string), now);
        self.settle_waiting();
    }

    // Steps that several of the above share.

    /// Begins a new generation.
    fn prepare(&mut self, run: Run, reason: Option<String>, now: Now) {
        self.generation += 1;
        self.next_restart_at = None;
        self.failed_checks = 0;
        if run == Run::Restart {
            self.total_restarts += 1;
        }
        self.enter(Phase::Preparing { run }, reason, now);
        self.effects.push(Effect::Prepare { generation: self.generation });
    }

    /// A run ended before it was ready. `left`: what there is to stop.
    fn run_failed(&mut self, run: Run, left: Option<Leader>, failure: Failure, now: Now) {
        match run {
            Run::Asked(ticket) => {
                self.waiting.push((ticket, Err(failure.clone())));
                let goal = Goal::Fail { failure, shown: ProcessState::Starting, reason: ExitReason::Startup };
                self.end_with(left, goal, now);
            }
            Run::Restart => self.retry_or_give_up(left, ExitReason::Startup, failure, now),
        }
    }

    fn retry_or_give_up(&mut self, left: Option<Leader>, reason: ExitReason, failure: Failure, now: Now) {
        self.last_error = Some(failure.clone());
        match self.admit_restart(failure, now) {
            Ok(delay) => {
                self.schedule(delay, reason, now);
                let tree = left.map(|leader| self.urge(leader));
                self.enter(Phase::BackingOff { tree, waited: false }, Some(reason.as_str().to_owned()), now);
                self.arm(Timer::Backoff, delay);
            }
            Err(failure) => self.end_with(left, Goal::Fail { failure, shown: ProcessState::Stopping, reason }, now),
        }
    }

    /// The delay of the next restart, or why there is none.
    fn admit_restart(&mut self, failure: Failure, now: Now) -> Result<Duration, Failure> {
        let plan = &self.plan.restart;
        if plan.max_attempts == 0 {
            return Err(failure);
        }
        if self.attempts >= plan.max_attempts {
            return Err(Failure::AttemptsExhausted { attempts: self.attempts, last: Box::new(failure) });
        }
        if !self.history.admit(plan.window, now.mono) {
            return Err(Failure::WindowExhausted { limit: plan.window.limit, period: plan.window.period, last: Box::new(failure) });
        }
        Ok(plan.delay_before(self.attempts + 1, self.dice.roll()))
    }

    fn schedule(&mut self, delay: Duration, reason: ExitReason, now: Now) {
        self.attempts += 1;
        self.next_restart_at = Some(now.wall + delay.as_secs_f64() * 1e3);
        self.effects.push(Effect::Notify(Notice::RestartScheduled { attempt: self.attempts, delay, reason }));
    }

    /// Stops what is left, if anything, and comes to rest.
    fn end_with(&mut self, left: Option<Leader>, goal: Goal, now: Now) {
        match left {
            Some(leader) => self.stop_tree(leader, goal, now),
            None => self.come_to_rest(goal, now),
        }
    }

    fn stop_tree(&mut self, leader: Leader, goal: Goal, now: Now) {
        let reason = match &goal {
            Goal::Retry { .. } => Some(ExitReason::Unhealthy.as_str().to_owned()),
            Goal::Fail { failure, .. } => Some(failure.to_string()),
            Goal::Halt | Goal::Rest | Goal::Relaunch(_) => None,
        };
        let tree = self.urge(leader);
        self.enter(Phase::Stopping { tree, goal }, reason, now);
    }

    /// Sends the first signal of a stop. A grace period of 0 means SIGKILL at once.
    fn urge(&mut self, leader: Leader) -> Tree {
        let killed = self.plan.grace.is_zero();
        let (signal, timer, after) =
            if killed { (Signal::Kill, Timer::Kill, KILL_PATIENCE) } else { (Signal::Terminate, Timer::Grace, self.plan.grace) };
        if leader != Leader::Unborn {
            self.effects.push(Effect::Signal { signal });
        }
        self.arm(timer, after);
        Tree { leader, killed }
    }

    /// Nothing is left; on to what the end was for.
    fn come_to_rest(&mut self, goal: Goal, now: Now) {
        match goal {
            Goal::Halt | Goal::Rest => {
                self.effects.push(Effect::Release);
                self.enter(Phase::Stopped, (goal == Goal::Rest).then(|| ExitReason::Exited.as_str().to_owned()), now);
                self.settle_waiting();
            }
            Goal::Fail { failure, .. } => {
                self.effects.push(Effect::Release);
                let reason = failure.to_string();
                self.last_error = Some(failure);
                self.enter(Phase::Failed, Some(reason), now);
                self.settle_waiting();
            }
            Goal::Retry { due } => {
                self.enter(Phase::BackingOff { tree: None, waited: false }, Some(ExitReason::Unhealthy.as_str().to_owned()), now);
                self.arm(Timer::Backoff, due.saturating_sub(now.mono));
            }
            Goal::Relaunch(ticket) => {
                if self.waiting.iter().any(|(_, outcome)| outcome.is_ok()) {
                    // A stop came before the restart: the moment it resolves, the name is free for others.
                    self.effects.push(Effect::Release);
                }
                self.enter(Phase::Stopped, None, now);
                self.settle_waiting();
                self.attempts = 0;
                self.prepare(Run::Asked(ticket), None, now);
            }
        }
    }

    /// A stop without a process still passes through 'stopping'.
    fn show_stopping(&mut self, goal: Goal, now: Now) {
        self.enter(Phase::Stopping { tree: Tree { leader: Leader::Exited, killed: false }, goal }, None, now);
    }

    fn enter(&mut self, phase: Phase, reason: Option<String>, now: Now) {
        let from = self.phase.state();
        self.phase = phase;
        let to = self.phase.state();
        if from != to {
            self.last_state_change = now.wall;
            self.effects.push(Effect::Notify(Notice::StateChanged { from, to, pid: self.phase.pid(), reason }));
        }
    }

    fn leave_running(&mut self) {
        if self.plan.health.is_some() {
            self.disarm(Timer::Probe);
            self.effects.push(Effect::StopProbe);
        }
    }

    fn leave_backoff(&mut self) {
        self.next_restart_at = None;
        self.disarm(Timer::Backoff);
    }

    /// A caller whose start is overtaken by a stop hears of it at the end of that stop.
    fn doom(&mut self, run: Run) {
        if let Run::Asked(ticket) = run {
            self.waiting.push((ticket, Err(Failure::Stopped)));
        }
    }

    fn exit_reason(&self, exit: Exit) -> ExitReason {
        match &self.phase {
            Phase::Running { .. } if exit.succeeded() => ExitReason::Exited,
            Phase::Running { .. } => ExitReason::Crashed,
            Phase::Stopping { goal: Goal::Retry { .. }, .. } => ExitReason::Unhealthy,
            Phase::Stopping { goal: Goal::Fail { reason, .. }, .. } => *reason,
            Phase::Booting { .. } | Phase::BackingOff { .. } => ExitReason::Startup,
            Phase::Stopping { goal: Goal::Halt | Goal::Rest | Goal::Relaunch(_), .. }
            | Phase::Stuck { .. }
            | Phase::Stopped
            | Phase::Failed
            | Phase::Preparing { .. }
            | Phase::Spawning { .. } => ExitReason::Stopped,
        }
    }

    fn arm(&mut self, timer: Timer, after: Duration) {
        self.effects.push(Effect::Arm { timer, generation: self.generation, after });
    }

    fn disarm(&mut self, timer: Timer) {
        self.effects.push(Effect::Disarm { timer });
    }

    fn settle(&mut self, ticket: Ticket, outcome: Result<(), Failure>) {
        self.effects.push(Effect::Settle { ticket, outcome });
    }

    fn settle_waiting(&mut self) {
        for (ticket, outcome) in mem::take(&mut self.waiting) {
            self.settle(ticket, outcome);
        }
    }
}
