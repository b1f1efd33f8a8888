//! How the session lets go of a plugin.

use super::{Plugin, View};
use crate::error::Failure;
use crate::lifecycle::Snapshot;
use crate::model::ProcessState;
use crate::supervisor::runtime::clock;

impl Plugin {
    /// stopProcess. False if the session does not have the plugin.
    pub fn let_go(&mut self) -> bool {
        match self.view {
            View::Away => {
                if self.snapshot.state == ProcessState::Error {
                    self.leave(ProcessState::Stopped, None);
                }
                return false;
            }
            View::Leaving(_) => return true,
            View::Joining | View::Here => {}
        }
        let at_rest = matches!(self.snapshot.state, ProcessState::Stopped | ProcessState::Error);
        self.view = View::Leaving(ProcessState::Stopped);
        if !at_rest {
            self.begin_leaving();
        }
        true
    }

    pub(super) fn begin_leaving(&mut self) {
        self.former = None;
        self.snapshot.state = ProcessState::Stopping;
        self.snapshot.last_state_change = clock::wall();
        self.changed();
        if !matches!(self.told, Some(ProcessState::Starting | ProcessState::Running | ProcessState::Stopping)) {
            self.tell(ProcessState::Starting, None);
        }
        self.tell(ProcessState::Stopping, None);
    }

    /// Whether no process of it is left, as far as this session knows.
    pub const fn may_be_forgotten(&self) -> bool {
        match self.view {
            View::Away => self.left_by.is_none(),
            View::Joining | View::Leaving(_) => false,
            View::Here => self.snapshot.forgettable,
        }
    }

    /// The host has answered the let-go.
    pub fn let_go_answered(&mut self, outcome: &Result<(), Failure>) {
        match (outcome, self.view) {
            (Ok(()), View::Leaving(state)) => {
                // If a host was killed with it: the tree is gone.
                self.died_with = None;
                self.leave(state, None);
            }
            // It has the plugin again: processes are left.
            (Err(failure), View::Leaving(_)) => {
                self.view = View::Here;
                self.snapshot.state = ProcessState::Error;
                self.snapshot.last_error = Some(failure.to_string());
                self.snapshot.last_state_change = clock::wall();
                self.changed();
                self.tell(ProcessState::Error, Some(failure.to_string()));
            }
            _ => {}
        }
    }

    /// Nothing changes any more.
    pub(super) fn leave(&mut self, state: ProcessState, failure: Option<&Failure>) {
        self.view = View::Away;
        self.former = None;
        self.left_by = None;
        let is_new = self.snapshot.state != state;
        let last_error = failure.map(ToString::to_string).or_else(|| self.snapshot.last_error.take());
        let changed_at = if is_new { clock::wall() } else { self.snapshot.last_state_change };
        self.snapshot = Snapshot { last_state_change: changed_at, last_error, ..Self::frozen(&self.snapshot, state) };
        self.status = None;
        self.sessions = None;
        // As the host tells it: a stop for all has no reason.
        let is_own = !std::mem::take(&mut self.ends_for_all);
        self.metrics.resources = None;
        self.changed();
        let reason = failure.map(ToString::to_string).or_else(|| (is_own && state == ProcessState::Stopped).then(|| "stopped".to_owned()));
        self.tell(state, reason);
    }
}
