//! Calls that the host does not answer.

use std::time::Duration;

use tokio::time::Instant;

use super::{Pending, Task};
use crate::error::Failure;
use crate::sharing::client::plugin::Plugin;
use crate::sharing::client::{Asked, What, link};
use crate::sharing::protocol::RequestId;

/// A host that has not answered a call after this time gets SIGCONT. If it has not read the call after the second one, the call fails.
const WAKE_AFTER: Duration = Duration::from_secs(2);
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

impl Task {
    /// When a call must be looked at: once if it is not answered, and again if it is not even read.
    pub(super) fn next_check(&self) -> Option<Instant> {
        let due = |call: &Pending| match (call.woken, call.read) {
            (false, _) => Some(call.sent? + WAKE_AFTER),
            (true, false) => Some(call.sent? + GIVE_UP_AFTER),
            (true, true) => None,
        };
        self.calls.values().filter_map(due).min()
    }

    pub(super) fn check_late(&mut self) {
        let now = Instant::now();
        let late: Vec<RequestId> = self
            .calls
            .iter_mut()
            .filter(|(_, call)| call.sent.is_some_and(|sent| now >= sent + WAKE_AFTER))
            .filter_map(|(id, call)| (std::mem::replace(&mut call.woken, true) && !call.read).then_some((*id, call.sent?)))
            .filter(|(_, sent)| now >= *sent + GIVE_UP_AFTER)
            .map(|(id, _)| id)
            .collect();
        // Also one that has read the call: it may have been suspended since then. A host that runs does not notice.
        link::wake(self.host_pid);
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
        let id = self.inner.next_request();
        let asked = Asked { plugin, ticket: None, what: What::Abandon };
        // Nobody waits for it, so it does not become late.
        self.calls.insert(id, Pending { asked, sent: None, read: true, woken: false, aborted: false });
        self.send(id);
    }
}
