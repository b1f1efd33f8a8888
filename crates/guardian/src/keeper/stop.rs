//! The stop of a tree: on command of the owner, after the owner's death, or on SIGTERM to a keeper without an owner.

use std::time::{Duration, Instant};

use ally_base::wire::OwnerDeath;

use super::Keeper;
use crate::sys;
use crate::tree::{SCAN_INTERVAL, SCAN_INTERVAL_MAX};

/// The progress of the stop of the tree.
#[derive(Clone, Copy, PartialEq)]
pub enum StopProgress {
    NotBegun,
    /// The stop signal was sent, unless the grace period is 0. If the owner is dead, the keeper counts the grace period: the
    /// instant is its end. While the owner lives, the owner counts and sends
    /// [`KeeperCommand::Kill`](ally_base::wire::KeeperCommand::Kill).
    Terminating(Option<Instant>),
    /// SIGKILL was sent. The duration is the pause before the next scan.
    Killing(Duration),
}

impl Keeper {
    /// The owner is dead, or its stream is not usable.
    pub(super) fn on_owner_gone(&mut self) {
        self.owner = None;
        // Before the owner's death a SIGTERM is no request: only the owner may stop the tree.
        sys::clear_stop_request();
        self.lock.take_over(self.grace, self.owner_death);
        match (self.owner_death, self.stop) {
            (OwnerDeath::Keep, StopProgress::NotBegun) => {}
            (OwnerDeath::Stop, StopProgress::NotBegun) => self.begin_stop(),
            (_, StopProgress::Terminating(_)) => self.stop = StopProgress::Terminating(Some(Instant::now() + self.grace)),
            (_, StopProgress::Killing(_)) => {}
        }
    }

    /// For a keeper without an owner.
    pub(super) fn begin_stop(&mut self) {
        self.stop = StopProgress::Terminating(Some(Instant::now() + self.grace));
        if !self.grace.is_zero() {
            self.tree.send_stop_signal();
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        match self.stop {
            StopProgress::NotBegun => self.scan_pause(SCAN_INTERVAL_MAX),
            StopProgress::Terminating(until) => {
                let next = until.into_iter().chain(self.tree.next_rescan()).min();
                let left = next.map(|next| next.saturating_duration_since(Instant::now()));
                left.into_iter().chain(self.scan_pause(SCAN_INTERVAL)).min()
            }
            StopProgress::Killing(pause) => Some(pause),
        }
    }

    /// `pause`, if the leader is gone and only a scan shows the end of the tree.
    fn scan_pause(&self, pause: Duration) -> Option<Duration> {
        (self.tree.leader.is_none() && self.tree.end_needs_scan()).then_some(pause)
    }

    pub(super) fn on_deadline(&mut self) {
        match self.stop {
            StopProgress::Terminating(Some(until)) if Instant::now() >= until => self.kill(),
            StopProgress::Killing(_) => self.kill(),
            StopProgress::Terminating(_) if self.tree.next_rescan().is_some_and(|at| Instant::now() >= at) => self.tree.send_stop_signal(),
            StopProgress::NotBegun | StopProgress::Terminating(_) => {}
        }
    }

    pub(super) fn kill(&mut self) {
        self.stop = StopProgress::Killing(match self.stop {
            StopProgress::Killing(pause) => (pause * 2).min(SCAN_INTERVAL_MAX),
            StopProgress::NotBegun | StopProgress::Terminating(_) => SCAN_INTERVAL,
        });
        self.tree.kill();
    }
}
