//! The subreaper of one daemon's tree: it makes the leader, reaps every process of the tree, reports to the owner, and ends the
//! tree on command or after the owner's death.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use ally_base::os;
use ally_base::record::{IDENTITY_FILE, LockNote, PID_FILE};
use ally_base::wire::{Descriptors, FrameBuffer, KeeperCommand, KeeperReport, Order, OwnerDeath, Stage};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::child::{FAILURE, become_daemon, decode_failure};
use super::survivors;
use super::sys::{self, Payload, Reaped};
use super::tree::{SCAN_INTERVAL, SCAN_INTERVAL_MAX, Tree};

/// The exit code of a keeper. A keeper that was killed has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeeperExit {
    NothingLeft,
    /// What is left may live (`killMode: 'group'`).
    SomeSpared,
}

impl KeeperExit {
    const fn code(self) -> i32 {
        match self {
            Self::NothingLeft => 0,
            Self::SomeSpared => 3,
        }
    }

    /// From a wait status.
    pub fn of(status: i32) -> Option<Self> {
        [Self::NothingLeft, Self::SomeSpared].into_iter().find(|one| libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == one.code())
    }
}

/// Never returns to the guardian's loop.
pub fn run(payload: Payload, descriptors: Vec<OwnedFd>) -> ! {
    // If the order can't be understood, there is no tree.
    let code = Keeper::new(&payload, descriptors).map_or(KeeperExit::NothingLeft, Keeper::keep).code();
    // SAFETY: ends this process without running what belongs to the guardian.
    unsafe { libc::_exit(code) }
}

/// For the guardian, if it could not fork the keeper of this order.
pub fn report_instead(payload: &Payload, descriptors: Vec<OwnedFd>, report: KeeperReport) {
    let order = Order::decode(payload.bytes());
    let Some(descriptors) = order.and_then(|order| Descriptors::from_wire(order.descriptors, descriptors)) else { return };
    // If the daemon was given up meanwhile, nobody reads.
    sys::ignore(sys::send(&descriptors.stream, &report.encode()));
}

/// How far the stop of the tree has got.
#[derive(Clone, Copy, PartialEq)]
enum StopProgress {
    NotBegun,
    /// The stop signal was sent. With the end of the grace period, if the owner is gone and can't send SIGKILL's time.
    Asked(Option<Instant>),
    /// SIGKILL was sent. With the pause before the next scan.
    Killing(Duration),
}

struct Keeper {
    /// `None` once the owner is gone.
    owner: Option<OwnedFd>,
    received: FrameBuffer,
    /// Open until the leader has become its program, or could not.
    exec_result: Option<OwnedFd>,
    tree: Tree,
    owner_death: OwnerDeath,
    grace: Duration,
    stop: StopProgress,
    lock: File,
    /// The read ends of both outputs, to be drained after the owner's death.
    readers: [Option<OwnedFd>; 2],
    /// The plugin's, where its record is.
    folder: OwnedFd,
}

