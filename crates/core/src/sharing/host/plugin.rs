//! One shared plugin: its holds, and what its sessions are sent.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use super::session::Session;
use super::{Class, SessionId};
use crate::config::Parsed;
use crate::lifecycle::Ticket;
use crate::lifecycle::holds::{CallId, DaemonState, Holds, Request};
use crate::sharing::protocol::{Listed, Push, SentLine, Shown};
use crate::supervisor::runtime::{AbortOnDrop, clock};
use crate::supervisor::{Batch, Follower, Line, Manager};

/// The lines that a new session gets of what is kept.
const KEPT_LINES: usize = 1_000;
/// The lines and the bytes of one message.
const BATCH_LINES: usize = 256;
const BATCH_BYTES: usize = 128 * 1024;

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
    /// The upgrades that are under way.
    pub upgrades: HashMap<CallId, Request>,
    pub tickets: HashMap<CallId, Ticket>,
    pub timers: HashMap<Request, AbortOnDrop>,
    /// The timer of the linger time, and its end.
    pub linger: Option<(AbortOnDrop, Instant)>,
    attached: BTreeSet<SessionId>,
    /// Per session, so that no line is missing and none comes twice.
    followers: HashMap<SessionId, Arc<Follower>>,
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
            followers: HashMap::new(),
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
        let sessions = u32::try_from(self.holds.sessions()).unwrap_or(u32::MAX);
        let Some((published, metrics)) = manager.show(&self.name) else {
            self.shown = None;
            return;
        };
        let change = match &self.shown {
            Some(shown) if self.revision == published.revision && shown.sessions == sessions => Change::Nothing,
            Some(_) if self.revision == published.revision => Change::Sessions,
            _ => Change::Daemon,
        };
        self.revision = published.revision;
        let uptime = published.uptime.map(|ms| std::time::Duration::from_secs_f64(ms / 1e3));
        self.shown = Some(Shown { snapshot: published.snapshot, uptime, status: published.status, sessions, metrics });
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
        if !is_new && self.followers.contains_key(&id) {
            return None;
        }
        let follower = manager.follow(&self.name, KEPT_LINES, true).ok()?;
        self.followers.insert(id, Arc::clone(&follower));
        self.send_lines(id, session);
        Some(follower)
    }

    /// Sends the kept lines to a session that need not have the plugin, and with `follow` those that come.
    pub fn send_output(
        &mut self,
        id: SessionId,
        session: &mut Session,
        lines: usize,
        follow: bool,
        manager: &Manager,
    ) -> Option<Arc<Follower>> {
        let follower = manager.follow(&self.name, lines, follow).ok()?;
        if follow {
            self.followers.insert(id, Arc::clone(&follower));
            self.send_lines(id, session);
            return Some(follower);
        }
        loop {
            let batch = follower.take(BATCH_LINES);
            if batch.lines.is_empty() {
                return None;
            }
            self.push_lines(session, Class::Answer, batch);
        }
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
            self.followers.remove(&id);
        }
    }

    /// The sessions that get lines.
    pub fn followers(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.followers.keys().copied()
    }

    pub fn is_followed_by(&self, id: SessionId) -> bool {
        self.followers.contains_key(&id)
    }

    /// Returns the follower of its output, which ends.
    pub fn detach(&mut self, id: SessionId) -> Option<Arc<Follower>> {
        self.attached.remove(&id);
        self.followers.remove(&id)
    }

    /// Sends the lines that wait in the session's follower, and asks for the next ones. While much waits for the session, they stay
    /// there.
    pub fn send_lines(&self, id: SessionId, session: &mut Session) {
        let Some(follower) = self.followers.get(&id) else { return };
        while session.takes_lines() {
            let batch = follower.take(BATCH_LINES);
            if batch.lines.is_empty() {
                return follower.want();
            }
            self.push_lines(session, Class::Detail, batch);
        }
    }

    fn push_lines(&self, session: &mut Session, class: Class, batch: Batch) {
        let mut dropped = batch.dropped;
        let (mut lines, mut bytes) = (Vec::new(), 0);
        for Line { stream, text, at, pid, .. } in batch.lines {
            bytes += text.len();
            lines.push(SentLine { stream, text, at, pid });
            if bytes > BATCH_BYTES {
                bytes = 0;
                let lines = std::mem::take(&mut lines);
                session.push(class, &Push::Lines { plugin: self.name.clone(), dropped: std::mem::take(&mut dropped), lines });
            }
        }
        if !lines.is_empty() {
            session.push(class, &Push::Lines { plugin: self.name.clone(), dropped, lines });
        }
    }
}
