//! The calls of sessions.

use std::sync::Arc;
use std::time::Duration;

use ally_base::text::printable;
use tokio::time::{Instant, sleep};

use super::plugin::Plugin;
use super::session::Session;
use super::{Class, Host, SessionId, State};
use crate::config::{Parsed, Raw};
use crate::error::{Facts, Failure};
use crate::lifecycle::holds::{Fit, HoldEvent, Request};
use crate::model::Changes;
use crate::sharing::place::differing_fields;
use crate::sharing::protocol::{self, Call, Detachment, Push, RequestId};
use crate::supervisor::runtime::{self, AbortOnDrop};
use crate::supervisor::{SessionStart, check};

/// How long samples are taken after a session has asked for metrics, and how often they are sent.
const METRICS_INTEREST: Duration = Duration::from_secs(60);
const METRICS_INTERVAL: Duration = Duration::from_secs(1);

/// A request that is not answered yet.
pub struct Asked {
    pub session: SessionId,
    pub id: RequestId,
    pub plugin: String,
    /// Of a start and of an upgrade.
    pub start: Option<AskedStart>,
}

#[derive(Clone)]
pub struct AskedStart {
    pub start: SessionStart,
    pub timeout: Duration,
    pub linger: Duration,
    pub config: Raw,
    /// Of an upgrade: the changed fields, as its caller gave them.
    pub changes: Changes,
}

impl Host {
    pub(super) fn request(self: &Arc<Self>, session: SessionId, request: protocol::Request) {
        if matches!(request.call, Call::Reconnect) {
            return self.part(session);
        }
        let mut state = self.lock();
        let state = &mut *state;
        let Some(connection) = state.sessions.get_mut(&session) else { return };
        let answered = connection.answered(&request);
        let protocol::Request { id, call, .. } = request;
        // Also while the host ends, which may take a grace period.
        state.push(session, Class::Answer, &Push::Read { id });
        if let Some(outcome) = answered {
            return state.push(session, Class::Answer, &Push::Answer { id, outcome });
        }
        if state.life.is_leaving() && !state.ends_what_is_asked(session, &call) {
            // Not answered: the session asks the next host.
            return;
        }
        // A host that ends takes stops only. And another connection begins with a new Listen, in front of the calls that it repeats.
        if !state.life.is_leaving()
            && !matches!(call, Call::Listen(_))
            && let Some(connection) = state.sessions.get_mut(&session)
        {
            connection.taken = connection.taken.max(id);
        }
        // A former connection has brought it, and it is under way.
        if state.is_asked(session, id) {
            return;
        }
        match call {
            Call::Start(start) => {
                // The session has a configuration of its own from now on.
                if let Some(connection) = state.sessions.get_mut(&session) {
                    connection.upgrades.remove(&start.plugin);
                }
                self.start(state, session, id, *start, None);
            }
            Call::Upgrade { start, changes } => self.start(state, session, id, *start, Some(changes)),
            Call::LetGo { plugin } => self.ask(state, session, id, &plugin, |request| HoldEvent::LetGo { session, request }),
            Call::Abandon { plugin } => {
                self.abandon(state, session, &plugin);
                state.push(session, Class::Answer, &Push::Answer { id, outcome: Ok(()) });
            }
            Call::StopEverywhere { plugin, after } => {
                state.stopped_after.extend(after.map(|host| (plugin.clone(), host)));
                self.ask(state, session, id, &plugin, |request| HoldEvent::Everywhere { by: Some((session, request)) });
            }
            Call::Restart { plugin } => self.ask(state, session, id, &plugin, |request| HoldEvent::Restart { session, request }),
            Call::Wait { plugin } => self.ask(state, session, id, &plugin, |request| HoldEvent::Wait { session, request }),
            Call::Abort { plugin, request } => {
                let asked = state.asked.iter().find(|(_, asked)| asked.session == session && asked.id == request);
                if let Some((request, _)) = asked {
                    let event = HoldEvent::Abort { session, request: *request };
                    self.feed(state, &plugin, event);
                }
                state.push(session, Class::Answer, &Push::Answer { id, outcome: Ok(()) });
            }
            // Answered by nobody: see above.
            Call::Reconnect => {}
            Call::Metrics => self.want_metrics(state, session),
            Call::List => {
                for plugin in state.plugins.values_mut() {
                    if let (Some(listed), Some(session)) = (plugin.listed(&self.manager), state.sessions.get_mut(&session)) {
                        session.push(Class::Answer, &Push::Listed(Box::new(listed)));
                    }
                }
                state.push(session, Class::Answer, &Push::Answer { id, outcome: Ok(()) });
            }
            Call::Output { plugin, lines, follow } => self.output(state, session, id, &plugin, lines as usize, follow),
            Call::Listen(interest) => {
                if let Some(connection) = state.sessions.get_mut(&session) {
                    connection.interest = interest;
                    state.plugins.values_mut().for_each(|plugin| plugin.update_feed(session, connection, &self.manager));
                }
                let debug = state.sessions.values().any(|session| session.interest.debug);
                let health = state.sessions.values().any(|session| session.interest.health);
                self.manager.listen(false, health);
                super::log::set_debug(debug);
            }
        }
        self.judge_life(state);
    }

