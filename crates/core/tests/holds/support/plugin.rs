//! A plugin with its holds, for a history that a test writes down. Session and request of a start have the same number.

use std::time::Duration;

use ally_core::error::Failure;
use ally_core::lifecycle::holds::{CallId, DaemonState, Fit, HoldEvent, Holds, Request, Session, Stage};
use ally_core::model::Exit;

use super::text::texts;

pub const PREPARING: DaemonState = DaemonState::Starting(Stage::Preparing);
pub const SPAWNED: DaemonState = DaemonState::Starting(Stage::Spawned);
pub const PENDING: DaemonState = DaemonState::Starting(Stage::Pending);

#[derive(Debug, Clone, Default)]
pub struct Plugin {
    pub holds: Holds,
}

pub fn start(session: Session) -> HoldEvent {
    HoldEvent::Start { session, request: session, fit: Fit::Equal, timeout: timeout_of(session), linger: Duration::ZERO }
}

pub fn start_lingering(session: Session, linger: u64) -> HoldEvent {
    let linger = Duration::from_millis(linger);
    HoldEvent::Start { session, request: session, fit: Fit::Equal, timeout: timeout_of(session), linger }
}

pub fn start_differing(session: Session) -> HoldEvent {
    let fit = Fit::Differs { fields: vec!["args[0]".to_owned()], upgraded: false };
    HoldEvent::Start { session, request: session, fit, timeout: timeout_of(session), linger: Duration::ZERO }
}

/// Longer for later sessions.
fn timeout_of(session: Session) -> Duration {
    Duration::from_millis(1_000 * session)
}

pub fn exited() -> Failure {
    Failure::StartupExit { exit: Exit { code: Some(1), signal: None }, tail: String::new() }
}

pub fn timed_out(request: Request) -> HoldEvent {
    HoldEvent::TimedOut { request, failure: super::world::timeout() }
}

pub fn settled(call: CallId, outcome: Result<(), Failure>) -> HoldEvent {
    HoldEvent::Settled { call, outcome }
}

impl Plugin {
    /// The effects of one event.
    pub fn on(&mut self, event: HoldEvent) -> String {
        texts(&self.holds.on(event))
    }

    /// The effects of several events.
    pub fn all<const N: usize>(&mut self, events: [HoldEvent; N]) -> String {
        let effects: Vec<_> = events.into_iter().flat_map(|event| self.holds.on(event)).collect();
        texts(&effects)
    }

    /// Started by the call 1.
    pub fn running(sessions: impl IntoIterator<Item = HoldEvent>) -> Self {
        let mut plugin = Self::default();
        for event in sessions {
            plugin.on(event);
        }
        plugin.all([HoldEvent::Daemon(PREPARING), HoldEvent::Daemon(SPAWNED), HoldEvent::Daemon(DaemonState::Running), settled(1, Ok(()))]);
        plugin
    }

    /// Several sessions have the plugin. Not the daemon's.
    pub fn sessions(&self) -> Vec<Session> {
        (1..=4).filter(|session| self.holds.has(*session)).collect()
    }
}
