//! Any bytes in a plugin's files, and then a start: nobody is signalled, and nothing is removed but what is
//! ours. In a world of its own, because whoever gets this wrong may signal everybody.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic")]

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdout, Command as Program, Stdio};
use std::time::{Duration, Instant};

use ally_base::os;
use ally_base::record::{Identity, LockNote};
use ally_base::wire::OwnerDeath;
use ally_build_id::{BUILD_ID, VERSION};
use ally_core::config::Raw;
use ally_core::error::{Code, Failure};
use ally_core::model::ProcessState;
use ally_core::supervisor::{GuardianProgram, Manager, Message, Options, Refusal};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// Runs a test again, in a pid namespace where -1 is nobody that matters.
fn alone(test: &str, run: impl FnOnce()) {
    const ALONE: &str = "ALLY_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return run();
    }
    let unshare = |words: &[&str]| {
        let mut program = Program::new("unshare");
        program.args(["-pf", "--mount-proc", "--kill-child"]).args(words).env(ALONE, "1");
        program
    };
    if !unshare(&["true"]).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: a pid namespace can't be had here");
        return;
    }
    let own = std::env::current_exe().unwrap();
    // The shell is the first process there, so that the test is one that could be signalled.
    let run = unshare(&["sh", "-c", "\"$@\"; exit $?", "sh"]).arg(own).args(["--exact", test, "--nocapture"]).output().unwrap();
    assert!(run.status.success(), "{}\n{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
}

