//! The code of each failure, and its `errno`, `syscall`, `path` and `cause`.

use std::io;
use std::path::Path;
use std::time::Duration;

use ally_base::record::Elsewhere;
use ally_core::error::{Code, Failure, Occupant, Refused};
use ally_core::model::{Exit, MemoryLimit, ProbeRole, ProcessState};

const EXITED: Exit = Exit { code: Some(3), signal: None };

fn spawn() -> Failure {
    let refused = Refused { errno: libc::EMFILE, call: Some("spawn"), path: Some("/bin/true".to_owned()) };
    Failure::Spawn { problem: "EMFILE: Too many open files".to_owned(), refused: Some(refused) }
}

fn unhealthy() -> Failure {
    Failure::Unhealthy { checks: 3, last: "ECONNREFUSED".to_owned() }
}

fn over_memory() -> Failure {
    Failure::OverMemory { memory: 314_572_801, limit: MemoryLimit { max: 256 << 20, sustain: Duration::from_secs(3) } }
}

#[test]
fn text_of_a_memory_limit_says_how_much_of_how_much() {
    assert_eq!(over_memory().to_string(), "memory: 300.0 MiB of 256.0 MiB (314572801 of 268435456 bytes) for 3000 ms");
}

fn guardian(errno: i32) -> Failure {
    Failure::guardian(Path::new("/p/ally-guardian"), &io::Error::from_raw_os_error(errno))
}

fn binds_held_socket() -> Failure {
    let cause = Failure::StartupExit { exit: EXITED, tail: "why".to_owned() };
    Failure::BindsHeldSocket { path: "/run/s".to_owned(), cause: Some(Box::new(cause)) }
}

#[test]
fn error_of_a_daemon_that_binds_a_held_socket_says_what_to_do_and_keeps_its_exit() {
    let hint = "it binds /run/s itself, although the manager holds that socket; let it serve descriptor 3 (ALLY_LISTEN_FD, sd_listen_fds), or configure socket: 'daemon'";
    let bound = Failure::BindsHeldSocket { path: "/run/s".to_owned(), cause: None };
    assert_eq!(bound.to_string(), hint);
    let failed = binds_held_socket();
    assert_eq!(failed.to_string(), format!("{hint}: the process exited with code 3 before it was ready: why"));
    assert_eq!((failed.exit(), failed.tail()), (EXITED, Some("why")));
}

#[test]
fn error_of_a_taken_held_socket_names_the_process() {
    let taken = Failure::SocketTaken { path: "/run/s".to_owned(), by: Occupant::Process(7) };
    assert_eq!((taken.to_string().as_str(), taken.pid()), ("socket /run/s is in use by process 7", Some(7)));
}

#[test]
fn error_of_an_unequal_shared_plugin_names_at_most_20_fields_and_whether_an_upgrade_made_them_differ() {
    let text = |count: usize, upgraded| {
        let fields = (0..count).map(|index| format!("args[{index}]")).collect();
        Failure::SharedDiffers { fields, upgraded }.to_string()
    };
    assert_eq!(text(2, false), "it is shared, and runs with another configuration; fields that differ: args[0], args[1]");
    let upgraded = text(1, true);
    assert!(upgraded.contains("another configuration, since an upgrade by another session; fields that differ: args[0]"), "{upgraded}");
    assert!(text(20, false).ends_with("args[19]"));
    assert!(text(22, false).ends_with("args[19] and 2 more"));
}

