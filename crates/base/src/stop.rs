//! The order of the stop signals, which the keeper of a tree and the owner that stops an orphan have in common.

use std::time::Duration;

/// The option `stopSignalTo`: the processes that get the stop signal first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignalTo {
    /// The leader alone. A leader that drains its workers loses their work if they get the signal as well, and a wrapper that
    /// passes signals on would give its child two.
    Leader,
    Tree,
}

/// The processes that the stop signal is for, in one step of a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopStep {
    Leader,
    /// The leader has exited: the processes that were in the tree at the first signal. The leader may have forked others to clean
    /// up.
    Remaining,
    /// The leader does not exit, perhaps because it waits for a child (a shell script): all others as well.
    Tree,
}

impl StopStep {
    /// `leader_lives`: a leader that has exited by itself has drained nothing, so the others get the signal at once.
    pub fn first(to: StopSignalTo, leader_lives: bool) -> Self {
        if to == StopSignalTo::Leader && leader_lives { Self::Leader } else { Self::Tree }
    }
}

/// The part of the grace period that the leader has for itself: all but a quarter, and all but a second if a quarter is longer.
pub fn time_of_leader(grace: Duration) -> Duration {
    grace.saturating_sub((grace / 4).min(Duration::from_secs(1)))
}
