//! The way to the host: a connection to the one that there is, or a new host.
//!
//! 1. A connection that is answered ends the matter.
//! 2. Without one: who gets the lock makes the socket and the host.
//! 3. Who does not get it tries again.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ally_base::os::{self, Process};
use ally_base::wire::{FrameBuffer, Hello};
use nix::errno::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::spawn::spawn_host;
use crate::error::Failure;
use crate::model::Pid;
use crate::sharing::place::{Note, Place};
use crate::sharing::protocol::{Ask, ClientGreeting, HostGreeting, Inbound, LEFT_MAX, TO_SESSION_MAX, Verdict};
use crate::supervisor::GuardianProgram;

/// The time in which a host must answer.
const LIMIT: Duration = Duration::from_secs(10);
/// The pauses between two tries: doubled up to the last one.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LAST_PAUSE: Duration = Duration::from_millis(50);
/// The reads of one note in a row after which it counts.
const READS_OF_A_NOTE_ELSEWHERE: u32 = 5;
/// A host that has accepted answers at once, unless it is suspended.
const SUSPENDED: Duration = Duration::from_secs(2);

#[derive(Debug, Clone)]
pub struct Target {
    pub envs_dir: PathBuf,
    pub program: GuardianProgram,
}

pub struct Link {
    pub host: Pid,
    pub read: OwnedReadHalf,
    pub write: OwnedWriteHalf,
    pub inbound: Inbound,
    /// By which the session resumes itself.
    pub token: u64,
    /// The time in which former hosts have ended their daemons. No start is late because of it.
    pub waited: Duration,
}

/// One try.
enum Try {
    Linked(Box<Link>),
    /// There is no host, or it is leaving.
    Nobody,
    /// It has ended before it answered.
    Ended(Option<Pid>),
    /// It ends everything first.
    MakesRoom(Room),
    /// The queue of its socket is full.
    Busy,
    /// It does not answer. The note of who holds its lock, if there is one.
    Silent(Option<Note>),
}

/// A host that ends everything, in this time.
struct Room {
    host: Pid,
    stream: UnixStream,
    within: Duration,
    /// What came behind the greeting.
    said: Vec<u8>,
}

