//! The output of a plugin for one session. A session whose caller listens to lines gets each as it comes. Any other one needs what
//! `getOutput` reads: as much as the tail keeps, up to date while little is written, and a moment later while much is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::plugin::Plugin;
use super::session::Session;
use super::{Class, Host, SessionId, State};
use crate::sharing::protocol::{Push, SentLine};
use crate::supervisor::{Batch, Follower, Line, Manager};

/// The lines that a new session gets of what is kept.
const KEPT_LINES: usize = 1_000;
/// The lines and the bytes of one message.
const BATCH_LINES: usize = 256;
const BATCH_BYTES: usize = 128 * 1024;

/// A session that does not listen gets lines at once while this is not used up: 1 for a message, and 1 for so many lines.
const BURST: usize = 16;
const LINES_PER_UNIT: usize = 32;
/// After that it gets the newest lines when this time is over.
const PERIOD: Duration = Duration::from_millis(250);

pub struct Feed {
    pub follower: Arc<Follower>,
    /// `None`: somebody listens.
    pace: Option<Pace>,
    /// [`Session::losses`] at the last look.
    losses: u64,
}

#[derive(Default)]
struct Pace {
    begun: Option<Instant>,
    used: usize,
}

impl Pace {
    /// What is left of the period, if nothing may be sent in it any more.
    fn pause(&self, now: Instant) -> Option<Duration> {
        let left = (self.begun? + PERIOD).saturating_duration_since(now);
        (self.used >= BURST && !left.is_zero()).then_some(left)
    }

    fn sent(&mut self, lines: usize, now: Instant) {
        if self.begun.is_none_or(|begun| now.duration_since(begun) >= PERIOD) {
            *self = Self { begun: Some(now), used: 0 };
        }
        self.used += 1 + lines / LINES_PER_UNIT;
    }
}

impl Feed {
    fn new(follower: Arc<Follower>, listens: bool, losses: u64) -> Self {
        follower.keep_newest(!listens);
        Self { follower, pace: (!listens).then(Pace::default), losses }
    }
}

impl Plugin {
    /// The session gets the lines that are kept, and those that come.
    pub fn feed_session(&mut self, id: SessionId, session: &mut Session, manager: &Manager) -> Option<Arc<Follower>> {
        let follower = manager.follow(&self.name, KEPT_LINES, true).ok()?;
        let feed = Feed::new(Arc::clone(&follower), session.interest.in_lines_of(&self.name), session.losses());
        self.feeds.insert(id, feed);
        self.send_lines(id, session, manager);
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
            self.feeds.insert(id, Feed::new(Arc::clone(&follower), true, session.losses()));
            self.send_lines(id, session, manager);
            return Some(follower);
        }
        loop {
            let batch = follower.take(BATCH_LINES);
            if batch.lines.is_empty() {
                return None;
            }
            push_lines(&self.name, session, Class::Answer, batch);
        }
    }

    /// The session's interest has changed.
    pub fn update_feed(&mut self, id: SessionId, session: &mut Session, manager: &Manager) {
        let listens = session.interest.in_lines_of(&self.name);
        if self.is_attached(id)
            && let Some(feed) = self.feeds.get_mut(&id).filter(|feed| feed.pace.is_none() != listens)
        {
            feed.pace = (!listens).then(Pace::default);
            let follower = Arc::clone(&feed.follower);
            // What it has missed comes first.
            self.send_lines(id, session, manager);
            follower.keep_newest(!listens);
        }
    }

    /// Sends the lines that wait in the session's follower, and asks for the next ones. While much waits for the session, they stay
    /// there.
    pub fn send_lines(&mut self, id: SessionId, session: &mut Session, manager: &Manager) {
        let Some(feed) = self.feeds.get_mut(&id) else { return };
        while session.takes_lines() {
            if std::mem::replace(&mut feed.losses, session.losses()) != session.losses() {
                // Before what comes next: the session leaves out what lies in front of its last line.
                manager.repeat(&self.name, KEPT_LINES, &feed.follower);
            }
            if feed.follower.take_parted() {
                manager.follow_again(&self.name, KEPT_LINES, &feed.follower);
            }
            let batch = feed.follower.take(BATCH_LINES);
            if batch.lines.is_empty() {
                return feed.follower.want();
            }
            if let Some(pace) = &mut feed.pace {
                pace.sent(batch.lines.len(), Instant::now());
            }
            push_lines(&self.name, session, Class::Detail, batch);
        }
    }

    /// Sends what waits to those who do not listen: something else follows, after which their getters must have it.
    pub fn send_all_lines(&mut self, sessions: &mut HashMap<SessionId, Session>, manager: &Manager) {
        let quiet: Vec<SessionId> = self.feeds.iter().filter(|(_, feed)| feed.pace.is_some()).map(|(id, _)| *id).collect();
        for id in quiet {
            if let Some(session) = sessions.get_mut(&id) {
                self.send_lines(id, session, manager);
            }
        }
    }
}

impl Host {
    /// Lines wait for the session: they are sent now, or at the end of its period.
    pub(super) fn offer_lines(self: &Arc<Self>, state: &mut State, name: &str, id: SessionId) {
        let (Some(plugin), Some(session)) = (state.plugins.get_mut(name), state.sessions.get_mut(&id)) else { return };
        let Some(feed) = plugin.feeds.get(&id) else { return };
        match feed.pace.as_ref().and_then(|pace| pace.pause(Instant::now())) {
            None => plugin.send_lines(id, session, &self.manager),
            // One timer for all sessions of the plugin.
            Some(pause) if plugin.lines_due.is_none() => plugin.lines_due = Some(self.timer(name, pause, Self::lines_due)),
            Some(_) => {}
        }
    }

    /// Sends what waits to the session, before an answer.
    pub(super) fn send_lines(&self, state: &mut State, name: &str, id: SessionId) {
        if let (Some(plugin), Some(session)) = (state.plugins.get_mut(name), state.sessions.get_mut(&id)) {
            plugin.send_lines(id, session, &self.manager);
        }
    }

    fn lines_due(self: &Arc<Self>, state: &mut State, name: &str) {
        if let Some(plugin) = state.plugins.get_mut(name) {
            plugin.lines_due = None;
            plugin.send_all_lines(&mut state.sessions, &self.manager);
        }
    }
}

fn push_lines(plugin: &str, session: &mut Session, class: Class, batch: Batch) {
    let (output, mut dropped) = (batch.output, batch.dropped);
    let (mut lines, mut bytes) = (Vec::new(), 0);
    for Line { stream, text, end, at, pid, .. } in batch.lines {
        bytes += text.len();
        lines.push(SentLine { stream, text, end, at, pid });
        if bytes > BATCH_BYTES {
            bytes = 0;
            let lines = std::mem::take(&mut lines);
            session.push(class, &Push::Lines { plugin: plugin.to_owned(), output, dropped: std::mem::take(&mut dropped), lines });
        }
    }
    if !lines.is_empty() {
        session.push(class, &Push::Lines { plugin: plugin.to_owned(), output, dropped, lines });
    }
}
