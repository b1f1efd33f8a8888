//! The connection of one session: requests come in, pushes go out.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::outbox::{Class, Outbox};
use super::{Host, SessionId};
use crate::error::{Facts, Failure};
use crate::sharing::protocol::{Inbound, Interest, Push, Request, TO_SESSION_MAX, encode, encode_in_parts};
use crate::sharing::stream::read_some;
use crate::supervisor::runtime::AbortOnDrop;

/// The size of one write(2).
const PIECE: usize = 64 * 1024;

/// Lines of output wait in their followers, which are bounded and count what they drop, while so much waits for the session.
const LINES_MAX: usize = 256 * 1024;

pub struct Session {
    outbox: Outbox,
    /// Frames wait for the writer.
    waiting: Arc<Notify>,
    /// The outbox was emptied: the reader may go on.
    room: Arc<Notify>,
    pub interest: Interest,
    /// The session wants fresh metrics until then.
    pub metrics_until: Option<Instant>,
    tasks: Vec<AbortOnDrop>,
}

impl Session {
    pub fn new() -> Self {
        Self {
            outbox: Outbox::default(),
            waiting: Arc::default(),
            room: Arc::default(),
            interest: Interest::default(),
            metrics_until: None,
            tasks: Vec::new(),
        }
    }

    pub fn push(&mut self, class: Class, push: &Push) {
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

    pub const fn takes_lines(&self) -> bool {
        self.outbox.bytes() < LINES_MAX
    }

    pub fn is_drained(&self) -> bool {
        self.outbox.is_empty()
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
    let reading = receive(Arc::clone(host), id, read, inbound, Arc::clone(&room));
    session.tasks.push(AbortOnDrop::spawn(reading));
    session.tasks.push(AbortOnDrop::spawn(send(Arc::clone(host), id, write, waiting, room)));
}

async fn receive(host: Arc<Host>, id: SessionId, mut read: OwnedReadHalf, mut inbound: Inbound, room: Arc<Notify>) {
    loop {
        loop {
            match inbound.next_message::<Request>() {
                Ok(Some(request)) => host.request(id, request),
                Ok(None) => break,
                // Its next connection, if it makes one, is another session.
                Err(problem) => {
                    tracing::debug!(target: crate::supervisor::TARGET, %problem, "a session is dropped");
                    return host.end_session(id);
                }
            }
            while host.is_full(id) {
                room.notified().await;
            }
        }
        match read_some(&mut read, &mut inbound).await {
            Ok(0) | Err(_) => return host.end_session(id),
            Ok(_) => {}
        }
    }
}

async fn send(host: Arc<Host>, id: SessionId, mut write: OwnedWriteHalf, waiting: Arc<Notify>, room: Arc<Notify>) {
    loop {
        let piece = host.next_piece(id, PIECE);
        if piece.is_empty() {
            room.notify_one();
            host.outbox_drained(id);
            waiting.notified().await;
            continue;
        }
        // The reader may be waiting for room, so that it does not see the end of the connection.
        if write.write_all(&piece).await.is_err() {
            return host.end_session(id);
        }
    }
}

impl Host {
    fn is_full(&self, id: SessionId) -> bool {
        self.lock().sessions.get(&id).is_some_and(|session| session.outbox.is_full())
    }

    /// The next frames for this session.
    fn next_piece(&self, id: SessionId, size: usize) -> Vec<u8> {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(session) = state.sessions.get_mut(&id) else { return Vec::new() };
        if let Some(lost) = session.outbox.take_resync() {
            let held: Vec<_> = state.plugins.values().filter(|plugin| plugin.is_attached(id)).collect();
            let plugins = held.iter().map(|plugin| plugin.name.clone()).collect();
            let shown =
                held.iter().filter_map(|plugin| Some(Push::Shown { plugin: plugin.name.clone(), shown: Box::new(plugin.shown()?) }));
            let frames = std::iter::once(Push::Resync { lost, plugins }).chain(shown);
            session.outbox.push_first(frames.filter_map(|push| encode(&push, TO_SESSION_MAX)).collect());
        }
        session.outbox.take(size)
    }
}
