//! A guardian of one's own, the daemons made through it, and ways to wait for what they do.

use std::fs::{self, File};
use std::io::{self, IoSlice, PipeReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ally_base::os::{self, Process};
use ally_base::wire::{Descriptors, Frame, FrameBuffer, GuardianReport, HEADER, Hello, KeeperCommand, KeeperReport, Order, OwnerDeath};
use ally_build_id::{BUILD_ID, VERSION};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tempfile::TempDir;

/// Far more than anything here takes; only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A leader with a child, and with one that fled: forked twice, in a session of its own.
pub const FAMILY: &str = r"
    (setsid sh -c 'echo fled $$; exec sleep 60' &)
    sh -c 'echo child $$; exec sleep 60' &
    echo leader $$
    exec sleep 60
";

/// The same, deaf to SIGTERM; the leader says that it heard it, and notes it down.
pub const STUBBORN: &str = r"
    trap '' TERM
    (setsid sh -c 'echo fled $$; exec sleep 60' &)
    sh -c 'echo child $$; exec sleep 60' &
    trap 'echo heard; : >heard' TERM
    echo leader $$
    for again in 1 2 3 4 5 6 7 8 9; do wait; done
";

/// Looks again until `seen` is true.
#[track_caller]
pub fn until(what: &str, mut seen: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !seen() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Returns when a read won't block.
#[track_caller]
fn await_readable(fd: &impl AsRawFd, what: &str) {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let patience = i32::try_from(PATIENCE.as_millis()).unwrap();
    // SAFETY: one pollfd, alive for the call.
    let ready = unsafe { libc::poll(&raw mut poll, 1, patience) };
    assert_eq!(ready, 1, "waited in vain: {what}");
}

#[track_caller]
fn read(from: &mut (impl Read + AsRawFd), bytes: &mut [u8], what: &str) -> usize {
    await_readable(from, what);
    match from.read(bytes) {
        Ok(count) => count,
        // What a peer that was killed with something unread leaves behind.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
        Err(error) => panic!("{what}: {error}"),
    }
}

#[track_caller]
pub fn read_all(pipe: &mut PipeReader) -> String {
    let mut all = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        match read(pipe, &mut bytes, "the end of the output") {
            0 => return String::from_utf8(all).unwrap(),
            count => all.extend(&bytes[..count]),
        }
    }
}

/// A stream that is read frame by frame.
struct Frames {
    stream: UnixStream,
    received: FrameBuffer,
}

impl Frames {
    fn of(stream: UnixStream) -> Self {
        Self { stream, received: FrameBuffer::default() }
    }

    /// `None` at the end of the stream.
    #[track_caller]
    fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.received.next_frame().expect("a frame") {
                return Some(frame);
            }
            if !self.fill("a frame") {
                return None;
            }
        }
    }

    #[track_caller]
    fn hello(&mut self) -> Option<Hello> {
        loop {
            if let Some(hello) = Hello::take_from(&mut self.received).expect("a greeting") {
                return Some(hello);
            }
            if !self.fill("a greeting") {
                return None;
            }
        }
    }

    /// False at the end of the stream.
    #[track_caller]
    fn fill(&mut self, what: &str) -> bool {
        let mut bytes = [0; 64];
        let count = read(&mut self.stream, &mut bytes, what);
        self.received.extend(&bytes[..count]);
        count > 0
    }
}

pub fn lives(process: &Process) -> bool {
    os::start_time(process.pid) == Some(process.start)
}

#[track_caller]
pub fn await_gone(processes: &[Process]) {
    until("the end of a process", || !processes.iter().any(lives));
}

pub fn signal(process: &Process, signal: i32) {
    os::signal(process, signal).unwrap();
}

/// The process's state as ps shows it.
pub fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}

#[derive(Clone)]
pub struct Plan {
    pub group_only: bool,
    pub owner_death: OwnerDeath,
    pub stop_signal: i32,
    pub grace_ms: u32,
    /// The daemon's own by default.
    pub folder: Option<PathBuf>,
    pub programs: Vec<Vec<u8>>,
    pub args: Vec<Vec<u8>>,
    pub env: Vec<Vec<u8>>,
}

impl Plan {
    pub fn program(words: &[&str]) -> Self {
        Self {
            group_only: false,
            owner_death: OwnerDeath::Stop,
            stop_signal: libc::SIGTERM,
            grace_ms: 30_000,
            folder: None,
            programs: vec![words[0].into()],
            args: words.iter().map(|word| word.as_bytes().to_vec()).collect(),
            env: vec![b"PATH=/usr/local/bin:/usr/bin:/bin".to_vec()],
        }
    }

