//! The rules of the shadow model for effects: which are allowed in a state of the model, and which an event must have at once.

use super::caller_view::is_refusal;
use super::events::name;
use super::shadow::{Attempt, Fate, Number, Reply, ShadowModel, Tree, pid_of};
use super::upgrade_rules::Course;
use super::{Verdict, ensure};
use ally_core::error::Failure;
use ally_core::lifecycle::{Effect, Event, Generation, Machine, Notice, Now, Phase, Plan, Signal, Stage, Ticket, Timer};
use ally_core::model::{ExitReason, ProcessState};
use std::time::Duration;

/// One event, with what the rules need beside the model.
pub(super) struct Turn<'a> {
    pub event: &'a Event,
    pub machine: &'a Machine,
    pub plan: &'a Plan,
}

impl ShadowModel {
    /// Gives `event` to model and machine, and checks the effects.
    pub fn step(&mut self, machine: &mut Machine, plan: &Plan, event: &Event, now: Now) -> Verdict {
        let startable = self.is_startable();
        let course = self.course(event);
        self.callers.on(event);
        let exits = self.exits(event);
        self.record_event(event, plan);
        let is_refused = matches!(event, Event::StartRefused { .. }) || course == Some(Course::Refused);
        let before = is_refused.then(|| format!("{machine:?}"));
        let effects = machine.on(event.clone(), now);
        if let Event::StartRequested { .. } = event {
            let prepares = effects.iter().any(|effect| matches!(effect, Effect::Prepare { .. }));
            ensure(prepares == startable, format_args!("a start prepares: {prepares}, and must: {startable}"))?;
            self.count_first_start(prepares, machine);
        }
        ensure(before.is_none_or(|before| before == format!("{machine:?}")), "a refused call changes the machine")?;
        let turn = Turn { event, machine, plan };
        self.begin_upgrade(course, &effects, &turn)
            .and_then(|()| {
                self.follow_upgrade(&effects, &turn);
                self.judge_all(&effects, &turn)
            })
            .and_then(|()| {
                self.callers.forget_started(event, machine);
                self.callers.close(machine, plan)
            })
            .and_then(|()| self.immediate_effects(&effects, exits, course, &turn))
            .and_then(|()| {
                self.serving.exit_held = false;
                self.matches_machine(machine, plan)
            })
            .map_err(|rule| format!("{rule}\nat {}: {effects:?}\nin {:?}\nwith {self:?}", name(event), machine.phase()))
    }

    /// A start in place of a pending restart. Any other start is counted at its effect.
    pub(super) fn count_first_start(&mut self, prepares: bool, machine: &Machine) {
        if prepares && !machine.may_withdraw() {
            self.attempts = 0;
        }
    }

    fn attempt(&mut self, of: Generation) -> Result<&mut Attempt, String> {
        let serving = self.serving.generation();
        if of == serving {
            return Ok(&mut self.serving);
        }
        let second = self.second.as_mut().filter(|second| second.generation() == of);
        second.ok_or_else(|| format!("an effect for generation {of}, and {serving} serves"))
    }

    pub(super) fn serves(&mut self, of: Generation) -> Result<&mut Attempt, String> {
        ensure(of == self.serving.generation(), format_args!("an effect for generation {of}, which does not serve"))?;
        Ok(&mut self.serving)
    }

    fn judge_all(&mut self, effects: &[Effect], turn: &Turn<'_>) -> Verdict {
        for effect in effects {
            self.callers.judge(effect, turn.plan)?;
            self.judge(effect, turn)?;
        }
        Ok(())
    }

