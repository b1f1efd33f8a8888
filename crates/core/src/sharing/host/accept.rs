//! Who may be a session: a process of this user, inside of the same boundary, and of the same build.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use ally_base::os::{self, Boundary};
use ally_base::wire::FrameBuffer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::session::{self, Session};
use super::{Class, Host};
use crate::sharing::protocol::{Ask, ClientGreeting, GREETING_MAX, HostGreeting, Inbound, TO_HOST_MAX, Verdict};
use crate::supervisor::TARGET;
use crate::supervisor::runtime::{self, AbortOnDrop};

/// The connections that may be without a greeting. A further one waits in the kernel's queue.
const GREETING_CLIENTS_MAX: usize = 64;
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// After an error of accept(2), as EMFILE.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until the result is dropped.
///
/// # Errors
/// The listener can't be watched.
pub fn listen(host: &Arc<Host>, listener: StdListener) -> io::Result<AbortOnDrop> {
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let host = Arc::downgrade(host);
    Ok(AbortOnDrop::spawn(async move {
        let greeting = Arc::new(Semaphore::new(GREETING_CLIENTS_MAX));
        loop {
            // The semaphore is never closed.
            let Ok(permit) = Arc::clone(&greeting).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let Some(host) = host.upgrade() else { return };
                    drop(runtime::spawn(async move { admit(host, stream, permit).await }));
                }
                Err(error) => {
                    tracing::debug!(target: TARGET, %error, "a session can't be accepted yet");
                    sleep(PAUSE).await;
                }
            }
        }
    }))
}

async fn admit(host: Arc<Host>, mut stream: UnixStream, permit: OwnedSemaphorePermit) {
    // Before a byte is read or sent.
    if !os::peer_user(&stream).is_ok_and(|user| user == nix::unistd::geteuid().as_raw()) {
        return;
    }
    let Ok(Some((greeting, rest))) = timeout(GREETING_TIMEOUT, read_greeting(&mut stream)).await else { return };
    drop(permit);
    let difference = boundary_difference(&host, &stream);
    let verdict = host.judge(&greeting, difference);
    let greeted = |verdict| HostGreeting { hello: host.hello.clone(), verdict }.encode();
    if !matches!(verdict, Verdict::Welcome { .. }) {
        let makes_room = matches!(verdict, Verdict::MakesRoom { .. });
        // The client may be gone: then nobody reads why.
        if let Err(error) = stream.write_all(&greeted(verdict)).await {
            tracing::debug!(target: TARGET, %error, "a client that is no session has gone");
        }
        if makes_room {
            host.end_all();
            // Until the host is gone, by which the client knows that all is.
            host.hold_open(stream);
        }
        return;
    }
    let mut inbound = Inbound::new(TO_HOST_MAX);
    inbound.extend(&rest);
    let (read, write) = stream.into_split();
    let mut state = host.lock();
    if state.life.is_leaving() {
        // Reset before an answer: the client asks the next host.
        return;
    }
    if let Ask::Resume(token) = greeting.ask
        && let Some((id, session)) = state.resume(token, greeted(Verdict::Welcome { token }))
    {
        session::begin(&host, id, session, read, write, inbound);
        return;
    }
    let id = state.next_number();
    let mut session = Session::new();
    session.push_frame(Class::Answer, greeted(Verdict::Welcome { token: session.token }));
    session::begin(&host, id, &mut session, read, write, inbound);
    state.sessions.insert(id, session);
    host.judge_life(&mut state);
}

/// `None` if the bytes are no greeting.
async fn read_greeting(stream: &mut UnixStream) -> Option<(ClientGreeting, Vec<u8>)> {
    let mut buffer = FrameBuffer::default();
    let mut piece = [0; 1024];
    while buffer.len() < GREETING_MAX {
        let count = stream.read(&mut piece).await.ok().filter(|count| *count > 0)?;
        buffer.extend(piece.get(..count)?);
        if let Some(greeting) = ClientGreeting::take_from(&mut buffer).ok()? {
            return Some((greeting, buffer.into_rest()));
        }
    }
    None
}

/// What differs between this process and the client, in words.
fn boundary_difference(host: &Host, stream: &UnixStream) -> Option<String> {
    let own = host.boundary.as_ref()?;
    let pid = os::peer_pid(stream).unwrap_or_default();
    if pid <= 0 {
        return Some("pid namespace".to_owned());
    }
    match Boundary::of(pid) {
        Ok(Some(client)) => Some(own.differences(&client).join(", ")).filter(|difference| !difference.is_empty()),
        // It is gone.
        Ok(None) => Some("it is gone".to_owned()),
        Err(error) => Some(format!("what /proc does not show of it: {error}")),
    }
}

impl Host {
    /// A host that makes room takes no request from this step on.
    fn judge(&self, greeting: &ClientGreeting, difference: Option<String>) -> Verdict {
        if let Some(difference) = difference {
            return Verdict::Outside { difference };
        }
        if greeting.ask == Ask::End {
            return self.lock().make_room();
        }
        let mut state = self.lock();
        if greeting.hello.build == self.hello.build {
            let must_wait = matches!(greeting.ask, Ask::Session | Ask::Resume(_)) && state.life.is_leaving();
            return if must_wait { state.make_room() } else { Verdict::Welcome { token: 0 } };
        }
        let sessions = state.holding_sessions();
        match u32::try_from(sessions).unwrap_or(u32::MAX) {
            sessions if greeting.ask == Ask::Look => Verdict::OtherBuild { sessions },
            0 => state.make_room(),
            sessions => Verdict::OtherBuild { sessions },
        }
    }
}
