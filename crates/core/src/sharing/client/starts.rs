//! The calls that start plugins, or act on them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::plugin::{OwnStart, Plugin};
use super::{Asked, Client, What};
use crate::config::{Parsed, Raw};
use crate::error::Failure;
use crate::lifecycle::Ticket;
use crate::model::Changes;
use crate::supervisor::{OwnerLimits, runtime};

impl Client {
    /// Starts the plugin, or attaches to it. Returns whether the plugin has this configuration from now on.
    pub fn start(&self, raw: &Raw, parsed: Parsed, inherited: Arc<str>, owner: OwnerLimits, ticket: Ticket) -> bool {
        let name = parsed.config.plugin_name.clone();
        let start = OwnStart::new(raw.clone(), parsed, inherited, owner, ticket);
        let depends_on = start.config.depends_on.clone();
        let number = match self.join(start) {
            Ok(number) => number,
            Err(failure) => {
                self.inner.settle(Some(ticket), &name, Err(failure));
                return false;
            }
        };
        let what = What::Start { number, begun: Instant::now(), after: None };
        let asked = Asked { plugin: name.clone(), ticket: Some(ticket), what };
        if depends_on.is_empty() {
            self.inner.ask(asked);
            return true;
        }
        let inner = Arc::clone(&self.inner);
        drop(runtime::spawn(async move {
            let outcome = tokio::select! {
                biased;
                () = inner.until_parted(&name, ticket) => Err(Failure::Stopped),
                outcome = inner.until_all_usable(&depends_on) => outcome,
            };
            match outcome {
                Ok(()) => inner.send_withheld(asked),
                Err(failure) => inner.answered(asked, Err(failure)),
            }
        }));
        true
    }

    /// The number of the start.
    pub(super) fn join(&self, start: OwnStart) -> Result<u64, Failure> {
        let name = start.config.plugin_name.clone();
        self.inner.is_used.store(true, Ordering::Release);
        let mut plugins = self.inner.lock();
        let plugin = plugins.entry(name.clone()).or_insert_with(|| Plugin::new(start.clone(), self.inner.context.reporter(&name)));
        if let Some(failure) = plugin.refusal() {
            return Err(failure);
        }
        let number = self.inner.next_request();
        self.inner.change_in(plugin, |plugin| plugin.join(start, number));
        Ok(number)
    }

    /// Upgrades the plugin. `changes`: the changed fields, as the caller gave them.
    pub fn upgrade(&self, raw: &Raw, parsed: Parsed, inherited: Arc<str>, owner: OwnerLimits, changes: Changes, ticket: Ticket) {
        let name = parsed.config.plugin_name.clone();
        let start = Box::new(OwnStart::new(raw.clone(), parsed, inherited, owner, ticket));
        self.ask_if_held(&name, ticket, What::Upgrade { start, changes });
    }

    /// Restarts a plugin that this session need not have.
    pub fn restart_anyhow(&self, name: &str, ticket: Ticket) {
        self.inner.ask(Asked { plugin: name.to_owned(), ticket: Some(ticket), what: What::Restart });
    }

    pub fn restart(&self, name: &str, ticket: Ticket) {
        self.ask_if_held(name, ticket, What::Restart);
    }

    pub fn when_running(&self, name: &str, ticket: Ticket) {
        if !self.inner.change(name, |plugin| plugin.wait_withheld(ticket)).unwrap_or(false) {
            return self.inner.wait(name, ticket);
        }
        // The host does not know of the start yet.
        let (inner, name) = (Arc::clone(&self.inner), name.to_owned());
        drop(runtime::spawn(async move {
            inner.until(|| (!inner.lock().get(&name).is_some_and(Plugin::withholds)).then_some(())).await;
            if inner.change(&name, |plugin| plugin.take_withheld(ticket)).unwrap_or(true) {
                inner.wait(&name, ticket);
            }
        }));
    }

    pub(super) fn ask_if_held(&self, name: &str, ticket: Ticket, what: What) {
        if self.holds(name) {
            self.inner.ask(Asked { plugin: name.to_owned(), ticket: Some(ticket), what });
        } else if let (true, What::Restart | What::Upgrade { .. }) = (self.knows(name), &what) {
            self.start_again(name, ticket, what);
        } else {
            self.inner.settle(Some(ticket), name, Err(Failure::NotFound));
        }
    }

    /// A restart or an upgrade of a plugin that does not run is a start, as that of an exclusive one.
    pub(super) fn start_again(&self, name: &str, ticket: Ticket, what: What) {
        let start = match what {
            What::Upgrade { start, .. } => Some(*start),
            _ => self.peek(name, |plugin| OwnStart::clone(&plugin.start)),
        };
        let Some(start) = start else { return self.inner.settle(Some(ticket), name, Err(Failure::NotFound)) };
        match self.join(start) {
            Ok(number) => {
                self.inner.change(name, |plugin| plugin.withhold(false));
                let what = What::Start { number, begun: Instant::now(), after: None };
                self.inner.ask(Asked { plugin: name.to_owned(), ticket: Some(ticket), what });
            }
            Err(failure) => self.inner.settle(Some(ticket), name, Err(failure)),
        }
    }
}
