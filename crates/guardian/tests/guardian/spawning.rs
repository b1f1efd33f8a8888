//! Orders: the spawned leader, and spawns that fail.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ally_base::wire::{GuardianReport, KeeperReport, Stage};
use tempfile::TempDir;

use crate::support::{Guardian, TestOrder, until};

fn file(folder: &TempDir, name: &str, content: &str, mode: u32) -> String {
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn order_spawns_a_leader_and_its_exit_status_is_reported() {
    let guardian = Guardian::start();
    for (script, status) in [("exit 0", 0), ("exit 7", 7 << 8), ("kill -KILL $$", libc::SIGKILL), ("kill -TERM $$", libc::SIGTERM)] {
        let mut daemon = guardian.spawn(&TestOrder::shell(script));
        assert!(
            matches!(daemon.report(), Some(KeeperReport::Spawned { leader, keeper, .. }) if leader > 1 && keeper > 1 && leader != keeper),
            "{script}"
        );
        assert_eq!(daemon.exited(), (status, false), "{script}");
        assert_eq!(daemon.report(), None, "the keeper exits with its tree");
        until("the lock is released", || daemon.is_unlocked());
    }
}

#[test]
fn leader_is_a_child_of_the_keeper_and_the_keeper_of_the_guardian() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell("exec sleep 60"));
    let [leader, keeper] = daemon.spawned();
    assert_eq!((leader.parent, keeper.parent), (keeper.pid, guardian.pid()));
    assert_eq!(fs::read_to_string(format!("/proc/{}/comm", keeper.pid)).unwrap(), "ally-keeper\n");
}

#[test]
fn order_sets_environment_arguments_folder_and_streams_exactly() {
    let guardian = Guardian::start();
    let mut plan = TestOrder::program(&["/usr/bin/env"]);
    plan.env = vec![b"A=b=c".to_vec(), b"EMPTY=".to_vec(), b"NL=x\ny".to_vec()];
    assert_eq!(guardian.spawn(&plan).output(), "A=b=c\nEMPTY=\nNL=x\ny\n");
    let mut daemon = guardian.spawn(&TestOrder::program(&["/usr/bin/printf", "[%s]", "", "two words", "*", "$HOME", "ä"]));
    assert_eq!(daemon.output(), "[][two words][*][$HOME][ä]");
    let mut daemon = guardian.spawn(&TestOrder::program(&["/bin/pwd", "-P"]));
    assert_eq!(Path::new(daemon.output().trim_end()), fs::canonicalize(daemon.path("")).unwrap());
    let mut daemon = guardian.spawn(&TestOrder::shell("echo to stdout; echo to stderr >&2"));
    assert_eq!((daemon.output().as_str(), daemon.stderr_output().as_str()), ("to stdout\n", "to stderr\n"));
}

#[test]
fn order_with_bytes_that_are_not_utf_8_arrives_unchanged() {
    let guardian = Guardian::start();
    let mut plan = TestOrder::shell("printf %s \"$1$X\" | od -An -tx1");
    plan.args.extend([b"sh".to_vec(), b"\xFF\x01".to_vec()]);
    plan.env.push(b"X=\xC3\x28".to_vec());
    assert_eq!(guardian.spawn(&plan).output().trim(), "ff 01 c3 28");
}

#[test]
fn order_may_be_larger_than_the_socket_buffer() {
    let guardian = Guardian::start();
    let mut plan = TestOrder::shell("env | wc -c");
    plan.env.extend((0..10).map(|number| [format!("BIG{number}=").into_bytes(), vec![b'x'; 100_000]].concat()));
    let bytes: usize = guardian.spawn(&plan).output().trim().parse().unwrap();
    assert!(bytes > 1_000_000, "{bytes}");
}

