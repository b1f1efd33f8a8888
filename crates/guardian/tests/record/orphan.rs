//! A fixture: the tree that a dead owner leaves.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command as Program, Stdio};

use ally_base::os;
use ally_base::record::Identity;

/// An orphan of an older version: a leader that made its POSIX session, with the plugin's socket path in its environment, and a member of that
/// session. Both end with their shared stdin and print their name then. After a signal they print nothing.
pub struct Orphan {
    leader: Child,
    pub member: i32,
    stdout: BufReader<ChildStdout>,
}

impl Orphan {
    /// The member is started by env(1) with these words.
    pub fn start(home: &Path, words: &str) -> Self {
        // The shell gives a background process /dev/null as stdin, unless it has a descriptor of its own.
        let script = "exec 3<&0; env $0 sh -c 'echo $$; read ending; echo member' <&3 & read ending; echo leader";
        let mut program = Program::new("/bin/sh");
        program.args(["-c", script, words]).env("SOCKET_PATH", home.join("socket")).stdin(Stdio::piped()).stdout(Stdio::piped());
        // SAFETY: setsid(2) may be called between fork and exec.
        unsafe { program.pre_exec(|| Ok(nix::unistd::setsid().map(|_| ())?)) };
        let mut leader = program.spawn().unwrap();
        let mut stdout = BufReader::new(leader.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let orphan = Self { leader, member: line.trim_end().parse().unwrap(), stdout };
        assert_eq!(os::look_up(orphan.member).unwrap().session, orphan.pid());
        orphan
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.leader.id()).unwrap()
    }

    /// A record of the leader with this start time, as an older version wrote it.
    pub fn record(&self, start: u64) -> [(&'static str, String); 2] {
        let [(name, identity), pid_file] = self.record_in_session(start, self.pid());
        [(name, identity.split_inclusive('\n').take(4).collect()), pid_file]
    }

    /// A record of the leader with this start time and POSIX session.
    pub fn record_in_session(&self, start: u64, session: i32) -> [(&'static str, String); 2] {
        self.record_of(self.identity(start, session))
    }

    pub fn identity(&self, start: u64, session: i32) -> Identity {
        let boot = os::boot_id().unwrap();
        Identity { leader: self.pid(), start, boot, session, group: self.pid(), token: None, keeper: None, version: None, grace_ms: None }
    }

    pub fn record_of(&self, identity: Identity) -> [(&'static str, String); 2] {
        [("daemon.id", identity.to_string()), ("daemon.pid", format!("{}\n", self.pid()))]
    }

    pub fn lose_leader(&mut self) {
        // `wait` would close the shared stdin.
        let stdin = self.leader.stdin.take();
        self.leader.kill().unwrap();
        self.leader.wait().unwrap();
        self.leader.stdin = stdin;
    }

    /// The processes without a signal.
    pub fn end(mut self) -> Vec<String> {
        drop(self.leader.stdin.take());
        self.leader.wait().unwrap();
        let mut unharmed: Vec<_> = self.stdout.lines().map(Result::unwrap).collect();
        unharmed.sort_unstable();
        unharmed
    }
}