    fn judge(&mut self, effect: &Effect, turn: &Turn<'_>) -> Verdict {
        let phase = turn.machine.phase();
        // A generation may have ended while clients were brought over to it. It then runs for a moment.
        let running = matches!(phase, Phase::Running { .. }) || self.serving.exit_held;
        match effect {
            Effect::Prepare { generation, succeeds, .. } => self.judge_prepare(*generation, *succeeds, turn.machine),
            Effect::Spawn { generation } => {
                ensure(self.lock, "Spawn without the lock")?;
                let serves = *generation == self.serving.generation();
                let beside = self.second.as_ref().is_none_or(|second| self.is_former || second.signalled == Some(Signal::Kill));
                ensure(!serves || beside, "a second spawn that may serve")?;
                let attempt = self.attempt(*generation)?;
                ensure(attempt.tree == Tree::None, "Spawn beside another tree of this generation")?;
                attempt.tree = Tree::Asked;
                Ok(())
            }
            Effect::AwaitReady { generation } => {
                let attempt = self.attempt(*generation)?;
                ensure(attempt.tree == Tree::Alive, "AwaitReady before Spawned")?;
                attempt.expect_reply(Reply::Ready)
            }
            Effect::StartProbe { generation } => {
                ensure(turn.plan.health.is_some(), "StartProbe without health checks")?;
                let proves = self.successor().is_some_and(|successor| successor.generation() == *generation && successor.was_ready);
                ensure(running || proves, "StartProbe outside of Running")?;
                self.attempt(*generation)?.expect_reply(Reply::Probe)
            }
            Effect::CancelPrepare { generation } => self.cancel(*generation, Reply::Prepare),
            Effect::StopAwaiting { generation } => self.cancel(*generation, Reply::Ready),
            Effect::StopProbe { generation } => self.cancel(*generation, Reply::Probe),
            Effect::WatchMemory { generation } => {
                ensure(running && turn.plan.memory.is_some(), "WatchMemory outside of Running, or without a limit")?;
                self.serves(*generation)?.expect_reply(Reply::Memory)
            }
            Effect::StopWatching { generation } => self.cancel(*generation, Reply::Memory),
            Effect::WatchIdle { generation } => {
                let closed = self.callers.closed;
                ensure(running && turn.plan.stops_idle && !closed, "WatchIdle outside of Running, or after the shutdown")?;
                self.serves(*generation)?.expect_reply(Reply::Idle)
            }
            Effect::StopWatchingIdle { generation } => self.cancel(*generation, Reply::Idle),
            Effect::Listen { generation } => {
                (self.attempts, self.former_attempts) = (0, 0);
                let lock = self.lock;
                let serving = self.serves(*generation)?;
                ensure(serving.tree == Tree::None && lock && turn.plan.on_demand, "Listen with a tree, or without the lock")?;
                serving.expect_reply(Reply::Connection)
            }
            Effect::Freeze { generation } => {
                let serving = self.serves(*generation)?;
                ensure(serving.runs() && !serving.frozen, "Freeze of a daemon that does not run")?;
                serving.frozen = true;
                serving.expect_reply(Reply::Freeze)
            }
            Effect::Thaw { generation } => {
                let serving = self.serves(*generation)?;
                serving.cancel_reply(Reply::Freeze);
                ensure(std::mem::take(&mut serving.frozen), "Thaw of a daemon that is not frozen")
            }
            Effect::ChangeOver { generation } => {
                let successor = self.successor().map(Attempt::generation);
                ensure(successor == Some(*generation), "ChangeOver to another generation than the successor")?;
                let proven = if turn.plan.health.is_some() { "ProbePassed" } else { "Ready" };
                ensure(name(turn.event) == proven, format_args!("ChangeOver at another event than {proven}"))?;
                let attempt = self.attempt(*generation)?;
                ensure(attempt.runs(), "ChangeOver to a generation that does not run")?;
                attempt.expect_reply(Reply::ChangeOver)
            }
            Effect::Drain { generation } => {
                let is_former = self.is_former;
                let attempt = self.attempt(*generation)?;
                ensure(is_former && attempt.runs(), "Drain of another generation than a former one that runs")?;
                attempt.expect_reply(Reply::Drain)
            }
            Effect::StopDraining { generation } => self.cancel(*generation, Reply::Drain),
            Effect::Adopt { generation } => {
                self.serves(*generation)?;
                self.judge_adopt(turn.event)
            }
            Effect::CloseSocket { generation } => {
                self.serves(*generation)?;
                ensure(matches!(turn.machine.phase(), Phase::Stuck { .. }), "CloseSocket outside of Stuck")
            }
            Effect::Discard { generation } => {
                let serving = self.serving.generation();
                ensure(*generation != serving, "Discard of the serving generation")?;
                ended(self.attempt(*generation)?)?;
                self.second = None;
                self.is_former = false;
                Ok(())
            }
            Effect::Arm { timer, generation, .. } => {
                let attempt = self.attempt(*generation)?;
                // A timer that was armed anew can't be distinguished from the cancelled one.
                attempt.late_timers.remove(timer);
                if *timer == Timer::Probe {
                    // Checks that begin anew come after the answer of a cancelled one.
                    attempt.late_replies.remove(&Reply::Probe);
                }
                ensure(attempt.armed.insert(*timer), format_args!("{timer:?} is armed twice"))
            }
            Effect::Disarm { timer, generation } => {
                let attempt = self.attempt(*generation)?;
                // The golden table has the late events of the keeper's answer. Here they would double the number of states.
                if attempt.armed.remove(timer) && *timer != Timer::Acknowledgement {
                    attempt.late_timers.insert(*timer);
                }
                Ok(())
            }
            Effect::Extend { timer, generation, .. } => {
                ensure(matches!(timer, Timer::Startup | Timer::Grace), format_args!("{timer:?} is extended"))?;
                let attempt = self.attempt(*generation)?;
                ensure(attempt.armed.contains(timer), format_args!("{timer:?} is extended, and not armed"))
            }
            Effect::Signal { generation, signal } => self.judge_signal(*generation, *signal, turn.machine),
            Effect::WakeKeeper { generation } => {
                let attempt = self.attempt(*generation)?;
                let waits = attempt.expects(Reply::Acknowledge) || attempt.expects(Reply::Freeze);
                ensure(waits, "WakeKeeper although the keeper has answered")
            }
            Effect::KillKeeper { generation } => {
                let attempt = self.attempt(*generation)?;
                ensure(attempt.expected_replies.remove(&Reply::Acknowledge), "KillKeeper although the keeper has answered")?;
                // The leader dies with its keeper, and the guardian sweeps the rest.
                attempt.signalled = Some(Signal::Kill);
                Ok(())
            }
            Effect::Release { generation } => {
                self.serves(*generation)?.cancel_reply(Reply::Connection);
                ensure(self.no_tree(), "Release while there is a tree")?;
                ensure(self.second.is_none(), "Release while there is a second generation")?;
                self.lock = false;
                Ok(())
            }
            Effect::Withdraw { generation } => {
                self.serves(*generation)?;
                ensure(!self.lock, "a start is withdrawn, and this owner has the name")?;
                self.attempts = std::mem::take(&mut self.former_attempts);
                Ok(())
            }
            Effect::Abandon { generation } => self.judge_abandon(*generation),
            Effect::Settle { ticket, outcome } => self.judge_settle(*ticket, outcome, turn),
            Effect::Notify(notice) => self.judge_notice(notice, turn),
            Effect::Warn { .. } => {
                let is_stuck = turn.machine.second().is_some_and(|second| matches!(second.stage, Stage::Stuck { .. }));
                ensure(is_stuck || matches!(phase, Phase::Overdue { .. }), "a warning outside of Overdue")
            }
        }
    }

