//! What a dead owner left: recognised by more than a pid, and stopped as a whole tree.

use std::io;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::files::{Folder, Identity, untold};
use super::guardian_client::Maker;
use super::socket::dial;
use crate::config::{KillMode, ProcessConfig};
use crate::error::Failure;
use crate::lifecycle::KILL_PATIENCE;
use crate::model::Pid;
use ally_base::os::{self, Handle, Process};

/// Where the system gives no handle that tells of an exit.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// What SIGKILL hasn't ended by then may never end, and a look at all processes has its price.
const LOOK_AGAIN_LATER: Duration = Duration::from_secs(1);

/// How deep a tree may grow while it is being stopped.
const GENERATIONS: u32 = 16;

/// Ends what the plugin's record names, if that is beyond doubt. What can't be verified is not signalled.
///
/// # Errors
/// `StopFailed` with what could not be killed; `Io`, also where it can't be found out what is left.
pub async fn clear(folder: &Folder, config: &ProcessConfig, manager: u64) -> Result<(), Failure> {
    let mut tree = Tree::default();
    let mut killing = config.shutdown_grace_period.is_zero();
    let mut deadline = Instant::now() + if killing { KILL_PATIENCE } else { config.shutdown_grace_period };
    let mut told = false;
    // Who ends may have left another one behind, so that nobody is known to be left only when nobody is found.
    loop {
        let orphans = find(folder, config)?;
        if !orphans.is_empty() && !std::mem::replace(&mut told, true) {
            let pids = orphans.iter().map(|orphan| orphan.pid.to_string()).collect::<Vec<_>>().join(", ");
            tracing::warn!(target: super::TARGET, manager, plugin = config.plugin_name, pids, "stopping what a dead owner left");
        }
        tree.enlist(orphans, config.kill_mode).map_err(|error| untold(&error))?;
        if tree.0.is_empty() {
            return folder.forget_record();
        }
        if killing {
            tree.kill(config.kill_mode).map_err(|error| untold(&error))?;
        } else {
            tree.ask(config.stop_signal);
        }
        if tree.gone(deadline).await {
            continue;
        }
        if killing {
            return Err(Failure::StopFailed { survivors: tree.survivors() });
        }
        killing = true;
        deadline = Instant::now() + KILL_PATIENCE;
    }
}

fn find(folder: &Folder, config: &ProcessConfig) -> Result<Vec<Process>, Failure> {
    let identity = folder.read_identity()?;
    let recorded = folder.read_pid()?;
    // A pid that our own identity doesn't speak of was written by the TypeScript original, if by anyone.
    let unknown = recorded.filter(|pid| identity.as_ref().is_none_or(|identity| identity.leader != *pid));
    let mut found: Vec<Process> = Vec::new();
    if let Some(pid) = unknown {
        found.extend(bare(pid, config)?);
    }
    if let Some(identity) = identity {
        found.extend(left_of(&identity, config, &[])?.certain);
    }
    // Neither ourselves nor anything that we descend from, whatever a file says.
    let mut orphans = Vec::new();
    for process in found {
        if !os::descends_from(own_pid(), process.pid).map_err(|error| untold(&error))? {
            orphans.push(process);
        }
    }
    Ok(orphans)
}

/// What is left in the session of a leader.
#[derive(Default)]
pub struct Left {
    /// Beyond doubt of the leader's making.
    pub certain: Vec<Process>,
    /// Perhaps so, perhaps a stranger's session, if the leader's number was given to one: neither to be signalled nor to be
    /// taken for gone.
    pub doubtful: Vec<Process>,
}

impl Left {
    fn is_empty(&self) -> bool {
        self.certain.is_empty() && self.doubtful.is_empty()
    }
}

