//! Carries out what the holds of a plugin ask for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::plugin::Change;
use super::requests::AskedStart;
use super::{Class, Host, SessionId, State};
use crate::error::Failure;
use crate::lifecycle::Ticket;
use crate::lifecycle::holds::{Call, CallId, DetachReason, HoldEffect, HoldEvent, Request};
use crate::sharing::protocol::{Detachment, Push};
use crate::supervisor::runtime::{self, AbortOnDrop};

impl Host {
    /// Gives the holds of a plugin an event, and carries out what follows.
    pub(super) fn feed(self: &Arc<Self>, state: &mut State, name: &str, event: HoldEvent) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let Some(plugin) = state.plugins.get_mut(name) else { return };
            let mut effects = plugin.holds.on(event);
            // A session whose start is refused is as before when it reads the answer.
            effects.sort_by_key(|effect| !matches!(effect, HoldEffect::Detach { reason: DetachReason::Refused, .. }));
            for effect in effects {
                self.carry_out(state, name, effect, &mut events);
            }
            self.show(state, name);
        }
        state.forget_if_unused(name);
    }

    /// Sends sessions what the getters show, if that has changed.
    pub(super) fn show(self: &Arc<Self>, state: &mut State, name: &str) {
        let Some(plugin) = state.plugins.get_mut(name) else { return };
        plugin.refresh(&self.manager);
        match plugin.take_change() {
            Change::Nothing => {}
            Change::Daemon => plugin.push_shown(&mut state.sessions),
            // If hundreds come in one turn, each of them hears the last number, and not each number.
            Change::Sessions if !std::mem::replace(&mut plugin.count_due, true) => {
                let (host, name) = (Arc::clone(self), name.to_owned());
                drop(runtime::spawn(async move {
                    yield_now().await;
                    let mut state = host.lock();
                    let state = &mut *state;
                    if let Some(plugin) = state.plugins.get_mut(&name) {
                        plugin.count_due = false;
                        plugin.push_shown(&mut state.sessions);
                    }
                }));
            }
            Change::Sessions => {}
        }
    }

    fn carry_out(self: &Arc<Self>, state: &mut State, name: &str, effect: HoldEffect, events: &mut VecDeque<HoldEvent>) {
        match effect {
            HoldEffect::Call { call, what } => match self.call(state, name, call, what) {
                Ok(ticket) => {
                    state.calls.insert(ticket, (name.to_owned(), call));
                    if let Some(plugin) = state.plugins.get_mut(name) {
                        plugin.tickets.insert(call, ticket);
                    }
                }
                Err(failure) => events.push_back(HoldEvent::Settled { call, outcome: Err(failure) }),
            },
            HoldEffect::Abort { call } => {
                if let Some(ticket) = ticket_of(state, name, call) {
                    self.manager.abort_wait(name, ticket);
                }
            }
            HoldEffect::Answer { request, outcome, .. } => {
                if let Some(asked) = state.asked.remove(&request) {
                    self.send_lines(state, name, asked.session);
                    state.answer(asked.session, asked.id, name, outcome.as_ref().copied());
                }
            }
            HoldEffect::Again { request, .. } => events.extend(state.start_event(request)),
            HoldEffect::Attach { session } => {
                let (Some(plugin), Some(connection)) = (state.plugins.get_mut(name), state.sessions.get_mut(&session)) else { return };
                if let Some(follower) = plugin.attach(session, connection, &self.manager) {
                    state.followers.insert(follower.id, (name.to_owned(), session));
                }
            }
            HoldEffect::Detach { session, reason } => {
                // What getOutput shows afterwards.
                self.send_lines(state, name, session);
                if let Some(follower) = state.plugins.get_mut(name).and_then(|plugin| plugin.detach(session)) {
                    state.followers.remove(&follower.id);
                }
                if let Some(connection) = state.sessions.get_mut(&session) {
                    connection.upgrades.remove(name);
                }
                // If it is lost, the resync tells. It must not come behind the resync, which may be of a later start.
                state.push(session, Class::State, &Push::Detached { plugin: name.to_owned(), why: detachment(reason) });
            }
            HoldEffect::ArmTimeout { request, after } => {
                let timer = self.timer(name, after, move |host, state, name| host.timed_out(state, name, request));
                if let Some(plugin) = state.plugins.get_mut(name) {
                    plugin.timers.insert(request, timer);
                }
            }
            HoldEffect::DisarmTimeout { request } => {
                if let Some(plugin) = state.plugins.get_mut(name) {
                    plugin.timers.remove(&request);
                }
            }
            HoldEffect::Extend { call, by } => {
                if let Some(ticket) = ticket_of(state, name, call) {
                    self.manager.extend_start(name, ticket, by);
                }
            }
            HoldEffect::Expire { call } => {
                if let Some(ticket) = ticket_of(state, name, call) {
                    self.manager.expire_start(name, ticket);
                }
            }
            HoldEffect::ArmLinger { after } => {
                // Nobody can find a host whose files are lost, so nobody comes.
                let after = if state.life.listening.is_none() { Duration::ZERO } else { after };
                let timer = self.timer(name, after, Self::linger_over);
                if let Some(plugin) = state.plugins.get_mut(name) {
                    plugin.linger = Some((timer, Instant::now() + after));
                }
            }
            HoldEffect::DisarmLinger => {
                if let Some(plugin) = state.plugins.get_mut(name) {
                    plugin.linger = None;
                }
            }
            HoldEffect::Forget => {
                self.manager.forget(name);
                if let Some(plugin) = state.plugins.get_mut(name) {
                    plugin.serving = None;
                    plugin.upgraded = false;
                }
            }
        }
    }

    fn call(&self, state: &mut State, name: &str, call: CallId, what: Call) -> Result<Ticket, Failure> {
        match what {
            Call::Start { of } => {
                let AskedStart { start, .. } = asked_start(state, of)?;
                let plugin = state.plugins.get_mut(name).ok_or(Failure::NotFound)?;
                plugin.serving = Some(start.parsed.clone());
                plugin.upgraded = false;
                self.manager.start_for(start).map(|accepted| accepted.ticket)
            }
            Call::Upgrade { of } => {
                let asked = asked_start(state, of)?;
                let session = state.asked.get(&of).map(|asked| asked.session);
                let accepted = self.manager.upgrade_for(asked.start.clone())?;
                if let (Some(plugin), Some(session)) = (state.plugins.get_mut(name), session) {
                    // It goes on if the session lets go, or ends.
                    plugin.upgrades.insert(call, (session, asked));
                }
                Ok(accepted.ticket)
            }
            Call::Stop => Ok(self.manager.stop(name)),
            Call::Restart => Ok(self.manager.restart(name)),
            Call::Wait => Ok(self.manager.when_running(name)),
            Call::Use => Ok(self.manager.when_usable(name)),
        }
    }

    /// A timer of a plugin, until the result is dropped.
    pub(super) fn timer(
        self: &Arc<Self>,
        name: &str,
        after: Duration,
        elapsed: impl FnOnce(&Arc<Self>, &mut State, &str) + Send + 'static,
    ) -> AbortOnDrop {
        let (host, name) = (Arc::downgrade(self), name.to_owned());
        AbortOnDrop::spawn(async move {
            sleep(after).await;
            let Some(host) = host.upgrade() else { return };
            let mut state = host.lock();
            elapsed(&host, &mut state, &name);
            host.judge_life(&mut state);
        })
    }

    fn linger_over(self: &Arc<Self>, state: &mut State, name: &str) {
        if let Some(plugin) = state.plugins.get_mut(name) {
            // Those who look hear of no time that is left.
            plugin.linger = None;
        }
        self.feed(state, name, HoldEvent::LingerOver);
    }

    fn timed_out(self: &Arc<Self>, state: &mut State, name: &str, request: Request) {
        let Ok(AskedStart { start, timeout, .. }) = asked_start(state, request) else { return };
        let failure = Failure::StartupTimeout {
            socket: start.parsed.config.socket_path.display().to_string(),
            after: timeout,
            last_problem: None,
            tail: self.manager.error_excerpt(name),
        };
        self.feed(state, name, HoldEvent::TimedOut { request, failure });
    }

    /// The manager has settled a call.
    pub(super) fn settled(self: &Arc<Self>, state: &mut State, ticket: Ticket, outcome: Result<(), Failure>) {
        let Some((name, call)) = state.calls.remove(&ticket) else { return };
        let Some(plugin) = state.plugins.get_mut(&name) else { return };
        plugin.tickets.remove(&call);
        if let Some((session, start)) = plugin.upgrades.remove(&call)
            && outcome.is_ok()
        {
            upgraded(state, &name, session, start);
        }
        self.feed(state, &name, HoldEvent::Settled { call, outcome });
    }
}