    fn cancel(&mut self, generation: Generation, reply: Reply) -> Verdict {
        self.attempt(generation)?.cancel_reply(reply);
        Ok(())
    }

    fn judge_prepare(&mut self, generation: Generation, succeeds: Option<Generation>, machine: &Machine) -> Verdict {
        ensure(generation == self.issued.0 + 1, "each attempt has a generation of its own")?;
        self.issued = Number(generation);
        let mut attempt = Attempt::new(generation);
        attempt.expect_reply(Reply::Prepare)?;
        if let Some(former) = succeeds {
            ensure(former == self.serving.generation(), "the successor of another generation than the serving one")?;
            ensure(self.serving.runs(), "a successor of a daemon that does not run")?;
            ensure(self.second.replace(attempt).is_none(), "a third generation")?;
            self.is_former = false;
            return Ok(());
        }
        ended(&self.serving)?;
        let successor = self.successor().map(Attempt::generation);
        ensure(successor.is_none(), "an attempt beside a successor")?;
        let adopted = self.upgrade.filter(|upgrade| upgrade.in_turn).map(|upgrade| (upgrade.fate == Fate::Open, upgrade.adopted));
        ensure(adopted.is_none_or(|(open, adopted)| open == adopted), "an attempt with the wrong configuration")?;
        self.serving = attempt;
        self.restart_pending = false;
        if machine.may_withdraw() {
            self.former_attempts = std::mem::take(&mut self.attempts);
        }
        Ok(())
    }