impl Keeper {
    fn new(payload: &Payload, descriptors: Vec<OwnedFd>) -> Option<Self> {
        rename();
        sys::forget_requests();
        let order = Order::decode(payload.bytes())?;
        let Descriptors { stream: owner, stdout, stderr, lock, folder, stdout_reader, stderr_reader } =
            Descriptors::from_wire(order.descriptors, descriptors)?;
        let own = os::own_pid();
        let made = sys::become_subreaper().and_then(|()| pipe()).and_then(|(exec_result, failure)| match sys::fork()? {
            0 => become_daemon(&order, own, [&stdout, &stderr], failure),
            leader => Ok((exec_result, leader)),
        });
        match made {
            Ok((exec_result, leader)) => Some(Self {
                owner: Some(owner),
                received: FrameBuffer::default(),
                exec_result: Some(exec_result),
                tree: Tree::new(leader, order.group_only, order.stop_signal),
                owner_death: order.owner_death,
                grace: Duration::from_millis(order.grace_ms.into()),
                stop: StopProgress::NotBegun,
                lock: File::from(lock),
                readers: [stdout_reader, stderr_reader],
                folder,
            }),
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EAGAIN);
                sys::ignore(sys::send(&owner, &KeeperReport::SpawnFailed { stage: Stage::Fork, errno }.encode()));
                None
            }
        }
    }

    fn keep(mut self) -> KeeperExit {
        loop {
            let [commanded, exec_done, stdout, stderr] = sys::wait_for(
                [
                    self.owner.as_ref().map(AsRawFd::as_raw_fd),
                    self.exec_result.as_ref().map(AsRawFd::as_raw_fd),
                    self.reader(0),
                    self.reader(1),
                ],
                self.next_deadline(),
            );
            if exec_done && !self.on_exec_result() {
                return KeeperExit::NothingLeft;
            }
            if self.reap() {
                return self.exit();
            }
            if commanded {
                self.obey();
            }
            for (output, readable) in [stdout, stderr].into_iter().enumerate() {
                if readable {
                    self.discard(output);
                }
            }
            if self.owner.is_none() && sys::asked_to_stop() && self.stop == StopProgress::NotBegun {
                self.terminate();
            }
            self.on_deadline();
        }
    }

    /// The tree is gone; what is left was to outlive it.
    fn exit(self) -> KeeperExit {
        if !self.tree.group_only || os::descendants(os::own_pid()).is_certainly_empty() {
            return KeeperExit::NothingLeft;
        }
        // Whoever reads on doesn't keep the name.
        drop(self.lock);
        sys::ignore(survivors::leave_reader(self.owner, self.readers));
        KeeperExit::SomeSpared
    }

    /// False if there is no daemon and never was one.
    fn on_exec_result(&mut self) -> bool {
        let (Some(exec_result), Some(leader)) = (self.exec_result.take(), self.tree.leader) else { return true };
        let mut failure = [0; FAILURE];
        if File::from(exec_result).read_exact(&mut failure).is_err() {
            self.report(KeeperReport::Spawned { leader, keeper: os::own_pid() });
            return true;
        }
        let (stage, errno) = decode_failure(failure);
        self.report(KeeperReport::SpawnFailed { stage, errno });
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
            if !self.on_exec_result() {
                return true;
            }
            self.tree.leader = None;
        }
        if self.tree.leader.is_some() {
            return false;
        }
        let gone = self.tree.is_gone(childless);
        if gone {
            self.remove_record();
        }
        match exited {
            Some(status) => self.report(KeeperReport::Exited { status, remains: !gone }),
            None if gone => self.report(KeeperReport::TreeGone),
            None => {}
        }
        gone
    }

    /// Before the owner is told: it may die before it could do it, and its next daemon has another record. The name is
    /// still ours, so it is nobody else's.
    fn remove_record(&self) {
        for name in [PID_FILE, IDENTITY_FILE] {
            // An owner that lives tries again, and warns.
            sys::ignore(unlinkat(&self.folder, name, UnlinkatFlags::NoRemoveDir).map_err(io::Error::from));
        }
    }

    fn obey(&mut self) {
        let Some(owner) = &self.owner else { return };
        let mut bytes = [0; 64];
        // Descriptors that a later command may carry are closed by the drop: no command of this build has any.
        let count = match sys::receive(owner, &mut bytes) {
            Ok((count, _)) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            Err(_) => 0,
        };
        if count == 0 {
            return self.owner_gone();
        }
        self.received.extend(bytes.get(..count).unwrap_or_default());
        loop {
            match self.received.next_frame().map(|frame| frame.map(|frame| KeeperCommand::decode(&frame))) {
                Ok(None) => return,
                Ok(Some(Some(KeeperCommand::Terminate))) => {
                    self.stop = StopProgress::Asked(None);
                    self.tree.ask();
                }
                Ok(Some(Some(KeeperCommand::Kill))) => self.kill(),
                // An owner that can't be understood is as bad as none.
                Ok(Some(None)) | Err(_) => return self.owner_gone(),
            }
        }
    }

    /// The owner is gone, however that came.
    fn owner_gone(&mut self) {
        self.owner = None;
        // Asked while the owner lived, it was not for others to ask.
        sys::forget_requests();
        // Whoever finds the lock taken must not take our dead owner for a live one.
        let grace_ms = u64::try_from(self.grace.as_millis()).unwrap_or(u64::MAX);
        let note = LockNote::Keeper { pid: os::own_pid(), start: os::start_time(os::own_pid()).unwrap_or_default(), grace_ms };
        sys::ignore(note.write_to(&self.lock));
        match (self.owner_death, self.stop) {
            (OwnerDeath::Keep, StopProgress::NotBegun) => {}
            (OwnerDeath::Stop, StopProgress::NotBegun) => self.terminate(),
            (_, StopProgress::Asked(_)) => self.stop = StopProgress::Asked(Some(Instant::now() + self.grace)),
            (_, StopProgress::Killing(_)) => {}
        }
    }

    fn terminate(&mut self) {
        self.stop = StopProgress::Asked(Some(Instant::now() + self.grace));
        if !self.grace.is_zero() {
            self.tree.ask();
        }
    }

    fn next_deadline(&self) -> Option<Duration> {
        match self.stop {
            StopProgress::NotBegun => self.scan_pause(SCAN_INTERVAL_MAX),
            StopProgress::Asked(until) => {
                let next = until.into_iter().chain(self.tree.next_ask()).min();
                let left = next.map(|next| next.saturating_duration_since(Instant::now()));
                left.into_iter().chain(self.scan_pause(SCAN_INTERVAL)).min()
            }
            StopProgress::Killing(pause) => Some(pause),
        }
    }

    /// The pause before the next look at those that are nobody's children and end without telling, if there can be any.
    fn scan_pause(&self, pause: Duration) -> Option<Duration> {
        (self.tree.leader.is_none() && self.tree.ends_unnoticed()).then_some(pause)
    }

    fn on_deadline(&mut self) {
        match self.stop {
            StopProgress::Asked(Some(until)) if Instant::now() >= until => self.kill(),
            StopProgress::Killing(_) => self.kill(),
            StopProgress::Asked(_) if self.tree.next_ask().is_some_and(|at| Instant::now() >= at) => self.tree.ask(),
            StopProgress::NotBegun | StopProgress::Asked(_) => {}
        }
    }

    fn kill(&mut self) {
        self.stop = StopProgress::Killing(match self.stop {
            StopProgress::Killing(pause) => (pause * 2).min(SCAN_INTERVAL_MAX),
            StopProgress::NotBegun | StopProgress::Asked(_) => SCAN_INTERVAL,
        });
        self.tree.kill();
    }

    fn report(&self, report: KeeperReport) {
        if let Some(owner) = &self.owner {
            // A dead owner shows as end of file on the next look.
            sys::ignore(sys::send(owner, &report.encode()));
        }
    }

    /// An output of the daemon, while nobody else reads it.
    fn reader(&self, output: usize) -> Option<i32> {
        if self.owner.is_some() {
            return None;
        }
        self.readers.get(output)?.as_ref().map(AsRawFd::as_raw_fd)
    }

    fn discard(&mut self, output: usize) {
        let Some(drain) = self.readers.get_mut(output) else { return };
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