    fn start(self: &Arc<Self>, state: &mut State, session: SessionId, id: RequestId, start: protocol::Start, changes: Option<Changes>) {
        let protocol::Start { plugin, config, inherited, owner, timeout, after } = start;
        if after.is_some_and(|host| state.stopped_after.contains(&(plugin.clone(), host))) {
            state.push(session, Class::Answer, &Push::Detached { plugin: plugin.clone(), why: Detachment::Everywhere });
            return state.answer(session, id, &plugin, Err(&Failure::Stopped));
        }
        let parsed = match check_for_session(&config, &plugin) {
            Ok(parsed) => parsed,
            Err(failure) => return state.answer(session, id, &plugin, Err(&failure)),
        };
        let linger = parsed.config.shared.map(|shared| shared.linger).unwrap_or_default();
        let start = SessionStart { parsed, inherited: inherited.into(), owner };
        let is_upgrade = changes.is_some();
        let start = AskedStart { start, timeout, linger, config, changes: changes.unwrap_or_default() };
        let request = state.note_asked(Asked { session, id, plugin: plugin.clone(), start: Some(start) });
        state.plugins.entry(plugin.clone()).or_insert_with(|| Plugin::new(&plugin));
        let event = if is_upgrade {
            HoldEvent::Upgrade { session, request, linger: Some(linger) }
        } else {
            let Some(event) = state.start_event(request) else { return };
            event
        };
        self.feed(state, &plugin, event);
    }

    fn ask(self: &Arc<Self>, state: &mut State, session: SessionId, id: RequestId, plugin: &str, event: impl FnOnce(Request) -> HoldEvent) {
        let request = state.note_asked(Asked { session, id, plugin: plugin.to_owned(), start: None });
        let is_known = state.plugins.contains_key(plugin);
        state.plugins.entry(plugin.to_owned()).or_insert_with(|| Plugin::new(plugin));
        self.feed(state, plugin, event(request));
        if !is_known {
            state.forget_if_unused(plugin);
        }
    }

    /// For this plugin the session is as one that has ended. So a start that it makes now is not refused because of its former one.
    fn abandon(self: &Arc<Self>, state: &mut State, session: SessionId, name: &str) {
        self.feed(state, name, HoldEvent::SessionEnded { session });
        let is_over = |asked: &Asked| asked.session == session && asked.plugin == name;
        let over: Vec<Asked> = state.asked.extract_if(|_, asked| is_over(asked)).map(|(_, asked)| asked).collect();
        for asked in over {
            state.answer(session, asked.id, name, Err(&Failure::Stopped));
        }
    }

    fn output(&self, state: &mut State, session: SessionId, id: RequestId, name: &str, lines: usize, follow: bool) {
        let (Some(plugin), Some(connection)) = (state.plugins.get_mut(name), state.sessions.get_mut(&session)) else {
            return state.answer(session, id, name, Err(&Failure::NotFound));
        };
        // One that has the plugin gets its lines already.
        let follows = follow && !plugin.is_attached(session);
        if let Some(follower) = plugin.send_output(session, connection, lines, follows, &self.manager) {
            state.followers.insert(follower.id, (name.to_owned(), session));
        }
        state.answer(session, id, name, Ok(()));
    }

    fn want_metrics(self: &Arc<Self>, state: &mut State, id: SessionId) {
        let is_first = state.sessions.values().all(|session| session.metrics_until.is_none());
        if let Some(session) = state.sessions.get_mut(&id) {
            session.metrics_until = Some(Instant::now() + METRICS_INTEREST);
        }
        if is_first {
            let host = Arc::downgrade(self);
            state.life.metrics = Some(AbortOnDrop::spawn(async move {
                loop {
                    sleep(METRICS_INTERVAL).await;
                    let Some(host) = host.upgrade() else { return };
                    if !host.send_metrics() {
                        return;
                    }
                }
            }));
        }
        self.manager.ask_for_samples();
    }

    /// Returns whether a session still wants metrics.
    fn send_metrics(&self) -> bool {
        let mut state = self.lock();
        let state = &mut *state;
        let now = Instant::now();
        for session in state.sessions.values_mut() {
            session.metrics_until.take_if(|until| *until < now);
        }
        if state.sessions.values().all(|session| session.metrics_until.is_none()) {
            return false;
        }
        self.manager.ask_for_samples();
        for plugin in state.plugins.values_mut() {
            plugin.refresh(&self.manager);
            let Some(shown) = plugin.shown() else { continue };
            let push = Push::Shown { plugin: plugin.name.clone(), shown: Box::new(shown) };
            for id in plugin.holders() {
                if let Some(session) = state.sessions.get_mut(&id).filter(|session| session.metrics_until.is_some()) {
                    session.push(Class::State, &push);
                }
            }
        }
        true
    }

