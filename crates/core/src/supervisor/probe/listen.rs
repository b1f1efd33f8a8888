//! The probe `listen`: the kernel shows that a process of the daemon listens at the socket. Nothing connects, so a daemon that
//! serves one connection, or dies of an empty one, is not harmed.

use std::fs::{self, Metadata};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::SockType;
use tokio::time::Instant;

use super::accepted::is_own_error;
use super::daemon::ProbedDaemon;
use super::question::Answer;
use crate::supervisor::socket::SocketFileId;
use ally_base::os::{self, Bound, LeaderSocket, Listeners, Listening, SockDiag};
use ally_base::text::io_text;

/// bind(2) makes the file before the kernel shows its socket, and listen(2) follows within microseconds. A file without a
/// listener is judged after this time: a connection in between could reach the daemon.
const SETTLED: Duration = Duration::from_millis(1);
/// The kernel's list of listening sockets serves all daemons that ask within this time, each of them once.
const LIST_LIFETIME: Duration = Duration::from_millis(1);

/// What one question remembers between two tries.
#[derive(Default)]
pub struct ListenQuestion {
    /// The way on which the kernel was asked. It stays open as long as a question waits.
    diag: Option<Arc<SockDiag>>,
    list: Option<Arc<List>>,
    /// A file, and the leader's socket that is bound to it. `None`: the leader has none, and the list must tell.
    own: Option<(SocketFileId, Option<LeaderSocket>)>,
    /// The file without a listener, the time of the first try that found it so, and the kernel's word about it.
    silent: Option<(SocketFileId, Instant, Option<Bound>)>,
}

struct List {
    at: Instant,
    listeners: Listeners,
}

/// What all questions share, as long as one of them has it.
#[derive(Default)]
struct Shared {
    diag: Weak<SockDiag>,
    list: Weak<List>,
}

static SHARED: Mutex<Shared> = Mutex::new(Shared { diag: Weak::new(), list: Weak::new() });

impl Shared {
    /// The way on which the kernel is asked.
    fn diag(&mut self) -> io::Result<Arc<SockDiag>> {
        if let Some(diag) = self.diag.upgrade() {
            return Ok(diag);
        }
        let diag = Arc::new(SockDiag::open()?);
        self.diag = Arc::downgrade(&diag);
        Ok(diag)
    }

    /// The request failed. The rest of its answer may follow, and must not be taken for the answer of the next one.
    fn forget_diag(&mut self) {
        self.diag = Weak::new();
    }
}

impl ListenQuestion {
    /// `None` if the kernel can't tell who listens: the caller connects.
    pub fn ask(&mut self, path: &Path, daemon: &ProbedDaemon) -> Option<Answer> {
        let found = match fs::metadata(path) {
            Ok(found) => found,
            Err(error) => return missing_file(&error),
        };
        let file = SocketFileId::of(&found);
        if let Some((bound, kind)) = self.ask_leader(path, &found, &file, daemon) {
            if bound != Bound::Listening {
                return self.judge_silent(path, file, daemon, Some(bound));
            }
            daemon.remember_kind(file, kind);
            return Some(Answer::Passed);
        }
        let listeners = match self.list() {
            Ok(list) => &list.listeners,
            Err(error) if is_own_error(&error) => return Some(Answer::NotMade(io_text(&error))),
            // There is no netlink, or no unix_diag.
            Err(_) => return None,
        };
        match listeners.listening(path, daemon.keeper, daemon.leader) {
            Ok(Listening::Tree(kind)) => {
                daemon.remember_kind(file, kind);
                Some(Answer::Passed)
            }
            Ok(Listening::NotFound(kind)) => {
                daemon.remember_kind(file, kind);
                None
            }
            Ok(Listening::Nobody) => self.judge_silent(path, file, daemon, None),
            Err(error) => missing_file(&error),
        }
    }

    /// The leader's own socket at this file. `None` if the leader has none, or if the kernel did not answer: the list is complete, and
    /// its request is made on another way.
    fn ask_leader(&mut self, path: &Path, found: &Metadata, file: &SocketFileId, daemon: &ProbedDaemon) -> Option<(Bound, SockType)> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let diag = &**self.diag.insert(shared.diag().ok()?);
        let asked = match &self.own {
            Some((known, own)) if known == file => (*own)?.state(diag),
            _ => LeaderSocket::find(diag, path, found, daemon.leader).map(|found| {
                self.own = Some((file.clone(), found.map(|(own, ..)| own)));
                found.map(|(_, bound, kind)| (bound, kind))
            }),
        };
        if asked.is_err() {
            shared.forget_diag();
        }
        let state = asked.ok().flatten();
        if state.is_none() {
            self.own = Some((file.clone(), None));
        }
        state
    }

    /// `said`: the kernel's word about the file, if it is known.
    fn judge_silent(&mut self, path: &Path, file: SocketFileId, daemon: &ProbedDaemon, said: Option<Bound>) -> Option<Answer> {
        let too_early = || Some(Answer::TooEarly("nobody listens on it".to_owned()));
        let (known, since, bound) = self.silent.get_or_insert_with(|| (file.clone(), Instant::now(), None));
        if *known != file {
            self.silent = Some((file, Instant::now(), None));
            return too_early();
        }
        if since.elapsed() < SETTLED {
            return too_early();
        }
        // A file belongs to one socket for good. Only `Unknown` is asked again: the kernel may not show the socket yet.
        let said = match said.or(*bound) {
            Some(said @ (Bound::NotListening | Bound::Datagram)) => said,
            _ => match os::bound_socket(path, daemon.keeper, daemon.leader) {
                Ok(said) => said,
                Err(error) => return missing_file(&error),
            },
        };
        *bound = Some(said);
        match said {
            Bound::Listening => too_early(),
            Bound::NotListening => Some(Answer::NotListening),
            Bound::Datagram => Some(Answer::Failed(datagram(path))),
            Bound::Unknown => None,
        }
    }

    /// A list that this question has not used yet.
    fn list(&mut self) -> io::Result<&List> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let is_used = |list: &Arc<List>| self.list.as_ref().is_some_and(|used| Arc::ptr_eq(used, list));
        let fresh = shared.list.upgrade().filter(|list| list.at.elapsed() < LIST_LIFETIME && !is_used(list));
        let list = match fresh {
            Some(list) => list,
            None => {
                let diag = self.diag.insert(shared.diag()?);
                let listeners = Listeners::read(diag).inspect_err(|_| shared.forget_diag())?;
                Arc::new(List { at: Instant::now(), listeners })
            }
        };
        shared.list = Arc::downgrade(&list);
        Ok(self.list.insert(list))
    }
}

/// stat(2) failed. For another reason than a missing file the caller connects, because connect(2) tells more.
fn missing_file(error: &io::Error) -> Option<Answer> {
    let errno = error.raw_os_error().map(Errno::from_raw)?;
    matches!(errno, Errno::ENOENT | Errno::ENOTDIR).then_some(Answer::Unreachable(errno))
}

/// The reason of a daemon that can never be ready.
pub fn datagram(path: &Path) -> String {
    format!("a datagram socket is bound at {}", path.display())
}
