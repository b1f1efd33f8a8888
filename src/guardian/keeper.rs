//! The subreaper of one daemon's tree: it makes the leader, reaps everybody, tells the owner, and
//! ends the tree when the owner says so or is gone.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use nix::unistd::{UnlinkatFlags, unlinkat};

use super::child::{FAILURE, become_daemon, decode_failure};
use super::os::{self, Group, Look, Process};
use super::protocol::{Command, DESCRIPTORS, IDENTITY_FILE, Order, OwnerDeath, PID_FILE, Report, Stage};
use super::survivors;
use super::sys::{self, Payload, Reaped};

/// How often the tree is looked through again while it ends: a process may have been forked during the last look.
const KILL_AGAIN: Duration = Duration::from_millis(20);
/// What has not gone by then, or was not asked to, may never go, and costs a look now and then.
const KILL_AGAIN_LATER: Duration = Duration::from_secs(1);

/// What a keeper's end tells the guardian, as its exit code. One that was killed tells nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    NothingLeft,
    /// What is left may live (`killMode: 'group'`).
    SomeReleased,
}

impl Farewell {
    const fn code(self) -> i32 {
        match self {
            Self::NothingLeft => 0,
            Self::SomeReleased => 3,
        }
    }

    /// From a wait status.
    pub fn of(status: i32) -> Option<Self> {
        [Self::NothingLeft, Self::SomeReleased].into_iter().find(|one| libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == one.code())
    }
}

/// Never returns to the guardian's loop.
pub fn run(payload: Payload, descriptors: Vec<OwnedFd>) -> ! {
    // One that could make nothing of its order has left nothing.
    let code = Keeper::new(payload, descriptors).map_or(Farewell::NothingLeft, Keeper::keep).code();
    // SAFETY: ends this process without running what belongs to the guardian.
    unsafe { libc::_exit(code) }
}

/// How far the end of the tree has got.
#[derive(Clone, Copy, PartialEq)]
enum Ending {
    No,
    /// Asked; with the time to lose patience where the owner can't tell it any more.
    Asked(Option<Instant>),
    /// With the pause before the next look.
    Killing(Duration),
}

/// Another look that is due.
#[derive(Clone, Copy)]
struct Again {
    at: Instant,
    pause: Duration,
}

struct Keeper {
    /// `None` once the owner is gone.
    owner: Option<OwnedFd>,
    /// Open until the leader has become its program, or could not.
    birth: Option<OwnedFd>,
    /// The leader while it lives.
    leader: Option<i32>,
    group: i32,
    /// The same, for signals that meet all of it at once. `None` where the system has no such thing.
    whole_group: Option<Group>,
    group_only: bool,
    owner_death: OwnerDeath,
    stop_signal: i32,
    grace: Duration,
    ending: Ending,
    lock: File,
    /// The read ends of both outputs, to be drained after the owner's death.
    drains: [Option<OwnedFd>; 2],
    /// The plugin's, where its record is.
    folder: OwnedFd,
    /// The leader, while the session that it made has not been seen empty.
    session_of: Option<i32>,
    /// The tree at the last look, where what loses its parent doesn't come back.
    seen: Vec<Process>,
    /// Who was asked to stop, by pid.
    asked: Vec<i32>,
    /// If some may have been missed then.
    ask_again: Option<Again>,
}

