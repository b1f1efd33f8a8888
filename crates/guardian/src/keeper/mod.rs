//! The keeper: the subreaper of one daemon's tree. The keeper forks the leader, reaps every process of the tree, reports to the
//! owner, and ends the tree on command or after the owner's death.

mod exit;
mod lock;
mod log;
mod notify;
mod probe;
mod stop;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use ally_base::os;
use ally_base::record::{Identity, RecordFiles};
use ally_base::stop::StopSignalTo;
use ally_base::wire::{Descriptors, FrameBuffer, KeeperCommand, KeeperReport, LeaderUsage, Order, OwnerDeath, Stage};

pub use exit::KeeperExit;
use lock::KeeperLock;
use log::{KeeperLog, LogDescriptors};
use notify::NotifySocket;
use probe::PROBE_END_MAX;
use stop::StopProgress;

use super::child::{FAILURE_SIZE, LeaderFiles, become_daemon, decode_failure};
use super::survivors;
use super::sys::{self, Payload, Reaped};
use super::tree::Tree;

/// Runs a keeper in a child of the guardian. Never returns to the guardian's loop.
///
/// `log_registry`: where a log process tells the guardian its pid.
pub fn run(payload: Payload, descriptors: Vec<OwnedFd>, log_registry: Option<OwnedFd>) -> ! {
    // `None`: there is no tree, because the order is malformed or given up, or the leader could not be forked.
    let keeper = Keeper::new(&payload, descriptors, log_registry);
    // The order has the daemon's environment, so its mapping must not live as long as the keeper.
    drop(payload);
    let code = keeper.map_or(KeeperExit::NothingLeft, Keeper::keep).code();
    // SAFETY: _exit(2) runs no exit handlers, which belong to the guardian.
    unsafe { libc::_exit(code) }
}

/// Sends `report` on the stream of an order. For the guardian, if it can't fork the keeper.
pub fn report_without_keeper(payload: &Payload, descriptors: Vec<OwnedFd>, report: KeeperReport) {
    let order = Order::decode(payload.bytes());
    let Some(descriptors) = order.and_then(|order| Descriptors::from_wire(order.descriptors, descriptors)) else { return };
    // EPIPE: the owner has given up this daemon.
    sys::ignore(sys::send(&descriptors.stream, &report.encode()));
}

/// Makes this process the subreaper of a new leader. Returns the read end of [`Keeper::exec_result`], and the tree.
fn fork_leader(order: &Order, files: &LeaderFiles, session: PosixSession) -> io::Result<(OwnedFd, Tree)> {
    let keeper = os::own_pid();
    sys::become_subreaper()?;
    if session == PosixSession::New {
        nix::unistd::setsid()?;
    }
    let group = sys::make_group()?;
    let (exec_result, failure) = sys::pipe()?;
    let leader = match sys::fork()? {
        0 => become_daemon(order, keeper, group, files, failure),
        leader => leader,
    };
    // EACCES: the leader has joined the group, and has called execve(2).
    sys::ignore(sys::join_group(leader, group));
    let tree = Tree::new(leader, group, order.group_only, order.stop_signal);
    // After the leader has joined, and after the tree has a handle of the group.
    sys::ignore(sys::reap_child(group));
    Ok((exec_result, tree))
}

/// The POSIX session of a leader.
#[derive(PartialEq)]
enum PosixSession {
    /// Of the keeper's making: the leader gets no controlling terminal, and scans find its tree by this POSIX session.
    New,
    /// The one in which the keeper is.
    Inherited,
}

