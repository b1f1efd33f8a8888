//! A plugin's folder below `envsDir`: what is written there, what is believed of what is found there,
//! and what is refused.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic")]

use ally_background_process_manager::error::{Code, Failure};
use ally_background_process_manager::os;
use ally_background_process_manager::supervisor::{Folder, Identity, Lock, LockNote};
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

fn world() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn identity() -> Identity {
    Identity { leader: 4711, start: 815, boot: "a-boot pid:[4026531836]".to_owned() }
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// That it is an `Io` failure which names `path`.
fn refused<T: std::fmt::Debug>(result: Result<T, Failure>, path: &Path) -> String {
    let failure = result.unwrap_err();
    assert_eq!(failure.code(), Code::Io, "{failure}");
    let message = failure.message("p");
    assert!(message.contains(path.to_str().unwrap()), "{message} names {}", path.display());
    message
}

fn locked(folder: &Folder) -> Lock {
    folder.try_lock().unwrap().unwrap()
}

/// What whoever has the lock says of himself.
fn note_of(folder: &Folder) -> LockNote {
    folder.try_lock().unwrap().unwrap_err().note
}

// What is written.

#[test]
fn a_record_is_a_pid_and_beside_it_an_identity() {
    let world = world();
    let folder = Folder::open(world.path(), "p").unwrap();
    assert_eq!((folder.read_pid(), folder.read_identity()), (Ok(None), Ok(None)));
    folder.record(&identity()).unwrap();
    let place = world.path().join("p");
    assert_eq!(fs::read_to_string(place.join("daemon.pid")).unwrap(), "4711\n");
    assert_eq!((folder.read_pid(), folder.read_identity()), (Ok(Some(4711)), Ok(Some(identity()))));
    folder.record(&Identity { leader: 12, ..identity() }).unwrap();
    assert_eq!(folder.read_pid(), Ok(Some(12)));
    let names: Vec<_> = fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "no temporary file stays: {names:?}");
    folder.forget_record().unwrap();
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
    folder.forget_record().unwrap();
}

/// The only test here that cares about the process's umask, so that it may change it.
#[test]
fn everything_is_for_this_user_alone_whatever_the_umask() {
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    let world = world();
    let envs = world.path().join("a/b/envs");
    let folder = Folder::open(&envs, "p").unwrap();
    folder.record(&identity()).unwrap();
    drop(locked(&folder));
    for made in [world.path().join("a"), world.path().join("a/b"), envs.clone(), envs.join("p")] {
        assert_eq!(mode(&made), 0o700, "{}", made.display());
    }
    for name in ["daemon.pid", "daemon.id", "daemon.lock"] {
        assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
    }
}

/// In a process of its own, for the umask is the whole process's.
#[test]
fn what_is_made_is_ours_to_use_also_under_a_umask_that_would_keep_us_out() {
    const PLACE: &str = "ALLY_TEST_PLACE";
    if let Some(place) = std::env::var_os(PLACE) {
        nix::sys::stat::umask(nix::sys::stat::Mode::all());
        let folder = Folder::open(&Path::new(&place).join("a/b/envs"), "p").unwrap();
        folder.record(&identity()).unwrap();
        drop(locked(&folder));
        return;
    }
    let world = world();
    let test = "what_is_made_is_ours_to_use_also_under_a_umask_that_would_keep_us_out";
    let own = std::env::current_exe().unwrap();
    let run = Command::new(own).args(["--exact", test, "--nocapture"]).env(PLACE, world.path()).output().unwrap();
    assert!(run.status.success(), "{}\n{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    for made in ["a", "a/b", "a/b/envs", "a/b/envs/p"] {
        assert_eq!(mode(&world.path().join(made)), 0o700, "{made}");
    }
    for name in ["daemon.pid", "daemon.id", "daemon.lock"] {
        assert_eq!(mode(&world.path().join("a/b/envs/p").join(name)), 0o600, "{name}");
    }
}

#[test]
fn a_lock_that_was_open_to_others_is_closed() {
    let world = world();
    let folder = Folder::open(world.path(), "p").unwrap();
    let lock = folder.join("daemon.lock");
    fs::write(&lock, "").unwrap();
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o666)).unwrap();
    let _lock = locked(&folder);
    assert_eq!(mode(&lock), 0o600);
}

