//! The changes of state that listeners are told.

use super::Plugin;
use crate::lifecycle::Notice;
use crate::model::{Pid, ProcessState};
use crate::sharing::client::path::path;
use crate::supervisor::runtime::clock;

impl Plugin {
    pub(super) fn tell(&mut self, state: ProcessState, reason: Option<String>) {
        let at = clock::wall();
        let is_armed = state == ProcessState::Stopped && self.snapshot.armed;
        let reason = reason.or_else(|| is_armed.then(|| "armed".to_owned()));
        let states = path(self.told, state);
        let count = states.len();
        for (index, state) in states.into_iter().enumerate() {
            let is_last = index + 1 == count;
            self.tell_state(state, self.snapshot.pid.filter(|_| is_last), reason.clone().filter(|_| is_last), at);
        }
    }

    pub(super) fn tell_state(&mut self, to: ProcessState, pid: Option<Pid>, reason: Option<String>, at: f64) {
        let from = self.told.replace(to);
        self.reporter.notice(Notice::StateChanged { at, from, to, pid, reason }, at);
    }

    /// As `tell_state`, of a change that the host has logged.
    pub(super) fn post_state(&mut self, to: ProcessState, pid: Option<Pid>, reason: Option<String>, at: f64) {
        let from = self.told.replace(to);
        self.reporter.event(Notice::StateChanged { at, from, to, pid, reason }, at);
    }
}
