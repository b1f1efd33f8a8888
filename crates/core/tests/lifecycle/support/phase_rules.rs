//! The rules of the shadow model for phases: each has exactly the trees, the expected replies and the timers that lead out of it.
//! With fewer it would hang; with more, a late event would reach a later phase.

use super::shadow::{Attempt, Reply, ShadowModel, Tree};
use super::{Verdict, ensure};
use ally_core::lifecycle::{Acknowledgement, Leader, Machine, Phase, Plan, Role, Second, Signal, Stage, StopFor, Timer, TreeState};
use ally_core::model::ProcessState;
use std::collections::BTreeSet;

/// The tree, the expected replies and the armed timers of a phase or stage.
struct Expected {
    tree: Tree,
    replies: Vec<Reply>,
    timers: Vec<Timer>,
    /// A tree that is being stopped, within the time limits.
    stopping: Option<TreeState>,
}

impl Expected {
    fn new(tree: Tree, replies: &[Reply], timers: &[Timer]) -> Self {
        Self { tree, replies: replies.to_vec(), timers: timers.to_vec(), stopping: None }
    }

    fn stopping(tree: TreeState) -> Self {
        Self {
            tree: shadow(tree.leader),
            replies: Vec::new(),
            timers: stop_timers(tree),
            stopping: Some(tree).filter(|tree| !tree.is_gone()),
        }
    }

    fn check(self, attempt: &Attempt) -> Verdict {
        let Self { tree, replies, timers, stopping } = self;
        let armed: BTreeSet<Timer> = timers.into_iter().collect();
        ensure(attempt.tree == tree, format_args!("the machine's tree is {tree:?}"))?;
        ensure(attempt.armed == armed, format_args!("the armed timers must be {armed:?}"))?;
        let expected = attempt.expected_replies.iter().copied().filter(|reply| !matches!(reply, Reply::Record | Reply::Acknowledge));
        let replies: BTreeSet<Reply> = replies.into_iter().collect();
        ensure(expected.eq(replies.iter().copied()), format_args!("the expected replies must be {replies:?}"))?;
        let unanswered = stopping.is_some_and(|tree| tree.acknowledgement != Acknowledgement::Done);
        ensure(attempt.expects(Reply::Acknowledge) == unanswered, format_args!("a command is unanswered: {unanswered}"))?;
        // A tree that is being stopped got the stop signal, and SIGKILL after the grace period.
        let signalled = stopping.is_none_or(|stopping| match attempt.signalled {
            None => attempt.tree == Tree::Asked,
            Some(Signal::Terminate) => !stopping.killed,
            Some(Signal::Kill) => true,
        });
        ensure(signalled, "the tree is being stopped, and got no signal")
    }
}

impl ShadowModel {
    pub fn matches_machine(&self, machine: &Machine, plan: &Plan) -> Verdict {
        let phase = machine.phase();
        self.expected(phase, plan).check(&self.serving).map_err(|rule| format!("{rule} (serving)"))?;
        if let Phase::Overdue { .. } = phase {
            ensure(self.serving.signalled == Some(Signal::Kill), "overdue without SIGKILL")?;
        }
        self.matches_second(machine)?;
        ensure(machine.generation() == self.serving.generation(), format_args!("generation {} serves", machine.generation()))?;
        let any_tree = !self.no_tree();
        ensure(self.lock || !any_tree, "a tree lives, and the name is released")?;
        ensure(!self.serving.frozen || matches!(phase, Phase::Freezing { .. }), "the tree stays frozen")?;

        let seen = machine.snapshot();
        ensure(seen.pid == self.serving.pid(), format_args!("getPid is {:?}", seen.pid))?;
        ensure(self.serving.runs() == (seen.state == ProcessState::Running), format_args!("the state is {:?}", seen.state))?;
        ensure(seen.armed == self.is_armed(), format_args!("armed is {}", seen.armed))?;
        ensure(!seen.forgettable || !(self.lock || any_tree), "forgettable, and the lock is held")?;
        ensure(seen.restart_attempts == self.attempts, format_args!("restartAttempts is {}", seen.restart_attempts))?;
        let activity = machine.activity();
        ensure(activity.guarded || !any_tree, "a tree lives without a guardian")?;
        let at_rest = matches!(phase, Phase::Stopped | Phase::Failed);
        ensure(!at_rest || (!activity.guarded && !activity.pending), "activity at rest")?;
        ensure(!seen.armed || (activity.pending && activity.guarded == any_tree), "an armed daemon is not pending, or guarded")?;

        let waits_for_delay = matches!(phase, Phase::BackingOff { .. } | Phase::Stopping { stop_for: StopFor::Replacement { .. }, .. });
        let overdue = matches!(phase, Phase::Overdue { .. });
        ensure(self.restart_pending == (waits_for_delay || overdue), "a pending restart was given up, or there was none")?;
        ensure(waits_for_delay == seen.next_restart_at.is_some(), format_args!("nextRestartAt is {:?}", seen.next_restart_at))
    }

