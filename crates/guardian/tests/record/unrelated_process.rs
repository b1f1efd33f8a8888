//! An unrelated process that imitates a daemon.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command as Program, Stdio};

use ally_base::os;

/// An unrelated process that imitates a daemon: a POSIX session of its own, the plugin's socket path in its environment, the
/// name of a keeper, perhaps the socket. It lacks the lock, and its working directory is another folder unless a test sets it.
pub struct UnrelatedProcess(Child);

impl UnrelatedProcess {
    pub fn start(home: &Path, listens: bool) -> Self {
        Self::start_in(Path::new("/"), home, listens)
    }

    pub fn start_in(folder: &Path, home: &Path, listens: bool) -> Self {
        let (name, socket) = (home.join("ally-keeper"), home.join("socket"));
        symlink("/bin/sh", &name).unwrap();
        let mut program = Program::new(name);
        program.args(["-c", "read ending"]).env("SOCKET_PATH", &socket).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::null());
        if listens {
            program.stdout(OwnedFd::from(UnixListener::bind(&socket).unwrap()));
        }
        let become_session_leader = move || {
            nix::unistd::setsid()?;
            // The peer of a connection is the last process that called listen(2).
            // SAFETY: integers only.
            if listens && unsafe { libc::listen(1, 8) } != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        };
        // SAFETY: the closure allocates nothing and takes no lock.
        unsafe { program.pre_exec(become_session_leader) };
        Self(program.spawn().unwrap())
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    pub fn start_time(&self) -> u64 {
        os::start_time(self.pid()).unwrap()
    }

    /// The signal that ended the process, if any. Its `read` ends with its stdin.
    pub fn end(mut self) -> Option<i32> {
        drop(self.0.stdin.take());
        self.0.wait().unwrap().signal()
    }

    pub fn assert_unharmed(self) {
        assert_eq!(self.end(), None, "the unrelated process got a signal");
    }
}