/// A connection to the host. Makes a host if there is none.
///
/// # Errors
/// `HostRefuses`, `OwnedOutside`; `HostSilent` after some seconds; why this process can't make a host.
pub async fn connect(target: &Target) -> Result<Link, Failure> {
    let place = Place::open(&target.envs_dir)?;
    let mut deadline = Instant::now() + LIMIT;
    let mut waited = Duration::ZERO;
    let (mut pause, mut reads_elsewhere) = (FIRST_PAUSE, 0);
    loop {
        let problem = match try_connect(&place, target, Ask::Session, deadline).await? {
            Try::Linked(link) => return Ok(Link { waited, ..*link }),
            Try::MakesRoom(room) => {
                let begun = Instant::now();
                // If it leaves something, the start of that plugin says so.
                await_end(room).await?;
                waited += begun.elapsed();
                deadline = Instant::now() + LIMIT;
                continue;
            }
            Try::Silent(note) => {
                wake_noted(note.as_ref());
                silent(note.as_ref())
            }
            Try::Busy => held(&place),
            Try::Nobody | Try::Ended(_) => match place.try_lock()? {
                Some(lock) => match spawn_host(&place, lock, target, deadline).await {
                    Ok(()) => continue,
                    Err(failure) if matches!(failure, Failure::HostSilent { .. }) => failure,
                    Err(failure) => return Err(failure),
                },
                None => held(&place),
            },
        };
        // A note that a reboot or a killed container has left stands until the next holder has written its own.
        reads_elsewhere = if matches!(problem, Failure::OwnedOutside { .. }) { reads_elsewhere + 1 } else { 0 };
        if reads_elsewhere >= READS_OF_A_NOTE_ELSEWHERE {
            return Err(problem);
        }
        if Instant::now() + pause > deadline {
            return Err(problem);
        }
        sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// A host that is there.
pub enum Existing {
    Linked(Link),
    Nobody,
    /// It has ended, and could not end all of its daemons.
    Left(Pid),
    /// It was killed, and has left its socket.
    Died(Pid),
}

/// A connection to a host that is there.
///
/// # Errors
/// As [`connect`].
pub async fn connect_to_existing(target: &Target) -> Result<Existing, Failure> {
    if !Place::has_socket(&target.envs_dir) {
        return Ok(Existing::Nobody);
    }
    find(target, Ask::Session).await
}

/// Another connection of the session with this token. `None` if its host is gone, or does not know it any more.
pub async fn resume(target: &Target, token: u64) -> Option<Link> {
    let place = Place::open(&target.envs_dir).ok()?;
    match try_connect(&place, target, Ask::Resume(token), Instant::now() + SUSPENDED).await {
        Ok(Try::Linked(link)) if link.token == token => Some(*link),
        _ => None,
    }
}

/// A connection that is no session, to a host that is there. `None` without one.
///
/// # Errors
/// As [`connect`]; `HostRefuses` also if the host of another build has no session.
pub async fn look_link(target: &Target) -> Result<Option<Link>, Failure> {
    if !Place::has_socket(&target.envs_dir) {
        return Ok(None);
    }
    match find(target, Ask::Look).await? {
        Existing::Linked(link) => Ok(Some(link)),
        Existing::Nobody | Existing::Left(_) | Existing::Died(_) => Ok(None),
    }
}

async fn find(target: &Target, ask: Ask) -> Result<Existing, Failure> {
    let place = Place::open(&target.envs_dir)?;
    let deadline = Instant::now() + LIMIT;
    loop {
        match try_when_not_busy(&place, target, ask, deadline).await? {
            Try::Linked(link) => return Ok(Existing::Linked(*link)),
            Try::Nobody => return Ok(Existing::Nobody),
            // One that leaves removes its socket first.
            Try::Ended(Some(host)) if Place::has_socket(&target.envs_dir) => return Ok(Existing::Died(host)),
            Try::Ended(_) => return Ok(Existing::Nobody),
            Try::MakesRoom(room) => {
                let host = room.host;
                let left = await_end(room).await?;
                return Ok(if left.is_empty() { Existing::Nobody } else { Existing::Left(host) });
            }
            // A look changes nothing, so it wakes nobody.
            Try::Silent(note) if ask == Ask::Look || Instant::now() >= deadline => return Err(silent(note.as_ref())),
            Try::Silent(note) => wake_noted(note.as_ref()),
            Try::Busy => return Err(held(&place)),
        }
    }
}

/// `Busy` only at the deadline. A full queue is no proof that there is no host.
async fn try_when_not_busy(place: &Place, target: &Target, ask: Ask, deadline: Instant) -> Result<Try, Failure> {
    let mut pause = FIRST_PAUSE;
    loop {
        let tried = try_connect(place, target, ask, deadline).await?;
        if !matches!(tried, Try::Busy) || Instant::now() + pause > deadline {
            return Ok(tried);
        }
        sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Asks the host, of whatever build, to end everything. Returns whether there was one.
///
/// # Errors
/// As [`connect`]; `NotEnded` if processes of its daemons are left.
pub async fn end_host(target: &Target) -> Result<bool, Failure> {
    if !Place::has_socket(&target.envs_dir) {
        return Ok(false);
    }
    let place = Place::open(&target.envs_dir)?;
    match try_when_not_busy(&place, target, Ask::End, Instant::now() + LIMIT).await? {
        Try::Linked(_) | Try::Nobody | Try::Ended(_) => Ok(false),
        Try::MakesRoom(room) => match await_end(room).await? {
            left if left.is_empty() => Ok(true),
            left => Err(Failure::NotEnded { problem: format!("it has ended, but processes of its daemons go on: {left}") }),
        },
        Try::Busy => Err(held(&place)),
        Try::Silent(note) => Err(silent(note.as_ref())),
    }
}

async fn try_connect(place: &Place, target: &Target, ask: Ask, deadline: Instant) -> Result<Try, Failure> {
    let stream = match place.connect() {
        Ok(stream) => stream,
        Err(Errno::EAGAIN) => return Ok(Try::Busy),
        Err(Errno::ENOENT) => return Ok(Try::Nobody),
        Err(Errno::ECONNREFUSED | Errno::ECONNRESET) => return Ok(Try::Ended(noted_here(place))),
        Err(error) => return Err(Failure::call("connect", place.path(), error)),
    };
    let user = os::peer_user(&stream).map_err(|error| Failure::call("getsockopt", place.path(), error))?;
    if user != nix::unistd::geteuid().as_raw() {
        // Nothing was sent.
        let problem = format!("uid {user} answers at {}", place.path().display());
        return Err(Failure::HostRefuses { host: None, problem });
    }
    let host = noted_here(place);
    let failed = |error: io::Error| Failure::at(place.path(), error);
    stream.set_nonblocking(true).map_err(failed)?;
    let mut stream = UnixStream::from_std(stream).map_err(failed)?;
    let hello = Hello { version: target.program.version.to_owned(), build: target.program.build.to_owned(), pid: os::own_pid() };
    if stream.write_all(&ClientGreeting { hello, ask }.encode()).await.is_err() {
        return Ok(Try::Ended(host));
    }
    let answer = timeout_at(deadline.min(Instant::now() + SUSPENDED), read_greeting(&mut stream)).await;
    let Ok(answer) = answer else {
        let note = place.note();
        // The pid counts elsewhere, so nobody here can be waited for or continued.
        return match note.as_ref().and_then(|note| Some((note.pid, note.elsewhere()?))) {
            Some((pid, place)) => Err(Failure::OwnedOutside { pid, place }),
            None => Ok(Try::Silent(note)),
        };
    };
    let Some((greeting, rest)) = answer else { return Ok(Try::Ended(host)) };
    let HostGreeting { hello, verdict } = greeting;
    match verdict {
        Verdict::Welcome { token } => {
            let mut inbound = Inbound::new(TO_SESSION_MAX);
            inbound.extend(&rest);
            let (read, write) = stream.into_split();
            Ok(Try::Linked(Box::new(Link { host: hello.pid, read, write, inbound, token, waited: Duration::ZERO })))
        }
        Verdict::MakesRoom { within } => Ok(Try::MakesRoom(Room { host: hello.pid, stream, within, said: rest })),
        Verdict::OtherBuild { sessions } => Err(other_build(&hello, target, sessions)),
        Verdict::Outside { difference } => {
            let problem = format!("the host of shared daemons (process {}) is in another sandbox: {difference}", hello.pid);
            Err(Failure::HostRefuses { host: Some(hello.pid), problem })
        }
    }
}

/// Who has the lock, or had it, if its pid counts here.
fn noted_here(place: &Place) -> Option<Pid> {
    place.note().filter(|note| note.elsewhere().is_none()).map(|note| note.pid)
}

/// `None` if the stream ends, or the bytes are no greeting.
async fn read_greeting(stream: &mut UnixStream) -> Option<(HostGreeting, Vec<u8>)> {
    let mut buffer = FrameBuffer::default();
    let mut piece = [0; 1024];
    loop {
        if let Some(greeting) = HostGreeting::take_from(&mut buffer).ok()? {
            return Some((greeting, buffer.into_rest()));
        }
        let count = stream.read(&mut piece).await.ok().filter(|count| *count > 0)?;
        buffer.extend(piece.get(..count)?);
    }
}

/// Waits for the end of the stream, which is that of the host. Returns what it says that it could not end.
///
/// # Errors
/// `HostSilent`: it has not ended in this time.
async fn await_end(Room { mut stream, within, said: mut left, .. }: Room) -> Result<String, Failure> {
    let mut piece = [0; 512];
    let ended = async {
        while let Some(bytes) = stream.read(&mut piece).await.ok().and_then(|count| piece.get(..count)).filter(|bytes| !bytes.is_empty()) {
            left.extend(bytes.iter().take(LEFT_MAX.saturating_sub(left.len())));
        }
    };
    timeout(within, ended).await.map(|()| String::from_utf8_lossy(&left).into_owned()).map_err(|_| {
        let problem = format!("the host of shared daemons has not ended within {} s", within.as_secs());
        Failure::HostSilent { problem }
    })
}

fn other_build(host: &Hello, target: &Target, sessions: u32) -> Failure {
    let GuardianProgram { version, build, .. } = &target.program;
    let (noun, verb) = if sessions == 1 { ("session", "uses") } else { ("sessions", "use") };
    let problem = format!(
        "the host of shared daemons (process {}) is of another build ({} {}) than this session ({version} {build}), and {sessions} {noun} \
         {verb} it; close them, or run `ally-daemons stop --all`",
        host.pid, host.version, host.build
    );
    Failure::HostRefuses { host: Some(host.pid), problem }
}

/// Why the lock is held, although no host answers. `OwnedOutside`: nothing can be said about its holder.
fn held(place: &Place) -> Failure {
    match place.note() {
        Some(note) => match note.elsewhere() {
            Some(elsewhere) => Failure::OwnedOutside { pid: note.pid, place: elsewhere },
            None => silent(Some(&note)),
        },
        None => silent(None),
    }
}

fn silent(note: Option<&Note>) -> Failure {
    let who = match note.filter(|note| os::may_live(note.pid, note.start)).map(|note| note.pid) {
        None => "the host of shared daemons".to_owned(),
        Some(pid) if os::is_stopped(pid).unwrap_or(false) => format!("the host of shared daemons, process {pid}, which is stopped,"),
        Some(pid) => format!("the host of shared daemons, process {pid},"),
    };
    Failure::HostSilent { problem: format!("{who} does not answer") }
}

/// As [`wake`], by the note in the lock file: only the process that wrote it, or for which it was written.
fn wake_noted(note: Option<&Note>) {
    if let Some(note) = note.filter(|note| os::may_live(note.pid, note.start)) {
        wake(note.pid);
    }
}

/// Continues a host that may be suspended. It is never killed.
pub fn wake(host: Pid) {
    if let Some(process) = os::look_up(host).filter(is_own)
        && let Err(error) = os::signal(&process, libc::SIGCONT)
    {
        tracing::debug!(target: crate::supervisor::TARGET, %error, host, "the host can't be continued");
    }
}

fn is_own(process: &Process) -> bool {
    process.pid > 1 && process.pid != os::own_pid()
}