/// What is left of a leader and its session: the leader dies with its keeper, what it made stays behind. While the leader
/// lives its number is nobody else's; a session of that number that began with our socket path in its environment is no
/// accident; and who was `known` before stays so.
///
/// # Errors
/// `Io` where it can't be found out.
pub fn left_of(leader: &Identity, config: &ProcessConfig, known: &[Process]) -> Result<Left, Failure> {
    let mut left = Left::default();
    if !leader.is_of_this_boot()? {
        return Ok(left);
    }
    let socket = config.socket_path.display().to_string();
    let session = os::session(leader.leader).whole().map_err(|error| untold(&error))?;
    let lives = leader.find()?;
    let ours = |process: &Process| {
        process.pid != leader.leader
            && process.start >= leader.start
            && (config.kill_mode == KillMode::Tree || process.group == leader.leader)
    };
    for process in session.into_iter().filter(ours) {
        let certain = lives.is_some()
            || known.iter().any(|known| known.is(&process))
            || os::began_with(process.pid, "SOCKET_PATH", &socket).map_err(|error| untold(&error))?;
        if certain { &mut left.certain } else { &mut left.doubtful }.push(process);
    }
    left.certain.extend(lives);
    Ok(left)
}

fn own_pid() -> Pid {
    nix::unistd::getpid().as_raw()
}

/// A pid file of the TypeScript original: counts only if that process listens at the plugin's socket and
/// works in the plugin's folder.
fn bare(pid: Pid, config: &ProcessConfig) -> Result<Option<Process>, Failure> {
    let Some(process) = os::identify(pid).map_err(|error| untold(&error))?.filter(|process| !process.zombie) else { return Ok(None) };
    // By who has the socket, and not by who once made it: that one's pid may be another's by now.
    let answers = matches!(dial(&config.socket_path), Ok(_) | Err(Errno::EAGAIN));
    let listens = answers && os::holders(&config.socket_path).contains(&pid);
    let works_there = listens && os::working_directory(pid).is_some_and(|folder| same_folder(&folder, &config.plugin_path));
    // All of that was about this very process.
    Ok(Some(process).filter(|process| works_there && process.lives().is_ok_and(|lives| lives)))
}

fn same_folder(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        (Err(_), _) | (_, Err(_)) => false,
    }
}

/// Ends what a keeper that was killed has left. Its guardian, the subreaper above it, does that exactly;
/// if that is gone too, the leader's session is what the kernel still tells of the tree. Does not end before nothing is
/// left: who loses patience is the lifecycle's affair.
pub async fn sweep(mut maker: Option<Maker>, keeper: Pid, leader: Option<Identity>, config: &ProcessConfig, manager: u64) {
    if is_swept(&mut maker, keeper, KILL_PATIENCE).await {
        return;
    }
    if maker.is_some() {
        tracing::warn!(target: super::TARGET, manager, keeper, "the guardian doesn't say that the tree is gone");
    }
    let mut pause = LOOK_AGAIN;
    let mut known = Vec::new();
    loop {
        match leader.as_ref().map_or(Ok(Left::default()), |leader| left_of(leader, config, &known)) {
            Ok(left) if left.is_empty() && maker.is_none() => return,
            Ok(left) => {
                for process in &left.certain {
                    if let Err(error) = os::signal(process, libc::SIGKILL) {
                        tracing::debug!(target: super::TARGET, manager, pid = process.pid, %error, "what a keeper left can't be killed");
                    }
                }
                known = left.certain;
            }
            Err(error) => tracing::debug!(target: super::TARGET, manager, keeper, %error, "what a keeper left can't be looked at"),
        }
        if maker.is_none() {
            sleep(pause).await;
        } else if is_swept(&mut maker, keeper, pause).await {
            return;
        }
        pause = (pause * 2).min(LOOK_AGAIN_LATER);
    }
}

