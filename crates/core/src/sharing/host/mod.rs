//! The host: the process that supervises the shared daemons of one `envsDir` and user. It has a [`Manager`] as an owner has, and
//! passes the calls of sessions to it and its messages to sessions.
//!
//! ```text
//!   session ── Request ──▶ requests ──▶ Holds ── effects ──▶ Manager
//!      ▲                                  ▲                     │
//!      └───────── Push ── plugin ◀────────┴── mailbox ◀─────────┘
//! ```
//!
//! - `accept`: who may be a session;
//! - `session`, `outbox`, `upgrades`: the connection of one session, and what waits for it;
//! - `requests`: the calls of sessions;
//! - `plugin`, `effects`: one shared plugin, and what its holds ask for;
//! - `feed`: the output of a plugin for one session;
//! - `mailbox`: the messages of the manager;
//! - `life`: when the host leaves;
//! - `log`: log entries become messages.

mod accept;
mod effects;
mod feed;
mod life;
mod log;
mod mailbox;
mod outbox;
mod plugin;
mod requests;
mod session;
mod upgrades;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ally_base::os::{self, Boundary};
use ally_base::wire::{Hello, OwnerDeath};
use tokio::sync::Notify;

use self::life::Life;
use self::plugin::Plugin;
use self::requests::Asked;
use self::session::Session;
use super::place::Place;
use crate::error::Failure;
use crate::lifecycle::Ticket;
use crate::lifecycle::holds::{CallId, Request, Session as SessionId};
use crate::model::Pid;
use crate::supervisor::runtime::{self, AbortOnDrop};
use crate::supervisor::{FollowerId, GuardianProgram, Manager, Options};

pub use super::place::{inherited, write_note};
pub use outbox::{Class, OUTBOX_MAX, Outbox};
pub use upgrades::Upgrades;

pub struct HostOptions {
    pub envs_dir: PathBuf,
    pub guardian: GuardianProgram,
    /// Held, with the note of this process.
    pub lock: File,
    /// Bound at the place of the host.
    pub listener: UnixListener,
}

/// Everything that changes. Locked for one step, never across an await.
struct State {
    sessions: HashMap<SessionId, Session>,
    /// By token: sessions without a connection, until they resume themselves or the timer ends them.
    parted: HashMap<u64, (SessionId, AbortOnDrop)>,
    plugins: HashMap<String, Plugin>,
    /// The calls of the manager that are not settled: the plugin, and the number by which its holds know the call.
    calls: HashMap<Ticket, (String, CallId)>,
    /// The requests that are not answered.
    asked: HashMap<Request, Asked>,
    /// The followers of output: whose, and of which plugin.
    followers: HashMap<FollowerId, (String, SessionId)>,
    life: Life,
    /// Plugins that were stopped for all when a host was killed, and that host. Sessions that had them there do not start them again.
    stopped_after: HashSet<(String, Pid)>,
    /// The last number that was given to a session or a request.
    number: u64,
}

pub struct Host {
    manager: Manager,
    place: Place,
    lock: File,
    /// Device and inode of the socket's file.
    socket: (u64, u64),
    hello: Hello,
    boundary: Option<Boundary>,
    state: Mutex<State>,
    /// The manager's mailbox has messages.
    mail: Arc<Notify>,
    /// A session was sent everything that waited for it, or takes nothing any more.
    drained: Notify,
    /// The host has left: see [`serve`].
    left: Notify,
}

/// Tells the host from any thread to end everything.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(Arc<Notify>);

impl Shutdown {
    pub fn request(&self) {
        self.0.notify_one();
    }
}

/// Serves sessions until nothing is left to supervise. `began`: called once, when connections are answered, or with the reason why
/// they are not.
///
/// # Errors
/// The place of the host is gone, or the listener can't be used.
pub async fn serve(options: HostOptions, shutdown: Shutdown, began: impl FnOnce(Result<(), &Failure>)) -> Result<(), Failure> {
    let host = match begin(options) {
        Ok(host) => host,
        Err(failure) => {
            began(Err(&failure));
            return Err(failure);
        }
    };
    began(Ok(()));
    let ended = Arc::clone(&host);
    drop(runtime::spawn(async move {
        shutdown.0.notified().await;
        ended.end_all();
    }));
    host.left.notified().await;
    Ok(())
}

fn begin(options: HostOptions) -> Result<Arc<Host>, Failure> {
    let HostOptions { envs_dir, guardian, lock, listener } = options;
    let place = Place::open(&envs_dir)?;
    let socket = place.socket_id().ok_or(Failure::NotFound)?;
    let hello = Hello { version: guardian.version.to_owned(), build: guardian.build.to_owned(), pid: os::own_pid() };
    let mail = Arc::new(Notify::new());
    let wake = Arc::clone(&mail);
    let options = Options { envs_dir, owner_death: OwnerDeath::Stop, guardian };
    let manager = Manager::for_host(options, Box::new(move || wake.notify_one()));
    log::install(manager.mailbox());
    let state = State {
        sessions: HashMap::new(),
        parted: HashMap::new(),
        plugins: HashMap::new(),
        calls: HashMap::new(),
        asked: HashMap::new(),
        followers: HashMap::new(),
        life: Life::default(),
        stopped_after: HashSet::new(),
        number: 0,
    };
    // A host that can't see its own boundary compares nothing but users.
    let boundary = Boundary::of(0).ok().flatten();
    let host =
        Host { manager, place, lock, socket, hello, boundary, state: Mutex::new(state), mail, drained: Notify::new(), left: Notify::new() };
    let host = Arc::new(host);
    // Dropped when it leaves, which refuses the connections that wait.
    let listening = accept::listen(&host, listener).map_err(|error| Failure::at(host.place.path(), error))?;
    host.lock().life.listening = Some(listening);
    life::watch_place(&host);
    drop(runtime::spawn(mailbox::read(Arc::clone(&host))));
    host.judge_life(&mut host.lock());
    Ok(host)
}

impl Host {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    const fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }
}
