//! The rules of the shadow model: the effects that are allowed in a state of the model, and the facts
//! that hold after each event.

use super::events::name;
use super::shadow::{Reply, ShadowModel, Tree, pid_of};
use super::{Verdict, ensure};
use ally_core::error::Failure;
use ally_core::lifecycle::{
    Acknowledgement, Effect, Event, Generation, Leader, Machine, Notice, Now, Phase, Plan, Signal, StopFor, Timer, TreeState,
};
use ally_core::model::{ExitReason, ProcessState};
use std::collections::BTreeSet;

impl ShadowModel {
    /// Gives `event` to model and machine, and checks the effects.
    pub fn step(&mut self, machine: &mut Machine, plan: &Plan, event: &Event, now: Now) -> Verdict {
        let startable = self.is_startable();
        self.callers.on(event);
        self.record_event(event, plan);
        let generation = machine.generation();
        let refused = matches!(event, Event::StartRefused { .. }).then(|| format!("{machine:?}"));
        let effects = machine.on(event.clone(), now);
        if let Event::StartRequested { .. } = event {
            let prepares = effects.iter().any(|effect| matches!(effect, Effect::Prepare { .. }));
            ensure(prepares == startable, format_args!("a start prepares: {prepares}, and must: {startable}"))?;
            // A start in place of a pending restart. Any other start is counted at its effect.
            if prepares && !machine.may_withdraw() {
                self.attempts = 0;
            }
        }
        ensure(refused.is_none_or(|before| before == format!("{machine:?}")), "a refused start changes the machine")?;
        self.judge_all(&effects, generation, machine.phase(), plan)
            .and_then(|()| {
                self.callers.forget_started(event);
                self.callers.close(machine, plan)
            })
            .and_then(|()| self.immediate_effects(event, &effects, machine.phase(), plan))
            .and_then(|()| self.matches_phase(machine, plan))
            .map_err(|rule| format!("{rule}\nat {}: {effects:?}\nin {:?}\nwith {self:?}", name(event), machine.phase()))
    }

    fn judge_all(&mut self, effects: &[Effect], mut generation: Generation, phase: &Phase, plan: &Plan) -> Verdict {
        for effect in effects {
            if let Effect::Prepare { generation: next, .. } = effect {
                ensure(*next == generation + 1, "each attempt has a generation of its own")?;
                generation = *next;
            }
            self.callers.judge(effect, plan)?;
            self.judge(effect, generation, phase, plan)?;
        }
        Ok(())
    }