    fn judge_signal(&mut self, generation: Generation, signal: Signal, machine: &Machine) -> Verdict {
        let serves = generation == self.serving.generation();
        let answers = if serves {
            machine.phase().clone().stopping_tree().is_some()
        } else {
            machine.second().is_some_and(|second| matches!(second.stage, Stage::Leaving { .. }))
        };
        let attempt = self.attempt(generation)?;
        // SIGKILL may be sent before the spawn. A stop signal would arrive before the leader's execve(2).
        let has_target = matches!(attempt.tree, Tree::Alive | Tree::Remains) || (attempt.tree == Tree::Asked && signal == Signal::Kill);
        ensure(has_target, "Signal without a tree")?;
        ensure(!attempt.expects(Reply::Drain), "a stop signal before the queue of the former generation is empty")?;
        // SIGCONT follows the signal. Neither has a cancellation of its own.
        attempt.frozen = false;
        attempt.cancel_reply(Reply::Freeze);
        attempt.cancel_reply(Reply::ChangeOver);
        if attempt.signalled != Some(Signal::Kill) {
            attempt.signalled = Some(signal);
        }
        if attempt.tree != Tree::Asked && answers {
            attempt.expected_replies.insert(Reply::Acknowledge);
        }
        Ok(())
    }

    /// The keeper ends the tree, and no expected reply comes any more.
    fn judge_abandon(&mut self, generation: Generation) -> Verdict {
        if generation != self.serving.generation() {
            self.attempt(generation)?;
            self.second = None;
            return Ok(());
        }
        ensure(self.second.is_none(), "the second generation is forgotten")?;
        let (callers, upgrade, next) = (self.callers.clone(), self.upgrade, self.issued.0 + 1);
        let serving = Attempt::new(next);
        *self = Self { callers, upgrade, serving, issued: Number(next), attempts: self.attempts, ..Self::new() };
        Ok(())
    }

    fn judge_settle(&mut self, ticket: Ticket, outcome: &Result<(), Failure>, turn: &Turn<'_>) -> Verdict {
        if let Some(upgrade) = self.upgrade.take_if(|upgrade| upgrade.ticket == ticket) {
            return self.judge_upgraded(upgrade, outcome, turn);
        }
        match outcome {
            Ok(()) => {
                let late_revocation = self.callers.settled_late == Some(ticket);
                // When a stop has resolved, another owner can start the name.
                // A successor that ended while clients were brought over to it runs for a moment, which ends the waits.
                let served = self.serving.tree == Tree::Alive || self.serving.exit_held || self.is_armed();
                ensure(served || !self.lock || late_revocation, "a stop resolves before Release")
            }
            Err(failure) if is_refusal(failure) || matches!(failure, Failure::SocketInUse { .. }) => Ok(()),
            Err(Failure::Stopped) if self.callers.aborts_wait(ticket) => Ok(()),
            Err(failure) => {
                let waits_on = *failure == Failure::AtRest && (self.is_armed() || self.serving.expects(Reply::Prepare));
                ensure(!waits_on, "a wait ends although a connection may start the daemon")?;
                ensure(self.no_tree() || matches!(turn.machine.phase(), Phase::Stuck { .. }), "a call fails before the tree is gone")
            }
        }
    }

