//! A guardian as a child of the test.

use std::io::{self, IoSlice, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command as Program, ExitStatus, Stdio};

use ally_base::os::{self};
use ally_base::wire::{GuardianReport, HEADER, Hello};
use ally_build_id::{BUILD_ID, VERSION};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::streams::Frames;
use super::{Daemon, Name, TestOrder, until};

pub struct Guardian {
    child: Child,
    stream: Option<Frames>,
}

/// The greeting of the addon of this build.
pub fn hello() -> Hello {
    Hello { version: VERSION.to_owned(), build: BUILD_ID.to_owned(), pid: os::own_pid() }
}

impl Guardian {
    /// Starts the guardian as the addon does.
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

    /// Starts a guardian, and sends these bytes in place of the greeting.
    pub fn start_greeted(greeting: &[u8]) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut program = Program::new(env!("CARGO_BIN_EXE_ally-guardian"));
        program.env_clear().stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        let guardian = Self { child: program.spawn().unwrap(), stream: Some(Frames::of(ours)) };
        // The guardian may have refused the first bytes already.
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

    /// Fails if the guardian is gone.
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

    pub fn spawn(&self, plan: &TestOrder) -> Daemon {
        self.spawn_prepared(plan, Daemon::prepare())
    }

    /// A daemon that gets a listening socket.
    pub fn spawn_listening(&self, plan: &TestOrder, listener: OwnedFd) -> Daemon {
        self.spawn_prepared(plan, Daemon::prepare_with(None, Some(listener)))
    }

    fn spawn_prepared(&self, plan: &TestOrder, (daemon, mask, ends): (Daemon, u32, Vec<OwnedFd>)) -> Daemon {
        self.send(&plan.encode(daemon.home.path(), mask), &ends.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>());
        // The test's copies of the descriptors are closed here, so the keeper alone holds the lock.
        daemon
    }

    /// A daemon beside others of its name.
    pub fn spawn_under(&self, name: &Name, plan: &TestOrder) -> Daemon {
        let (daemon, mask, ends) = Daemon::prepare_under(name, None, None);
        self.send(&plan.encode(daemon.home.path(), mask), &ends.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>());
        daemon
    }

    /// The next report other than Accepted.
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
        Some(GuardianReport::decode(&frame).expect("a valid report"))
    }

    /// For a guardian that has exited with another status than `drop` expects.
    pub fn skip_exit_check(self) {
        std::mem::forget(self);
    }

    /// Closes the owner's end of the stream, as the death of the owner does.
    pub fn close_stream(&mut self) {
        self.stream = None;
    }

    #[track_caller]
    pub fn await_exit(&mut self) -> ExitStatus {
        until("the guardian has exited", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap()
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.close_stream();
        if std::thread::panicking() {
            // The guardian exits after its last keeper.
            return;
        }
        let status = self.await_exit();
        assert!(status.success() || status.signal() == Some(libc::SIGKILL), "{status}");
    }
}
