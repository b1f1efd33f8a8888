//! The probe `listen`: the kernel shows that a process of the daemon listens at the socket. Nothing connects, so a daemon that
//! serves one connection, or dies of an empty one, is not harmed.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use nix::errno::Errno;
use tokio::time::Instant;

use super::accepted::is_own_error;
use super::daemon::ProbedDaemon;
use super::question::Answer;
use crate::supervisor::socket::SocketFileId;
use ally_base::os::{self, Bound, Listeners, Listening, SockDiag};
use ally_base::text::io_text;

/// bind(2) makes the file before the kernel shows its socket, and listen(2) follows within microseconds. A file without a
/// listener is judged after this time: a connection in between could reach the daemon.
const SETTLED: Duration = Duration::from_millis(1);
/// The kernel's list of listening sockets serves all daemons that ask within this time, each of them once.
const LIST_LIFETIME: Duration = Duration::from_millis(1);

/// What one question remembers between two tries.
#[derive(Default)]
pub struct ListenQuestion {
    list: Option<Arc<List>>,
    /// The file without a listener, the time of the first try that found it so, and the kernel's word about it.
    silent: Option<(SocketFileId, Instant, Option<Bound>)>,
}

struct List {
    at: Instant,
    listeners: Listeners,
    /// The way on which the list was asked for. The next list comes on it too, as long as a question waits.
    diag: Arc<SockDiag>,
}

/// The last list, as long as a question has it.
static LAST: Mutex<Weak<List>> = Mutex::new(Weak::new());

impl ListenQuestion {
    /// `None` if the kernel can't tell who listens: the caller connects.
    pub fn ask(&mut self, path: &Path, daemon: &ProbedDaemon) -> Option<Answer> {
        let file = match SocketFileId::find(path) {
            Ok(file) => file,
            Err(error) => return missing_file(&error),
        };
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
            Ok(Listening::Nobody) => self.judge_silent(path, file, daemon),
            Err(error) => missing_file(&error),
        }
    }

    fn judge_silent(&mut self, path: &Path, file: SocketFileId, daemon: &ProbedDaemon) -> Option<Answer> {
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
        let said = match bound {
            Some(said @ (Bound::NotListening | Bound::Datagram)) => *said,
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
        let mut board = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        let last = board.upgrade();
        let is_used = |list: &Arc<List>| self.list.as_ref().is_some_and(|used| Arc::ptr_eq(used, list));
        let fresh = last.as_ref().filter(|list| list.at.elapsed() < LIST_LIFETIME && !is_used(list)).cloned();
        let list = match fresh {
            Some(list) => list,
            None => Arc::new(List::read(last.map(|list| Arc::clone(&list.diag))).inspect_err(|_| *board = Weak::new())?),
        };
        *board = Arc::downgrade(&list);
        Ok(self.list.insert(list))
    }
}

impl List {
    fn read(diag: Option<Arc<SockDiag>>) -> io::Result<Self> {
        let diag = diag.map_or_else(|| SockDiag::open().map(Arc::new), Ok)?;
        Ok(Self { at: Instant::now(), listeners: Listeners::read(&diag)?, diag })
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