    pub fn shell(script: &str) -> Self {
        Self::program(&["/bin/sh", "-c", script])
    }

    /// `descriptors`: the mask of those that go with it.
    pub fn encode(&self, folder: &Path, descriptors: u32) -> Vec<u8> {
        let [programs, args, env] = [&self.programs, &self.args, &self.env].map(|list| list.iter().map(Vec::as_slice).collect());
        let order = Order {
            descriptors,
            group_only: self.group_only,
            owner_death: self.owner_death,
            stop_signal: self.stop_signal,
            grace_ms: self.grace_ms,
            folder: self.folder.as_deref().unwrap_or(folder).as_os_str().as_encoded_bytes(),
            programs,
            args,
            env,
        };
        order.encode()
    }
}

pub struct Guardian {
    child: Child,
    stream: Option<Frames>,
}

/// As the addon of this build greets.
pub fn hello() -> Hello {
    Hello { version: VERSION.to_owned(), build: BUILD_ID.to_owned(), pid: os::own_pid() }
}

impl Guardian {
    /// As the addon does it.
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    pub fn start_with(change: impl FnOnce(&mut Program)) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut program = Program::new(env!("CARGO_BIN_EXE_ally-guardian"));
        program.env_clear().stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        change(&mut program);
        let mut guardian = Self { child: program.spawn().unwrap(), stream: Some(Frames::of(ours)) };
        guardian.send_piece(&hello().encode(), &[]).unwrap();
        assert_eq!(guardian.hello(), Some(Hello { pid: guardian.pid(), ..hello() }));
        guardian
    }

    /// One that is greeted with these bytes.
    pub fn start_greeted(greeting: &[u8]) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut program = Program::new(env!("CARGO_BIN_EXE_ally-guardian"));
        program.env_clear().stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        let guardian = Self { child: program.spawn().unwrap(), stream: Some(Frames::of(ours)) };
        // It may have refused the beginning already.
        guardian.send_piece(greeting, &[]).unwrap_or_default();
        guardian
    }

    #[track_caller]
    pub fn hello(&mut self) -> Option<Hello> {
        self.stream.as_mut().unwrap().hello()
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub fn send(&self, bytes: &[u8], descriptors: &[RawFd]) {
        let (header, payload) = bytes.split_at(HEADER);
        self.send_piece(header, descriptors).unwrap();
        self.send_piece(payload, &[]).unwrap();
    }

    /// Fails where the guardian is gone.
    pub fn send_piece(&self, bytes: &[u8], descriptors: &[RawFd]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut stream = &self.stream.as_ref().unwrap().stream;
        let rights = [ControlMessage::ScmRights(descriptors)];
        let rights = if descriptors.is_empty() { &rights[..0] } else { &rights };
        let sent = sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(bytes)], rights, MsgFlags::MSG_NOSIGNAL, None)?;
        stream.write_all(&bytes[sent..])
    }

    pub fn make(&self, plan: &Plan) -> Daemon {
        let (daemon, mask, ends) = Daemon::expect();
        self.send(&plan.encode(daemon.home.path(), mask), &ends.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>());
        // All copies of ours are closed here, the lock's too: from now on the keeper alone holds it.
        daemon
    }

    /// What it tells, but for the orders that it has taken.
    #[track_caller]
    pub fn report(&mut self) -> Option<GuardianReport> {
        loop {
            match self.any_report() {
                Some(GuardianReport::Accepted) => {}
                other => return other,
            }
        }
    }

    #[track_caller]
    pub fn any_report(&mut self) -> Option<GuardianReport> {
        let frame = self.stream.as_mut().unwrap().next()?;
        Some(GuardianReport::decode(&frame).expect("a report that means something"))
    }

    /// It has ended in another way than a drop asks for.
    pub fn forget(self) {
        std::mem::forget(self);
    }

    /// As when the owner dies, or needs no guardian any more.
    pub fn let_go(&mut self) {
        self.stream = None;
    }

    #[track_caller]
    pub fn await_exit(&mut self) -> ExitStatus {
        until("the guardian's end", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap()
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.let_go();
        if std::thread::panicking() {
            // It ends with its last keeper, in its own time.
            return;
        }
        let status = self.await_exit();
        assert!(status.success() || status.signal() == Some(libc::SIGKILL), "{status}");
    }
}

pub struct Daemon {
    stream: Option<Frames>,
    stdout: Option<PipeReader>,
    stderr: Option<PipeReader>,
    home: TempDir,
}