    fn expected(&self, phase: &Phase, plan: &Plan) -> Expected {
        use Tree::{Alive, Asked, None as Nothing};
        match phase {
            Phase::Stopped | Phase::Failed => Expected::new(Nothing, &[], &[]),
            Phase::Stuck { tree } => Expected::new(shadow(tree.leader), &[], &[]),
            Phase::Preparing { .. } | Phase::Arming { .. } => Expected::new(Nothing, &[Reply::Prepare], &[]),
            Phase::Armed => Expected::new(Nothing, &[Reply::Connection], &[]),
            Phase::Spawning { .. } => Expected::new(Asked, &[], &[Timer::Startup]),
            Phase::Booting { .. } => Expected::new(Alive, &[Reply::Ready], &[Timer::Startup]),
            Phase::Running { .. } => self.expected_running(plan),
            Phase::Freezing { .. } => self.with_reset(Expected::new(Alive, &[Reply::Freeze], &[Timer::Acknowledgement])),
            Phase::Upgrading { .. } => self.with_reset(Expected::new(Alive, &[], &[])),
            Phase::Stopping { tree, .. } => Expected::stopping(*tree),
            Phase::AwaitingSuccessor { tree, .. } => tree.map_or_else(|| Expected::new(Nothing, &[], &[]), Expected::stopping),
            Phase::BackingOff { tree, waited } => {
                let mut expected = tree.map_or_else(|| Expected::new(Nothing, &[], &[]), Expected::stopping);
                expected.timers.extend((!waited).then_some(Timer::Backoff));
                expected
            }
            // The pending restart survives: the end of the tree is always possible, and leads to the next attempt.
            Phase::Overdue { leader, waited, .. } => Expected::new(shadow(*leader), &[], if *waited { &[] } else { &[Timer::Backoff] }),
        }
    }

    fn expected_running(&self, plan: &Plan) -> Expected {
        let probes = self.serving.expects(Reply::Probe);
        let mut running = Expected::new(Tree::Alive, &[], &[]);
        if plan.health.is_some() && probes {
            running.replies.push(Reply::Probe);
        } else if plan.health.is_some() {
            running.timers.push(Timer::Probe);
        }
        running.replies.extend(plan.memory.map(|_| Reply::Memory));
        // After the shutdown a daemon serves on, with connections or without.
        running.replies.extend((plan.stops_idle && !self.callers.closed).then_some(Reply::Idle));
        self.with_reset(running)
    }

    fn with_reset(&self, mut expected: Expected) -> Expected {
        expected.timers.extend(self.reset_pending.then_some(Timer::Reset));
        expected
    }

    fn matches_second(&self, machine: &Machine) -> Verdict {
        let (phase, second) = (machine.phase(), machine.second());
        let successor = second.filter(|second| second.role == Role::Successor && !matches!(second.stage, Stage::Stuck { .. }));
        let awaits = matches!(phase, Phase::Upgrading { .. } | Phase::AwaitingSuccessor { .. });
        ensure(!awaits || successor.is_some(), "a successor is awaited, and there is none")?;
        match (&self.second, second) {
            (None, None) => Ok(()),
            (Some(model), Some(second)) => {
                ensure(second.generation == model.generation(), format_args!("generation {} is the second", second.generation))?;
                ensure((second.role == Role::Former) == self.is_former, format_args!("it is the {:?}", second.role))?;
                expected_second(model, second).check(model).map_err(|rule| format!("{rule} (second in {:?})", second.stage))
            }
            _ => Err(format!("the second generation is {second:?}")),
        }
    }
}

fn expected_second(model: &Attempt, second: &Second) -> Expected {
    use Tree::{Alive, Asked, None as Nothing};
    match &second.stage {
        Stage::Preparing => Expected::new(Nothing, &[Reply::Prepare], &[]),
        Stage::Spawning { .. } => Expected::new(Asked, &[], &[Timer::Startup]),
        Stage::Booting { .. } => Expected::new(Alive, &[Reply::Ready], &[Timer::Startup]),
        Stage::Proving { .. } if model.expects(Reply::Probe) => Expected::new(Alive, &[Reply::Probe], &[]),
        Stage::Proving { .. } => Expected::new(Alive, &[], &[Timer::Probe]),
        // The leader may have ended meanwhile.
        Stage::ChangingOver { .. } => Expected::new(if model.exit_held { model.tree } else { Alive }, &[Reply::ChangeOver], &[]),
        Stage::Draining { .. } => Expected::new(Alive, &[Reply::Drain], &[]),
        Stage::Leaving { tree, .. } => Expected::stopping(*tree),
        Stage::Stuck { tree, .. } => Expected::new(shadow(tree.leader), &[], &[]),
    }
}

/// The time limit of the stop, and the one of the keeper's answer. A late answer has a limit only after SIGKILL was due.
fn stop_timers(tree: TreeState) -> Vec<Timer> {
    if tree.is_gone() {
        return Vec::new();
    }
    let mut timers = vec![if tree.killed { Timer::Kill } else { Timer::Grace }];
    let answer_is_due = match tree.acknowledgement {
        Acknowledgement::Done => false,
        Acknowledgement::Pending => true,
        Acknowledgement::Late => tree.killed,
    };
    timers.extend(answer_is_due.then_some(Timer::Acknowledgement));
    timers
}

const fn shadow(leader: Leader) -> Tree {
    match leader {
        Leader::Pending => Tree::Asked,
        Leader::Alive(_) => Tree::Alive,
        Leader::Exited => Tree::Remains,
        Leader::Gone => Tree::None,
    }
}
