//! Sessions, and what they know of their host.

use std::collections::HashMap;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use ally_base::os;
use ally_base::wire::OwnerDeath;
use ally_build_id::{BUILD_ID, VERSION};
use ally_core::config::Raw;
use ally_core::error::Failure;
use ally_core::lifecycle::Notice;
use ally_core::model::ProcessState;
use ally_core::sharing::Router;
use ally_core::supervisor::{GuardianProgram, Message, Options};
use tempfile::TempDir;

pub struct World {
    dir: TempDir,
}

impl World {
    pub fn new() -> Self {
        Self { dir: tempfile::Builder::new().prefix("h-").tempdir_in("/tmp").unwrap() }
    }

    pub fn envs_dir(&self) -> PathBuf {
        self.dir.path().join("envs")
    }

    pub fn folder(&self) -> PathBuf {
        self.envs_dir().join(format!(".ally-host-{}", nix::unistd::geteuid()))
    }

    pub fn socket(&self) -> PathBuf {
        self.folder().join("host.sock")
    }

    pub fn make_folder(&self) {
        use std::os::unix::fs::PermissionsExt;
        fs::create_dir_all(self.folder()).unwrap();
        for folder in [self.envs_dir(), self.folder()] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
        }
    }

    /// The pid in the lock, if that process is a host of this folder.
    pub fn host(&self) -> Option<i32> {
        let note = fs::read_to_string(self.folder().join("host.lock")).ok()?;
        let pid = note.strip_prefix("host ")?.split(' ').next()?.parse().ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let is_host = command.split(|byte| *byte == 0).any(|word| Path::new(std::str::from_utf8(word).unwrap()) == self.envs_dir());
        let is_named = fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "ally-host");
        (is_host && is_named).then_some(pid)
    }

    pub fn await_host_gone(&self, time: Duration) {
        assert!(within(time, || self.host().is_none()), "the host is gone");
    }

    pub fn session(&self) -> Session {
        Session::new(self.envs_dir(), GuardianProgram { path: program(), version: VERSION, build: BUILD_ID })
    }

    /// Of a plugin whose daemon needs no socket.
    pub fn config(&self, name: &str) -> Raw {
        self.config_of(name, "exec sleep 60")
    }

    /// As [`Self::config`], with this script of the shell as the daemon.
    pub fn config_of(&self, name: &str, script: &str) -> Raw {
        let text = |text: &str| Raw::String(text.to_owned());
        let socket = self.envs_dir().join(name).join("daemon.sock");
        let exec = Raw::Object(vec![("type".to_owned(), text("exec")), ("command".to_owned(), text("/bin/true"))]);
        Raw::Object(
            [
                ("pluginName", text(name)),
                ("pluginPath", text("/")),
                ("command", text("/bin/sh")),
                ("args", Raw::Array(vec![text("-c"), text(script)])),
                ("socketPath", text(socket.to_str().unwrap())),
                ("startupTimeout", Raw::Number(10_000.0)),
                ("shutdownGracePeriod", Raw::Number(500.0)),
                ("readiness", exec),
                ("shared", Raw::Bool(true)),
            ]
            .map(|(key, value)| (key.to_owned(), value))
            .to_vec(),
        )
    }

    /// A connection that says nothing.
    pub fn connect(&self) -> std::io::Result<UnixStream> {
        let stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Ok(stream)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(host) = self.host() {
            // SAFETY: integers only.
            unsafe { libc::kill(host, libc::SIGTERM) };
            within(Duration::from_secs(5), || self.host().is_none());
        }
    }
}

/// Whether it is true in that time.
pub fn within(time: Duration, mut is_true: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + time;
    loop {
        if is_true() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_ally-guardian"))
}

/// A manager that shares daemons.
pub struct Session {
    pub router: Arc<Router>,
    woken: mpsc::Receiver<()>,
    answers: Mutex<HashMap<u64, Result<(), Failure>>>,
    told: Mutex<Vec<ProcessState>>,
}

impl Session {
    pub fn new(envs_dir: PathBuf, guardian: GuardianProgram) -> Self {
        let (wake, woken) = mpsc::channel();
        let wake = Mutex::new(wake);
        let options = Options { envs_dir, owner_death: OwnerDeath::Stop, guardian };
        let router = Router::new(options, Box::new(move || wake.lock().unwrap().send(()).unwrap_or_default()));
        Self { router: Arc::new(router), woken, answers: Mutex::default(), told: Mutex::default() }
    }

    pub fn begin(&self, config: &Raw) -> u64 {
        self.router.start(config, "PATH=/bin\0".into()).unwrap().ticket
    }

    pub fn start(&self, config: &Raw) -> Result<(), Failure> {
        let ticket = self.begin(config);
        self.answer(ticket)
    }

    pub fn stop(&self, name: &str) -> Result<(), Failure> {
        let ticket = self.router.stop(name, false);
        self.answer(ticket)
    }

    pub fn answer(&self, ticket: u64) -> Result<(), Failure> {
        loop {
            for message in self.router.mailbox().take() {
                match message {
                    Message::Settled { ticket, outcome } => {
                        self.answers.lock().unwrap().insert(ticket, outcome.map_err(|refusal| refusal.failure));
                    }
                    Message::Notice { notice: Notice::StateChanged { to, .. }, .. } => self.told.lock().unwrap().push(to),
                    _ => {}
                }
            }
            if let Some(outcome) = self.answers.lock().unwrap().remove(&ticket) {
                return outcome;
            }
            if !self.router.mailbox().has_more() {
                self.woken.recv_timeout(Duration::from_secs(30)).expect("an answer comes");
            }
        }
    }
}

impl Session {
    /// The states that listeners were told while this session waited for answers.
    pub fn told(&self) -> Vec<ProcessState> {
        self.told.lock().unwrap().clone()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.router.close();
    }
}

pub fn lives(pid: i32) -> bool {
    os::look_up(pid).is_some_and(|process| process.lives().unwrap_or(true))
}
