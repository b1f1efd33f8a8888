//! Calls that the host does not answer.

use std::time::Duration;

use tokio::time::Instant;

use super::{Pending, Task};
use crate::error::Failure;
use crate::sharing::client::plugin::Plugin;
use crate::sharing::client::{Asked, What, link};
use crate::sharing::protocol::RequestId;

/// A host that has not answered a call after this time gets SIGCONT, and again whenever the time since the call has doubled: it may be
/// suspended more than once. Nothing bounds whenRunning, so the pauses grow.
const WAKE_AFTER: Duration = Duration::from_secs(2);
/// If it has not even read the call after this time, the call fails.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
/// After about twelve days.
const WAKES_MAX: u32 = 19;

impl Pending {
    fn next_wake(&self) -> Option<Instant> {
        Some(self.sent? + WAKE_AFTER.saturating_mul(1 << self.wakes.min(WAKES_MAX)))
    }

    fn given_up_at(&self) -> Option<Instant> {
        // A host that was not continued yet may not be at fault.
        self.sent.filter(|_| self.wakes > 0 && !self.read).map(|sent| sent + GIVE_UP_AFTER)
    }

    /// Notes that the host is continued. False if that is not due.
    fn wake(&mut self, now: Instant) -> bool {
        let before = self.wakes;
        // This process may have been suspended itself.
        while self.wakes < WAKES_MAX && self.next_wake().is_some_and(|due| due <= now) {
            self.wakes += 1;
        }
        self.wakes > before
    }
}

impl Task {
    /// When a call must be looked at.
    pub(super) fn next_check(&self) -> Option<Instant> {
        let due = |call: &Pending| {
            let wake = call.next_wake().filter(|_| call.wakes < WAKES_MAX);
            wake.into_iter().chain(call.given_up_at()).min()
        };
        self.calls.values().filter_map(due).min()
    }

    pub(super) fn check_late(&mut self) {
        let now = Instant::now();
        let is_late = |call: &Pending| call.given_up_at().is_some_and(|at| at <= now);
        let late: Vec<RequestId> = self.calls.iter().filter(|(_, call)| is_late(call)).map(|(id, _)| *id).collect();
        // Also one that has read the call: it may have been suspended since then. A host that runs does not notice.
        let mut wakes = false;
        for call in self.calls.values_mut() {
            wakes |= call.wake(now);
        }
        if wakes {
            link::wake(self.host_pid);
        }
        for id in late {
            let problem = format!("the host of shared daemons (process {}) does not act", self.host_pid);
            self.give_up(id, Failure::HostSilent { problem });
        }
    }

    pub(super) fn give_up(&mut self, id: RequestId, failure: Failure) {
        let start = self.calls.get(&id).filter(|call| matches!(call.asked.what, What::Start { .. }));
        let abandoned = start.map(|call| call.asked.plugin.clone());
        self.answer(id, Err(failure));
        // A stop that follows the start takes it back as well.
        let is_stopped = |name: &str| {
            self.calls
                .range(id..)
                .any(|(_, call)| call.asked.plugin == name && matches!(call.asked.what, What::LetGo | What::Everywhere { .. }))
        };
        if let Some(plugin) = abandoned.filter(|name| !is_stopped(name)) {
            self.abandon(plugin);
        }
    }

    /// The host may read the start that was given up, so this follows it. What the host tells in between is of nobody.
    pub(super) fn abandon(&mut self, plugin: String) {
        self.inner.change(&plugin, Plugin::abandon);
        let id = self.insert(Asked { plugin, ticket: None, what: What::Abandon });
        self.send(id);
    }
}