#[test]
fn a_leftover_of_a_killed_writer_is_no_obstacle() {
    let world = world();
    let folder = Folder::open(world.path(), "p").unwrap();
    let victim = world.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    fs::write(folder.join(".daemon.pid.new"), "half a reco").unwrap();
    symlink(&victim, folder.join(".daemon.id.new")).unwrap();
    folder.record(&identity()).unwrap();
    assert_eq!((folder.read_pid(), folder.read_identity()), (Ok(Some(4711)), Ok(Some(identity()))));
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn a_reader_never_sees_half_a_record() {
    let world = world();
    let folder = Folder::open(world.path(), "p").unwrap();
    folder.record(&identity()).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for leader in 2..1_000 {
                folder.record(&Identity { leader, ..identity() }).unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            assert!(fs::read_to_string(folder.join("daemon.pid")).unwrap().ends_with('\n'));
            assert_ne!(folder.read_identity(), Ok(None));
        }
    });
}

// What is refused, and what is never followed.

#[test]
fn a_plugin_folder_that_is_a_link_is_refused() {
    let world = world();
    let elsewhere = world.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for (name, target) in [("p", elsewhere.as_path()), ("dangling", Path::new("nowhere"))] {
        let place = world.path().join(name);
        symlink(target, &place).unwrap();
        let message = refused(Folder::open(world.path(), name), &place);
        assert!(message.contains("link"), "{message}");
    }
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    assert!(!world.path().join("nowhere").exists());
}

#[test]
fn the_folder_above_may_be_a_link() {
    let world = world();
    fs::create_dir(world.path().join("real")).unwrap();
    symlink("real", world.path().join("envs")).unwrap();
    Folder::open(&world.path().join("envs"), "p").unwrap();
    assert!(world.path().join("real/p").is_dir());
}

#[test]
fn a_file_where_a_folder_should_be_is_refused() {
    let world = world();
    fs::write(world.path().join("p"), "").unwrap();
    refused(Folder::open(world.path(), "p"), &world.path().join("p"));
    let envs = world.path().join("p/envs");
    refused(Folder::open(&envs, "q"), &envs);
}

#[test]
fn a_link_at_the_pid_file_is_replaced_and_not_followed() {
    let world = world();
    let folder = Folder::open(world.path(), "p").unwrap();
    let victim = world.path().join("victim");
    fs::write(&victim, "1234\n").unwrap();
    for name in ["daemon.pid", "daemon.id"] {
        symlink(&victim, folder.join(name)).unwrap();
    }
    folder.check_places().unwrap();
    assert_eq!((folder.read_pid(), folder.read_identity()), (Ok(None), Ok(None)), "what a link shows is not ours");
    folder.record(&identity()).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "1234\n");
    for name in ["daemon.pid", "daemon.id"] {
        assert!(fs::symlink_metadata(folder.join(name)).unwrap().is_file(), "{name} is a file of its own now");
    }
}

#[test]
fn a_link_at_the_lock_is_refused() {
    let world = world();
    let folder = Folder::open(world.path(), "p").unwrap();
    let lock = folder.join("daemon.lock");
    symlink(world.path().join("victim"), &lock).unwrap();
    let message = refused(folder.try_lock(), &lock);
    assert!(message.contains("symbolic link"), "{message}");
    assert!(!world.path().join("victim").exists());
}

#[test]
fn a_lock_with_another_name_is_refused_and_left_as_it_is() {
    let world = world();
    let folder = Folder::open(world.path(), "p").unwrap();
    let [victim, lock] = [world.path().join("victim"), folder.join("daemon.lock")];
    fs::write(&victim, "precious").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o640)).unwrap();
    fs::hard_link(&victim, &lock).unwrap();
    let message = refused(folder.try_lock(), &lock);
    assert!(message.contains("hard link"), "{message}");
    assert_eq!((fs::read_to_string(&victim).unwrap().as_str(), mode(&victim)), ("precious", 0o640));
}

