//! The connection of one session: requests come in, pushes go out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::outbox::{Class, Outbox};
use super::plugin::Plugin;
use super::upgrades::Upgrades;
use super::{Host, SessionId, State};
use crate::config::Raw;
use crate::error::{Facts, Failure};
use crate::model::Changes;
use crate::sharing::protocol::{Inbound, Interest, Push, Request, RequestId, TO_SESSION_MAX, encode, encode_in_parts};
use crate::sharing::stream::read_some;
use crate::supervisor::runtime::{self, AbortOnDrop};

/// The time in which a session that has lost its connection by a protocol error keeps what it has.
const RESUMED_WITHIN: Duration = Duration::from_secs(2);

/// The size of one write(2).
const PIECE: usize = 64 * 1024;

/// Lines of output wait in their followers, which are bounded and count what they drop, while so much waits for the session.
const LINES_MAX: usize = 256 * 1024;

/// The outcomes that are kept. A call that waits for long, such as whenRunning, would keep those of all later calls.
const ANSWERS_MAX: usize = 256;

/// What writes to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// It has a piece of the outbox.
    Busy,
    Idle,
    /// The connection takes nothing any more.
    Gone,
}

pub struct Session {
    outbox: Outbox,
    pub upgrades: Upgrades,
    /// Frames wait for the writer.
    waiting: Arc<Notify>,
    /// The outbox was emptied: the reader may go on.
    room: Arc<Notify>,
    pub interest: Interest,
    /// The session wants fresh metrics until then.
    pub metrics_until: Option<Instant>,
    /// By which the session resumes itself after a protocol error. 0: it has done so.
    pub token: u64,
    /// The outcomes whose arrival is not certain. After a protocol error the session asks for them again.
    answered: BTreeMap<RequestId, Result<(), Vec<Facts>>>,
    /// Counts the connections. What a former one does is of no effect.
    connection: u32,
    /// The highest number of a call that was taken.
    pub taken: RequestId,
    writer: Writer,
    tasks: Vec<AbortOnDrop>,
}

impl Session {
    pub fn new() -> Self {
        Self {
            token: new_token(),
            answered: BTreeMap::new(),
            connection: 0,
            taken: 0,
            writer: Writer::Idle,
            outbox: Outbox::default(),
            upgrades: Upgrades::default(),
            waiting: Arc::default(),
            room: Arc::default(),
            interest: Interest::default(),
            metrics_until: None,
            tasks: Vec::new(),
        }
    }

    pub fn push(&mut self, class: Class, push: &Push) {
        if let Push::Answer { id, outcome } = push
            && self.connection == 1
        {
            self.answered.insert(*id, outcome.clone());
            if self.answered.len() > ANSWERS_MAX {
                self.answered.pop_first();
            }
        }
        if class == Class::Answer {
            // What the session is answered may be of a later time.
            self.push_upgrades();
        }
        self.push_frames(class, push);
    }

    /// Another session has upgraded the plugin. Told when something is written to this session.
    pub fn push_upgrade(&mut self, plugin: &str, changes: &Changes, config: &Raw) {
        self.upgrades.add(plugin, changes, config);
        self.waiting.notify_one();
    }

    fn push_upgrades(&mut self) {
        for push in self.upgrades.take_due() {
            self.push_frames(Class::Answer, &push);
        }
    }

    fn push_frames(&mut self, class: Class, push: &Push) {
        // What may be lost comes in one frame: without a part of it, the others would be of no use.
        let frames = if class == Class::Answer { encode_in_parts(push) } else { encode(push, TO_SESSION_MAX).map(|frame| vec![frame]) };
        match frames.or_else(|| encode_short(push)) {
            Some(frames) => frames.into_iter().for_each(|frame| self.outbox.push(class, frame)),
            // No message is as long, except with a status or an error of a megabyte.
            None => tracing::debug!(target: crate::supervisor::TARGET, "a message to a session is too long"),
        }
        self.waiting.notify_one();
    }

