//! The facts by which a start recognizes an orphan or a dead owner.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;

use ally_base::os;
use ally_base::record::{LockNote, identities_text};
use ally_core::error::Code;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::folder::create_folder;
use crate::in_pid_namespace;
use crate::orphan::Orphan;
use crate::start::{manager, refusals, start};
use crate::unrelated_process::UnrelatedProcess;
use crate::until::until;

/// The error code of a start with these files. The daemon exits at once, so every start fails.
fn start_over(home: &Path, files: &[(&str, String)]) -> Code {
    let folder = home.join("envs/p");
    create_folder(&folder);
    for (name, text) in files {
        fs::write(folder.join(name), text).unwrap();
    }
    let manager = manager(home);
    start(&manager, "p", home, "socket");
    refusals(&manager, 1)[0].code()
}

/// The pid was reused: the POSIX session of that number is older than the record.
#[test]
fn posix_session_older_than_its_record_is_not_stopped() {
    in_pid_namespace("recognition::posix_session_older_than_its_record_is_not_stopped", || {
        let home = tempfile::tempdir().unwrap();
        let orphan = Orphan::start(home.path(), "");
        let record = orphan.record(os::start_time(orphan.member).unwrap() + 1);
        assert_eq!(start_over(home.path(), &record), Code::StartupExit);
        assert_eq!(orphan.end(), ["leader", "member"]);
    });
}

#[test]
fn orphan_without_its_leader_is_stopped_where_socket_path_is_in_the_environment() {
    in_pid_namespace("recognition::orphan_without_its_leader_is_stopped_where_socket_path_is_in_the_environment", || {
        for (words, unharmed) in [("-u SOCKET_PATH", &["member"][..]), ("SOCKET_PATH=/elsewhere", &["member"]), ("", &[])] {
            let home = tempfile::tempdir().unwrap();
            let mut orphan = Orphan::start(home.path(), words);
            let record = orphan.record(os::start_time(orphan.pid()).unwrap());
            orphan.lose_leader();
            assert_eq!(start_over(home.path(), &record), Code::StartupExit);
            assert_eq!(orphan.end(), unharmed, "{words:?}");
        }
    });
}

/// A process may have got SOCKET_PATH from the user's shell. Only a descendant of the attempt began with its token.
#[test]
fn orphan_without_its_leader_is_stopped_where_the_token_is_in_the_environment() {
    in_pid_namespace("recognition::orphan_without_its_leader_is_stopped_where_the_token_is_in_the_environment", || {
        const TOKEN: &str = "0123456789abcdef0123456789abcdef";
        for (words, boot, unharmed) in [
            ("ALLY_DAEMON_ID=TOKEN", true, &[][..]),
            ("-u SOCKET_PATH ALLY_DAEMON_ID=TOKEN", true, &[]),
            ("ALLY_DAEMON_ID=TOKENx", true, &["member"]),
            ("", true, &["member"]),
            // As on a /proc with the mount option `subset=pid`.
            ("-u SOCKET_PATH ALLY_DAEMON_ID=TOKEN", false, &[]),
            ("", false, &["member"]),
        ] {
            let home = tempfile::tempdir().unwrap();
            let mut orphan = Orphan::start(home.path(), &words.replace("TOKEN", TOKEN));
            let mut identity = orphan.identity(os::start_time(orphan.pid()).unwrap(), orphan.pid());
            identity.token = Some(TOKEN.to_owned());
            if !boot {
                identity.boot = format!("- {}", identity.boot.split_once(' ').unwrap().1);
            }
            orphan.lose_leader();
            assert_eq!(start_over(home.path(), &orphan.record_of(identity)), Code::StartupExit);
            assert_eq!(orphan.end(), unharmed, "{words:?}, boot: {boot}");
        }
    });
}