#[test]
fn error_code_of_each_failure() {
    let text = String::new;
    let table = [
        (Failure::InvalidConfig { field: text(), problem: text() }, Code::InvalidConfig),
        (Failure::AlreadyRunning(ProcessState::Running), Code::AlreadyRunning),
        (Failure::ShuttingDown, Code::ShuttingDown),
        (Failure::NotFound, Code::NotFound),
        (Failure::OwnedElsewhere { owner: None }, Code::OwnedElsewhere),
        (Failure::LogFileOwned { path: String::new(), owner: None }, Code::OwnedElsewhere),
        (Failure::NotEnded { problem: text() }, Code::StopFailed),
        (Failure::EndedBy { pid: 7 }, Code::Stopped),
        (Failure::SharedDiffers { fields: Vec::new(), upgraded: false }, Code::OwnedElsewhere),
        (Failure::OwnedOutside { pid: 1, place: Elsewhere::PidNamespace }, Code::OwnedElsewhere),
        (Failure::SocketInUse { path: text(), by: Occupant::Unknown }, Code::SocketInUse),
        (Failure::SocketTaken { path: text(), by: Occupant::Unknown }, Code::SocketInUse),
        (Failure::BindsHeldSocket { path: text(), cause: None }, Code::SocketInUse),
        (binds_held_socket(), Code::StartupExit),
        (Failure::SocketShutDown { path: text() }, Code::Unhealthy),
        (Failure::SocketReplaced { path: text() }, Code::Unhealthy),
        (Failure::NoQueueDiag { problem: text() }, Code::Unsupported),
        (spawn(), Code::Spawn),
        (guardian(libc::EMFILE), Code::Spawn),
        (guardian(libc::ENOSPC), Code::Spawn),
        (guardian(libc::ENOENT), Code::Unsupported),
        (guardian(libc::EACCES), Code::Unsupported),
        (guardian(libc::ENOEXEC), Code::Unsupported),
        (Failure::GuardianLost { path: text(), ending: text() }, Code::Internal),
        (Failure::Internal { problem: text() }, Code::Internal),
        (Failure::StartupExit { exit: EXITED, tail: text() }, Code::StartupExit),
        (Failure::Ended { exit: EXITED, tail: text() }, Code::StartupExit),
        // The keeper is lost, so the exit status is unknown.
        (Failure::StartupExit { exit: Exit::UNKNOWN, tail: text() }, Code::Internal),
        (Failure::Ended { exit: Exit::UNKNOWN, tail: text() }, Code::Internal),
        (Failure::StartupTimeout { socket: text(), after: Duration::ZERO, last_problem: None, tail: text() }, Code::StartupTimeout),
        (Failure::Stopped, Code::Stopped),
        (Failure::StopFailed { survivors: Vec::new() }, Code::StopFailed),
        (Failure::io(Path::new("/p"), "must be a plain file"), Code::Io),
        (Failure::LeftoverFile { cause: Box::new(Failure::io(Path::new("/p"), "stays")) }, Code::Io),
        (unhealthy(), Code::Unhealthy),
        (Failure::RestartPrevented { code: 3, cause: Box::new(Failure::Ended { exit: EXITED, tail: text() }) }, Code::StartupExit),
        (over_memory(), Code::Unhealthy),
        (probed(ProbeRole::Health, Failure::Ended { exit: EXITED, tail: text() }), Code::StartupExit),
        (probed(ProbeRole::Readiness, Failure::StartupExit { exit: EXITED, tail: text() }), Code::StartupExit),
    ];
    for (failure, code) in table {
        assert_eq!(failure.code(), code, "{failure:?}");
    }
}

#[test]
fn error_after_max_attempts_or_window_has_the_code_and_fields_of_the_last_failure() {
    let exhausted = |last: Failure| {
        let last = Box::new(last);
        [
            Failure::AttemptsExhausted { attempts: 3, last: last.clone() },
            Failure::WindowExhausted { limit: 3, period: Duration::from_secs(1), last },
        ]
    };
    for failure in exhausted(unhealthy()) {
        assert_eq!(failure.code(), Code::Unhealthy);
        assert_eq!(failure.cause(), Some(&unhealthy()));
    }
    for failure in exhausted(spawn()) {
        assert_eq!((failure.code(), failure.path()), (Code::Spawn, Some("/bin/true")));
        assert_eq!(failure.refused().map(|refused| refused.errno), Some(libc::EMFILE));
    }
    for failure in exhausted(Failure::Ended { exit: EXITED, tail: "why".to_owned() }) {
        assert_eq!((failure.code(), failure.exit(), failure.tail()), (Code::StartupExit, EXITED, Some("why")));
    }
}

fn probed(by: ProbeRole, cause: Failure) -> Failure {
    Failure::ExitsWhenProbed { by, cause: Box::new(cause) }
}