    /// A frame of another format: the greeting.
    pub fn push_frame(&mut self, class: Class, frame: Vec<u8>) {
        self.outbox.push(class, frame);
        self.waiting.notify_one();
    }

    /// The outcome of a call that was carried out for a former connection. What has arrived is forgotten.
    pub fn answered(&mut self, request: &Request) -> Option<Result<(), Vec<Facts>>> {
        if self.answered.first_key_value().is_some_and(|(first, _)| *first < request.oldest) {
            self.answered = self.answered.split_off(&request.oldest);
        }
        self.answered.get(&request.id).cloned()
    }

    pub const fn is_resumed(&self) -> bool {
        self.connection > 1
    }

    /// Changes when lines that were sent may be lost.
    pub const fn losses(&self) -> u64 {
        self.outbox.losses()
    }

    /// Whether lines may follow. In front of a resync they would be lost.
    pub const fn takes_lines(&self) -> bool {
        self.outbox.bytes() < LINES_MAX && !self.outbox.is_resync_due()
    }

    /// Whether everything was written that can be.
    pub fn is_drained(&self) -> bool {
        match self.writer {
            Writer::Busy => false,
            Writer::Idle => self.outbox.is_empty(),
            Writer::Gone => true,
        }
    }
}

/// An answer that is too long becomes a short failure: its caller waits for it.
fn encode_short(push: &Push) -> Option<Vec<Vec<u8>>> {
    let Push::Answer { id, .. } = push else { return None };
    let problem = "the answer of the host of shared daemons is too long".to_owned();
    let outcome = Err(Facts::chain(&Failure::Internal { problem }, ""));
    encode_in_parts(&Push::Answer { id: *id, outcome })
}

/// Serves the connection until it ends. `inbound`: with what came behind the greeting.
pub fn begin(host: &Arc<Host>, id: SessionId, session: &mut Session, read: OwnedReadHalf, write: OwnedWriteHalf, inbound: Inbound) {
    let (waiting, room) = (Arc::clone(&session.waiting), Arc::clone(&session.room));
    session.connection += 1;
    session.writer = Writer::Idle;
    let id = (id, session.connection);
    let reading = receive(Arc::clone(host), id, read, inbound, Arc::clone(&room));
    session.tasks.push(AbortOnDrop::spawn(reading));
    session.tasks.push(AbortOnDrop::spawn(send(Arc::clone(host), id, write, waiting, room)));
}

/// `connection`: which one of this session.
async fn receive(host: Arc<Host>, (id, connection): (SessionId, u32), mut read: OwnedReadHalf, mut inbound: Inbound, room: Arc<Notify>) {
    loop {
        loop {
            match inbound.next_message::<Request>() {
                Ok(Some(request)) => host.request(id, request),
                Ok(None) => break,
                Err(problem) => {
                    tracing::debug!(target: crate::supervisor::TARGET, %problem, "the connection of a session is dropped");
                    return host.part(id);
                }
            }
            while host.is_full(id) {
                room.notified().await;
            }
        }
        match read_some(&mut read, &mut inbound).await {
            Ok(0) | Err(_) => return host.connection_ended(id, connection),
            Ok(_) => {}
        }
    }
}

async fn send(host: Arc<Host>, (id, connection): (SessionId, u32), mut write: OwnedWriteHalf, waiting: Arc<Notify>, room: Arc<Notify>) {
    loop {
        let piece = host.next_piece(id, PIECE);
        if piece.is_empty() {
            room.notify_one();
            host.outbox_drained(id);
            waiting.notified().await;
            continue;
        }
        if write.write_all(&piece).await.is_err() {
            // The session may have said in what it sent last that it comes again. The reader may be waiting for room.
            host.lose_all((id, connection));
            room.notify_one();
            sleep(RESUMED_WITHIN).await;
            return host.connection_ended(id, connection);
        }
    }
}

impl Host {
    fn is_full(&self, id: SessionId) -> bool {
        self.lock().sessions.get(&id).is_some_and(|session| session.outbox.is_full())
    }