    fn judge_notice(&mut self, notice: &Notice, turn: &Turn<'_>) -> Verdict {
        match notice {
            Notice::StateChanged { from, to, pid, .. } => {
                if matches!((from, to), (None | Some(ProcessState::Stopped | ProcessState::Error), ProcessState::Starting)) {
                    // A start of a caller, and one by a connection, resets the count.
                    self.attempts = 0;
                }
                self.former_attempts = 0;
                // It may have run for a moment, and ended while clients were brought over to it.
                let held = self.serving.exit_held && *pid == Some(pid_of(self.serving.generation()));
                ensure(held || *pid == self.serving.pid(), "StateChanged with another pid than the leader's")
            }
            Notice::Spawned { pid } => {
                let of = turn.event.generation().map(pid_of);
                ensure(of == Some(*pid) && self.attempts().any(|attempt| attempt.pid() == of), "Spawned with another pid")
            }
            Notice::Exited { pid, reason, .. } => {
                let generation = turn.event.generation().unwrap_or(0);
                let in_turn = self.upgrade.is_some_and(|upgrade| upgrade.in_turn);
                let attempt = self.attempt(generation)?;
                let was_ready = attempt.was_ready;
                let serves = generation == self.serving.generation();
                // It started for a connection, and has taken it: none waits any more.
                let has_served = turn.plan.on_demand && matches!(turn.event, Event::Exited { connected: false, .. });
                let fits = match reason {
                    ExitReason::Crashed | ExitReason::Exited if has_served => serves,
                    ExitReason::Upgraded => was_ready && (!serves || in_turn),
                    ExitReason::Stopped => serves,
                    ExitReason::Startup => serves && !was_ready,
                    ExitReason::Crashed | ExitReason::Exited | ExitReason::Unhealthy | ExitReason::Memory | ExitReason::Idle => {
                        serves && was_ready
                    }
                };
                ensure(*pid == pid_of(generation), "Exited with another pid")?;
                ensure(fits, format_args!("reason {reason:?}, serves: {serves}, ready before: {was_ready}"))
            }
            Notice::RestartScheduled { attempt, .. } => {
                self.attempts += 1;
                self.restart_pending = true;
                ensure(self.successor().is_none(), "a restart is scheduled while a successor starts")?;
                ensure(*attempt == self.attempts, format_args!("attempt {attempt} follows {}", self.attempts - 1))
            }
            Notice::Checked { failures, healthy, .. } => {
                ensure(*failures == self.serving.failures && *healthy == (*failures == 0), "failed checks are miscounted")
            }
            Notice::Armed => ensure(self.is_armed(), "Armed before Listen"),
            Notice::Disarmed => {
                self.serving.cancel_reply(Reply::Connection);
                Ok(())
            }
            Notice::Connected => ensure(matches!(turn.event, Event::Connected { .. }), "Connected without a connection"),
            Notice::ChangedOver { former, pid } => {
                let old = self.second.as_ref().and_then(Attempt::pid);
                ensure(*former == old, format_args!("changed over from {former:?} instead of {old:?}"))?;
                ensure(*pid == pid_of(self.serving.generation()), "changed over to another pid")
            }
            Notice::UpgradeFailed { .. } => {
                ensure(self.upgrade.is_some_and(|upgrade| upgrade.fate != Fate::Open), "an upgrade fails without a reason")
            }
            Notice::NotDrained { .. } => ensure(matches!(turn.event, Event::Drained { left: 1.., .. }), "NotDrained without connections"),
        }
    }

    /// The exits that `event` must report: of the serving generation, and of a former one. The exit of a successor is none.
    fn exits(&self, event: &Event) -> usize {
        let of = |attempt: &Attempt| event.generation() == Some(attempt.generation());
        usize::from(match event {
            Event::Exited { .. } => of(&self.serving) || (self.is_former && self.second.as_ref().is_some_and(of)),
            Event::ChangedOver { .. } => self.second.as_ref().is_some_and(|second| of(second) && second.exit_held),
            _ => false,
        })
    }