/// The owner and both keepers were killed in the midst of an upgrade. The newer generation was told another SOCKET_PATH.
#[test]
fn orphans_of_both_generations_are_stopped_each_by_its_own_token() {
    in_pid_namespace("recognition::orphans_of_both_generations_are_stopped_each_by_its_own_token", || {
        let tokens = ["0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"];
        for (serving, leaders_live) in [(0, true), (1, true), (0, false), (1, false)] {
            let home = tempfile::tempdir().unwrap();
            let mut both = tokens.map(|token| {
                let words = format!("SOCKET_PATH={}.nxt1 ALLY_DAEMON_ID={token}", home.path().join("socket").display());
                let orphan = Orphan::start(home.path(), &words);
                let mut identity = orphan.identity(os::start_time(orphan.pid()).unwrap(), orphan.pid());
                identity.token = Some(token.to_owned());
                (orphan, identity)
            });
            if !leaders_live {
                both.iter_mut().for_each(|(orphan, _)| orphan.lose_leader());
            }
            let bystander = Orphan::start(home.path(), "ALLY_DAEMON_ID=00000000000000000000000000000000");
            let identities = [&both[serving].1, &both[1 - serving].1].map(Clone::clone);
            let files = [("daemon.id", identities_text(&identities)), ("daemon.pid", format!("{}\n", identities[0].leader))];
            assert_eq!(start_over(home.path(), &files), Code::StartupExit);
            for (orphan, _) in both {
                assert_eq!(orphan.end(), [""; 0], "serving: {serving}, leaders: {leaders_live}");
            }
            assert_eq!(bystander.end(), ["leader", "member"]);
        }
    });
}

/// The POSIX session of the record, which the keeper made, and the one of the leader's number are both swept.
#[test]
fn orphan_is_found_in_the_session_of_the_record_and_in_the_one_that_its_leader_made() {
    in_pid_namespace("recognition::orphan_is_found_in_the_session_of_the_record_and_in_the_one_that_its_leader_made", || {
        for (words, unharmed) in [("-u SOCKET_PATH", &["member"][..]), ("", &[])] {
            let home = tempfile::tempdir().unwrap();
            let mut orphan = Orphan::start(home.path(), words);
            let other = Orphan::start(home.path(), "");
            // The leader made a POSIX session, and the keeper had made the one of `other`.
            let record = orphan.record_in_session(os::start_time(orphan.pid()).unwrap(), other.pid());
            orphan.lose_leader();
            assert_eq!(start_over(home.path(), &record), Code::StartupExit);
            assert_eq!(orphan.end(), unharmed, "{words:?}");
            assert_eq!(other.end(), ["leader"], "the first process of the POSIX session is the keeper");
        }
    });
}

#[test]
fn pid_file_without_identity_counts_only_for_the_listener_with_the_plugin_path_as_directory() {
    in_pid_namespace("recognition::pid_file_without_identity_counts_only_for_the_listener_with_the_plugin_path_as_directory", || {
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
            let unrelated = UnrelatedProcess::start_in(folder, home.path(), matches!(listener, Listener::Itself));
            let _other = matches!(listener, Listener::Another).then(|| UnixListener::bind(home.path().join("socket")).unwrap());
            assert_eq!(start_over(home.path(), &[("daemon.pid", format!("{}\n", unrelated.pid()))]), code);
            assert_eq!(unrelated.end(), ended);
        }
    });
}

/// The pid of the lock note was reused, so the owner is dead. The start waits for the lock, as for every dead owner.
#[test]
fn lock_note_of_an_owner_with_another_start_time_counts_as_a_dead_owner() {
    in_pid_namespace("recognition::lock_note_of_an_owner_with_another_start_time_counts_as_a_dead_owner", || {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("envs/p");
        create_folder(&folder);
        let unrelated = UnrelatedProcess::start(home.path(), false);
        let place = folder.join("daemon.lock");
        let note = LockNote::Owner { pid: unrelated.pid(), start: unrelated.start_time() - 1, manager: 1 };
        fs::write(&place, note.to_string()).unwrap();
        let lock = fs::File::open(&place).unwrap();
        lock.try_lock().unwrap();
        // From here on only the start opens the lock file: the first time to find it taken, the second time if it waits.
        let opened = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        opened.add_watch(&place, AddWatchFlags::IN_OPEN).unwrap();
        let manager = manager(home.path());
        start(&manager, "p", home.path(), "socket");
        let mut opens = 0;
        until("the lock is opened again", || {
            opens += opened.read_events().map_or(0, |events| events.len());
            opens >= 2
        });
        drop(lock);
        // The start went on to the daemon, which exits at once.
        assert_eq!(refusals(&manager, 1)[0].code(), Code::StartupExit);
        unrelated.assert_unharmed();
    });
}
