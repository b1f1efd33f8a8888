//! The stop of a tree: on command of the owner, after the owner's death, or on SIGTERM to the keeper.

use std::time::{Duration, Instant};

use ally_base::stop::{StopStep, time_of_leader};
use ally_base::wire::{KeeperReport, OwnerDeath};

use super::Keeper;
use crate::sys;
use crate::tree::{SCAN_INTERVAL, SCAN_INTERVAL_MAX};

/// The progress of the stop of the tree.
#[derive(Clone, Copy, PartialEq)]
pub enum StopProgress {
    NotBegun,
    /// The stop signal was sent at `began`, unless the grace period is 0. While the owner lives, the owner counts the grace period
    /// and sends [`KeeperCommand::Kill`](ally_base::wire::KeeperCommand::Kill). After its death, and if another process has asked
    /// for the end, the keeper counts.
    Terminating {
        began: Instant,
        step: StopStep,
    },
    /// SIGKILL was sent. The duration is the pause before the next scan.
    Killing(Duration),
}

impl Keeper {
    /// The owner is dead, or its stream is not usable.
    pub(super) fn on_owner_gone(&mut self) {
        self.owner = None;
        // Before the owner's death, SIGTERM of another user is no request.
        sys::clear_stop_request();
        self.lock.take_over(self.grace, self.owner_death);
        match self.owner_death {
            OwnerDeath::Stop => self.begin_stop(),
            // Nobody is left to do it.
            OwnerDeath::Keep => self.thaw(),
        }
    }

    /// While the owner lives, SIGTERM of its own user ends the tree too, and the owner is told. After the owner's death it is a request
    /// whoever has sent it.
    pub(super) fn on_stop_request(&mut self) {
        if self.owner.is_none() {
            if sys::stop_requested() {
                self.begin_stop();
            }
        } else if !self.is_ended
            && let Some(pid) = sys::stop_requested_by()
        {
            self.is_ended = true;
            self.report(KeeperReport::EndedBy { pid });
            self.begin_stop();
        }
    }

    /// Command of the owner.
    pub(super) fn freeze(&mut self) {
        let complete = self.stop == StopProgress::NotBegun && self.tree.freeze();
        self.report(KeeperReport::Frozen { complete });
    }

    /// A stop that has begun has continued the tree.
    pub(super) fn thaw(&mut self) {
        if self.stop == StopProgress::NotBegun {
            self.tree.thaw();
        }
    }

    /// The last act of the keeper. A suspended guardian would stay for ever after the owner's death.
    pub(super) fn wake_guardian(&self) {
        // While the guardian is the parent, the pid is its own.
        if nix::unistd::getppid().as_raw() == self.guardian {
            sys::ignore(sys::kill_relative(self.guardian, libc::SIGCONT));
        }
    }

    /// Sends the first signal, once. The owner's command may come before or after its death is seen.
    pub(super) fn begin_stop(&mut self) {
        if self.stop == StopProgress::NotBegun {
            self.ask_probe_to_end();
            self.take_step(Instant::now(), StopStep::first(self.stop_signal_to, self.tree.leader.is_some()));
        }
    }

    /// The leader was reaped, and other processes of the tree live.
    pub(super) fn on_leader_exited(&mut self) {
        if let StopProgress::Terminating { began, step: StopStep::Leader } = self.stop {
            self.take_step(began, StopStep::Remaining);
        }
    }

    fn take_step(&mut self, began: Instant, step: StopStep) {
        self.stop = StopProgress::Terminating { began, step };
        // Without a grace period SIGKILL follows at once.
        if !self.grace.is_zero() {
            self.tree.send_stop_signal(step);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        match self.stop {
            StopProgress::NotBegun => self.scan_pause(SCAN_INTERVAL_MAX),
            StopProgress::Terminating { began, step } => {
                let next = [self.end_of_grace(began), self.end_of_leader_step(began, step), self.tree.next_rescan()];
                let next = next.into_iter().flatten().min();
                let left = next.map(|next| next.saturating_duration_since(Instant::now()));
                left.into_iter().chain(self.scan_pause(SCAN_INTERVAL)).min()
            }
            StopProgress::Killing(pause) => Some(pause),
        }
    }

    /// Command of the owner, which counts the grace period: it now ends `by_ms` from now, if that is later. `began` moves with it,
    /// so that the leader keeps its share.
    pub(super) fn extend_grace(&mut self, by_ms: u32) {
        let end = Instant::now() + Duration::from_millis(by_ms.into());
        if let StopProgress::Terminating { began, .. } = &mut self.stop
            && let Some(moved) = end.checked_sub(self.grace)
        {
            *began = moved.max(*began);
        }
    }

    /// `None` while the owner counts the grace period.
    fn end_of_grace(&self, began: Instant) -> Option<Instant> {
        (self.owner.is_none() || self.is_ended).then(|| began + self.grace)
    }

    fn end_of_leader_step(&self, began: Instant, step: StopStep) -> Option<Instant> {
        (step == StopStep::Leader).then(|| began + time_of_leader(self.grace))
    }

    /// `pause`, if the leader is gone and only a scan shows the end of the tree.
    fn scan_pause(&self, pause: Duration) -> Option<Duration> {
        (self.tree.leader.is_none() && self.tree.end_needs_scan()).then_some(pause)
    }

    pub(super) fn on_deadline(&mut self) {
        let now = Instant::now();
        let is_over = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        match self.stop {
            StopProgress::NotBegun => {}
            StopProgress::Terminating { began, .. } if is_over(self.end_of_grace(began)) => self.kill(),
            StopProgress::Terminating { began, step } if is_over(self.end_of_leader_step(began, step)) => {
                self.take_step(began, StopStep::Tree);
            }
            StopProgress::Terminating { step, .. } if is_over(self.tree.next_rescan()) => self.tree.send_stop_signal(step),
            StopProgress::Terminating { .. } => {}
            StopProgress::Killing(_) => self.kill(),
        }
    }

    pub(super) fn kill(&mut self) {
        self.ask_probe_to_end();
        self.stop = StopProgress::Killing(match self.stop {
            StopProgress::Killing(pause) => (pause * 2).min(SCAN_INTERVAL_MAX),
            StopProgress::NotBegun | StopProgress::Terminating { .. } => SCAN_INTERVAL,
        });
        self.tree.kill();
    }
}
