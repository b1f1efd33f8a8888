//! The connection to the host, or what follows without one.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Task;
use crate::error::Failure;
use crate::sharing::client::link::{self, Existing, Link};
use crate::sharing::client::{Command, What};

impl Task {
    /// A link to the host, or none: then every call was answered, or the manager has ended.
    pub(super) async fn connect(&mut self, commands: &mut mpsc::UnboundedReceiver<Command>) -> Option<Link> {
        let target = self.inner.target.clone();
        let needs_host = self.calls.values().any(|call| call.asked.what.needs_host());
        let linking = async move {
            if needs_host { link::connect(&target).await.map(Existing::Linked) } else { link::connect_to_existing(&target).await }
        };
        tokio::pin!(linking);
        let linked = loop {
            tokio::select! {
                biased;
                linked = &mut linking => break linked,
                command = commands.recv() => match command {
                    Some(Command::Ask(asked)) => self.note(asked),
                    Some(Command::Listen) => {}
                    None => return None,
                },
            }
        };
        let failure = match linked {
            Ok(Existing::Linked(link)) => {
                self.shift_starts(link.waited);
                return Some(link);
            }
            // Nothing is shared, so there is nothing to stop.
            Ok(Existing::Nobody) => None,
            Ok(Existing::Left(host)) => {
                self.dead = Some(host);
                None
            }
            Ok(Existing::Died(host)) => {
                self.dead = Some(host);
                for call in self.calls.values_mut() {
                    if matches!(call.asked.what, What::Everywhere { .. }) {
                        call.asked.what = What::Everywhere { after: Some(host) };
                    }
                }
                None
            }
            Err(failure) => Some(failure),
        };
        self.answer_without_host(failure.as_ref());
        None
    }

    /// The time in which a former host ended its daemons is none of a start.
    pub(super) fn shift_starts(&mut self, by: Duration) {
        for call in self.calls.values_mut() {
            if let What::Start { begun, .. } = &mut call.asked.what {
                *begun = (*begun + by).min(Instant::now());
            }
        }
    }

    pub(super) fn answer_without_host(&mut self, failure: Option<&Failure>) {
        for (id, call) in std::mem::take(&mut self.calls) {
            let outcome = match (failure, &call.asked.what, self.dead) {
                (Some(failure), ..) => Err(failure.clone()),
                // It needs a host of its own.
                (None, what, _) if what.needs_host() => {
                    self.calls.insert(id, call);
                    continue;
                }
                (None, What::LetGo | What::Everywhere { .. }, Some(dead)) => {
                    self.inner.answer_at_tree_end(call.asked, dead);
                    continue;
                }
                (None, What::Restart | What::Upgrade { .. }, _) => Err(Failure::NotFound),
                (None, ..) => Ok(()),
            };
            self.inner.answered(call.asked, outcome);
        }
    }

    /// Another connection to a host that lives, and does not understand this process, or the other way round: once.
    pub(super) async fn resume(&mut self) -> Option<Link> {
        let lives = self.host.as_ref().is_some_and(|host| host.lives().unwrap_or(false));
        let token = self.token.take().filter(|_| lives && self.leaving.is_none())?;
        let link = link::resume(&self.inner.target, token).await?;
        for call in self.calls.values_mut().filter(|call| !matches!(call.asked.what, What::Abandon)) {
            (call.read, call.wakes) = (false, 0);
        }
        Some(link)
    }
}
