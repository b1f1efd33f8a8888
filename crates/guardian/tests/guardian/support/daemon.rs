//! A daemon that a guardian spawns: the owner's ends of its stream and pipes.

use std::fs::{self, File};
use std::io::{self, IoSlice, PipeReader, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ally_base::os::{self, Process};
use ally_base::wire::{Descriptors, KeeperCommand, KeeperReport};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tempfile::TempDir;

use super::streams::{Frames, read, read_all};
use super::{TestOrder, until};

pub struct Daemon {
    stream: Option<Frames>,
    stdout: Option<PipeReader>,
    stderr: Option<PipeReader>,
    pub home: Rc<TempDir>,
}

/// The owner's hold on a plugin's name, of which each keeper gets a copy.
pub struct Name {
    pub home: Rc<TempDir>,
    place: PathBuf,
    lock: File,
    folder: File,
}

fn new_lock_file(folder: &Path) -> File {
    File::options().read(true).write(true).create(true).truncate(true).open(folder.join("daemon.lock")).unwrap()
}

impl Name {
    pub fn take() -> Self {
        Self::take_in(tempfile::tempdir().unwrap(), "")
    }

    /// `folder`: the plugin's folder in `home`.
    pub fn take_in(home: TempDir, folder: &str) -> Self {
        let place = home.path().join(folder);
        let lock = new_lock_file(&place);
        let folder = File::open(&place).unwrap();
        for file in [&lock, &folder] {
            file.try_lock().unwrap();
        }
        Self { home: Rc::new(home), place, lock, folder }
    }

    /// The folder was cleared, and the owner has made the lock file anew.
    pub fn with_new_lock_file(self) -> Self {
        let lock = new_lock_file(&self.place);
        lock.try_lock().unwrap();
        Self { lock, ..self }
    }

    pub fn folder(&self) -> &File {
        &self.folder
    }
}

impl Daemon {
    /// A daemon before its order, with the mask and the descriptors of the order.
    pub fn prepare() -> (Self, u32, Vec<OwnedFd>) {
        Self::prepare_with(None, None)
    }

    /// As [`Self::prepare`], with a socket for notifications, and one that listens.
    pub fn prepare_with(notify: Option<OwnedFd>, listener: Option<OwnedFd>) -> (Self, u32, Vec<OwnedFd>) {
        Self::prepare_under(&Name::take(), notify, listener)
    }

    /// As [`Self::prepare_with`], beside other daemons of this name.
    pub fn prepare_under(name: &Name, notify: Option<OwnedFd>, listener: Option<OwnedFd>) -> (Self, u32, Vec<OwnedFd>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let [(stdout, out), (stderr, err)] = [io::pipe().unwrap(), io::pipe().unwrap()];
        let [stdout_reader_copy, stderr_reader_copy] = [&stdout, &stderr].map(|pipe| pipe.try_clone().unwrap().into());
        let [lock, folder] = [&name.lock, &name.folder].map(|file| file.try_clone().unwrap());
        let (mask, ends) = Descriptors {
            stream: theirs.into(),
            stdout: out.into(),
            stderr: err.into(),
            lock: lock.into(),
            folder: folder.into(),
            stdout_reader: Some(stdout_reader_copy),
            stderr_reader: Some(stderr_reader_copy),
            notify,
            log_file: None,
            log_folder: None,
            stdout_copy: None,
            stderr_copy: None,
            log_notes: None,
            listener,
        }
        .into_wire();
        (Self { stream: Some(Frames::of(ours)), stdout: Some(stdout), stderr: Some(stderr), home: Rc::clone(&name.home) }, mask, ends)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The next report other than Acknowledged.
    #[track_caller]
    pub fn report(&mut self) -> Option<KeeperReport> {
        loop {
            match self.any_report() {
                Some(KeeperReport::Acknowledged) => {}
                other => return other,
            }
        }
    }

    #[track_caller]
    pub fn any_report(&mut self) -> Option<KeeperReport> {
        let frame = self.stream.as_mut().unwrap().next()?;
        Some(KeeperReport::decode(&frame).expect("a valid report"))
    }

    /// Leader and keeper, from the report Spawned.
    #[track_caller]
    pub fn spawned(&mut self) -> [Process; 2] {
        match self.report() {
            Some(KeeperReport::Spawned { leader, keeper, .. }) => [leader, keeper].map(|pid| os::look_up(pid).expect("a living process")),
            other => panic!("not spawned: {other:?}"),
        }
    }

    #[track_caller]
    pub fn command(&self, command: KeeperCommand) {
        let mut stream = &self.stream.as_ref().unwrap().stream;
        stream.write_all(&command.encode()).unwrap();
    }

    /// The wait status of the leader, and whether descendants remain.
    #[track_caller]
    pub fn exited(&mut self) -> (i32, bool) {
        match self.report() {
            Some(KeeperReport::Exited { status, remains, .. }) => (status, remains),
            other => panic!("not the leader's exit: {other:?}"),
        }
    }

    #[track_caller]
    pub fn tree_gone(&mut self) {
        let report = self.report();
        assert!(matches!(report, Some(KeeperReport::TreeGone { .. })), "{report:?}");
    }

    /// Sends the command Probe, and the order on its stream.
    #[track_caller]
    pub fn probe(&self, order: &TestOrder) -> Probe {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (output, output_end) = io::pipe().unwrap();
        let stream = &self.stream.as_ref().unwrap().stream;
        let descriptors = [theirs.as_raw_fd(), output_end.as_raw_fd()];
        let frame = KeeperCommand::Probe.encode();
        sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&frame)], &[ControlMessage::ScmRights(&descriptors)], MsgFlags::empty(), None)
            .unwrap();
        // The keeper may have refused it already.
        (&ours).write_all(&order.encode(self.home.path(), 0)).unwrap_or_default();
        Probe { stream: Frames::of(ours), output }
    }

    /// The exit status of the leader. Asserts that the reports of the tree's end are complete.
    #[track_caller]
    pub fn end(&mut self) -> i32 {
        let (status, remains) = self.exited();
        if remains {
            self.tree_gone();
        }
        assert_eq!(self.report(), None, "the keeper exits with its tree");
        until("the lock is released", || self.is_unlocked());
        status
    }

    /// The next line of stdout.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let stdout = self.stdout.as_mut().unwrap();
        let mut line = Vec::new();
        let mut byte = [0];
        while read(stdout, &mut byte, "a line") == 1 && byte != *b"\n" {
            line.extend(byte);
        }
        String::from_utf8(line).unwrap()
    }

    /// The rest of stdout, to its end: when no process holds the pipe any more.
    #[track_caller]
    pub fn output(&mut self) -> String {
        read_all(self.stdout.as_mut().unwrap())
    }

    /// The rest of stderr.
    #[track_caller]
    pub fn stderr_output(&mut self) -> String {
        read_all(self.stderr.as_mut().unwrap())
    }

    /// The processes that print `NAME PID` on stdout, in the order of `names`.
    #[track_caller]
    pub fn await_introductions<const N: usize>(&mut self, names: [&str; N]) -> [Process; N] {
        let mut found = [None; N];
        while found.contains(&None) {
            let line = self.line();
            let (name, pid) = line.split_once(' ').unwrap_or_else(|| panic!("{line:.60?} is not `NAME PID`"));
            let index = names.iter().position(|known| *known == name).unwrap_or_else(|| panic!("{line:.60?} has an unexpected name"));
            found[index] = os::look_up(pid.parse().unwrap());
        }
        found.map(Option::unwrap)
    }

    /// The keeper, and the three processes of [`TREE`] or [`IGNORES_SIGTERM`].
    #[track_caller]
    pub fn tree(&mut self) -> [Process; 4] {
        let [_, keeper] = self.spawned();
        let [leader, child, detached] = self.await_introductions(["leader", "child", "detached"]);
        assert!(
            child.session == leader.session && detached.session != leader.session,
            "only the detached process has a POSIX session of its own"
        );
        [keeper, leader, child, detached]
    }

    pub fn is_unlocked(&self) -> bool {
        File::open(self.path("daemon.lock")).unwrap().try_lock().is_ok()
    }

    pub fn lock_text(&self) -> String {
        fs::read_to_string(self.path("daemon.lock")).unwrap()
    }

    /// Closes the owner's ends of stream and pipes, as the death of the owner does.
    pub fn close_owner_ends(&mut self) {
        (self.stream, self.stdout, self.stderr) = (None, None, None);
    }

    /// True if the leader of [`IGNORES_SIGTERM`] got the stop signal.
    pub fn got_sigterm(&self) -> bool {
        self.path("got-sigterm").exists()
    }
}