/// The daemon has the configuration of this upgrade now.
fn upgraded(state: &mut State, name: &str, session: SessionId, AskedStart { start, changes, config, .. }: AskedStart) {
    let Some(plugin) = state.plugins.get_mut(name) else { return };
    plugin.serving = Some(start.parsed);
    plugin.upgraded = true;
    for id in plugin.holders() {
        match state.sessions.get_mut(&id) {
            // It has this configuration by its own call.
            Some(own) if id == session => own.upgrades.remove(name),
            Some(other) => other.push_upgrade(name, &changes, &config),
            None => {}
        }
    }
}

fn ticket_of(state: &State, name: &str, call: CallId) -> Option<Ticket> {
    state.plugins.get(name)?.tickets.get(&call).copied()
}

/// # Errors
/// The session of the request is gone.
fn asked_start(state: &State, request: Request) -> Result<AskedStart, Failure> {
    state.asked.get(&request).and_then(|asked| asked.start.clone()).ok_or(Failure::Stopped)
}

const fn detachment(reason: DetachReason) -> Detachment {
    match reason {
        DetachReason::LetGo | DetachReason::Aborted | DetachReason::Ended => Detachment::Stopped,
        DetachReason::TimedOut => Detachment::TimedOut,
        DetachReason::Refused => Detachment::Refused,
        DetachReason::Everywhere => Detachment::Everywhere,
    }
}