impl Daemon {
    /// One that is about to be ordered, and what goes with the order.
    pub fn expect() -> (Self, u32, Vec<OwnedFd>) {
        let home = tempfile::tempdir().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let [(stdout, out), (stderr, err)] = [io::pipe().unwrap(), io::pipe().unwrap()];
        let lock = File::create(home.path().join("lock")).unwrap();
        lock.try_lock().unwrap();
        let [out_s_end, err_s_end] = [&stdout, &stderr].map(|pipe| pipe.try_clone().unwrap().into());
        let folder = File::open(home.path()).unwrap();
        let (mask, ends) = Descriptors {
            stream: theirs.into(),
            stdout: out.into(),
            stderr: err.into(),
            lock: lock.into(),
            folder: folder.into(),
            stdout_reader: Some(out_s_end),
            stderr_reader: Some(err_s_end),
        }
        .into_wire();
        (Self { stream: Some(Frames::of(ours)), stdout: Some(stdout), stderr: Some(stderr), home }, mask, ends)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    #[track_caller]
    pub fn report(&mut self) -> Option<KeeperReport> {
        let frame = self.stream.as_mut().unwrap().next()?;
        Some(KeeperReport::decode(&frame).expect("a report that means something"))
    }

    /// The leader and the keeper of a daemon that was just made.
    #[track_caller]
    pub fn born(&mut self) -> [Process; 2] {
        match self.report() {
            Some(KeeperReport::Spawned { leader, keeper }) => [leader, keeper].map(|pid| os::look_up(pid).expect("a process that lives")),
            other => panic!("not spawned: {other:?}"),
        }
    }

    #[track_caller]
    pub fn command(&self, command: KeeperCommand) {
        let mut stream = &self.stream.as_ref().unwrap().stream;
        stream.write_all(&command.encode()).unwrap();
    }

    /// The leader's status, after all of the tree's end was told as it should be.
    #[track_caller]
    pub fn end(&mut self) -> i32 {
        let Some(KeeperReport::Exited { status, remains }) = self.report() else { panic!("not the leader's exit") };
        if remains {
            assert_eq!(self.report(), Some(KeeperReport::TreeGone));
        }
        assert_eq!(self.report(), None, "the keeper goes with its tree");
        until("the lock's release", || self.is_unlocked());
        status
    }

    /// The next line of its output.
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

    /// All of its output up to the end, which comes when nobody holds the pipe any more.
    #[track_caller]
    pub fn output(&mut self) -> String {
        read_all(self.stdout.as_mut().unwrap())
    }

    /// The same of stderr.
    #[track_caller]
    pub fn complaints(&mut self) -> String {
        read_all(self.stderr.as_mut().unwrap())
    }

    /// Processes that introduce themselves on stdout as `NAME PID`, in the order of `names`.
    #[track_caller]
    pub fn on_found<const N: usize>(&mut self, names: [&str; N]) -> [Process; N] {
        let mut met = [None; N];
        while met.contains(&None) {
            let line = self.line();
            let (name, pid) = line.split_once(' ').unwrap_or_else(|| panic!("{line:.60?} introduces nobody"));
            let index = names.iter().position(|known| *known == name).unwrap_or_else(|| panic!("{line:.60?} was not expected"));
            met[index] = os::look_up(pid.parse().unwrap());
        }
        met.map(Option::unwrap)
    }

    /// The keeper, and the three of [`FAMILY`] or [`STUBBORN`].
    #[track_caller]
    pub fn family(&mut self) -> [Process; 4] {
        let [_, keeper] = self.born();
        let [leader, child, fled] = self.on_found(["leader", "child", "fled"]);
        assert!(child.session == leader.session && fled.session != leader.session, "the one fled, the other didn't");
        [keeper, leader, child, fled]
    }

    pub fn is_unlocked(&self) -> bool {
        File::open(self.path("lock")).unwrap().try_lock().is_ok()
    }

    pub fn lock_text(&self) -> String {
        fs::read_to_string(self.path("lock")).unwrap()
    }

    /// As when the owner dies: its ends of the stream and of the pipes close.
    pub fn abandon(&mut self) {
        (self.stream, self.stdout, self.stderr) = (None, None, None);
    }

    /// Whether the leader of [`STUBBORN`] was asked to end.
    pub fn heard(&self) -> bool {
        self.path("heard").exists()
    }
}

impl Drop for Daemon {
    /// Leaves nothing behind, however its test went.
    fn drop(&mut self) {
        if let Some(Frames { mut stream, .. }) = self.stream.take() {
            // It may be gone already.
            stream.write_all(&KeeperCommand::Kill.encode()).unwrap_or_default();
        }
    }
}