#[test]
fn error_of_a_daemon_that_exits_when_a_probe_connects_names_the_probe_and_keeps_the_exit() {
    for (by, text) in [
        (ProbeRole::Health, "exits when a health check connects; use probe `listen` or `exec`: the process exited with code 3: why"),
        (
            ProbeRole::Readiness,
            "exited just after the readiness probe had connected; use readiness `listen`: the process exited with code 3: why",
        ),
    ] {
        let failure = probed(by, Failure::Ended { exit: EXITED, tail: "why".to_owned() });
        assert_eq!(failure.to_string(), text);
        assert_eq!((failure.exit(), failure.tail()), (EXITED, Some("why")));
    }
}

#[test]
fn error_of_a_system_call_has_errno_syscall_and_path_as_fields_and_in_the_text() {
    let path = Path::new("/p/daemon.pid");
    let refused = |failure: &Failure| failure.refused().map(|refused| (refused.errno, refused.call, refused.path));
    let named = |errno, call| Some((errno, call, Some("/p/daemon.pid".to_owned())));

    let failure = Failure::call("unlink", path, nix::errno::Errno::EROFS);
    assert_eq!(failure.to_string(), "/p/daemon.pid: EROFS: Read-only file system");
    assert_eq!(refused(&failure), named(libc::EROFS, Some("unlink")));
    let leftover = Failure::LeftoverFile { cause: Box::new(failure.clone()) };
    assert_eq!(leftover.to_string(), format!("it is gone, but a file of it stays: {failure}"));
    assert_eq!((refused(&leftover), leftover.path(), leftover.cause()), (refused(&failure), Some("/p/daemon.pid"), Some(&failure)));

    let failure = Failure::at(path, io::Error::from_raw_os_error(libc::EIO));
    assert_eq!(failure.to_string(), "/p/daemon.pid: EIO: I/O error");
    assert_eq!(refused(&failure), named(libc::EIO, None));
    // No system call failed.
    for failure in [Failure::at(path, io::Error::from(io::ErrorKind::NotFound)), Failure::io(path, "must be a plain file")] {
        assert_eq!((refused(&failure), failure.path()), (None, Some("/p/daemon.pid")));
    }

    let failure = guardian(libc::ENOENT);
    assert_eq!(failure.to_string(), "the guardian /p/ally-guardian can't be started: ENOENT: No such file or directory");
    assert_eq!(failure.path(), Some("/p/ally-guardian"));
}

/// The message of a daemon that printed `above`, and then `below` lines.
fn message_below(above: &str, below: usize) -> String {
    let trace: Vec<String> = (1..=below).map(|number| format!("    at frame {number}")).collect();
    Failure::StartupExit { exit: EXITED, tail: format!("{above}\n{}", trace.join("\n")) }.to_string()
}

#[test]
fn message_has_the_first_line_that_looks_like_the_reason_before_the_last_ten() {
    let message = message_below("node:internal/modules:1148\n  throw err;\n  ^\n\nError: Cannot find module 'x'\nRequire stack:", 12);
    assert!(message.contains("before it was ready: Error: Cannot find module 'x'\n  …\n      at frame 3\n"), "{message}");
    assert!(message.ends_with("at frame 12") && !message.contains("throw err") && !message.contains("frame 2\n"), "{message}");

    for reason in [
        "TypeError [ERR_INVALID_ARG_TYPE]: no",
        "Uncaught ReferenceError: x is not defined",
        "asyncio.exceptions.InvalidStateError: no",
        "java.lang.IllegalStateException: no",
        "thread 'main' panicked at src/main.rs:2:5",
        "fatal: not a git repository",
        "FATAL: role does not exist",
        "\u{1b}[31mError\u{1b}[0m: Cannot find module",
    ] {
        let message = message_below(&format!("starting\n{reason}\nSecondError: later"), 10);
        let shown = reason.replace("\u{1b}[31m", "").replace("\u{1b}[0m", "");
        assert!(message.contains(&format!("ready: {shown}\n  …\n      at frame 1\n")), "{message}");
    }
    for other in ["no Error here: x", "Errors: 3", "listening: fatal", "Terror", "Error"] {
        assert!(message_below(other, 10).contains("ready:     at frame 1\n"), "{other}");
    }
}

