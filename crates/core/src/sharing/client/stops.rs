//! The calls that let go of plugins, or stop them for all.

use super::plugin::Plugin;
use super::{Asked, Client, What};
use crate::error::Failure;
use crate::lifecycle::Ticket;
use crate::supervisor::{Refusal, log_not_stopped};

impl Client {
    /// Lets go of the plugin.
    pub fn stop(&self, name: &str, ticket: Ticket) {
        if let Some(host) = self.inner.change(name, Plugin::stop_left).flatten() {
            let asked = Asked { plugin: name.to_owned(), ticket: Some(ticket), what: What::LetGo };
            return self.inner.answer_at_tree_end(asked, host);
        }
        let lets_go = self.inner.change(name, Plugin::let_go).unwrap_or(false);
        if lets_go {
            self.inner.ask(Asked { plugin: name.to_owned(), ticket: Some(ticket), what: What::LetGo });
        } else {
            self.inner.settle(Some(ticket), name, Ok(()));
        }
    }

    /// Stops the plugin for all sessions.
    pub fn stop_everywhere(&self, name: &str, ticket: Ticket) {
        if self.peek(name, Plugin::is_left).unwrap_or(false) {
            return self.stop(name, ticket);
        }
        self.inner.ask(Asked { plugin: name.to_owned(), ticket: Some(ticket), what: What::Everywhere { after: None } });
    }

    /// The caller aborts a start or a wait.
    pub fn abort(&self, name: &str, ticket: Ticket) {
        // A start that waits for what it depends on was not sent.
        if self.inner.change(name, |plugin| plugin.start.job == ticket && plugin.abort_withheld()).unwrap_or(false) {
            return;
        }
        // So was a wait for it.
        if self.inner.change(name, |plugin| plugin.take_withheld(ticket)).unwrap_or(false) {
            return self.inner.settle(Some(ticket), name, Err(Failure::Stopped));
        }
        self.inner.ask(Asked { plugin: name.to_owned(), ticket: None, what: What::Abort(ticket) });
    }

    /// Lets go of all plugins, dependents first. Returns the failures.
    pub async fn stop_all(&self) -> Vec<Refusal> {
        let held: Vec<(String, Vec<String>)> = self
            .inner
            .lock()
            .values()
            .filter(|plugin| plugin.is_to_be_stopped())
            .map(|plugin| (plugin.name.clone(), plugin.start.config.depends_on.clone()))
            .collect();
        self.stop_in_order(held).await
    }

    /// Lets go of these plugins, each after those that depend on it. Logs and returns the failures.
    pub async fn stop_in_order(&self, mut left: Vec<(String, Vec<String>)>) -> Vec<Refusal> {
        let mut failures = Vec::new();
        while !left.is_empty() {
            let is_needed = |name: &str| left.iter().any(|(_, depends_on)| depends_on.iter().any(|other| other == name));
            let (mut next, rest): (Vec<_>, Vec<_>) = left.iter().cloned().partition(|(name, _)| !is_needed(name));
            left = rest;
            if next.is_empty() {
                // No cycle was started.
                next = std::mem::take(&mut left);
            }
            let answers: Vec<_> = next
                .iter()
                .map(|(name, _)| {
                    let (ticket, answer) = self.inner.context.tickets.for_supervisor();
                    self.stop(name, ticket);
                    answer
                })
                .collect();
            for answer in answers {
                if let Ok(Err(refusal)) = answer.await {
                    log_not_stopped(&self.inner.context, &refusal);
                    failures.push(refusal);
                }
            }
        }
        failures
    }
}