impl Keeper {
    fn new(payload: Payload, descriptors: Vec<OwnedFd>) -> Option<Self> {
        rename();
        sys::forget_requests();
        let order = Order::decode(payload.bytes())?;
        if descriptors.len() != DESCRIPTORS {
            return None;
        }
        let mut descriptors = descriptors.into_iter();
        let (owner, stdout, stderr, lock) = (descriptors.next()?, descriptors.next()?, descriptors.next()?, descriptors.next()?);
        let drains = [descriptors.next(), descriptors.next()];
        let folder = descriptors.next()?;
        let own = sys::own_pid();
        let made = sys::become_subreaper().and_then(|()| pipe()).and_then(|(birth, failure)| match sys::fork()? {
            0 => become_daemon(&order, own, [&stdout, &stderr], failure),
            leader => Ok((birth, leader)),
        });
        match made {
            Ok((birth, leader)) => Some(Self {
                owner: Some(owner),
                birth: Some(birth),
                leader: Some(leader),
                group: leader,
                whole_group: Group::of(leader).ok(),
                group_only: order.group_only,
                owner_death: order.owner_death,
                stop_signal: order.stop_signal,
                grace: Duration::from_millis(order.grace_ms.into()),
                ending: Ending::No,
                lock: File::from(lock),
                drains,
                folder,
                session_of: Some(leader),
                seen: Vec::new(),
                asked: Vec::new(),
                ask_again: None,
            }),
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EAGAIN);
                sys::note(sys::send_report(&owner, Report::SpawnFailed { stage: Stage::Fork, errno }));
                None
            }
        }
    }

    fn keep(mut self) -> Farewell {
        loop {
            let [commanded, born, stdout, stderr] = sys::wait_for(
                [self.owner.as_ref().map(AsRawFd::as_raw_fd), self.birth.as_ref().map(AsRawFd::as_raw_fd), self.drain(0), self.drain(1)],
                self.patience(),
            );
            if born && !self.birth() {
                return Farewell::NothingLeft;
            }
            if self.reap() {
                return self.farewell();
            }
            if commanded {
                self.obey();
            }
            for (output, readable) in [stdout, stderr].into_iter().enumerate() {
                if readable {
                    self.discard(output);
                }
            }
            if self.owner.is_none() && sys::asked_to_stop() && self.ending == Ending::No {
                self.terminate();
            }
            self.lose_patience();
        }
    }

    /// The tree is gone; what is left was to outlive it.
    fn farewell(self) -> Farewell {
        if !self.group_only || os::descendants(sys::own_pid()).found_nobody() {
            return Farewell::NothingLeft;
        }
        // Whoever reads on doesn't keep the name.
        drop(self.lock);
        sys::note(survivors::leave_reader(self.owner, self.drains));
        Farewell::SomeReleased
    }

    /// False if there is no daemon and never was one.
    fn birth(&mut self) -> bool {
        let (Some(birth), Some(leader)) = (self.birth.take(), self.leader) else { return true };
        let mut failure = [0; FAILURE];
        if File::from(birth).read_exact(&mut failure).is_err() {
            self.report(Report::Spawned { leader, keeper: sys::own_pid() });
            return true;
        }
        let (stage, errno) = decode_failure(failure);
        self.report(Report::SpawnFailed { stage, errno });
        false
    }

    /// Whether the tree is gone.
    fn reap(&mut self) -> bool {
        let mut exited = None;
        let childless = loop {
            match sys::reap() {
                Reaped::Child { pid, status } if Some(pid) == self.leader => exited = Some(status),
                Reaped::Child { .. } => {}
                Reaped::Nobody => break false,
                Reaped::Childless => break true,
            }
        };
        if exited.is_some() {
            if !self.birth() {
                return true;
            }
            self.leader = None;
        }
        if self.leader.is_some() {
            return false;
        }
        let gone = if self.group_only || !os::CHILDREN_COME_BACK { self.members(&mut |_| {}).found_nobody() } else { childless };
        if gone {
            self.forget_record();
        }
        match exited {
            Some(status) => self.report(Report::Exited { status, remains: !gone }),
            None if gone => self.report(Report::TreeGone),
            None => {}
        }
        gone
    }

    /// Before the owner is told: it may die before it could do it, and its next daemon has another record. The name is
    /// still ours, so it is nobody else's.
    fn forget_record(&self) {
        for name in [PID_FILE, IDENTITY_FILE] {
            // An owner that lives tries again, and warns.
            sys::note(unlinkat(&self.folder, name, UnlinkatFlags::NoRemoveDir).map_err(io::Error::from));
        }
    }

    fn obey(&mut self) {
        let Some(owner) = &self.owner else { return };
        let mut commands = [0; 16];
        let count = match nix::sys::socket::recv(owner.as_raw_fd(), &mut commands, nix::sys::socket::MsgFlags::empty()) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => return,
            Err(_) => 0,
        };
        if count == 0 {
            return self.bereaved();
        }
        for command in commands.iter().take(count).filter_map(|byte| Command::decode(*byte)) {
            match command {
                Command::Terminate => {
                    self.ending = Ending::Asked(None);
                    self.signal_stop();
                }
                Command::Kill => {
                    self.kill();
                }
            }
        }
    }

    /// The owner is gone, however that came.
    fn bereaved(&mut self) {
        self.owner = None;
        // Asked while the owner lived, it was not for others to ask.
        sys::forget_requests();
        // Whoever finds the lock taken must not take our dead owner for a live one.
        let start = os::start_time(sys::own_pid()).unwrap_or_default();
        let note = format!("keeper {} {start} {}\n", sys::own_pid(), self.grace.as_millis());
        // In place, and then cut: a full disk has no room for what would be written anew.
        sys::note(self.lock.write_all_at(note.as_bytes(), 0).and_then(|()| self.lock.set_len(note.len() as u64)));
        match (self.owner_death, self.ending) {
            (OwnerDeath::Keep, Ending::No) => {}
            (OwnerDeath::Stop, Ending::No) => self.terminate(),
            (_, Ending::Asked(_)) => self.ending = Ending::Asked(Some(Instant::now() + self.grace)),
            (_, Ending::Killing(_)) => {}
        }
    }

    fn terminate(&mut self) {
        self.ending = Ending::Asked(Some(Instant::now() + self.grace));
        if !self.grace.is_zero() {
            self.signal_stop();
        }
    }

    fn patience(&self) -> Option<Duration> {
        match self.ending {
            Ending::No => self.unheard(KILL_AGAIN_LATER),
            Ending::Asked(until) => {
                let next = until.into_iter().chain(self.ask_again.map(|again| again.at)).min();
                let left = next.map(|next| next.saturating_duration_since(Instant::now()));
                left.into_iter().chain(self.unheard(KILL_AGAIN)).min()
            }
            Ending::Killing(pause) => Some(pause),
        }
    }

    /// The pause before the next look at those that are nobody's children and end without telling, if there can be any.
    fn unheard(&self, pause: Duration) -> Option<Duration> {
        (self.leader.is_none() && (self.group_only || !os::CHILDREN_COME_BACK)).then_some(pause)
    }

    fn lose_patience(&mut self) {
        match self.ending {
            Ending::Asked(Some(until)) if Instant::now() >= until => self.kill(),
            Ending::Killing(_) => self.kill(),
            Ending::Asked(_) if self.ask_again.is_some_and(|again| Instant::now() >= again.at) => self.signal_stop(),
            Ending::No | Ending::Asked(_) => {}
        }
    }

    /// Asks everyone who wasn't asked before.
    fn signal_stop(&mut self) {
        // Only when the look is over: what one starts to clean up is not asked to stop.
        let members = self.members(&mut |_| {});
        for process in &members.seen {
            if !self.asked.contains(&process.pid) {
                sys::note(os::signal(process, self.stop_signal));
                sys::note(os::signal(process, libc::SIGCONT));
                self.asked.push(process.pid);
            }
        }
        if let Some(leader) = self.unseen_leader(&members).filter(|leader| !self.asked.contains(leader)) {
            sys::note(sys::kill(leader, self.stop_signal));
            sys::note(sys::kill(leader, libc::SIGCONT));
            self.asked.push(leader);
        }
        self.ask_again = members.failed.map(|_| {
            let pause = self.ask_again.map_or(KILL_AGAIN, |again| (again.pause * 2).min(KILL_AGAIN_LATER));
            Again { at: Instant::now() + pause, pause }
        });
    }

    fn kill(&mut self) {
        self.ending = Ending::Killing(match self.ending {
            Ending::Killing(pause) => (pause * 2).min(KILL_AGAIN_LATER),
            Ending::No | Ending::Asked(_) => KILL_AGAIN,
        });
        if let Some(group) = &self.whole_group {
            sys::note(group.signal(libc::SIGKILL));
        }
        // One that can't be killed is named by the owner when its patience ends.
        let members = self.members(&mut |process| sys::note(os::signal(process, libc::SIGKILL)));
        if let Some(leader) = self.unseen_leader(&members) {
            sys::note(sys::kill(leader, libc::SIGKILL));
        }
    }

    /// A leader that we have not reaped and that doesn't show: /proc may hide it. Its pid is nobody else's.
    fn unseen_leader(&self, members: &Look) -> Option<i32> {
        self.leader.filter(|leader| !members.seen.iter().any(|process| process.pid == *leader))
    }

    /// Who there is, each handed to `meet` when it is found.
    fn members(&mut self, meet: &mut dyn FnMut(&Process)) -> Look {
        let (group, group_only) = (self.group, self.group_only);
        let counts = |process: &Process| !group_only || process.group == group;
        let mut members = os::members(sys::own_pid(), &mut self.session_of, &self.seen, &mut |process| {
            if counts(process) {
                meet(process);
            }
        });
        members.seen.retain(counts);
        if !os::CHILDREN_COME_BACK {
            // Who was missed may be there all the same.
            let missed = self.seen.iter().filter(|before| members.failed.is_some() && !members.seen.iter().any(|now| now.is(before)));
            self.seen = members.seen.iter().chain(missed).copied().collect();
        }
        members
    }

    fn report(&self, report: Report) {
        if let Some(owner) = &self.owner {
            // A dead owner shows as end of file on the next look.
            sys::note(sys::send_report(owner, report));
        }
    }

    /// An output of the daemon, while nobody else reads it.
    fn drain(&self, output: usize) -> Option<i32> {
        if self.owner.is_some() {
            return None;
        }
        self.drains.get(output)?.as_ref().map(AsRawFd::as_raw_fd)
    }

    fn discard(&mut self, output: usize) {
        let Some(drain) = self.drains.get_mut(output) else { return };
        if drain.as_ref().is_some_and(|fd| !sys::discard(fd)) {
            *drain = None;
        }
    }
}

fn pipe() -> std::io::Result<(OwnedFd, OwnedFd)> {
    #[cfg(target_os = "linux")]
    return Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?);
    #[cfg(target_os = "macos")]
    {
        let (read, write) = nix::unistd::pipe()?;
        for end in [&read, &write] {
            nix::fcntl::fcntl(end, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
        }
        Ok((read, write))
    }
}

/// So that `ps` tells them apart.
#[cfg(target_os = "linux")]
fn rename() {
    // SAFETY: a NUL-terminated string of less than 16 bytes, as PR_SET_NAME wants it.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"ally-keeper".as_ptr(), 0, 0, 0) };
}

#[cfg(target_os = "macos")]
fn rename() {}