#[test]
fn another_user_s_lock_is_refused_and_left_as_it_is() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can give a file away");
        return;
    }
    let world = world();
    let folder = Folder::open(world.path(), "p").unwrap();
    let lock = folder.join("daemon.lock");
    fs::write(&lock, "theirs").unwrap();
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o666)).unwrap();
    std::os::unix::fs::chown(&lock, Some(1234), None).unwrap();
    let message = refused(folder.try_lock(), &lock);
    assert!(message.contains("1234"), "{message}");
    assert_eq!((fs::read_to_string(&lock).unwrap().as_str(), mode(&lock)), ("theirs", 0o666));
}

#[test]
fn a_folder_in_the_place_of_a_file_is_refused() {
    for name in ["daemon.pid", "daemon.id"] {
        let world = world();
        let folder = Folder::open(world.path(), "p").unwrap();
        fs::create_dir(folder.join(name)).unwrap();
        for message in [refused(folder.check_places(), &folder.join(name)), refused(folder.record(&identity()), &folder.join(name))] {
            assert!(message.contains("EISDIR"), "{message}");
        }
        refused(folder.forget_record(), &folder.join(name));
        assert!(folder.join(name).is_dir());
    }
}

/// What it speaks of is gone, and must not be looked for at the next start.
#[test]
fn an_identity_is_forgotten_also_where_the_pid_file_can_t_be() {
    let world = world();
    let folder = Folder::open(world.path(), "p").unwrap();
    let place = folder.join("daemon.pid");
    fs::create_dir(&place).unwrap();
    refused(folder.record(&identity()), &place);
    assert_eq!(folder.read_identity(), Ok(Some(identity())));
    refused(folder.forget_record(), &place);
    assert!(!folder.join("daemon.id").exists() && place.is_dir());
}

#[test]
fn a_pipe_in_the_place_of_a_file_blocks_nobody() {
    let world = world();
    let folder = Folder::open(world.path(), "p").unwrap();
    for name in ["daemon.pid", "daemon.id", "daemon.lock"] {
        nix::unistd::mkfifo(&folder.join(name), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    let (sender, looked) = std::sync::mpsc::channel();
    // A thread of its own, for a read that blocks would never come back.
    std::thread::spawn(move || {
        sender.send((folder.read_pid(), folder.read_identity(), folder.try_lock().map(drop))).unwrap();
        sender.send((folder.record(&identity()).map(|()| folder.read_pid()).unwrap(), Ok(None), Ok(()))).unwrap();
    });
    let patience = std::time::Duration::from_secs(10);
    let (pid, found, lock) = looked.recv_timeout(patience).expect("an answer");
    assert_eq!((pid, found), (Ok(None), Ok(None)));
    let message = refused(lock, &world.path().join("p/daemon.lock"));
    assert!(message.contains("plain file"), "{message}");
    assert_eq!(looked.recv_timeout(patience).expect("an answer").0, Ok(Some(4711)));
}

#[test]
fn a_folder_that_is_open_to_others_is_closed_and_what_its_owner_may_not_do_stays_so() {
    let world = world();
    for (name, found, left) in [("p", 0o777, 0o700), ("q", 0o755, 0o700), ("r", 0o500, 0o500)] {
        let place = world.path().join(name);
        fs::create_dir(&place).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(found)).unwrap();
        Folder::open(world.path(), name).unwrap();
        assert_eq!(mode(&place), left, "{name}");
    }
}

#[test]
fn nobody_else_may_write_in_the_folder_of_folders() {
    let world = world();
    for (name, found, left) in [("open", 0o777, 0o755), ("grouped", 0o2775, 0o2755), ("sticky", 0o1777, 0o1777), ("closed", 0o750, 0o750)] {
        let envs = world.path().join(name);
        fs::create_dir(&envs).unwrap();
        fs::set_permissions(&envs, fs::Permissions::from_mode(found)).unwrap();
        Folder::open(&envs, "p").unwrap();
        assert_eq!(mode(&envs), left, "{name}");
    }
}

#[test]
fn another_user_s_folder_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can give a folder away");
        return;
    }
    let world = world();
    let place = world.path().join("p");
    fs::DirBuilder::new().mode(0o777).create(&place).unwrap();
    std::os::unix::fs::chown(&place, Some(1234), None).unwrap();
    let message = refused(Folder::open(world.path(), "p"), &place);
    assert!(message.contains("1234"), "{message}");
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
}