#[test]
fn message_has_the_line_below_a_panic_and_repeats_no_line() {
    let message = message_below("thread 'main' panicked at src/main.rs:2:5:\nindex out of bounds\nstack backtrace:", 10);
    assert!(message.contains("panicked at src/main.rs:2:5:\n  index out of bounds\n  …\n      at frame 1\n"), "{message}");
    let message = message_below("Error: Cannot find module 'x'", 10);
    assert!(message.contains("ready: Error: Cannot find module 'x'\n      at frame 1\n"), "no line is left out: {message}");
    let message = message_below("starting\nError: Cannot find module 'x'", 9);
    assert_eq!(message.matches("Cannot find module").count(), 1, "{message}");
    assert!(!message.contains('…'), "{message}");
}

/// A newline, an escape sequence, a bell, C1, direction marks, invisible characters and line separators.
const HOSTILE: &str = "a\n\r\u{1b}[31mb\u{7}\u{9b}\u{85}\u{202e}\u{2066}\u{200e}\u{61c}\u{200b}\u{feff}\u{2028}\u{2029}\u{ad}\u{e0041}\tc";

#[test]
fn messages_are_free_of_control_and_format_characters_wherever_they_come_from() {
    let text = || HOSTILE.to_owned();
    let by = [Occupant::Plugin(text()), Occupant::Unjudged { reason: text() }, Occupant::NotASocket, Occupant::Unknown];
    let mut failures: Vec<Failure> = by.into_iter().map(|by| Failure::SocketInUse { path: text(), by }).collect();
    failures.extend([
        Failure::InvalidConfig { field: text(), problem: text() },
        Failure::Spawn { problem: text(), refused: None },
        Failure::Unsupported { problem: text(), path: text(), refused: None },
        Failure::GuardianLost { path: text(), ending: text() },
        Failure::Internal { problem: text() },
        Failure::io(Path::new(HOSTILE), HOSTILE),
        Failure::at(Path::new(HOSTILE), io::Error::from_raw_os_error(libc::EIO)),
        Failure::guardian(Path::new(HOSTILE), &io::Error::from_raw_os_error(libc::ENOENT)),
        Failure::Unhealthy { checks: 3, last: text() },
        Failure::StartupTimeout { socket: text(), after: Duration::from_secs(1), last_problem: Some(text()), tail: String::new() },
        Failure::StartupExit { exit: EXITED, tail: HOSTILE.replace('\n', "") },
    ]);
    for failure in failures {
        let outer = [
            Failure::LeftoverFile { cause: Box::new(failure.clone()) },
            Failure::AttemptsExhausted { attempts: 2, last: Box::new(failure.clone()) },
            Failure::WindowExhausted { limit: 2, period: Duration::from_secs(1), last: Box::new(failure.clone()) },
        ];
        for failure in outer.into_iter().chain([failure]) {
            for message in [failure.to_string(), failure.message(HOSTILE)] {
                let shown = message.replace("ab c", "");
                assert!(message.contains("ab c") || !failure.to_string().contains('a'), "{message:?}");
                assert!(shown.is_ascii() && !shown.contains(|character: char| character.is_control()), "{message:?}");
            }
        }
    }
}

#[test]
fn exhausted_restarts_show_the_lines_of_the_last_attempt() {
    let last = Box::new(Failure::StartupExit { exit: EXITED, tail: "one\ntwo".to_owned() });
    let inner = last.to_string();
    assert!(inner.ends_with(": one\n  two"), "{inner:?}");
    let exhausted = Failure::AttemptsExhausted { attempts: 2, last };
    assert_eq!(exhausted.to_string(), format!("Maximum restart attempts exceeded (2): {inner}"));
}

#[test]
fn owned_outside_names_the_machine_or_the_container_and_a_pid_only_where_it_counts() {
    let failure = |place| Failure::OwnedOutside { pid: 4711, place };
    let machine = failure(Elsewhere::Machine("build\u{1b}[2J-7".to_owned()));
    assert_eq!(
        machine.to_string(),
        "another live owner runs it on another machine, build-7 (process 4711 there): the lock is held, and its note is of another boot"
    );
    assert_eq!(machine.pid(), None);
    for (place, namespace, pid) in [(Elsewhere::PidNamespace, "pid", None), (Elsewhere::NetworkNamespace, "network", Some(4711))] {
        let failure = failure(place);
        assert!(failure.to_string().contains("in another container (process 4711 there)"), "{failure}");
        assert!(failure.to_string().ends_with(&format!("another {namespace} namespace")), "{failure}");
        assert_eq!(failure.pid(), pid);
    }
}