fn until(what: &str, mut seen: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !seen() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Has as much of a daemon as a stranger can: a session of its own, the plugin's socket path in its
/// environment, a keeper's name, perhaps the socket. But it hasn't the lock, and mostly works in another folder.
struct Bystander(Child);

impl Bystander {
    fn start(home: &Path, listens: bool) -> Self {
        Self::start_in(Path::new("/"), home, listens)
    }

    fn start_in(folder: &Path, home: &Path, listens: bool) -> Self {
        let (name, socket) = (home.join("ally-keeper"), home.join("socket"));
        symlink("/bin/sh", &name).unwrap();
        let mut program = Program::new(name);
        program.args(["-c", "read ending"]).env("SOCKET_PATH", &socket).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::null());
        if listens {
            program.stdout(OwnedFd::from(UnixListener::bind(&socket).unwrap()));
        }
        let introduce = move || {
            nix::unistd::setsid()?;
            // Who listened last is the one that a client sees.
            // SAFETY: integers only.
            if listens && unsafe { libc::listen(1, 8) } != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        };
        // SAFETY: the closure allocates nothing and takes no lock.
        unsafe { program.pre_exec(introduce) };
        Self(program.spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    fn start_time(&self) -> u64 {
        os::start_time(self.pid()).unwrap()
    }

    /// The signal that ended it, if one did. Its `read` ends with its stdin.
    fn end(mut self) -> Option<i32> {
        drop(self.0.stdin.take());
        self.0.wait().unwrap().signal()
    }

    fn assert_unharmed(self) {
        assert_eq!(self.end(), None, "it was signalled");
    }
}

/// What a daemon leaves: a leader in a session of its own, with the plugin's socket path in its environment, and a member
/// of that session. Either goes when the stdin that they share ends, and says so; one that is signalled says nothing.
struct Session {
    leader: Child,
    member: i32,
    stdout: BufReader<ChildStdout>,
}

impl Session {
    /// The member by way of env(1), with these words for it.
    fn start(home: &Path, words: &str) -> Self {
        // Without a descriptor of its own, the shell would give what is in the background /dev/null for a stdin.
        let script = "exec 3<&0; env $0 sh -c 'echo $$; read ending; echo member' <&3 & read ending; echo leader";
        let mut program = Program::new("/bin/sh");
        program.args(["-c", script, words]).env("SOCKET_PATH", home.join("socket")).stdin(Stdio::piped()).stdout(Stdio::piped());
        // SAFETY: setsid(2) may be called between fork and exec.
        unsafe { program.pre_exec(|| Ok(nix::unistd::setsid().map(|_| ())?)) };
        let mut leader = program.spawn().unwrap();
        let mut stdout = BufReader::new(leader.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let session = Self { leader, member: line.trim_end().parse().unwrap(), stdout };
        assert_eq!(os::look_up(session.member).unwrap().session, session.pid());
        session
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.leader.id()).unwrap()
    }

    /// A record of its leader that says that it began then.
    fn record(&self, start: u64) -> [(&'static str, String); 2] {
        let identity = Identity { leader: self.pid(), start, boot: os::boot_id().unwrap() };
        [("daemon.id", identity.to_string()), ("daemon.pid", format!("{}\n", self.pid()))]
    }

    fn lose_leader(&mut self) {
        // Its stdin stays open, which `wait` would close.
        let stdin = self.leader.stdin.take();
        self.leader.kill().unwrap();
        self.leader.wait().unwrap();
        self.leader.stdin = stdin;
    }

    /// Those who were not signalled.
    fn end(mut self) -> Vec<String> {
        drop(self.leader.stdin.take());
        self.leader.wait().unwrap();
        let mut unharmed: Vec<_> = self.stdout.lines().map(Result::unwrap).collect();
        unharmed.sort_unstable();
        unharmed
    }
}

/// What stands in a file. In a text PID, START and BOOT are the bystander's; OWN is the pid of this process.
#[derive(Debug, Clone)]
enum Content {
    Bytes(Vec<u8>),
    Text(String),
}

impl Content {
    fn bytes(&self, bystander: &Bystander) -> Vec<u8> {
        let text = match self {
            Self::Bytes(bytes) => return bytes.clone(),
            Self::Text(text) => text,
        };
        let own = i32::try_from(std::process::id()).unwrap();
        let of = if text.contains("OWN") { own } else { bystander.pid() };
        let facts = [
            ("PID", bystander.pid().to_string()),
            ("OWN", own.to_string()),
            ("START", os::start_time(of).unwrap_or_default().to_string()),
            ("BOOT", os::boot_id().unwrap()),
        ];
        facts.iter().fold(text.clone(), |text, (word, fact)| text.replace(word, fact)).into_bytes()
    }
}

fn bytes() -> impl Strategy<Value = Content> {
    vec(any::<u8>(), 0..60).prop_map(Content::Bytes)
}

fn text(pattern: &'static str) -> impl Strategy<Value = Content> {
    pattern.prop_map(Content::Text)
}

fn pid_file() -> impl Strategy<Value = Content> {
    prop_oneof![1 => bytes(), 3 => text("[-+ 0]?(PID|PID|OWN|1|0|[0-9]{1,20})[\n x]{0,2}")]
}

/// Each word is mostly right; but never all of them, for then it would be an orphan.
fn identity() -> impl Strategy<Value = Content> {
    let word = |right: &'static str, wrong: &[&'static str]| prop_oneof![3 => Just(right), 1 => select(wrong.to_vec())];
    let title = word("ally-daemon 1", &["ally-daemon 2", ""]);
    let pid = word("PID", &["OWN", "-PID", "1", "0", "-1", "2147483647"]);
    let start = word("START", &["0", "1", "18446744073709551615"]);
    let boot = word("BOOT", &["BOOT ", "00000000-0000-0000-0000-000000000000 pid:[1]", ""]);
    let words = (title, pid, start, boot).prop_filter("an orphan", |words| *words != ("ally-daemon 1", "PID", "START", "BOOT"));
    words.prop_map(|(title, pid, start, boot)| Content::Text(format!("{title}\npid {pid}\nstart {start}\nboot {boot}\n")))
}

fn note() -> impl Strategy<Value = Content> {
    prop_oneof![1 => bytes(), 3 => text("(owner|keeper|keeper|warden) (PID|PID|OWN|1|0|-1) (START|START|0) [0-9]{1,21}\n?")]
}

fn files() -> impl Strategy<Value = [Option<Content>; 3]> {
    let identity = prop_oneof![1 => bytes(), 4 => identity()];
    (option::of(pid_file()), option::weighted(0.7, identity), option::of(note())).prop_map(<[_; 3]>::from)
}

const NAMES: [&str; 3] = ["daemon.pid", "daemon.id", "daemon.lock"];

fn manager(home: &Path) -> Manager {
    let guardian = GuardianProgram { path: env!("CARGO_BIN_EXE_ally-guardian").into(), version: VERSION, build: BUILD_ID };
    Manager::new(Options { envs_dir: home.join("envs"), owner_death: OwnerDeath::Stop, guardian }, Box::new(|| {}))
}

fn start(manager: &Manager, name: &str, home: &Path, socket: &str) {
    let text = |text: &str| Raw::String(text.to_owned());
    let config = [
        ("pluginName", text(name)),
        ("pluginPath", text(home.to_str().unwrap())),
        ("command", text("/bin/true")),
        ("args", Raw::Array(Vec::new())),
        ("socketPath", text(home.join(socket).to_str().unwrap())),
        ("startupTimeout", Raw::Number(10_000.0)),
        ("shutdownGracePeriod", Raw::Number(50.0)),
    ];
    manager.start(&Raw::Object(config.map(|(key, value)| (key.to_owned(), value)).into()), "".into()).unwrap();
}

fn refusals(manager: &Manager, count: usize) -> Vec<Failure> {
    let mut refused = Vec::new();
    until("an answer to each start", || {
        refused.extend(manager.mailbox().take().into_iter().filter_map(|message| match message {
            Message::Settled { outcome: Err(Refusal { failure, .. }), .. } => Some(failure),
            _ => None,
        }));
        refused.len() == count
    });
    refused
}

fn strangers() -> Vec<(String, Vec<u8>)> {
    [".installed", "daemon", "daemon.pid.bak", "daemon.sock"].map(|name| (name.to_owned(), name.into())).into()
}

fn make(folder: &Path) {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).unwrap();
    for (name, text) in strangers() {
        fs::write(folder.join(name), text).unwrap();
    }
}

/// What is in the folder, by name.
fn found(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut found: Vec<_> = entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect();
    found.sort_unstable();
    found
}

/// A start gets as far as the socket if somebody listens there, and else as far as a daemon that ends at once.
#[test]
fn whatever_stands_in_the_files_signals_nobody_and_gives_way() {
    alone("whatever_stands_in_the_files_signals_nobody_and_gives_way", || {
        proptest!(ProptestConfig::with_cases(96), |(files in files(), listens in any::<bool>())| {
            let home = tempfile::tempdir().unwrap();
            let folder = home.path().join("envs/p");
            make(&folder);
            let bystander = Bystander::start(home.path(), listens);
            for (name, content) in NAMES.iter().zip(&files) {
                if let Some(content) = content {
                    fs::write(folder.join(name), content.bytes(&bystander)).unwrap();
                }
            }
            let manager = manager(home.path());
            start(&manager, "p", home.path(), "socket");
            let code = refusals(&manager, 1)[0].code();
            prop_assert_eq!(code, if listens { Code::SocketInUse } else { Code::StartupExit });
            prop_assert_eq!(manager.state("p"), Some(ProcessState::Error));
            // The lock's file stays for ever.
            prop_assert!(folder.join("daemon.lock").exists());
            fs::remove_file(folder.join("daemon.lock")).unwrap();
            prop_assert_eq!(found(&folder), strangers());
            prop_assert_eq!(home.path().join("socket").exists(), listens);
            bystander.assert_unharmed();
        });
    });
}

/// The lock is taken, and who took it left a note. All at once, for each is waited for.
#[test]
fn whatever_stands_in_a_lock_that_is_taken_signals_nobody_and_stays() {
    alone("whatever_stands_in_a_lock_that_is_taken_signals_nobody_and_stays", || {
        let home = tempfile::tempdir().unwrap();
        let bystander = Bystander::start(home.path(), false);
        let mut runner = TestRunner::default();
        let notes: Vec<_> = (0..60).map(|_| note().new_tree(&mut runner).unwrap().current()).collect();
        let manager = manager(home.path());
        let held: Vec<_> = notes
            .into_iter()
            .chain([Content::Text("keeper PID START 0\n".to_owned()), Content::Text("keeper OWN START 0\n".to_owned())])
            .enumerate()
            .map(|(index, note)| {
                let name = format!("p{index}");
                let folder = home.path().join("envs").join(&name);
                make(&folder);
                fs::write(folder.join("daemon.lock"), note.bytes(&bystander)).unwrap();
                fs::write(folder.join("daemon.pid"), "4711\n").unwrap();
                let lock = fs::File::open(folder.join("daemon.lock")).unwrap();
                lock.try_lock().unwrap();
                let before = found(&folder);
                start(&manager, &name, home.path(), &name);
                (folder, before, lock)
            })
            .collect();
        let refused = refusals(&manager, held.len());
        assert!(refused.iter().all(|failure| failure.code() == Code::OwnedElsewhere), "{refused:?}");
        for (folder, before, _lock) in held {
            assert_eq!(found(&folder), before);
        }
        bystander.assert_unharmed();
    });
}

/// A start where these files were left, and why it failed: the daemon ends at once, if it comes to that.
fn start_over(home: &Path, files: &[(&str, String)]) -> Code {
    let folder = home.join("envs/p");
    make(&folder);
    for (name, text) in files {
        fs::write(folder.join(name), text).unwrap();
    }
    let manager = manager(home);
    start(&manager, "p", home, "socket");
    refusals(&manager, 1)[0].code()
}

/// The kernel gave the leader's pid away: whoever has it now, and made a session of that number, is older than the record.
#[test]
fn a_session_that_is_older_than_its_record_is_a_stranger_s() {
    alone("a_session_that_is_older_than_its_record_is_a_stranger_s", || {
        let home = tempfile::tempdir().unwrap();
        let session = Session::start(home.path(), "");
        let record = session.record(os::start_time(session.member).unwrap() + 1);
        assert_eq!(start_over(home.path(), &record), Code::StartupExit);
        assert_eq!(session.end(), ["leader", "member"]);
    });
}

#[test]
fn of_a_dead_leader_s_session_only_what_began_with_the_socket_path_is_stopped() {
    alone("of_a_dead_leader_s_session_only_what_began_with_the_socket_path_is_stopped", || {
        for (words, unharmed) in [("-u SOCKET_PATH", &["member"][..]), ("SOCKET_PATH=/elsewhere", &["member"]), ("", &[])] {
            let home = tempfile::tempdir().unwrap();
            let mut session = Session::start(home.path(), words);
            let record = session.record(os::start_time(session.pid()).unwrap());
            session.lose_leader();
            assert_eq!(start_over(home.path(), &record), Code::StartupExit);
            assert_eq!(session.end(), unharmed, "{words:?}");
        }
    });
}

#[test]
fn a_bare_pid_counts_only_for_one_that_listens_and_works_where_the_plugin_does() {
    alone("a_bare_pid_counts_only_for_one_that_listens_and_works_where_the_plugin_does", || {
        enum Listener {
            Nobody,
            Another,
            Itself,
        }
        for (works_there, listener, ended, code) in [
            (true, Listener::Nobody, None, Code::StartupExit),
            (true, Listener::Another, None, Code::SocketInUse),
            (false, Listener::Itself, None, Code::SocketInUse),
            (true, Listener::Itself, Some(libc::SIGTERM), Code::StartupExit),
        ] {
            let home = tempfile::tempdir().unwrap();
            let folder = if works_there { home.path() } else { Path::new("/") };
            let bystander = Bystander::start_in(folder, home.path(), matches!(listener, Listener::Itself));
            let _other = matches!(listener, Listener::Another).then(|| UnixListener::bind(home.path().join("socket")).unwrap());
            assert_eq!(start_over(home.path(), &[("daemon.pid", format!("{}\n", bystander.pid()))]), code);
            assert_eq!(bystander.end(), ended);
        }
    });
}

/// A pid that was given away again is nobody's word: the lock is waited for, as that of any owner who is dead.
#[test]
fn an_owner_s_note_with_another_start_names_nobody() {
    alone("an_owner_s_note_with_another_start_names_nobody", || {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("envs/p");
        make(&folder);
        let bystander = Bystander::start(home.path(), false);
        let place = folder.join("daemon.lock");
        let note = LockNote::Owner { pid: bystander.pid(), start: bystander.start_time() - 1, manager: 1 };
        fs::write(&place, note.to_string()).unwrap();
        let lock = fs::File::open(&place).unwrap();
        lock.try_lock().unwrap();
        // From here on only the start opens it: once to find it taken, and again if it waits.
        let opened = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        opened.add_watch(&place, AddWatchFlags::IN_OPEN).unwrap();
        let manager = manager(home.path());
        start(&manager, "p", home.path(), "socket");
        let mut looks = 0;
        until("another look at the lock", || {
            looks += opened.read_events().map_or(0, |events| events.len());
            looks >= 2
        });
        drop(lock);
        // It got as far as a daemon that ends at once.
        assert_eq!(refusals(&manager, 1)[0].code(), Code::StartupExit);
        bystander.assert_unharmed();
    });
}
