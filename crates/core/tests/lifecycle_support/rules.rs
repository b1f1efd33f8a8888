//! The rules of the shadow model: what the machine may ask for in a given world, and what must be
//! true after each event.

use super::events::name;
use super::world::{Owed, Tree, World, pid_of};
use super::{Verdict, ensure};
use ally_core::error::Failure;
use ally_core::lifecycle::{Effect, Event, Generation, Leader, Machine, Notice, Now, Phase, Plan, Signal, StopFor, Timer};
use ally_core::model::{ExitReason, ProcessState};

impl World {
    /// Lets `event` happen and judges what the machine makes of it.
    pub fn step(&mut self, machine: &mut Machine, plan: &Plan, event: &Event, now: Now) -> Verdict {
        self.ledger.hear(event);
        self.happen(event);
        let generation = machine.generation();
        let effects = machine.on(event.clone(), now);
        self.judge_all(&effects, generation, machine.phase(), plan)
            .and_then(|()| self.ledger.close(machine, plan))
            .and_then(|()| self.answers_to(event, &effects, machine.phase(), plan))
            .and_then(|()| self.fits(machine, plan))
            .map_err(|rule| format!("{rule}\nat {}: {effects:?}\nin {:?}\nwith {self:?}", name(event), machine.phase()))
    }

    fn judge_all(&mut self, effects: &[Effect], mut generation: Generation, phase: &Phase, plan: &Plan) -> Verdict {
        for effect in effects {
            if let Effect::Prepare { generation: next } = effect {
                ensure(*next == generation + 1, "each attempt has a generation of its own")?;
                generation = *next;
            }
            self.ledger.judge(effect, plan)?;
            self.judge(effect, generation, phase, plan)?;
        }
        Ok(())
    }

    /// `generation`: the one that `effect` is about. `phase`: where the machine ends up.
    fn judge(&mut self, effect: &Effect, generation: Generation, phase: &Phase, plan: &Plan) -> Verdict {
        let current = |of: Generation| ensure(of == generation, format_args!("generation {of} instead of {generation}"));
        match effect {
            Effect::Prepare { .. } => {
                ensure(self.tree == Tree::None, "Prepare before the former tree is gone")?;
                self.late_answers.clear();
                self.late_timers.clear();
                self.was_ready = false;
                self.owe(Owed::Prepare)
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
                ensure(self.tree == Tree::Alive, "AwaitReady of what was not spawned")?;
                self.owe(Owed::Ready)
            }
            Effect::StartProbe { generation } => {
                current(*generation)?;
                ensure(matches!(phase, Phase::Running { .. }), "StartProbe of what does not run")?;
                ensure(plan.health.is_some(), "StartProbe without health checks")?;
                self.owe(Owed::Probe)
            }
            Effect::CancelPrepare { generation } => {
                current(*generation)?;
                self.call_off(Owed::Prepare);
                Ok(())
            }
            Effect::StopAwaiting { generation } => {
                current(*generation)?;
                self.call_off(Owed::Ready);
                Ok(())
            }
            Effect::StopProbe { generation } => {
                current(*generation)?;
                self.call_off(Owed::Probe);
                Ok(())
            }
            Effect::Arm { timer, generation, .. } => {
                current(*generation)?;
                ensure(self.armed.insert(*timer), format_args!("{timer:?} is armed twice"))
            }
            Effect::Disarm { timer, generation } => {
                current(*generation)?;
                if self.armed.remove(timer) {
                    self.late_timers.insert(*timer);
                }
                Ok(())
            }
            Effect::Signal { generation, signal } => {
                current(*generation)?;
                // SIGKILL may be sent before the spawn. A stop signal would arrive before the leader has become its program.
                let meets = matches!(self.tree, Tree::Alive | Tree::Remains) || (self.tree == Tree::Asked && *signal == Signal::Kill);
                ensure(meets, "Signal without a tree")?;
                if self.signalled != Some(Signal::Kill) {
                    self.signalled = Some(*signal);
                }
                Ok(())
            }
            Effect::Release { generation } => {
                current(*generation)?;
                ensure(self.tree == Tree::None, "Release while there is a tree")?;
                self.lock = false;
                Ok(())
            }
            Effect::Abandon { .. } => {
                // The keeper ends the tree, and nothing of what was outstanding is heard of again.
                let ledger = self.ledger.clone();
                *self = Self { ledger, attempts: self.attempts, ..Self::new() };
                Ok(())
            }
            Effect::Settle { outcome: Ok(()), .. } => {
                // The moment a stop resolves, another owner can start the name.
                ensure(self.tree == Tree::Alive || !self.lock, "a stop resolves before Release")
            }
            Effect::Settle { outcome: Err(Failure::AlreadyRunning(_) | Failure::ShuttingDown), .. } => Ok(()),
            Effect::Settle { outcome: Err(_), .. } => {
                let over = self.tree == Tree::None || matches!(phase, Phase::Stuck { .. });
                ensure(over, "a call fails before the tree is gone")
            }
            Effect::Notify(notice) => self.judge_notice(notice, generation),
        }
    }