/// Whether the guardian has swept all that this keeper left, within `patience`. One that can't tell any more is let go of.
async fn is_swept(maker: &mut Option<Maker>, keeper: Pid, patience: Duration) -> bool {
    let Some(guardian) = maker else { return false };
    match timeout(patience, guardian.swept(keeper)).await {
        Ok(true) if os::CHILDREN_COME_BACK => true,
        // Gone, or no subreaper: what it has swept is not all there was.
        Ok(_) => {
            *maker = None;
            false
        }
        Err(_) => false,
    }
}

/// Processes that are to end, each held so that nobody else can be meant.
#[derive(Default)]
struct Tree(Vec<Member>);

struct Member {
    process: Process,
    handle: Handle,
    asked: bool,
}

impl Tree {
    /// Adds these, and what descends from them or from anyone already known. With `killMode: 'group'` only those of the
    /// same group.
    fn enlist(&mut self, roots: Vec<Process>, kill_mode: KillMode) -> io::Result<()> {
        let mut found = roots;
        let parents: Vec<Process> = found.iter().chain(self.0.iter().map(|member| &member.process)).copied().collect();
        for parent in parents {
            let below = os::descendants(parent.pid);
            // Its pid may have gone to a stranger since; then those are the stranger's children.
            if parent.lives()? {
                found.extend(below.whole()?.into_iter().filter(|process| kill_mode == KillMode::Tree || process.group == parent.group));
            }
        }
        for process in found {
            if self.0.iter().any(|known| known.process.is(&process)) {
                continue;
            }
            if let Some(handle) = os::open(&process)? {
                self.0.push(Member { process, handle, asked: false });
            }
        }
        Ok(())
    }

    /// Whoever was not asked before.
    fn ask(&mut self, stop_signal: i32) {
        for member in self.0.iter_mut().filter(|member| !member.asked) {
            member.signal(stop_signal);
            member.signal(libc::SIGCONT);
            member.asked = true;
        }
    }

    fn kill(&mut self, kill_mode: KillMode) -> io::Result<()> {
        // Who is stopped forks nobody behind our back.
        let mut stopped = 0;
        let mut enlisted = Ok(());
        for _ in 0..GENERATIONS {
            let Some(new) = self.0.get(stopped..).filter(|new| !new.is_empty() && enlisted.is_ok()) else { break };
            new.iter().for_each(|member| member.signal(libc::SIGSTOP));
            stopped = self.0.len();
            enlisted = self.enlist(Vec::new(), kill_mode);
        }
        self.0.iter().for_each(|member| member.signal(libc::SIGKILL));
        enlisted
    }

    /// Leaves only those that live; true if none does.
    async fn gone(&mut self, deadline: Instant) -> bool {
        while let Some(member) = self.0.last() {
            let lives = member.process.lives();
            if matches!(lives, Ok(false)) {
                self.0.pop();
            } else if Instant::now() >= deadline {
                return false;
            } else if lives.is_ok() {
                member.ended(deadline).await;
            } else {
                sleep(LOOK_AGAIN).await;
            }
        }
        true
    }

    fn survivors(&self) -> Vec<Pid> {
        // Who can't be looked at may live.
        self.0.iter().map(|member| member.process).filter(|process| process.lives().unwrap_or(true)).map(|process| process.pid).collect()
    }
}

impl Member {
    fn signal(&self, signal: i32) {
        // What refuses is still there when the patience ends, and is named then.
        if let Err(error) = self.handle.signal(signal) {
            tracing::debug!(target: super::TARGET, pid = self.process.pid, %error, "an orphan can't be signalled");
        }
    }

    /// It has ended, or it is time to look.
    async fn ended(&self, deadline: Instant) {
        let copy = self.handle.fd.as_ref().and_then(|fd| fd.try_clone().ok());
        // SAFETY: an OwnedFd keeps its descriptor open and unchanged for as long as it lives.
        let watched = copy.and_then(|fd| unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.ok());
        if let Some(watched) = watched {
            // Elapsed or ended: the caller looks for itself.
            drop(timeout_at(deadline, watched.readable()).await);
        } else {
            sleep(LOOK_AGAIN).await;
        }
    }
}
