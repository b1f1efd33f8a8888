//! One shared plugin: its holds, and what its sessions are sent.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use super::feed::Feed;
use super::requests::AskedStart;
use super::session::Session;
use super::{Class, SessionId};
use crate::config::Parsed;
use crate::lifecycle::Ticket;
use crate::lifecycle::holds::{CallId, DaemonState, Holds, Request};
use crate::sharing::protocol::{Listed, Push, Shown};
use crate::supervisor::runtime::{AbortOnDrop, clock};
use crate::supervisor::{Follower, Manager};

/// What is new of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Change {
    #[default]
    Nothing,
    /// Only the number of its sessions.
    Sessions,
    Daemon,
}

pub struct Plugin {
    pub name: String,
    pub holds: Holds,
    /// The state that the holds know.
    pub daemon: DaemonState,
    /// The configuration that the daemon has, or is about to get.
    pub serving: Option<Parsed>,
    /// Whether an upgrade gave it.
    pub upgraded: bool,
    /// The upgrades that are under way, with the session that has asked for each.
    pub upgrades: HashMap<CallId, (SessionId, AskedStart)>,
    pub tickets: HashMap<CallId, Ticket>,
    pub timers: HashMap<Request, AbortOnDrop>,
    /// The timer of the linger time, and its end.
    pub linger: Option<(AbortOnDrop, Instant)>,
    attached: BTreeSet<SessionId>,
    /// Per session, so that no line is missing and none comes twice.
    pub feeds: HashMap<SessionId, Feed>,
    /// Lines wait for sessions that do not listen, until this timer is over.
    pub lines_due: Option<AbortOnDrop>,
    shown: Option<Shown>,
    revision: u64,
    change: Change,
    /// The sessions are about to be sent their number.
    pub count_due: bool,
}

impl Plugin {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            holds: Holds::new(),
            daemon: DaemonState::Unknown,
            serving: None,
            upgraded: false,
            upgrades: HashMap::new(),
            tickets: HashMap::new(),
            timers: HashMap::new(),
            linger: None,
            attached: BTreeSet::new(),
            feeds: HashMap::new(),
            lines_due: None,
            shown: None,
            revision: 0,
            change: Change::Nothing,
            count_due: false,
        }
    }

    pub fn is_attached(&self, session: SessionId) -> bool {
        self.attached.contains(&session)
    }

    /// The sessions that hear of the plugin, which are those that have it.
    pub fn holders(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.attached.iter().copied()
    }

    pub fn shown(&self) -> Option<Shown> {
        self.shown.clone()
    }

    /// Reads what the getters show. What has changed waits for [`Self::take_change`].
    pub fn refresh(&mut self, manager: &Manager) {
        let sessions = u32::try_from(self.holds.sharers()).unwrap_or(u32::MAX);
        let ends_for_all = self.holds.ends_for_all();
        let Some((published, metrics)) = manager.show(&self.name) else {
            self.shown = None;
            return;
        };
        let change = match &self.shown {
            Some(shown) if self.revision != published.revision || shown.ends_for_all != ends_for_all => Change::Daemon,
            Some(shown) if shown.sessions == sessions => Change::Nothing,
            Some(_) => Change::Sessions,
            None => Change::Daemon,
        };
        self.revision = published.revision;
        let uptime = published.uptime.map(|ms| std::time::Duration::from_secs_f64(ms / 1e3));
        self.shown = Some(Shown { snapshot: published.snapshot, uptime, status: published.status, sessions, ends_for_all, metrics });
        self.change = self.change.max(change);
    }

    /// What has changed since the last call.
    pub fn take_change(&mut self) -> Change {
        std::mem::take(&mut self.change)
    }

    /// The state of the daemon, if it is another one than the holds know.
    pub fn changed_state(&mut self) -> Option<DaemonState> {
        let state = self.shown.as_ref().map_or(DaemonState::Unknown, |shown| DaemonState::of(&shown.snapshot));
        (std::mem::replace(&mut self.daemon, state) != state).then_some(state)
    }

    pub fn push_shown(&self, sessions: &mut HashMap<SessionId, Session>) {
        if let Some(shown) = &self.shown {
            self.push(sessions, Class::State, &Push::Shown { plugin: self.name.clone(), shown: Box::new(shown.clone()) });
        }
    }

    pub fn push(&self, sessions: &mut HashMap<SessionId, Session>, class: Class, push: &Push) {
        for id in &self.attached {
            if let Some(session) = sessions.get_mut(id) {
                session.push(class, push);
            }
        }
    }

    /// The session hears everything from now on, and gets the lines that are kept. One that has the plugin has them.
    pub fn attach(&mut self, id: SessionId, session: &mut Session, manager: &Manager) -> Option<Arc<Follower>> {
        let is_new = self.attached.insert(id);
        self.refresh(manager);
        let shown = self.shown()?;
        session.push(Class::State, &Push::Attached { plugin: self.name.clone(), shown: Box::new(shown), at: clock::wall() });
        if !is_new && self.feeds.contains_key(&id) {
            return None;
        }
        self.feed_session(id, session, manager)
    }

    /// Tells the plugin as it is.
    pub fn listed(&mut self, manager: &Manager) -> Option<Listed> {
        self.refresh(manager);
        let linger = self.linger.as_ref().map(|(_, end)| end.saturating_duration_since(Instant::now()));
        Some(Listed { plugin: self.name.clone(), shown: self.shown()?, linger })
    }

    /// A session that follows the output without having the plugin is gone.
    pub fn stop_following(&mut self, id: SessionId) {
        if !self.attached.contains(&id) {
            self.feeds.remove(&id);
        }
    }

    /// The sessions that get lines.
    pub fn followers(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.feeds.keys().copied()
    }

    pub fn is_followed_by(&self, id: SessionId) -> bool {
        self.feeds.contains_key(&id)
    }

    /// Returns the follower of its output, which ends.
    pub fn detach(&mut self, id: SessionId) -> Option<Arc<Follower>> {
        self.attached.remove(&id);
        self.feeds.remove(&id).map(|feed| feed.follower)
    }
}
