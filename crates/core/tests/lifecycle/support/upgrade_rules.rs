//! The rules of the shadow model for upgrades: what a request must lead to, when the configuration changes, and how the ticket is
//! settled.

use super::caller_view::Request;
use super::shadow::{Fate, ShadowModel, Tree, Upgrade};
use super::shadow_rules::Turn;
use super::{Verdict, ensure};
use ally_core::error::Failure;
use ally_core::lifecycle::{Effect, Event, Phase, Signal, Stage, Timer};

/// What an upgrade must lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    Refused,
    /// There is no process: a start with the new configuration.
    AsStart,
    Beside,
    InTurn,
}

impl ShadowModel {
    pub(super) fn course(&self, event: &Event) -> Option<Course> {
        let Event::UpgradeRequested { beside, .. } = event else { return None };
        Some(match *beside {
            _ if self.callers.closed || self.is_upgrading() => Course::Refused,
            _ if self.is_startable() || self.is_armed() => Course::AsStart,
            true if self.serving.runs() => Course::Beside,
            false if self.serving.runs() => Course::InTurn,
            _ => Course::Refused,
        })
    }

    pub(super) fn begin_upgrade(&mut self, course: Option<Course>, effects: &[Effect], turn: &Turn<'_>) -> Verdict {
        let (Some(course), Event::UpgradeRequested { ticket, .. }) = (course, turn.event) else { return Ok(()) };
        let succeeds = effects.iter().find_map(|effect| match effect {
            Effect::Prepare { succeeds, .. } => Some(succeeds.is_some()),
            _ => None,
        });
        let stops = effects.iter().any(|effect| matches!(effect, Effect::Signal { .. }));
        let done = match (succeeds, stops) {
            (None, false) => Course::Refused,
            (Some(false), false) => Course::AsStart,
            (Some(true), false) => Course::Beside,
            (None, true) => Course::InTurn,
            (Some(_), true) => return Err("an upgrade prepares and stops at once".to_owned()),
        };
        ensure(done == course, format_args!("the upgrade is {done:?} instead of {course:?}"))?;
        match course {
            Course::Refused => {}
            Course::AsStart => {
                self.callers.open.insert(*ticket, Request::Start);
                self.count_first_start(true, turn.machine);
            }
            Course::Beside | Course::InTurn => {
                let in_turn = course == Course::InTurn;
                self.upgrade = Some(Upgrade { ticket: *ticket, fate: Fate::Open, in_turn, adopted: false });
            }
        }
        Ok(())
    }

    /// Whether `event` ends the upgrade.
    pub(super) fn follow_upgrade(&mut self, effects: &[Effect], turn: &Turn<'_>) {
        let Some(upgrade) = self.upgrade else { return };
        if let Event::StartAborted { .. } = turn.event
            && !effects.is_empty()
        {
            return self.set_fate(Fate::Stopped);
        }
        let next =
            if upgrade.in_turn { upgrade.adopted.then_some(&self.serving) } else { self.second.as_ref().filter(|_| !self.is_former) };
        let Some(next) = next.filter(|next| turn.event.generation() == Some(next.generation())) else { return };
        let fails = match turn.event {
            Event::Ready { .. } if upgrade.in_turn => return self.set_fate(Fate::ChangedOver),
            Event::PrepareFailed { .. }
            | Event::SpawnFailed { .. }
            | Event::StartupElapsed { .. }
            | Event::NotReady { .. }
            | Event::RecordFailed { .. }
            | Event::ChangeOverFailed { .. } => true,
            // The answer to ChangeOver decides.
            Event::Exited { .. } => !next.exit_held,
            Event::OrderLost { .. } => !effects.iter().any(|effect| matches!(effect, Effect::Spawn { .. })),
            Event::ProbeFailed { .. } => !effects.iter().any(|effect| matches!(effect, Effect::Arm { timer: Timer::Probe, .. })),
            _ => false,
        };
        if fails {
            self.set_fate(Fate::Failed);
        }
    }

    /// The new configuration is adopted at the change-over, and back after an upgrade in turn that comes to nothing.
    pub(super) fn judge_adopt(&mut self, event: &Event) -> Verdict {
        let is_fault = matches!(event, Event::Faulted { .. });
        let empty = is_fault || self.serving.tree == Tree::None || self.serving.signalled == Some(Signal::Kill);
        match (&mut self.upgrade, event) {
            // Its number is judged with the immediate effects.
            (_, Event::UpgradeRequested { .. } | Event::ChangedOver { .. }) => Ok(()),
            (Some(upgrade), _) if upgrade.in_turn => {
                let open = upgrade.fate == Fate::Open && !is_fault;
                ensure(empty, "Adopt while the tree of the other configuration lives")?;
                ensure(open != upgrade.adopted, "Adopt although the configuration is the right one")?;
                upgrade.adopted = !upgrade.adopted;
                if !upgrade.adopted {
                    self.attempts = 0;
                }
                Ok(())
            }
            _ => Err("Adopt outside of an upgrade".to_owned()),
        }
    }

    pub(super) fn judge_upgraded(&self, upgrade: Upgrade, outcome: &Result<(), Failure>, turn: &Turn<'_>) -> Verdict {
        let stuck = matches!(turn.machine.phase(), Phase::Stuck { .. });
        let second_stuck = turn.machine.second().is_some_and(|second| matches!(second.stage, Stage::Stuck { .. }));
        let fits = match outcome {
            Ok(()) => upgrade.fate == Fate::ChangedOver && self.second.is_none(),
            Err(Failure::Upgrade { .. }) => {
                let overdue = matches!(turn.machine.phase(), Phase::Overdue { .. });
                let old_one = !upgrade.in_turn || self.serving.runs() || self.no_tree() || stuck || overdue;
                upgrade.fate == Fate::Failed && (self.second.is_none() || second_stuck || stuck) && old_one
            }
            Err(Failure::Stopped) => {
                let serves_on = self.callers.closed && (self.second.is_none() || second_stuck);
                upgrade.fate == Fate::Stopped && (self.no_tree() || stuck || serves_on)
            }
            Err(Failure::StopFailed { .. }) => stuck || (upgrade.fate == Fate::ChangedOver && second_stuck),
            Err(Failure::Internal { .. }) => matches!(turn.event, Event::Faulted { .. }),
            Err(_) => false,
        };
        ensure(fits, format_args!("{upgrade:?} is settled with {outcome:?}"))
    }
}