#[test]
fn failed_spawn_is_reported_with_stage_and_errno() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let plain = file(&folder, "plain", "echo never", 0o644);
    let no_format = file(&folder, "no-format", "echo never\0", 0o755);
    let no_interpreter = file(&folder, "no-interpreter", "#!/nowhere/sh\necho never", 0o755);
    let program = |path: &str| TestOrder::program(&[path]);
    let inside = |path: &str| TestOrder { folder: Some(path.into()), ..TestOrder::program(&["/bin/echo", "never"]) };
    let table = [
        (program(&path("missing")), Stage::Exec, libc::ENOENT),
        (program(&path("plain/below")), Stage::Exec, libc::ENOTDIR),
        (program(&plain), Stage::Exec, libc::EACCES),
        (program(folder.path().to_str().unwrap()), Stage::Exec, libc::EACCES),
        (program(&no_format), Stage::Exec, libc::ENOEXEC),
        (program(&no_interpreter), Stage::Exec, libc::ENOENT),
        (inside(&path("missing")), Stage::Folder, libc::ENOENT),
        (inside(&plain), Stage::Folder, libc::ENOTDIR),
        // The folder is entered before execve(2), so its error is the one that is reported.
        (TestOrder { folder: Some(path("missing").into()), ..program(&path("missing")) }, Stage::Folder, libc::ENOENT),
    ];
    let guardian = Guardian::start();
    for (plan, stage, errno) in table {
        let mut daemon = guardian.spawn(&plan);
        assert_eq!(daemon.report(), Some(KeeperReport::SpawnFailed { stage, errno }), "{}", String::from_utf8_lossy(&plan.programs[0]));
        assert_eq!(daemon.report(), None);
        assert_eq!(daemon.output(), "");
        until("the lock is released", || daemon.is_unlocked());
    }
}

#[test]
fn programs_of_an_order_are_tried_in_the_order_of_execvp() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(&folder, "good", "#!/bin/sh\necho good\n", 0o755);
    let better = file(&folder, "better", "#!/bin/sh\necho better\n", 0o755);
    let denied = file(&folder, "denied", "#!/bin/sh\necho denied\n", 0o644);
    let no_format = file(&folder, "no-format", "echo never\0", 0o755);
    let shell_script = file(&folder, "shell-script", "echo shell script", 0o755);
    let (missing, no_folder) = (format!("{good}.missing"), format!("{good}/below"));
    let guardian = Guardian::start();
    let order = |programs: &[&String]| TestOrder {
        programs: programs.iter().map(|path| path.as_bytes().to_vec()).collect(),
        ..TestOrder::program(&["x"])
    };
    for (programs, output) in [
        (&[&missing, &no_folder, &denied, &good, &better][..], "good\n"),
        (&[&better, &good], "better\n"),
        (&[&denied, &shell_script, &good], "shell script\n"),
    ] {
        assert_eq!(guardian.spawn(&order(programs)).output(), output);
    }
    for (programs, errno) in [
        (&[&missing, &missing][..], libc::ENOENT),
        (&[&missing, &no_folder], libc::ENOTDIR),
        // As in execvp(3), EACCES has priority over ENOENT.
        (&[&denied, &missing], libc::EACCES),
        (&[&missing, &denied], libc::EACCES),
        (&[&denied, &no_format, &good], libc::ENOEXEC),
    ] {
        let report = guardian.spawn(&order(programs)).report();
        assert_eq!(report, Some(KeeperReport::SpawnFailed { stage: Stage::Exec, errno }), "{programs:?}");
    }
}