    /// The effects that some events must have at once.
    fn immediate_effects(&self, effects: &[Effect], exits: usize, course: Option<Course>, turn: &Turn<'_>) -> Verdict {
        let (event, phase) = (turn.event, turn.machine.phase());
        let count = |counts: fn(&Effect) -> bool| effects.iter().filter(|effect| counts(effect)).count();
        let reported = count(|effect| matches!(effect, Effect::Notify(Notice::Exited { .. })));
        ensure(reported == exits, format_args!("{reported} exits are reported, and {exits} must be"))?;
        let adopts = match event {
            Event::UpgradeRequested { .. } => Some(usize::from(course == Some(Course::AsStart))),
            Event::ChangedOver { .. } => Some(1),
            _ => None,
        };
        let adopted = count(|effect| matches!(effect, Effect::Adopt { .. }));
        ensure(adopts.is_none_or(|adopts| adopts == adopted), format_args!("the configuration is adopted {adopted} times"))?;
        if event.generation().is_some_and(|generation| generation != self.serving.generation()) {
            return self.immediate_effects_of_second(event);
        }

        let runs = matches!(phase, Phase::Running { .. });
        match event {
            Event::StartRevoked { ticket, .. } if self.callers.started != Some(*ticket) => Ok(()),
            Event::StopRequested { .. } | Event::ShutdownRequested { .. } | Event::StartRevoked { .. } | Event::EndedBy { .. } => ensure(
                matches!(phase.state(), ProcessState::Stopping | ProcessState::Stopped) && self.successor().is_none(),
                "the state after a stop request is neither STOPPING nor STOPPED, or the successor starts on",
            ),
            Event::Extended { generation, .. } => {
                let limits = self.limits(*generation);
                let extends = effects.iter().all(|effect| matches!(effect, Effect::Extend { .. }));
                ensure(extends && effects.len() == limits, format_args!("{limits} time limits, and {} effects", effects.len()))
            }
            Event::StartExtended { .. } | Event::StartExpired { .. } => {
                let is_due = |effect: &Effect| {
                    matches!(
                        effect,
                        Effect::Arm { timer: Timer::Startup, after: Duration::ZERO, .. } | Effect::Extend { timer: Timer::Startup, .. }
                    )
                };
                let boots = matches!(phase, Phase::Booting { .. });
                ensure(boots || effects.is_empty(), "a start without a process has a time limit")?;
                ensure(effects.is_empty() || effects.iter().filter(|effect| is_due(effect)).count() == 1, format_args!("{effects:?}"))
            }
            Event::Connected { .. } => {
                let starts = matches!(phase, Phase::Preparing { .. } | Phase::Failed) || self.second.is_some();
                ensure(starts, "a connection starts nothing")
            }
            Event::RecordFailed { .. } => {
                let goes_on = runs || matches!(phase, Phase::Booting { .. });
                ensure(!goes_on, "the attempt goes on without a record")
            }
            // The keeper has sent no SIGKILL before, so the 2 s begin anew.
            Event::KillElapsed { .. } if effects.iter().any(|effect| matches!(effect, Effect::KillKeeper { .. })) => Ok(()),
            Event::KillElapsed { .. } => {
                let waits = self.restart_pending || matches!(phase, Phase::AwaitingSuccessor { .. });
                let expected = if waits { ProcessState::Starting } else { ProcessState::Error };
                ensure(phase.state() == expected, format_args!("the state 2 s after SIGKILL is {:?}", phase.state()))
            }
            Event::Exited { exit, .. } if exit.code.is_some_and(|code| turn.plan.restart.prevented_by.contains(code)) => {
                let restarts = count(|effect| matches!(effect, Effect::Notify(Notice::RestartScheduled { .. })));
                ensure(restarts == 0, "a restart after an exit code that prevents it")
            }
            Event::ProbeFailed { .. } => {
                let failures = self.serving.failures;
                let below_retries = turn.plan.health.is_some_and(|(_, retries)| failures < retries);
                ensure(runs == below_retries, format_args!("running is {runs} after {failures} failed checks"))
            }
            Event::MemoryExceeded { .. } => ensure(!runs, "a daemon above its memory limit goes on"),
            Event::SocketLost { .. } => ensure(!runs, "a daemon that can't serve its socket goes on"),
            _ => Ok(()),
        }
    }

    fn immediate_effects_of_second(&self, event: &Event) -> Verdict {
        match event {
            Event::RecordFailed { .. } | Event::NotReady { .. } | Event::StartupElapsed { .. } | Event::ChangeOverFailed { .. } => {
                ensure(self.successor().is_none(), "a successor that failed goes on")
            }
            _ => Ok(()),
        }
    }
}

/// Nothing of this generation is left, so that it may be dropped.
fn ended(attempt: &Attempt) -> Verdict {
    ensure(attempt.tree == Tree::None, "a generation is dropped with its tree")?;
    ensure(attempt.armed.is_empty(), format_args!("a generation is dropped with {:?}", attempt.armed))?;
    // A connection may never come, and a stop does not wait for the change-over.
    let replies = attempt.expected_replies.iter().find(|reply| !matches!(reply, Reply::Connection | Reply::ChangeOver));
    ensure(replies.is_none(), format_args!("a generation is dropped while it expects {replies:?}"))
}