// What is believed.

#[test]
fn a_pid_file_with_anything_else_in_it_names_nobody() {
    let world = world();
    let folder = Folder::open(world.path(), "p").unwrap();
    let huge = format!("{}\n", "7".repeat(100_000));
    let odd = [
        "",
        "\n",
        "0\n",
        "-1\n",
        "1\n",
        "-4711\n",
        "2147483648\n",
        "99999999999999999999",
        " 4711\n",
        "4711 \n",
        "4711\n4712\n",
        "4711x",
        "4711.0",
        "0x1267",
        "\u{661}\u{662}",
        &huge,
    ];
    for text in odd {
        fs::write(folder.join("daemon.pid"), text).unwrap();
        assert_eq!(folder.read_pid(), Ok(None), "{:.40?}", text);
    }
    fs::write(folder.join("daemon.pid"), b"4711\xFF\n").unwrap();
    assert_eq!(folder.read_pid(), Ok(None));
    for text in ["4711", "4711\n", "2\n", "2147483647\n"] {
        fs::write(folder.join("daemon.pid"), text).unwrap();
        assert_eq!(folder.read_pid(), Ok(text.trim().parse().ok()), "{text:?}");
    }
}

#[test]
fn an_identity_of_a_pid_that_no_daemon_can_have_is_none() {
    assert_eq!(Identity::parse(&identity().to_string()), Some(identity()));
    for pid in ["1", "0", "-1", "-4711", "2147483648", "", "x"] {
        assert_eq!(Identity::parse(&identity().to_string().replace("4711", pid)), None, "{pid}");
    }
    for start in ["-1", "", "18446744073709551616"] {
        assert_eq!(Identity::parse(&identity().to_string().replace("815", start)), None, "{start}");
    }
    assert_eq!(Identity::parse(&identity().to_string().replace("ally-daemon 1", "ally-daemon 2")), None);
}

#[test]
fn an_identity_finds_its_process_and_no_other() {
    let parent = nix::unistd::getppid().as_raw();
    let me = Identity::of(own_pid(), parent).unwrap().unwrap();
    assert_eq!(Identity::of(own_pid(), parent + 1).unwrap(), None, "no child of that keeper");
    assert_eq!(me.find().unwrap().map(|process| process.pid), Some(own_pid()));
    assert_eq!(Identity { start: me.start + 1, ..me.clone() }.find().unwrap(), None, "the pid was given to another");
    assert_eq!(Identity { boot: me.boot.replace('-', "_"), ..me.clone() }.find().unwrap(), None, "before a reboot");
    assert_eq!(Identity { leader: i32::MAX, ..me }.find().unwrap(), None);
}

#[test]
fn a_note_names_a_process_or_nobody() {
    let owner = LockNote::Owner { pid: 4711, start: 3, manager: 9 };
    let keeper = LockNote::Keeper { pid: 4711, start: 3, grace_ms: 5_000 };
    assert_eq!((owner.to_string(), keeper.to_string()), ("owner 4711 3 9\n".to_owned(), "keeper 4711 3 5000\n".to_owned()));
    assert_eq!(LockNote::Nobody.to_string(), "");
    for pid in ["0", "1", "-1", "2147483648", "99999999999", "x", ""] {
        assert_eq!(LockNote::parse(&keeper.to_string().replace("4711", pid)), LockNote::Nobody, "a keeper {pid} is never signalled");
    }
    // A container's first process may well be an owner; it is looked at and never signalled.
    assert_eq!(LockNote::parse("owner 1 3 9\n"), LockNote::Owner { pid: 1, start: 3, manager: 9 });
    for text in ["", "\n", "owner", "owner 4711", "owner 4711 3", "warden 4711 3 9", "4711", "owner 4711 3 -9", "owner -4711 3 9"] {
        assert_eq!(LockNote::parse(text), LockNote::Nobody, "{text:?}");
    }
}