#[test]
fn file_without_an_interpreter_line_runs_by_bin_sh_as_with_execvp() {
    let folder = tempfile::tempdir().unwrap();
    let guardian = Guardian::start();
    let long = format!("# {}\necho \"$@\"", "x".repeat(200));
    for (name, text) in [
        ("plain", "echo \"$@\""),
        ("long-first-line", &long),
        ("nul-behind-the-first-line", "echo \"$@\"\nexit\n\0"),
        ("empty-first-line", "\necho \"$@\""),
        ("late-interpreter-line", " #!/no/such\necho \"$@\""),
    ] {
        let path = file(&folder, name, text, 0o755);
        let mut plan = TestOrder::program(&[&path, "one", "two words", "$HOME"]);
        assert_eq!(guardian.spawn(&plan).output(), "one two words $HOME\n", "{name}");
        plan.args.truncate(1);
        assert_eq!(guardian.spawn(&plan).output(), "\n", "{name}");
    }
    let name = file(&folder, "name", "echo \"$0\"", 0o755);
    let plan = TestOrder { folder: Some(folder.path().into()), ..TestOrder::program(&["./name"]) };
    assert_eq!(guardian.spawn(&plan).output(), "./name\n");
    assert_eq!(guardian.spawn(&TestOrder::program(&[&name])).output(), format!("{name}\n"));
    let ran = folder.path().join("ran");
    let touch = format!(": > {}\n", ran.display());
    for (name, start) in [
        ("empty", &b""[..]),
        ("interpreter-without-a-name", b"#!\n"),
        ("nul", b"a\0b\n"),
        ("elf", b"\x7fELF\n"),
        ("mach-o", b"\xcf\xfa\xed\xfe\n"),
        ("universal", b"\xca\xfe\xba\xbe\n"),
    ] {
        let path = file(&folder, name, "", 0o755);
        let text = if start.is_empty() { Vec::new() } else { [start, touch.as_bytes()].concat() };
        fs::write(&path, text).unwrap();
        let report = guardian.spawn(&TestOrder::program(&[&path])).report();
        assert_eq!(report, Some(KeeperReport::SpawnFailed { stage: Stage::Exec, errno: libc::ENOEXEC }), "{name}");
    }
    assert!(!ran.exists());
}

#[test]
fn relative_program_is_found_in_the_folder_of_the_daemon() {
    let folder = tempfile::tempdir().unwrap();
    file(&folder, "here", "#!/bin/sh\necho \"$0\"\n", 0o755);
    let plan = TestOrder { folder: Some(folder.path().into()), ..TestOrder::program(&["./here"]) };
    assert_eq!(Guardian::start().spawn(&plan).output(), "./here\n");
}

#[test]
fn forty_daemons_have_their_own_output_and_status() {
    let guardian = Guardian::start();
    let mut daemons: Vec<_> = (0..40).map(|number| guardian.spawn(&TestOrder::shell(&format!("echo {number}; exit {number}")))).collect();
    for (number, daemon) in (0..).zip(&mut daemons) {
        assert!(matches!(daemon.report(), Some(KeeperReport::Spawned { .. })));
        assert_eq!(daemon.output(), format!("{number}\n"));
        assert_eq!(daemon.end(), number << 8);
    }
}

#[test]
fn order_is_acknowledged_once_its_descriptors_have_arrived() {
    let mut guardian = Guardian::start();
    let mut daemons: Vec<_> = (0..3).map(|_| guardian.spawn(&TestOrder::shell("exit 0"))).collect();
    // A refused order has descriptors too.
    daemons.push(guardian.spawn(&TestOrder { programs: Vec::new(), ..TestOrder::program(&["x"]) }));
    for _ in &daemons {
        assert_eq!(guardian.any_report(), Some(GuardianReport::Accepted));
    }
}

#[test]
fn order_without_a_program_is_refused_and_the_next_order_is_carried_out() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder { programs: Vec::new(), ..TestOrder::program(&["x"]) });
    assert_eq!(daemon.report(), None);
    until("the lock is released", || daemon.is_unlocked());
    assert_eq!(guardian.spawn(&TestOrder::shell("echo next")).output(), "next\n");
}

#[test]
fn guardian_exits_on_a_stream_of_garbage() {
    // The last one is a valid order without descriptors, so without a stream for reports.
    let order = TestOrder::program(&["/bin/true"]).encode(Path::new("/"), 0);
    for garbage in [&b"garbage"[..], &[0; 8], &[0xFF; 8], &order] {
        let mut guardian = Guardian::start();
        // The guardian may exit before it has read every byte.
        guardian.send_piece(garbage, &[]).unwrap_or_default();
        assert!(guardian.await_exit().success());
    }
}
