//! What is written.

use ally_base::record::Identity;
use ally_core::supervisor::Folder;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::{identity, locked, mode, world};

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
    folder.remove_record().unwrap();
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
    folder.remove_record().unwrap();
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
    let test = "written::what_is_made_is_ours_to_use_also_under_a_umask_that_would_keep_us_out";
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