struct Keeper {
    guardian: i32,
    /// The pid of the leader, also after its end.
    leader: i32,
    /// `None` after the owner's death.
    owner: Option<OwnedFd>,
    received: FrameBuffer,
    /// The descriptors of received commands that are not carried out yet.
    descriptors: VecDeque<OwnedFd>,
    /// The read end of a pipe. The write end is closed by the leader's execve(2), or after the leader has written the failure.
    exec_result: Option<OwnedFd>,
    tree: Tree,
    owner_death: OwnerDeath,
    grace: Duration,
    stop_signal_to: StopSignalTo,
    stop: StopProgress,
    /// A process other than the owner has asked for the end of the tree.
    is_ended: bool,
    lock: KeeperLock,
    /// The read ends of both outputs. The keeper reads them after the owner's death.
    readers: [Option<OwnedFd>; 2],
    notify: Option<NotifySocket>,
    /// Whether an ended child may wait without a SIGCHLD to come.
    reaps_again: bool,
    /// With a log file, the log process reads both outputs, also while the owner lives.
    log: Option<KeeperLog>,
}

impl Keeper {
    fn new(payload: &Payload, descriptors: Vec<OwnedFd>, log_registry: Option<OwnedFd>) -> Option<Self> {
        sys::set_process_name(c"ally-keeper");
        let guardian = nix::unistd::getppid().as_raw();
        sys::clear_stop_request();
        let order = Order::decode(payload.bytes())?;
        let descriptors = Descriptors::from_wire(order.descriptors, descriptors)?;
        let Descriptors { stream: owner, stdout, stderr, lock, folder, stdout_reader, stderr_reader, notify, listener, .. } = descriptors;
        let log = match order.log {
            None => None,
            Some(log) => {
                let copies = [descriptors.stdout_copy?, descriptors.stderr_copy?];
                let (file, folder, notes) = (descriptors.log_file, descriptors.log_folder?, descriptors.log_notes?);
                Some(KeeperLog::new(log, LogDescriptors { file, folder, copies, notes }, log_registry))
            }
        };
        if sys::is_closed(&owner) {
            // The owner is dead, or has given the order to another guardian, because this one was suspended.
            return None;
        }
        let files = LeaderFiles { outputs: [&stdout, &stderr], listener: listener.as_ref() };
        let forked = fork_leader(&order, &files, PosixSession::New);
        // The socket must be gone with the last process that serves it.
        drop(listener);
        match forked {
            Ok((exec_result, tree)) => Some(Self {
                guardian,
                leader: tree.leader.unwrap_or_default(),
                owner: Some(owner),
                received: FrameBuffer::default(),
                descriptors: VecDeque::new(),
                exec_result: Some(exec_result),
                tree,
                owner_death: order.owner_death,
                grace: Duration::from_millis(order.grace_ms.into()),
                stop_signal_to: order.stop_signal_to,
                stop: StopProgress::NotBegun,
                is_ended: false,
                lock: KeeperLock::new(lock, folder),
                readers: [stdout_reader, stderr_reader],
                notify: notify.map(|socket| NotifySocket::new(socket, order.notify_path)),
                reaps_again: false,
                log,
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
            if self.log.as_ref().is_some_and(KeeperLog::is_fork_due) {
                self.fork_log();
            }
            let [command_ready, exec_done, stdout, stderr, lock_changed, notified, log_ready] = sys::wait_for(
                [
                    self.owner.as_ref().map(AsRawFd::as_raw_fd),
                    self.exec_result.as_ref().map(AsRawFd::as_raw_fd),
                    self.reader_fd(0),
                    self.reader_fd(1),
                    self.lock.watcher_fd(),
                    self.notify.as_ref().filter(|_| self.owner.is_none()).map(AsRawFd::as_raw_fd),
                    self.log.as_ref().and_then(KeeperLog::stream_fd),
                ],
                self.next_pause(),
            );
            if let Some(log) = self.log.as_mut().filter(|_| log_ready) {
                log.on_readable();
            }
            if exec_done && !self.on_exec_result() {
                return KeeperExit::NothingLeft;
            }
            if self.reap() {
                return self.exit();
            }
            if command_ready {
                self.receive_commands();
            }
            for (output, readable) in [stdout, stderr].into_iter().enumerate() {
                if readable {
                    self.discard(output);
                }
            }
            if lock_changed {
                self.lock.on_changed();
            }
            if let Some(notify) = self.notify.as_ref().filter(|_| notified) {
                notify.discard();
            }
            self.lock.on_deadline(self.grace);
            self.on_stop_request();
            self.on_deadline();
        }
    }

    fn next_pause(&mut self) -> Option<Duration> {
        if std::mem::take(&mut self.reaps_again) {
            return Some(Duration::ZERO);
        }
        self.next_deadline().into_iter().chain(self.lock.next_deadline()).chain(self.log_deadline()).min()
    }

    /// The tree is gone. With `killMode: 'group'` descendants outside the leader's group may be alive.
    fn exit(mut self) -> KeeperExit {
        self.end_probe_for_good();
        // A reader of survivors must not inherit the socket: a process that sends to it would block, because nobody reads.
        let notify = self.notify.take();
        if self.owner.is_none() {
            notify.iter().for_each(NotifySocket::remove);
            self.wake_guardian();
        }
        drop(notify);
        if !self.tree.group_only || os::descendants(os::own_pid()).is_certainly_empty() {
            return KeeperExit::NothingLeft;
        }
        if self.log.is_some() {
            // The log process goes on to read.
            return KeeperExit::SomeSpared;
        }
        // The reader must not inherit the lock: a copy of a descriptor, of the file or of the folder, would keep the lease.
        drop(self.lock);
        sys::ignore(survivors::leave_reader(self.owner, self.readers));
        KeeperExit::SomeSpared
    }

    /// Reports the result of execve(2). False if execve(2) failed, so that there is no daemon.
    fn on_exec_result(&mut self) -> bool {
        let (Some(exec_result), Some(leader)) = (self.exec_result.take(), self.tree.leader) else { return true };
        let mut failure = [0; FAILURE_SIZE];
        if File::from(exec_result).read_exact(&mut failure).is_err() {
            let keeper = os::own_pid();
            let keeper_start = os::start_time(keeper).unwrap_or_default();
            // Of a leader that has ended as well, which `start_time` does not know.
            let leader_start = os::look_up(leader).map(|process| process.start).unwrap_or_default();
            self.report(KeeperReport::Spawned { leader, leader_start, keeper, keeper_start, group: self.tree.first_group });
            return true;
        }
        let (stage, errno) = decode_failure(failure);
        self.report(KeeperReport::SpawnFailed { stage, errno });
        false
    }

    fn log_deadline(&self) -> Option<Duration> {
        self.log.as_ref().and_then(KeeperLog::next_deadline)
    }

    /// Forks the log process, which does not return.
    fn fork_log(&mut self) {
        if let Some(parts) = self.log.as_mut().and_then(|log| log.fork(&self.readers)) {
            log::run(parts);
        }
    }

    /// What the daemon has printed must reach the owner before the report that follows.
    fn catch_up_log(&mut self, gone: bool) {
        let word = if gone { ally_log::END } else { ally_log::FLUSH };
        let Some(log) = &mut self.log else { return };
        if log.catch_up(word) {
            return;
        }
        // The first one was killed, or was not forked yet: its pipes have the last words.
        self.fork_log();
        if let Some(log) = &mut self.log {
            log.catch_up(word);
        }
    }

    /// Reaps all ended children. Returns whether the tree is gone.
    fn reap(&mut self) -> bool {
        let mut exited = None;
        let mut childless = self.reap_ended(&mut exited);
        if exited.is_some() {
            if !self.on_exec_result() {
                return true;
            }
            self.tree.leader = None;
            if self.tree.probe.is_some() {
                self.end_probe(PROBE_END_MAX);
                childless = self.reap_ended(&mut exited);
            }
        }
        if self.tree.leader.is_some() {
            return false;
        }
        let gone = self.tree.is_gone(childless);
        if gone {
            self.remove_record();
        }
        if exited.is_some() || gone {
            self.catch_up_log(gone);
        }
        match exited {
            Some((status, usage)) => {
                self.report(KeeperReport::Exited { status, remains: !gone, usage, tree_cpu_us: sys::reaped_cpu_us() });
            }
            None if gone => self.report(KeeperReport::TreeGone { tree_cpu_us: sys::reaped_cpu_us() }),
            None => {}
        }
        if exited.is_some() && !gone {
            self.on_leader_exited();
        }
        gone
    }

    /// Returns whether there is no child. `exited`: the wait status of the leader.
    fn reap_ended(&mut self, exited: &mut Option<(i32, LeaderUsage)>) -> bool {
        loop {
            match sys::reap_after(|pid| self.tree.on_ended(pid)) {
                Reaped::Child { pid, status, usage } if Some(pid) == self.tree.leader => *exited = Some((status, usage)),
                Reaped::Child { pid, .. } => drop(self.tree.probe.take_if(|probe| *probe == pid)),
                Reaped::NoneEnded => return false,
                Reaped::NoChildren => return true,
            }
        }
    }

    /// Removes this keeper's generation from the record. Must precede the last report: the owner may die after the report, before
    /// it removes the record itself. The generation of another keeper of this plugin stays, and so does another owner's: on a file
    /// system without flock(2) for folders, an owner can take the name after the folder was cleared.
    fn remove_record(&self) {
        let is_own = |identity: &Identity| identity.leader == self.leader && identity.keeper.is_none_or(|keeper| keeper == os::own_pid());
        if RecordFiles::of(&self.lock.folder).forget(self.leader, is_own).is_err() {
            // The owner tries again, and logs a warning.
        }
    }

    fn receive_commands(&mut self) {
        let Some(owner) = &self.owner else { return };
        let mut bytes = [0; 64];
        let count = match sys::receive(owner, &mut bytes) {
            Ok((count, descriptors)) => {
                self.descriptors.extend(descriptors);
                count
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            Err(_) => 0,
        };
        if count == 0 {
            return self.on_owner_gone();
        }
        self.received.extend(bytes.get(..count).unwrap_or_default());
        loop {
            match self.received.next_frame().map(|frame| frame.map(|frame| KeeperCommand::decode(&frame))) {
                Ok(None) => return,
                Ok(Some(Some(command))) => self.carry_out(command),
                // An unknown command is none.
                Ok(Some(None)) => {}
                // After a malformed frame no command can be read, so the keeper acts as after the owner's death.
                Err(_) => return self.on_owner_gone(),
            }
        }
    }

    fn carry_out(&mut self, command: KeeperCommand) {
        match command {
            KeeperCommand::Terminate => self.begin_stop(),
            KeeperCommand::Kill => self.kill(),
            KeeperCommand::Probe => return self.start_probe(),
            KeeperCommand::Extend { by_ms } => return self.extend_grace(by_ms),
            KeeperCommand::Freeze => return self.freeze(),
            KeeperCommand::Thaw => return self.thaw(),
        }
        self.report(KeeperReport::Acknowledged);
    }

    fn report(&self, report: KeeperReport) {
        if let Some(owner) = &self.owner {
            // If the owner is dead, the next read returns end of file.
            sys::ignore(sys::send(owner, &report.encode()));
        }
    }

    /// The read end of an output, after the owner's death. Before, the owner is the reader. With a log file, its process is.
    fn reader_fd(&self, output: usize) -> Option<i32> {
        if self.owner.is_some() || self.log.is_some() {
            return None;
        }
        self.readers.get(output)?.as_ref().map(AsRawFd::as_raw_fd)
    }

    fn discard(&mut self, output: usize) {
        let Some(reader) = self.readers.get_mut(output) else { return };
        if reader.as_ref().is_some_and(|fd| !sys::discard(fd)) {
            *reader = None;
        }
    }
}
