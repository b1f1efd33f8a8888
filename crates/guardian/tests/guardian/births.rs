//! Daemons that come to life, and those that can't.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ally_base::wire::{GuardianReport, KeeperReport, Stage};
use tempfile::TempDir;

use crate::world::{Guardian, Plan, until};

const fn exited(status: i32) -> KeeperReport {
    KeeperReport::Exited { status, remains: false }
}

fn file(folder: &TempDir, name: &str, content: &str, mode: u32) -> String {
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_daemon_is_spawned_and_its_exit_told_with_its_status() {
    let guardian = Guardian::start();
    for (script, status) in [("exit 0", 0), ("exit 7", 7 << 8), ("kill -KILL $$", libc::SIGKILL), ("kill -TERM $$", libc::SIGTERM)] {
        let mut daemon = guardian.make(&Plan::shell(script));
        assert!(
            matches!(daemon.report(), Some(KeeperReport::Spawned { leader, keeper }) if leader > 1 && keeper > 1 && leader != keeper),
            "{script}"
        );
        assert_eq!(daemon.report(), Some(exited(status)), "{script}");
        assert_eq!(daemon.report(), None, "the keeper goes with its tree");
        until("the lock's release", || daemon.is_unlocked());
    }
}

#[test]
fn the_leader_is_the_keeper_s_child_and_the_keeper_the_guardian_s() {
    let guardian = Guardian::start();
    let mut daemon = guardian.make(&Plan::shell("exec sleep 60"));
    let [leader, keeper] = daemon.born();
    assert_eq!((leader.parent, keeper.parent), (keeper.pid, guardian.pid()));
    assert_eq!(fs::read_to_string(format!("/proc/{}/comm", keeper.pid)).unwrap(), "ally-keeper\n");
}

#[test]
fn it_gets_exactly_what_was_ordered() {
    let guardian = Guardian::start();
    let mut plan = Plan::program(&["/usr/bin/env"]);
    plan.env = vec![b"A=b=c".to_vec(), b"EMPTY=".to_vec(), b"NL=x\ny".to_vec()];
    assert_eq!(guardian.make(&plan).output(), "A=b=c\nEMPTY=\nNL=x\ny\n");
    let mut daemon = guardian.make(&Plan::program(&["/usr/bin/printf", "[%s]", "", "two words", "*", "$HOME", "ä"]));
    assert_eq!(daemon.output(), "[][two words][*][$HOME][ä]");
    let mut daemon = guardian.make(&Plan::program(&["/bin/pwd", "-P"]));
    assert_eq!(Path::new(daemon.output().trim_end()), fs::canonicalize(daemon.path("")).unwrap());
    let mut daemon = guardian.make(&Plan::shell("echo to stdout; echo to stderr >&2"));
    assert_eq!((daemon.output().as_str(), daemon.complaints().as_str()), ("to stdout\n", "to stderr\n"));
}

#[test]
fn bytes_that_are_no_text_pass_unchanged() {
    let guardian = Guardian::start();
    let mut plan = Plan::shell("printf %s \"$1$X\" | od -An -tx1");
    plan.args.extend([b"sh".to_vec(), b"\xFF\x01".to_vec()]);
    plan.env.push(b"X=\xC3\x28".to_vec());
    assert_eq!(guardian.make(&plan).output().trim(), "ff 01 c3 28");
}

#[test]
fn an_order_may_be_larger_than_a_socket_s_buffer() {
    let guardian = Guardian::start();
    let mut plan = Plan::shell("env | wc -c");
    plan.env.extend((0..10).map(|number| [format!("BIG{number}=").into_bytes(), vec![b'x'; 100_000]].concat()));
    let bytes: usize = guardian.make(&plan).output().trim().parse().unwrap();
    assert!(bytes > 1_000_000, "{bytes}");
}

#[test]
fn what_can_t_become_a_daemon_is_told_with_its_stage_and_cause() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let plain = file(&folder, "plain", "echo never", 0o644);
    let no_format = file(&folder, "no-format", "echo never", 0o755);
    let no_interpreter = file(&folder, "no-interpreter", "#!/nowhere/sh\necho never", 0o755);
    let program = |path: &str| Plan::program(&[path]);
    let inside = |path: &str| Plan { folder: Some(path.into()), ..Plan::program(&["/bin/echo", "never"]) };
    let table = [
        (program(&path("missing")), Stage::Exec, libc::ENOENT),
        (program(&path("plain/below")), Stage::Exec, libc::ENOTDIR),
        (program(&plain), Stage::Exec, libc::EACCES),
        (program(folder.path().to_str().unwrap()), Stage::Exec, libc::EACCES),
        (program(&no_format), Stage::Exec, libc::ENOEXEC),
        (program(&no_interpreter), Stage::Exec, libc::ENOENT),
        (inside(&path("missing")), Stage::Folder, libc::ENOENT),
        (inside(&plain), Stage::Folder, libc::ENOTDIR),
        // The folder comes first: what is wrong beside it is not told.
        (Plan { folder: Some(path("missing").into()), ..program(&path("missing")) }, Stage::Folder, libc::ENOENT),
    ];
    let guardian = Guardian::start();
    for (plan, stage, errno) in table {
        let mut daemon = guardian.make(&plan);
        assert_eq!(daemon.report(), Some(KeeperReport::SpawnFailed { stage, errno }), "{}", String::from_utf8_lossy(&plan.programs[0]));
        assert_eq!(daemon.report(), None);
        assert_eq!(daemon.output(), "");
        until("the lock's release", || daemon.is_unlocked());
    }
}

