//! The messages of the manager: to the holds, and to sessions.

use std::sync::Arc;

use super::{Class, Host, State};
use crate::lifecycle::Notice;
use crate::lifecycle::holds::HoldEvent;
use crate::sharing::protocol::{LogLevel, Push, Told};
use crate::supervisor::{LogValue, Message};

/// Passes messages on until the host is gone.
pub async fn read(host: Arc<Host>) {
    loop {
        for message in host.manager.mailbox().take() {
            let mut state = host.lock();
            host.handle(&mut state, message);
            host.judge_life(&mut state);
        }
        if host.manager.mailbox().has_more() {
            tokio::task::yield_now().await;
        } else {
            host.mail.notified().await;
        }
    }
}

impl Host {
    fn handle(self: &Arc<Self>, state: &mut State, message: Message) {
        match message {
            Message::Settled { ticket, outcome } => {
                if let Some((name, _)) = state.calls.get(&ticket) {
                    let name = name.clone();
                    self.sync(state, &name);
                }
                self.settled(state, ticket, outcome.map_err(|refusal| refusal.failure));
            }
            Message::Notice { plugin, notice, at } => {
                self.show(state, &plugin);
                self.tell(state, &plugin, notice, at);
                self.sync(state, &plugin);
            }
            Message::Published { plugin } => self.sync(state, &plugin),
            Message::Lines { follower } => {
                let Some((name, id)) = state.followers.get(&follower).cloned() else { return };
                self.offer_lines(state, &name, id);
            }
            Message::Log { level, text, fields } => log(state, level, text, fields),
            Message::Upgraded { .. } | Message::GroupStarted { .. } | Message::Output { .. } | Message::Dropped { .. } => {}
        }
    }

    /// Sessions and holds learn what has changed.
    fn sync(self: &Arc<Self>, state: &mut State, name: &str) {
        self.show(state, name);
        if let Some(daemon) = state.plugins.get_mut(name).and_then(super::plugin::Plugin::changed_state) {
            self.feed(state, name, HoldEvent::Daemon(daemon));
        }
    }

    fn tell(&self, state: &mut State, name: &str, notice: Notice, at: f64) {
        let told = match notice {
            Notice::StateChanged { from, to, pid, reason, .. } => Told::StateChanged { from, to, pid, reason },
            Notice::Exited { pid, exit, reason } => Told::Exited { pid, exit, reason },
            Notice::RestartScheduled { attempt, delay, reason } => Told::RestartScheduled { attempt, delay, reason },
            Notice::Checked { healthy, latency, failures, error } => Told::Checked { healthy, latency, failures, error },
            _ => return,
        };
        let class = if matches!(told, Told::Checked { .. }) { Class::Detail } else { Class::State };
        let Some(plugin) = state.plugins.get_mut(name) else { return };
        if class == Class::State {
            // A listener that hears of an exit looks at the output.
            plugin.send_all_lines(&mut state.sessions, &self.manager);
        }
        let push = Push::Told { plugin: name.to_owned(), told, at };
        for id in plugin.holders() {
            if let Some(session) = state.sessions.get_mut(&id).filter(|session| class == Class::State || session.interest.health) {
                session.push(class, &push);
            }
        }
    }
}

/// An entry about a plugin goes to those who have it.
fn log(state: &mut State, level: tracing::Level, text: String, fields: Vec<(std::borrow::Cow<'static, str>, LogValue)>) {
    let plugin = fields.iter().find_map(|(name, value)| match value {
        LogValue::Text(plugin) if name == "plugin" => Some(plugin.clone()),
        _ => None,
    });
    let Some(plugin) = plugin.and_then(|plugin| state.plugins.get(&plugin)) else { return };
    let level = match level {
        tracing::Level::ERROR => LogLevel::Error,
        tracing::Level::WARN => LogLevel::Warn,
        tracing::Level::INFO => LogLevel::Info,
        _ => LogLevel::Debug,
    };
    let fields = fields.into_iter().map(|(name, value)| (name.into_owned(), value)).collect();
    let push = Push::Log { plugin: plugin.name.clone(), level, text, fields };
    for id in plugin.holders() {
        if let Some(session) = state.sessions.get_mut(&id).filter(|session| level != LogLevel::Debug || session.interest.debug) {
            session.push(Class::Detail, &push);
        }
    }
}