    /// `generation`: the current one at `effect`. `phase`: the machine's phase after the event.
    fn judge(&mut self, effect: &Effect, generation: Generation, phase: &Phase, plan: &Plan) -> Verdict {
        let current = |of: Generation| ensure(of == generation, format_args!("generation {of} instead of {generation}"));
        match effect {
            Effect::Prepare { .. } => {
                ensure(self.tree == Tree::None, "Prepare before the former tree is gone")?;
                self.late_replies.clear();
                self.late_timers.clear();
                self.was_ready = false;
                self.restart_pending = false;
                if self.callers.unannounced {
                    self.former_attempts = std::mem::take(&mut self.attempts);
                }
                self.expect_reply(Reply::Prepare)
            }
            Effect::Spawn { generation } => {
                current(*generation)?;
                ensure(self.tree == Tree::None, "Spawn beside another tree")?;
                ensure(self.lock, "Spawn without the lock")?;
                self.tree = Tree::Asked;
                Ok(())
            }
            Effect::AwaitReady { generation } => {
                current(*generation)?;
                ensure(self.tree == Tree::Alive, "AwaitReady before Spawned")?;
                self.expect_reply(Reply::Ready)
            }
            Effect::StartProbe { generation } => {
                current(*generation)?;
                ensure(matches!(phase, Phase::Running { .. }), "StartProbe outside of Running")?;
                ensure(plan.health.is_some(), "StartProbe without health checks")?;
                self.expect_reply(Reply::Probe)
            }
            Effect::CancelPrepare { generation } => {
                current(*generation)?;
                self.cancel_reply(Reply::Prepare);
                Ok(())
            }
            Effect::StopAwaiting { generation } => {
                current(*generation)?;
                self.cancel_reply(Reply::Ready);
                Ok(())
            }
            Effect::StopProbe { generation } => {
                current(*generation)?;
                self.cancel_reply(Reply::Probe);
                Ok(())
            }
            Effect::WatchMemory { generation } => {
                current(*generation)?;
                ensure(
                    matches!(phase, Phase::Running { .. }) && plan.memory.is_some(),
                    "WatchMemory outside of Running, or without a limit",
                )?;
                self.expect_reply(Reply::Memory)
            }
            Effect::StopWatching { generation } => {
                current(*generation)?;
                self.cancel_reply(Reply::Memory);
                Ok(())
            }
            Effect::Arm { timer, generation, .. } => {
                current(*generation)?;
                // A timer that was armed anew can't be distinguished from the cancelled one.
                self.late_timers.remove(timer);
                ensure(self.armed.insert(*timer), format_args!("{timer:?} is armed twice"))
            }
            Effect::Disarm { timer, generation } => {
                current(*generation)?;
                // The golden table has the late events of the keeper's answer. Here they would double the number of states.
                if self.armed.remove(timer) && *timer != Timer::Acknowledgement {
                    self.late_timers.insert(*timer);
                }
                Ok(())
            }
            Effect::Extend { timer, generation, .. } => {
                current(*generation)?;
                ensure(matches!(timer, Timer::Startup | Timer::Grace), format_args!("{timer:?} is extended"))?;
                ensure(self.armed.contains(timer), format_args!("{timer:?} is extended, and not armed"))
            }
            Effect::Signal { generation, signal } => {
                current(*generation)?;
                // SIGKILL may be sent before the spawn. A stop signal would arrive before the leader's execve(2).
                let has_target = matches!(self.tree, Tree::Alive | Tree::Remains) || (self.tree == Tree::Asked && *signal == Signal::Kill);
                ensure(has_target, "Signal without a tree")?;
                if self.signalled != Some(Signal::Kill) {
                    self.signalled = Some(*signal);
                }
                if self.tree != Tree::Asked && matches!(phase, Phase::Stopping { .. } | Phase::BackingOff { .. }) {
                    self.expected_replies.insert(Reply::Acknowledge);
                }
                Ok(())
            }
            Effect::WakeKeeper { generation } => {
                current(*generation)?;
                ensure(self.expected_replies.contains(&Reply::Acknowledge), "WakeKeeper although the keeper has answered")
            }
            Effect::KillKeeper { generation } => {
                current(*generation)?;
                ensure(self.expected_replies.contains(&Reply::Acknowledge), "KillKeeper although the keeper has answered")?;
                self.expected_replies.remove(&Reply::Acknowledge);
                // The leader dies with its keeper, and the guardian sweeps the rest.
                self.signalled = Some(Signal::Kill);
                Ok(())
            }
            Effect::Release { generation } => {
                current(*generation)?;
                ensure(self.tree == Tree::None, "Release while there is a tree")?;
                self.lock = false;
                Ok(())
            }
            Effect::Withdraw { generation } => {
                current(*generation)?;
                ensure(!self.lock, "a start is withdrawn, and this owner has the name")?;
                self.attempts = std::mem::take(&mut self.former_attempts);
                Ok(())
            }
            Effect::Abandon { .. } => {
                // The keeper ends the tree, and no expected reply comes any more.
                let callers = self.callers.clone();
                *self = Self { callers, attempts: self.attempts, ..Self::new() };
                Ok(())
            }
            Effect::Settle { outcome: Ok(()), ticket } => {
                let late_revocation = self.callers.settled_late == Some(*ticket);
                // When a stop has resolved, another owner can start the name.
                ensure(self.tree == Tree::Alive || !self.lock || late_revocation, "a stop resolves before Release")
            }
            Effect::Settle { outcome: Err(Failure::AlreadyRunning(_) | Failure::ShuttingDown | Failure::SocketInUse { .. }), .. } => Ok(()),
            Effect::Settle { outcome: Err(Failure::Stopped), ticket } if self.callers.aborts_wait(*ticket) => Ok(()),
            Effect::Settle { outcome: Err(_), .. } => {
                let gone_or_stuck = self.tree == Tree::None || matches!(phase, Phase::Stuck { .. });
                ensure(gone_or_stuck, "a call fails before the tree is gone")
            }
            Effect::Notify(notice) => self.judge_notice(notice, generation),
            Effect::Warn { .. } => ensure(matches!(phase, Phase::Overdue { .. }), "a warning outside of Overdue"),
        }
    }