    /// The session has ended: what it had is let go of.
    pub(super) fn end_session(self: &Arc<Self>, id: SessionId) {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(session) = state.sessions.remove(&id) else { return };
        let names: Vec<String> = state.plugins.keys().cloned().collect();
        for name in names {
            self.feed(state, &name, HoldEvent::SessionEnded { session: id });
        }
        for plugin in state.plugins.values_mut() {
            plugin.stop_following(id);
        }
        state.followers.retain(|_, (_, session)| *session != id);
        state.asked.retain(|_, asked| asked.session != id);
        self.judge_life(state);
        self.drained.notify_one();
        // Its tasks may be what calls this, and are aborted by the drop.
        drop(runtime::spawn(async move { drop(session) }));
    }

    /// Everything was written: lines that wait for the session go on.
    pub(super) fn outbox_drained(self: &Arc<Self>, id: SessionId) {
        self.drained.notify_one();
        let mut state = self.lock();
        let followed: Vec<String> =
            state.plugins.values().filter(|plugin| plugin.is_followed_by(id)).map(|plugin| plugin.name.clone()).collect();
        for name in followed {
            self.offer_lines(&mut state, &name, id);
        }
    }
}

impl State {
    pub fn push(&mut self, session: SessionId, class: Class, push: &Push) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.push(class, push);
        }
    }

    pub fn answer(&mut self, session: SessionId, id: RequestId, plugin: &str, outcome: Result<(), &Failure>) {
        let outcome = outcome.map_err(|failure| Facts::chain(failure, plugin));
        self.push(session, Class::Answer, &Push::Answer { id, outcome });
    }

    fn is_asked(&self, session: SessionId, id: RequestId) -> bool {
        let is_resumed = self.sessions.get(&session).is_some_and(Session::is_resumed);
        is_resumed && self.asked.values().any(|asked| asked.session == session && asked.id == id)
    }

    /// Whether the host, which ends, is asked to stop what it stops.
    fn ends_what_is_asked(&self, session: SessionId, call: &Call) -> bool {
        let (Call::LetGo { plugin } | Call::StopEverywhere { plugin, .. }) = call else { return false };
        self.life.is_ending() && self.plugins.get(plugin).is_some_and(|plugin| plugin.holds.ends_for(session))
    }

    fn note_asked(&mut self, asked: Asked) -> Request {
        let request = self.next_number();
        self.asked.insert(request, asked);
        request
    }

    /// The event of a start, compared with the configuration that the daemon has now.
    pub fn start_event(&self, request: Request) -> Option<HoldEvent> {
        let asked = self.asked.get(&request)?;
        let start = asked.start.as_ref()?;
        let plugin = self.plugins.get(&asked.plugin);
        let fit = plugin.and_then(|plugin| plugin.serving.as_ref().map(|serving| (plugin.upgraded, serving))).map_or(
            Fit::Equal,
            |(upgraded, serving)| match differing_fields(&serving.config, &start.start.parsed.config) {
                fields if fields.is_empty() => Fit::Equal,
                fields => Fit::Differs { fields, upgraded },
            },
        );
        Some(HoldEvent::Start { session: asked.session, request, fit, timeout: start.timeout, linger: start.linger })
    }

    /// Forgets a plugin that no session has and of which nothing is left.
    pub fn forget_if_unused(&mut self, name: &str) {
        let Some(plugin) = self.plugins.get(name).filter(|plugin| plugin.holds.is_unused() && plugin.tickets.is_empty()) else {
            return;
        };
        // Those that only follow its output wait for no further line.
        for id in plugin.followers().collect::<Vec<_>>() {
            self.push(id, Class::Answer, &Push::Detached { plugin: name.to_owned(), why: Detachment::Stopped });
        }
        self.plugins.remove(name);
    }
}

/// # Errors
/// `InvalidConfig`: of a session of another build, or a damaged message.
fn check_for_session(config: &Raw, plugin: &str) -> Result<Parsed, Failure> {
    let mut parsed = check(config)?;
    if parsed.config.plugin_name != plugin || parsed.config.shared.is_none() {
        let problem = format!("is not that of the shared plugin {}", printable(plugin));
        return Err(Failure::InvalidConfig { field: "pluginName".to_owned(), problem });
    }
    // The affair of each session.
    parsed.config.depends_on.clear();
    parsed.config.group = None;
    Ok(parsed)
}
