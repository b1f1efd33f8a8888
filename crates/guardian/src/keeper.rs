//! The subreaper of one daemon's tree: it makes the leader, reaps everybody, tells the owner, and
//! ends the tree when the owner says so or is gone.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use nix::unistd::{UnlinkatFlags, unlinkat};

use super::child::{FAILURE, become_daemon, decode_failure};
use super::survivors;
use super::sys::{self, Payload, Reaped};
use super::tree::{LOOK_AGAIN, LOOK_AGAIN_LATER, Tree};
use ally_base::os;
use ally_base::wire::{Command, DESCRIPTORS, IDENTITY_FILE, Order, OwnerDeath, PID_FILE, Report, Stage};

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

struct Keeper {
    /// `None` once the owner is gone.
    owner: Option<OwnedFd>,
    /// Open until the leader has become its program, or could not.
    birth: Option<OwnedFd>,
    tree: Tree,
    owner_death: OwnerDeath,
    grace: Duration,
    ending: Ending,
    lock: File,
    /// The read ends of both outputs, to be drained after the owner's death.
    drains: [Option<OwnedFd>; 2],
    /// The plugin's, where its record is.
    folder: OwnedFd,
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
                tree: Tree::new(leader, order.group_only, order.stop_signal),
                owner_death: order.owner_death,
                grace: Duration::from_millis(order.grace_ms.into()),
                ending: Ending::No,
                lock: File::from(lock),
                drains,
                folder,
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
        if !self.tree.group_only || os::descendants(sys::own_pid()).found_nobody() {
            return Farewell::NothingLeft;
        }
        // Whoever reads on doesn't keep the name.
        drop(self.lock);
        sys::note(survivors::leave_reader(self.owner, self.drains));
        Farewell::SomeReleased
    }

    /// False if there is no daemon and never was one.
    fn birth(&mut self) -> bool {
        let (Some(birth), Some(leader)) = (self.birth.take(), self.tree.leader) else { return true };
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
                Reaped::Child { pid, status } if Some(pid) == self.tree.leader => exited = Some(status),
                Reaped::Child { .. } => {}
                Reaped::Nobody => break false,
                Reaped::Childless => break true,
            }
        };
        if exited.is_some() {
            if !self.birth() {
                return true;
            }
            self.tree.leader = None;
        }
        if self.tree.leader.is_some() {
            return false;
        }
        let gone = self.tree.is_gone(childless);
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
                    self.tree.ask();
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
            self.tree.ask();
        }
    }

    fn patience(&self) -> Option<Duration> {
        match self.ending {
            Ending::No => self.unheard(LOOK_AGAIN_LATER),
            Ending::Asked(until) => {
                let next = until.into_iter().chain(self.tree.asks_again()).min();
                let left = next.map(|next| next.saturating_duration_since(Instant::now()));
                left.into_iter().chain(self.unheard(LOOK_AGAIN)).min()
            }
            Ending::Killing(pause) => Some(pause),
        }
    }

    /// The pause before the next look at those that are nobody's children and end without telling, if there can be any.
    fn unheard(&self, pause: Duration) -> Option<Duration> {
        (self.tree.leader.is_none() && self.tree.ends_untold()).then_some(pause)
    }

    fn lose_patience(&mut self) {
        match self.ending {
            Ending::Asked(Some(until)) if Instant::now() >= until => self.kill(),
            Ending::Killing(_) => self.kill(),
            Ending::Asked(_) if self.tree.asks_again().is_some_and(|at| Instant::now() >= at) => self.tree.ask(),
            Ending::No | Ending::Asked(_) => {}
        }
    }

    fn kill(&mut self) {
        self.ending = Ending::Killing(match self.ending {
            Ending::Killing(pause) => (pause * 2).min(LOOK_AGAIN_LATER),
            Ending::No | Ending::Asked(_) => LOOK_AGAIN,
        });
        self.tree.kill();
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