    fn judge_notice(&mut self, notice: &Notice, generation: Generation) -> Verdict {
        let alive = self.tree == Tree::Alive;
        match notice {
            Notice::StateChanged { from, to, pid, .. } => {
                if matches!((from, to), (None | Some(ProcessState::Stopped | ProcessState::Error), ProcessState::Starting)) {
                    // A start of a caller resets the count.
                    self.attempts = 0;
                    self.former_attempts = 0;
                }
                ensure(*pid == alive.then(|| pid_of(generation)), "StateChanged with another pid than the leader's")
            }
            Notice::Spawned { pid } => ensure(alive && *pid == pid_of(generation), "Spawned with another pid"),
            Notice::Exited { pid, reason, .. } => {
                let fits = match reason {
                    ExitReason::Stopped => true,
                    ExitReason::Startup => !self.was_ready,
                    ExitReason::Crashed | ExitReason::Exited | ExitReason::Unhealthy | ExitReason::Memory => self.was_ready,
                };
                ensure(*pid == pid_of(generation), "Exited with another pid")?;
                let rule = format_args!("reason {reason:?}, ready before: {}", self.was_ready);
                ensure(fits, rule)
            }
            Notice::RestartScheduled { attempt, .. } => {
                self.attempts += 1;
                self.restart_pending = true;
                ensure(*attempt == self.attempts, format_args!("attempt {attempt} follows {}", self.attempts - 1))
            }
            Notice::Checked { failures, healthy, .. } => {
                ensure(*failures == self.failures && *healthy == (*failures == 0), "failed checks are miscounted")
            }
        }
    }

    /// The effects that some events must have at once.
    fn immediate_effects(&self, event: &Event, effects: &[Effect], phase: &Phase, plan: &Plan) -> Verdict {
        let exits = effects.iter().filter(|effect| matches!(effect, Effect::Notify(Notice::Exited { .. }))).count();
        ensure(exits == usize::from(matches!(event, Event::Exited { .. })), format_args!("{exits} exits are reported"))?;

        let runs = matches!(phase, Phase::Running { .. });
        match event {
            Event::StartRevoked { ticket, .. } if self.callers.started != Some(*ticket) => Ok(()),
            Event::StopRequested { .. } | Event::ShutdownRequested { .. } | Event::StartRevoked { .. } => ensure(
                matches!(phase.state(), ProcessState::Stopping | ProcessState::Stopped),
                "the state after a stop request is neither STOPPING nor STOPPED",
            ),
            Event::Extended { .. } => {
                let limits = [Timer::Startup, Timer::Grace].into_iter().filter(|timer| self.armed.contains(timer)).count();
                let extends = effects.iter().all(|effect| matches!(effect, Effect::Extend { .. }));
                ensure(extends && effects.len() == limits, format_args!("{limits} time limits, and {} effects", effects.len()))
            }
            Event::RecordFailed { .. } => {
                let goes_on = runs || matches!(phase, Phase::Booting { .. });
                ensure(!goes_on, "the attempt goes on without a record")
            }
            // The keeper has sent no SIGKILL before, so the 2 s begin anew.
            Event::KillElapsed { .. } if effects.iter().any(|effect| matches!(effect, Effect::KillKeeper { .. })) => Ok(()),
            Event::KillElapsed { .. } => {
                let expected = if self.restart_pending { ProcessState::Starting } else { ProcessState::Error };
                ensure(phase.state() == expected, format_args!("the state 2 s after SIGKILL is {:?}", phase.state()))
            }
            Event::Exited { exit, .. } if exit.code.is_some_and(|code| plan.restart.prevented_by.contains(code)) => {
                let restarts = effects.iter().any(|effect| matches!(effect, Effect::Notify(Notice::RestartScheduled { .. })));
                ensure(!restarts, "a restart after an exit code that prevents it")
            }
            Event::ProbeFailed { .. } => {
                let below_retries = plan.health.is_some_and(|(_, retries)| self.failures < retries);
                ensure(runs == below_retries, format_args!("running is {runs} after {} failed checks", self.failures))
            }
            Event::MemoryExceeded { .. } => ensure(!runs, "a daemon above its memory limit goes on"),
            Event::SocketLost { .. } => ensure(!runs, "a daemon that can't serve its socket goes on"),
            _ => Ok(()),
        }
    }