    fn judge_notice(&mut self, notice: &Notice, generation: Generation) -> Verdict {
        let alive = self.tree == Tree::Alive;
        match notice {
            Notice::StateChanged { from, to, pid, .. } => {
                if matches!((from, to), (None | Some(ProcessState::Stopped | ProcessState::Error), ProcessState::Starting)) {
                    // Somebody asked, and so the count begins anew.
                    self.attempts = 0;
                }
                ensure(*pid == alive.then(|| pid_of(generation)), "StateChanged with another pid than the leader's")
            }
            Notice::Spawned { pid } => ensure(alive && *pid == pid_of(generation), "Spawned with another pid"),
            Notice::Exited { pid, reason, .. } => {
                let fits = match reason {
                    ExitReason::Stopped => true,
                    ExitReason::Startup => !self.was_ready,
                    ExitReason::Crashed | ExitReason::Exited | ExitReason::Unhealthy => self.was_ready,
                };
                ensure(*pid == pid_of(generation), "Exited with another pid")?;
                let rule = format_args!("reason {reason:?}, ready before: {}", self.was_ready);
                ensure(fits, rule)
            }
            Notice::RestartScheduled { attempt, .. } => {
                self.attempts += 1;
                ensure(*attempt == self.attempts, format_args!("attempt {attempt} follows {}", self.attempts - 1))
            }
            Notice::Checked { failures, healthy, .. } => {
                ensure(*failures == self.failures && *healthy == (*failures == 0), "failed checks are miscounted")
            }
        }
    }

    /// What some events must lead to at once.
    fn answers_to(&self, event: &Event, effects: &[Effect], phase: &Phase, plan: &Plan) -> Verdict {
        let told = effects.iter().filter(|effect| matches!(effect, Effect::Notify(Notice::Exited { .. }))).count();
        ensure(told == usize::from(matches!(event, Event::Exited { .. })), format_args!("{told} exits are told"))?;

        let runs = matches!(phase, Phase::Running { .. });
        match event {
            Event::StopRequested { .. } | Event::ShutdownRequested { .. } => {
                ensure(matches!(phase.state(), ProcessState::Stopping | ProcessState::Stopped), "a stop does not win")
            }
            Event::RecordFailed { .. } => {
                let goes_on = runs || matches!(phase, Phase::Booting { .. });
                ensure(!goes_on, "what could not be written down goes on")
            }
            Event::ProbeFailed { .. } => {
                let bearable = plan.health.is_some_and(|(_, retries)| self.failures < retries);
                ensure(runs == bearable, format_args!("after {} failed checks", self.failures))
            }
            _ => Ok(()),
        }
    }

    /// Each phase has exactly the process, the answers and the timers that get it on: it can't hang,
    /// and nothing is left over that could do harm later.
    fn fits(&self, machine: &Machine, plan: &Plan) -> Verdict {
        let end = |killed: bool| if killed { Timer::Kill } else { Timer::Grace };
        let phase = machine.phase();
        let (tree, owed, armed): (Tree, Option<Owed>, Vec<Timer>) = match phase {
            Phase::Stopped | Phase::Failed => (Tree::None, None, vec![]),
            Phase::Stuck { tree } => (shadow(tree.leader), None, vec![]),
            Phase::Preparing { .. } => (Tree::None, Some(Owed::Prepare), vec![]),
            Phase::Spawning { .. } => (Tree::Asked, None, vec![Timer::Startup]),
            Phase::Booting { .. } => (Tree::Alive, Some(Owed::Ready), vec![Timer::Startup]),
            Phase::Running { .. } if plan.health.is_none() => (Tree::Alive, None, vec![]),
            Phase::Running { .. } if self.owed.contains(&Owed::Probe) => (Tree::Alive, Some(Owed::Probe), vec![]),
            Phase::Running { .. } => (Tree::Alive, None, vec![Timer::Probe]),
            Phase::Stopping { tree, .. } => (shadow(tree.leader), None, vec![end(tree.killed)]),
            Phase::BackingOff { tree, waited } => {
                let mut timers: Vec<Timer> = tree.map(|tree| end(tree.killed)).into_iter().collect();
                timers.extend((!waited).then_some(Timer::Backoff));
                (tree.map_or(Tree::None, |tree| shadow(tree.leader)), None, timers)
            }
        };
        ensure(self.tree == tree, format_args!("the machine thinks of {tree:?}"))?;
        ensure(self.armed == armed.iter().copied().collect(), format_args!("armed should be {armed:?}"))?;
        let owing = self.owed.iter().copied().filter(|owed| *owed != Owed::Record);
        ensure(owing.eq(owed), format_args!("{owed:?} should be owed"))?;
        ensure(self.signalled_enough(phase), "it is being stopped, and has not been told so")?;

        let seen = machine.snapshot();
        let leader = (self.tree == Tree::Alive).then(|| pid_of(machine.generation()));
        ensure(seen.pid == leader, format_args!("getPid says {:?}", seen.pid))?;
        ensure(!seen.forgettable || !self.lock, "at rest, and the lock is held")?;
        ensure(seen.restart_attempts == self.attempts, format_args!("restartAttempts is {}", seen.restart_attempts))?;
        let pending = matches!(phase, Phase::BackingOff { .. } | Phase::Stopping { stop_for: StopFor::UnhealthyRestart { .. }, .. });
        ensure(pending == seen.next_restart_at.is_some(), format_args!("nextRestartAt is {:?}", seen.next_restart_at))
    }

    /// What is to be stopped was told so, and killed when its time was over.
    fn signalled_enough(&self, phase: &Phase) -> bool {
        let (Phase::Stopping { tree, .. } | Phase::BackingOff { tree: Some(tree), .. }) = phase else { return true };
        match self.signalled {
            None => self.tree == Tree::Asked,
            Some(Signal::Terminate) => !tree.killed,
            Some(Signal::Kill) => true,
        }
    }

    fn owe(&mut self, owed: Owed) -> Verdict {
        ensure(self.owed.insert(owed), format_args!("{owed:?} is asked for twice"))
    }

    fn call_off(&mut self, owed: Owed) {
        if self.owed.remove(&owed) {
            self.late_answers.insert(owed);
        }
    }
}

const fn shadow(leader: Leader) -> Tree {
    match leader {
        Leader::Pending => Tree::Asked,
        Leader::Alive(_) => Tree::Alive,
        Leader::Exited => Tree::Remains,
    }
}
