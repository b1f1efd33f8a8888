//! The calls as the host gets them.

use std::io;
use std::sync::Arc;

use tokio::time::Instant;

use super::Task;
use crate::error::Failure;
use crate::model::Pid;
use crate::sharing::client::plugin::{OwnStart, Plugin};
use crate::sharing::client::{Asked, What};
use crate::sharing::protocol::{self, Call, Interest, RequestId, TO_HOST_MAX, encode};
use crate::supervisor::TARGET;

impl Task {
    pub(super) fn ask(&mut self, asked: Asked) {
        if let What::Abort(ticket) = asked.what {
            let call = self.calls.iter_mut().find(|(_, call)| call.asked.ticket == Some(ticket));
            if let Some((request, call)) = call {
                call.aborted = true;
                let (request, plugin) = (*request, call.asked.plugin.clone());
                if matches!(call.asked.what, What::Start { .. }) {
                    self.inner.change(&plugin, Plugin::abort_start);
                }
                self.write(Call::Abort { plugin, request });
            }
            return;
        }
        let id = self.insert(asked);
        self.send(id);
    }

    /// A call without an answer of its own.
    pub(super) fn write(&mut self, call: Call) {
        let id = self.inner.next_request();
        self.out.extend(self.frame(id, call).unwrap_or_default());
    }

    /// `None`: it is too long.
    fn frame(&self, id: RequestId, call: Call) -> Option<Vec<u8>> {
        let oldest = self.calls.keys().next().map_or(id, |oldest| id.min(*oldest));
        encode(&protocol::Request { id, oldest, call }, TO_HOST_MAX)
    }

    pub(super) fn listen(&mut self) {
        let health = self.inner.context.listeners.health();
        let debug = tracing::enabled!(target: TARGET, tracing::Level::DEBUG);
        let lines = self.inner.context.takes_lines();
        let is_followed = |plugin: &&Plugin| plugin.tail.is_followed();
        let mut followed: Vec<String> = self.inner.lock().values().filter(is_followed).map(|plugin| plugin.name.clone()).collect();
        followed.sort_unstable();
        let interest = Interest { health, debug, lines, followed };
        if self.interest.as_ref() != Some(&interest) {
            self.interest = Some(interest.clone());
            self.write(Call::Listen(interest));
        }
    }

    /// Lines came. If nobody follows them any more, the host learns it.
    pub(super) fn lines_read(&mut self, name: &str) {
        let is_told = self.interest.as_ref().is_some_and(|interest| interest.followed.iter().any(|followed| followed == name));
        if is_told && !self.inner.lock().get(name).is_some_and(|plugin| plugin.tail.is_followed()) {
            self.listen();
        }
    }

    pub(super) fn send(&mut self, id: RequestId) {
        let Some(call) = self.calls.get(&id) else { return };
        let plugin = call.asked.plugin.clone();
        let wire = match &call.asked.what {
            What::Start { begun, after, .. } => {
                let start = self.inner.lock().get(&plugin).map(|plugin| Arc::clone(&plugin.start));
                start.map(|start| Call::Start(Box::new(wire_start(&start, *begun, *after))))
            }
            What::Upgrade { start, changes } => {
                let start = Box::new(wire_start(start, Instant::now(), None));
                Some(Call::Upgrade { start, changes: changes.clone() })
            }
            What::LetGo => Some(Call::LetGo { plugin }),
            What::Abandon => Some(Call::Abandon { plugin }),
            What::Everywhere { after } => Some(Call::StopEverywhere { plugin, after: *after }),
            What::Restart => Some(Call::Restart { plugin }),
            What::Wait => Some(Call::Wait { plugin }),
            What::Metrics => Some(Call::Metrics),
            What::Abort(_) => None,
        };
        // Forgotten meanwhile.
        let Some(wire) = wire else { return self.answer(id, Err(Failure::Stopped)) };
        let is_answered = !matches!(wire, Call::Metrics);
        let Some(frame) = self.frame(id, wire) else { return self.answer(id, Err(too_long())) };
        self.out.extend(frame);
        if !is_answered {
            self.calls.remove(&id);
        } else if let Some(call) = self.calls.get_mut(&id) {
            call.sent = Some(Instant::now());
        }
    }
}

fn wire_start(start: &OwnStart, begun: Instant, after: Option<Pid>) -> protocol::Start {
    protocol::Start {
        plugin: start.config.plugin_name.clone(),
        config: start.raw.clone(),
        inherited: start.inherited.as_ref().to_owned(),
        owner: start.owner.clone(),
        timeout: start.config.startup_timeout.saturating_sub(begun.elapsed()),
        after,
    }
}

/// execve(2) would not take it either.
fn too_long() -> Failure {
    let error = io::Error::from_raw_os_error(libc::E2BIG);
    let problem = format!("configuration and environment are too large: {}", ally_base::text::io_text(&error));
    Failure::Spawn { problem, refused: crate::error::Refused::by(&error, Some("execve"), None) }
}
