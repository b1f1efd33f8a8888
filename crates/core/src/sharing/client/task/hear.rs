//! What the host says.

use std::sync::Arc;

use super::{Pending, Task};
use crate::config::Raw;
use crate::error::{Code, Facts, Failure};
use crate::model::Changes;
use crate::sharing::client::What;
use crate::sharing::client::plugin::{OwnStart, Plugin, Resynced, Source};
use crate::sharing::protocol::{LogLevel, Push, RequestId};
use crate::supervisor::{LogValue, Message, TARGET, check};

impl Task {
    pub(super) fn receive(&mut self, push: Push) {
        let host = self.host_pid;
        match push {
            Push::Read { id } => {
                if let Some(call) = self.calls.get_mut(&id) {
                    call.read = true;
                }
            }
            Push::Answer { id, outcome } => {
                let outcome = outcome.map_err(|mut chain| {
                    // Who has the name is the host.
                    if let Some(first) = chain.first_mut().filter(|first| first.code == Code::OwnedElsewhere) {
                        first.pid.get_or_insert(host);
                    }
                    Facts::into_failure(chain).unwrap_or(Failure::Stopped)
                });
                self.answer(id, outcome);
            }
            Push::Attached { plugin, shown, at } => self.told(&plugin, |plugin| plugin.attached(*shown, at, host)),
            Push::Detached { plugin, why } => {
                let is_awaited = self.awaits_parting(&plugin);
                self.told(&plugin, |plugin| plugin.detached(why, is_awaited));
            }
            Push::Shown { plugin, shown } => drop(self.inner.change(&plugin, |plugin| plugin.catch_up_or_show(*shown))),
            Push::Told { plugin, told, at } => self.told(&plugin, |plugin| plugin.tell_event(told, at)),
            Push::Lines { plugin, output, dropped, lines } => {
                let source = Source { host, host_start: self.host.as_ref().map_or(0, |host| host.start), output };
                self.told(&plugin, |plugin| plugin.lines(source, dropped, lines));
                self.lines_read(&plugin);
            }
            Push::Log { plugin, level, text, fields } => self.log(&plugin, level, text, fields),
            Push::Upgraded { plugin, changes, config } => self.upgraded(&plugin, changes, config),
            Push::Resync { lost, plugins, taken } => self.resync(lost, &plugins, taken),
            Push::Leaving { left } => self.leaving = Some(left),
            // Of those who look; and what was put together before.
            Push::Listed(_) | Push::Part { .. } => {}
        }
    }

    /// `taken`: the highest number of a call that the host had taken.
    pub(super) fn resync(&self, lost: u64, plugins: &[String], taken: RequestId) {
        let manager = self.inner.context.id;
        if lost > 0 {
            tracing::warn!(target: TARGET, manager, "{lost} messages of the host of shared daemons were lost: this process did not read them");
        }
        for plugin in self.inner.lock().values_mut() {
            let is_held = plugins.contains(&plugin.name);
            let mut calls = self.calls.range(..=taken).map(|(_, call)| &call.asked);
            let is_started = calls.any(|asked| matches!(asked.what, What::Start { number, .. } if number == plugin.number()));
            self.inner.change_in(plugin, |plugin| plugin.resync(Resynced { is_held, is_started, host: self.host_pid }));
        }
    }

    pub(super) fn upgraded(&self, name: &str, changes: Changes, config: Raw) {
        let Ok(parsed) = check(&config) else { return };
        self.told(name, |plugin| {
            let start = OwnStart::new(config, parsed, Arc::clone(&plugin.start.inherited), plugin.start.owner.clone(), plugin.start.job);
            plugin.upgraded(start);
        });
        self.inner.context.mailbox.post(Message::Upgraded { plugin: name.to_owned(), changes });
    }

    /// An entry of the host goes where an entry of this process would.
    pub(super) fn log(&self, plugin: &str, level: LogLevel, text: String, fields: Vec<(String, LogValue)>) {
        let level = match level {
            LogLevel::Error => tracing::Level::ERROR,
            LogLevel::Warn => tracing::Level::WARN,
            LogLevel::Info => tracing::Level::INFO,
            LogLevel::Debug => tracing::Level::DEBUG,
        };
        let context = &self.inner.context;
        if context.has_logger() {
            let fields = fields.into_iter().map(|(name, value)| (name.into(), value)).collect();
            return context.mailbox.post(Message::Log { level, text, fields });
        }
        let manager = context.id;
        match level {
            tracing::Level::ERROR => tracing::error!(target: TARGET, manager, plugin, "{text}"),
            tracing::Level::WARN => tracing::warn!(target: TARGET, manager, plugin, "{text}"),
            tracing::Level::INFO => tracing::info!(target: TARGET, manager, plugin, "{text}"),
            _ => tracing::debug!(target: TARGET, manager, plugin, "{text}"),
        }
    }

    /// Changes a plugin by what the host tells of it.
    pub(super) fn told<T>(&self, name: &str, change: impl FnOnce(&mut Plugin) -> T) {
        let mut plugins = self.inner.lock();
        if let Some(plugin) = plugins.get_mut(name).filter(|plugin| !plugin.is_abandoned()) {
            self.inner.change_in(plugin, change);
        }
    }

    /// Whether the answer of a call will tell how the session parts from the plugin.
    pub(super) fn awaits_parting(&self, name: &str) -> bool {
        let parts = |call: &Pending| call.asked.plugin == name && matches!(call.asked.what, What::Start { .. } | What::LetGo);
        self.calls.values().any(parts)
    }
}