    /// Each phase has exactly the tree, the expected replies and the timers that lead out of it. With
    /// fewer it would hang; with more, a late event would reach a later phase.
    fn matches_phase(&self, machine: &Machine, plan: &Plan) -> Verdict {
        let phase = machine.phase();
        let (tree, reply, armed): (Tree, Option<Reply>, Vec<Timer>) = match phase {
            Phase::Stopped | Phase::Failed => (Tree::None, None, vec![]),
            Phase::Stuck { tree } => (shadow(tree.leader), None, vec![]),
            Phase::Preparing { .. } => (Tree::None, Some(Reply::Prepare), vec![]),
            Phase::Spawning { .. } => (Tree::Asked, None, vec![Timer::Startup]),
            Phase::Booting { .. } => (Tree::Alive, Some(Reply::Ready), vec![Timer::Startup]),
            Phase::Running { .. } if plan.health.is_none() => (Tree::Alive, None, vec![]),
            Phase::Running { .. } if self.expected_replies.contains(&Reply::Probe) => (Tree::Alive, Some(Reply::Probe), vec![]),
            Phase::Running { .. } => (Tree::Alive, None, vec![Timer::Probe]),
            Phase::Stopping { tree, .. } => (shadow(tree.leader), None, stop_timers(*tree)),
            Phase::BackingOff { tree, waited } => {
                let mut timers = tree.map(stop_timers).unwrap_or_default();
                timers.extend((!waited).then_some(Timer::Backoff));
                (tree.map_or(Tree::None, |tree| shadow(tree.leader)), None, timers)
            }
            // The pending restart survives: the end of the tree is always possible, and leads to the next attempt.
            Phase::Overdue { leader, waited, .. } => (shadow(*leader), None, if *waited { vec![] } else { vec![Timer::Backoff] }),
        };
        let resets = matches!(phase, Phase::Running { .. }) && self.reset_pending;
        let armed: BTreeSet<Timer> = armed.into_iter().chain(resets.then_some(Timer::Reset)).collect();
        ensure(self.tree == tree, format_args!("the machine's tree is {tree:?}"))?;
        ensure(self.armed == armed, format_args!("the armed timers must be {armed:?}"))?;
        let expected = self.expected_replies.iter().copied().filter(|reply| !matches!(reply, Reply::Record | Reply::Acknowledge));
        let watched = matches!(phase, Phase::Running { .. }) && plan.memory.is_some();
        let replies: BTreeSet<Reply> = reply.into_iter().chain(watched.then_some(Reply::Memory)).collect();
        ensure(expected.eq(replies.iter().copied()), format_args!("the expected replies must be {replies:?}"))?;
        let unanswered = phase.clone().stopping_tree().is_some_and(|tree| tree.acknowledgement != Acknowledgement::Done);
        ensure(self.expected_replies.contains(&Reply::Acknowledge) == unanswered, format_args!("a command is unanswered: {unanswered}"))?;
        ensure(self.signal_matches_phase(phase), "the tree is being stopped, and got no signal")?;

        let seen = machine.snapshot();
        let leader = (self.tree == Tree::Alive).then(|| pid_of(machine.generation()));
        ensure(seen.pid == leader, format_args!("getPid is {:?}", seen.pid))?;
        ensure(!seen.forgettable || !self.lock, "forgettable, and the lock is held")?;
        ensure(seen.restart_attempts == self.attempts, format_args!("restartAttempts is {}", seen.restart_attempts))?;
        let waits_for_delay = matches!(phase, Phase::BackingOff { .. } | Phase::Stopping { stop_for: StopFor::Replacement { .. }, .. });
        let overdue = matches!(phase, Phase::Overdue { .. });
        ensure(self.restart_pending == (waits_for_delay || overdue), "a pending restart was given up, or there was none")?;
        ensure(waits_for_delay == seen.next_restart_at.is_some(), format_args!("nextRestartAt is {:?}", seen.next_restart_at))
    }

    /// A tree that is being stopped got the stop signal, and SIGKILL after the grace period.
    fn signal_matches_phase(&self, phase: &Phase) -> bool {
        if let Phase::Overdue { .. } = phase {
            return self.signalled == Some(Signal::Kill);
        }
        let (Phase::Stopping { tree, .. } | Phase::BackingOff { tree: Some(tree), .. }) = phase else { return true };
        match self.signalled {
            None => self.tree == Tree::Asked,
            Some(Signal::Terminate) => !tree.killed,
            Some(Signal::Kill) => true,
        }
    }

    fn expect_reply(&mut self, reply: Reply) -> Verdict {
        ensure(self.expected_replies.insert(reply), format_args!("{reply:?} is requested twice"))
    }

    fn cancel_reply(&mut self, reply: Reply) {
        if self.expected_replies.remove(&reply) {
            self.late_replies.insert(reply);
        }
    }
}

/// The time limit of the stop, and the one of the keeper's answer. A late answer has a limit only after SIGKILL was due.
fn stop_timers(tree: TreeState) -> Vec<Timer> {
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
    }
}