    fn lose_all(&self, (id, connection): (SessionId, u32)) {
        if let Some(session) = self.lock().sessions.get_mut(&id).filter(|session| session.connection == connection) {
            session.outbox.lose_all();
            session.writer = Writer::Gone;
            self.drained.notify_one();
        }
    }

    /// The connection of a session has ended, however that came, and with it the session.
    fn connection_ended(self: &Arc<Self>, id: SessionId, connection: u32) {
        let is_last = self.lock().sessions.get(&id).is_some_and(|session| session.connection == connection && !session.tasks.is_empty());
        if is_last {
            self.end_session(id);
        }
    }

    /// One of both ends has sent what the other does not understand. The session keeps what it has, for a short time and once.
    pub(super) fn part(self: &Arc<Self>, id: SessionId) {
        let mut state = self.lock();
        let Some(session) = state.sessions.get_mut(&id) else { return };
        session.writer = Writer::Gone;
        self.drained.notify_one();
        let token = std::mem::take(&mut session.token);
        if token == 0 {
            drop(state);
            return self.end_session(id);
        }
        // One of them calls this, and is aborted by the drop.
        let tasks = std::mem::take(&mut session.tasks);
        drop(runtime::spawn(async move { drop(tasks) }));
        let host = Arc::downgrade(self);
        let timer = AbortOnDrop::spawn(async move {
            sleep(RESUMED_WITHIN).await;
            let Some(host) = host.upgrade() else { return };
            // Not aborted by its own step.
            let parted = host.lock().parted.remove(&token);
            if let Some(parted) = parted {
                drop(runtime::spawn(async move { drop(parted) }));
                host.end_session(id);
            }
        });
        state.parted.insert(token, (id, timer));
    }

    /// The next frames for this session.
    fn next_piece(&self, id: SessionId, size: usize) -> Vec<u8> {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(session) = state.sessions.get_mut(&id) else { return Vec::new() };
        if let Some(lost) = session.outbox.take_resync() {
            let frames = resync(&state.plugins, id, lost, session.taken);
            session.outbox.push_first(frames.iter().filter_map(|push| encode(push, TO_SESSION_MAX)).collect());
        }
        if session.writer == Writer::Gone {
            return Vec::new();
        }
        session.push_upgrades();
        let piece = session.outbox.take(size);
        session.writer = if piece.is_empty() { Writer::Idle } else { Writer::Busy };
        piece
    }
}

/// What the session has, and what that shows.
fn resync(plugins: &HashMap<String, Plugin>, id: SessionId, lost: u64, taken: RequestId) -> Vec<Push> {
    let held: Vec<_> = plugins.values().filter(|plugin| plugin.is_attached(id)).collect();
    let names = held.iter().map(|plugin| plugin.name.clone()).collect();
    let shown = held.iter().filter_map(|plugin| Some(Push::Shown { plugin: plugin.name.clone(), shown: Box::new(plugin.shown()?) }));
    std::iter::once(Push::Resync { lost, plugins: names, taken }).chain(shown).collect()
}

impl State {
    /// The session of this token, with the connection that has it from now on. It catches up: what waited may be incomplete.
    pub fn resume(&mut self, token: u64, reply: Vec<u8>) -> Option<(SessionId, &mut Session)> {
        let (id, timer) = self.parted.remove(&token)?;
        drop(timer);
        let session = self.sessions.get_mut(&id)?;
        let lost = session.outbox.clear();
        session.upgrades.repeat(|name| self.plugins.get(name).is_some_and(|plugin| plugin.upgraded && plugin.is_attached(id)));
        session.push_frame(Class::Answer, reply);
        let answers: Vec<_> = session.answered.iter().map(|(id, outcome)| Push::Answer { id: *id, outcome: outcome.clone() }).collect();
        // What it was told before the answers is in the resync.
        for push in resync(&self.plugins, id, lost, session.taken).into_iter().chain(answers) {
            session.push(Class::Answer, &push);
        }
        Some((id, session))
    }
}

/// No other session has it by chance.
fn new_token() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(()).max(1)
}