proptest! {
    #[test]
    fn an_identity_reads_as_it_was_written(leader in 2..=i32::MAX, start in any::<u64>(), boot in "[0-9a-f-]{1,36} pid:\\[[0-9]{1,12}\\]") {
        let identity = Identity { leader, start, boot };
        prop_assert_eq!(Identity::parse(&identity.to_string()), Some(identity));
    }

    #[test]
    fn a_note_reads_as_it_was_written(pid in 2..=i32::MAX, start in any::<u64>(), last in any::<u64>(), owner in any::<bool>()) {
        let note = if owner { LockNote::Owner { pid, start, manager: last } } else { LockNote::Keeper { pid, start, grace_ms: last } };
        prop_assert_eq!(LockNote::parse(&note.to_string()), note);
    }

    /// Garbage of the files' own words gets further than random characters.
    #[test]
    fn garbage_panics_nobody_and_names_no_pid_below_2(text in prop_oneof!["\\PC{0,80}", "(owner|keeper|pid|start|boot|ally-daemon|-?[0-9]{0,24}| |\n){0,14}", "ally-daemon 1\n(pid|boot) -?[0-9]{0,3}\n(start )?-?[0-9]{0,3}\n(boot )?.{0,3}"]) {
        if let Some(identity) = Identity::parse(&text) {
            prop_assert!(identity.leader > 1);
        }
        match LockNote::parse(&text) {
            LockNote::Keeper { pid, .. } => prop_assert!(pid > 1),
            LockNote::Owner { pid, .. } => prop_assert!(pid >= 0),
            LockNote::Nobody => {}
        }
    }
}

// The lock.

#[test]
fn a_name_belongs_to_one_at_a_time_and_the_other_reads_to_whom() {
    let world = world();
    let [first, second] = [(); 2].map(|()| Folder::open(world.path(), "p").unwrap());
    let lock = locked(&first);
    assert_eq!(note_of(&second), LockNote::Nobody, "it is taken before its note is written");
    let note = LockNote::Owner { pid: own_pid(), start: os::start_time(own_pid()).unwrap(), manager: 1_234_567 };
    lock.note(&note).unwrap();
    assert_eq!(note_of(&second), note);
    // A shorter one leaves nothing of the longer one behind.
    let shorter = LockNote::Owner { pid: 2, start: 1, manager: 0 };
    lock.note(&shorter).unwrap();
    assert_eq!(fs::read_to_string(first.join("daemon.lock")).unwrap(), "owner 2 1 0\n");
    assert_eq!(note_of(&second), shorter);
    lock.release().unwrap();
    assert_eq!(fs::read_to_string(first.join("daemon.lock")).unwrap(), "", "it is nobody's");
    let next = locked(&second);
    next.note(&note).unwrap();
    // Who has released it writes no more, and takes it from nobody.
    lock.note(&LockNote::Nobody).unwrap();
    lock.release().unwrap();
    assert_eq!(note_of(&first), note);
    assert!(Folder::open(world.path(), "p").unwrap().try_lock().unwrap().is_err());
}

#[test]
fn a_keeper_s_copy_is_as_good_as_the_lock_until_that_is_released() {
    let world = world();
    let [first, second] = [(); 2].map(|()| Folder::open(world.path(), "p").unwrap());
    let lock = locked(&first);
    let keeper_s = lock.as_file().try_clone().unwrap();
    drop(lock);
    assert!(second.try_lock().unwrap().is_err(), "the owner let go, but the tree lives");
    drop(keeper_s);
    let lock = locked(&second);
    let copy_of_a_child_that_is_just_starting = lock.as_file().try_clone().unwrap();
    lock.release().unwrap();
    drop(locked(&first));
    drop(copy_of_a_child_that_is_just_starting);
}

#[test]
fn the_lock_file_stays_the_same_file_for_ever() {
    let world = world();
    let folder = Folder::open(world.path(), "p").unwrap();
    drop(locked(&folder));
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    let before = inode(folder.join("daemon.lock"));
    folder.record(&identity()).unwrap();
    folder.forget_record().unwrap();
    drop(locked(&folder));
    assert_eq!(inode(folder.join("daemon.lock")), before);
}

#[test]
fn names_don_t_get_in_each_other_s_way() {
    let world = world();
    let [first, second] = ["p", "q"].map(|name| Folder::open(world.path(), name).unwrap());
    let _first = locked(&first);
    let _second = locked(&second);
}