#[test]
fn programs_are_tried_in_turn_as_execvp_does() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(&folder, "good", "#!/bin/sh\necho good\n", 0o755);
    let better = file(&folder, "better", "#!/bin/sh\necho better\n", 0o755);
    let denied = file(&folder, "denied", "#!/bin/sh\necho denied\n", 0o644);
    let no_format = file(&folder, "no-format", "echo never", 0o755);
    let (missing, no_folder) = (format!("{good}.missing"), format!("{good}/below"));
    let guardian = Guardian::start();
    let order =
        |programs: &[&String]| Plan { programs: programs.iter().map(|path| path.as_bytes().to_vec()).collect(), ..Plan::program(&["x"]) };
    for (programs, output) in [(&[&missing, &no_folder, &denied, &good, &better][..], "good\n"), (&[&better, &good], "better\n")] {
        assert_eq!(guardian.make(&order(programs)).output(), output);
    }
    for (programs, errno) in [
        (&[&missing, &missing][..], libc::ENOENT),
        (&[&missing, &no_folder], libc::ENOTDIR),
        // One that may not be run is told rather than one that is not there.
        (&[&denied, &missing], libc::EACCES),
        (&[&missing, &denied], libc::EACCES),
        (&[&denied, &no_format, &good], libc::ENOEXEC),
    ] {
        let report = guardian.make(&order(programs)).report();
        assert_eq!(report, Some(KeeperReport::SpawnFailed { stage: Stage::Exec, errno }), "{programs:?}");
    }
}

#[test]
fn a_relative_program_is_looked_for_in_the_daemon_s_folder() {
    let folder = tempfile::tempdir().unwrap();
    file(&folder, "here", "#!/bin/sh\necho \"$0\"\n", 0o755);
    let plan = Plan { folder: Some(folder.path().into()), ..Plan::program(&["./here"]) };
    assert_eq!(Guardian::start().make(&plan).output(), "./here\n");
}

#[test]
fn many_daemons_don_t_mix() {
    let guardian = Guardian::start();
    let mut daemons: Vec<_> = (0..40).map(|number| guardian.make(&Plan::shell(&format!("echo {number}; exit {number}")))).collect();
    for (number, daemon) in (0..).zip(&mut daemons) {
        assert!(matches!(daemon.report(), Some(KeeperReport::Spawned { .. })));
        assert_eq!(daemon.output(), format!("{number}\n"));
        assert_eq!(daemon.end(), number << 8);
    }
}

#[test]
fn each_order_is_acknowledged_once_its_descriptors_are_there() {
    let mut guardian = Guardian::start();
    let mut daemons: Vec<_> = (0..3).map(|_| guardian.make(&Plan::shell("exit 0"))).collect();
    // One that means nothing has descriptors all the same.
    daemons.push(guardian.make(&Plan { programs: Vec::new(), ..Plan::program(&["x"]) }));
    for _ in &daemons {
        assert_eq!(guardian.any_report(), Some(GuardianReport::Accepted));
    }
}

#[test]
fn an_order_that_means_nothing_costs_only_itself() {
    let guardian = Guardian::start();
    let mut daemon = guardian.make(&Plan { programs: Vec::new(), ..Plan::program(&["x"]) });
    assert_eq!(daemon.report(), None);
    until("the lock's release", || daemon.is_unlocked());
    assert_eq!(guardian.make(&Plan::shell("echo next")).output(), "next\n");
}

#[test]
fn an_owner_that_talks_nonsense_is_as_good_as_gone() {
    // The last one is an order as far as it goes, but nobody could be told what becomes of it.
    let order = Plan::program(&["/bin/true"]).encode(Path::new("/"), 0);
    for nonsense in [&b"nonsense"[..], &[0; 8], &[0xFF; 8], &order] {
        let mut guardian = Guardian::start();
        // It may end before it has read all of it.
        guardian.send_piece(nonsense, &[]).unwrap_or_default();
        assert!(guardian.await_exit().success());
    }
}