/// The owner's ends of a probe.
pub struct Probe {
    stream: Frames,
    output: PipeReader,
}

impl Probe {
    /// `None` when nothing of the command is left.
    #[track_caller]
    pub fn report(&mut self) -> Option<KeeperReport> {
        let frame = self.stream.next()?;
        Some(KeeperReport::decode(&frame).expect("a valid report"))
    }

    /// The pids of command and probe keeper, from the report Spawned.
    #[track_caller]
    pub fn spawned(&mut self) -> [Process; 2] {
        match self.report() {
            Some(KeeperReport::Spawned { leader, keeper, .. }) => [leader, keeper].map(|pid| os::look_up(pid).expect("a living process")),
            other => panic!("not spawned: {other:?}"),
        }
    }

    /// Tells the probe keeper to end the command.
    pub fn give_up(&self) {
        self.stream.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The pid that the command prints as its next line.
    #[track_caller]
    pub fn process(&mut self) -> Process {
        let mut line = Vec::new();
        let mut byte = [0];
        while read(&mut self.output, &mut byte, "a line") == 1 && byte != *b"\n" {
            line.extend(byte);
        }
        os::look_up(String::from_utf8(line).unwrap().parse().unwrap()).expect("a living process")
    }
}

impl Drop for Daemon {
    /// Ends the tree, also if the test fails.
    fn drop(&mut self) {
        if let Some(Frames { mut stream, .. }) = self.stream.take() {
            // The keeper may be gone already.
            stream.write_all(&KeeperCommand::Kill.encode()).unwrap_or_default();
        }
    }
}
