//! The table of every phase, in each of its variants, against every event. golden/lifecycle.txt has
//! the expected table; `UPDATE_GOLDEN=1` rewrites it.
//!
//! Each phase is reached by events, as in a daemon's life. If the machine gets a new phase, variant
//! or event, this file does not compile, or the test fails.

use crate::support::events::{Filling, code, exited, name, of_generation, owned, samples, unwritable};
use crate::support::plan::{at, plan};
use ally_core::error::Failure;
use ally_core::lifecycle::{Acknowledgement, Effect, Event, Leader, Machine, Notice, Phase, Run, Signal, StopFor};
use ally_core::model::{ExitReason, ProcessState};
use std::collections::BTreeSet;
use std::path::Path;

/// The tickets of the current start and restart.
const START_TICKET: u64 = 1;
const RESTART_TICKET: u64 = 3;
/// The ticket of the request in the cell itself.
const NEW_TICKET: u64 = 9;
const PID: i32 = 4242;

/// A list of names and the match that gives them, from one source. A new variant needs a name, and
/// each name must be reached.
macro_rules! named {
    ($list:ident, $function:ident, $type:ty: $($name:literal => $pattern:pat),+ $(,)?) => {
        const $list: &[&str] = &[$($name),+];

        fn $function(value: &$type) -> &'static str {
            match value {
                $($pattern => $name),+
            }
        }
    };
}

named! { PHASES, phase_name, Phase:
    "stopped" => Phase::Stopped,
    "failed" => Phase::Failed,
    "stuck" => Phase::Stuck { .. },
    "preparing" => Phase::Preparing { .. },
    "spawning" => Phase::Spawning { .. },
    "booting" => Phase::Booting { .. },
    "running" => Phase::Running { .. },
    "stopping" => Phase::Stopping { .. },
    "backing off" => Phase::BackingOff { .. },
    "overdue" => Phase::Overdue { .. },
}

named! { REASONS, reason_name, ExitReason:
    "stopped" => ExitReason::Stopped,
    "crashed" => ExitReason::Crashed,
    "exited" => ExitReason::Exited,
    "unhealthy" => ExitReason::Unhealthy,
    "startup" => ExitReason::Startup,
    "memory" => ExitReason::Memory,
}

named! { RUNS, run_name, Run:
    "asked" => Run::Requested(_),
    "restart" => Run::Restart,
}

named! { LEADERS, leader_name, Leader:
    "pending" => Leader::Pending,
    "alive" => Leader::Alive(_),
    "exited" => Leader::Exited,
}

named! { STOPS, stop_name, StopFor:
    "for the caller" => StopFor::Caller,
    "for a clean exit" => StopFor::CleanExit,
    "for a failed start" => StopFor::Failure { state: ProcessState::Starting, .. },
    "for a failure" => StopFor::Failure { .. },
    "for an unhealthy restart" => StopFor::Replacement { reason: ExitReason::Unhealthy, .. },
    "for a restart over memory" => StopFor::Replacement { .. },
    "for a restart" => StopFor::Restart(_),
}

fn describe_phase(phase: &Phase) -> String {
    let mut words = vec![phase_name(phase)];
    let tree = match phase {
        Phase::Stopped | Phase::Failed | Phase::Running { .. } => None,
        Phase::Preparing { run, .. } | Phase::Spawning { run, .. } | Phase::Booting { run, .. } => {
            words.push(run_name(run));
            words.extend(matches!(phase, Phase::Preparing { rest: Some(_), .. }).then_some("from rest"));
            None
        }
        Phase::Stuck { tree } => Some(*tree),
        Phase::Stopping { tree, stop_for } => {
            words.push(stop_name(stop_for));
            Some(*tree)
        }
        Phase::BackingOff { tree, .. } => *tree,
        Phase::Overdue { leader, reason, .. } => {
            words.extend([leader_name(leader), reason_name(reason)]);
            None
        }
    };
    if let Some(tree) = tree {
        words.push(leader_name(&tree.leader));
        words.extend(tree.killed.then_some("killed"));
        words.extend(match tree.acknowledgement {
            Acknowledgement::Done => None,
            Acknowledgement::Pending => Some("unanswered"),
            Acknowledgement::Late => Some("late"),
        });
    }
    if let Phase::BackingOff { waited: true, .. } | Phase::Overdue { waited: true, .. } = phase {
        words.push("waited");
    }
    words.join(" ")
}

/// Every text of `describe_phase` for a phase that events can reach.
fn all_descriptions() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for phase in PHASES {
        let variants: Vec<String> = match *phase {
            // A restart by the policy never begins at rest.
            "preparing" => ["asked", "asked from rest", "restart"].map(str::to_owned).into(),
            "spawning" | "booting" => RUNS.iter().map(|run| (*run).to_owned()).collect(),
            // Before a tree counts as stuck, it gets SIGKILL.
            "stuck" => LEADERS.iter().map(|leader| format!("{leader} killed")).collect(),
            "stopping" => {
                let answered = STOPS.iter().flat_map(|stop_for| trees().into_iter().map(move |tree| format!("{stop_for} {tree}")));
                // The keeper's answer has the same consequences in every stop, so the table has one stop without it.
                answered.chain(unanswered_trees().map(|tree| format!("for the caller {tree}"))).collect()
            }
            "backing off" => {
                let with_tree = trees().into_iter().chain(unanswered_trees()).flat_map(|tree| [tree.clone(), format!("{tree} waited")]);
                // Without a tree, the end of the delay is the end of the phase.
                with_tree.chain([String::new()]).collect()
            }
            "overdue" => {
                let leaders = LEADERS.iter().flat_map(|leader| REASONS.iter().map(move |reason| format!("{leader} {reason}")));
                leaders.flat_map(|tree| [tree.clone(), format!("{tree} waited")]).collect()
            }
            _ => vec![String::new()],
        };
        all.extend(variants.iter().map(|variant| format!("{phase} {variant}").trim_end().to_owned()));
    }
    // A clean exit follows the leader's exit. An unhealthy daemon has a leader, and so has one over its memory limit.
    all.retain(|words| {
        let has_leader = ["for an unhealthy restart pending", "for a restart over memory pending"].iter().all(|none| !words.contains(none));
        has_leader && (!words.contains("for a clean exit") || words.contains("exited"))
    });
    // A leader that still lives, or is pending, exits for a failed attempt, for failed health checks, or over its memory limit.
    all.retain(|words| {
        let overdue = words.strip_prefix("overdue ");
        overdue.is_none_or(|words| {
            words.contains("startup") || ((words.contains("unhealthy") || words.contains("memory")) && !words.contains("pending"))
        })
    });
    all
}

fn trees() -> Vec<String> {
    LEADERS.iter().flat_map(|leader| [(*leader).to_owned(), format!("{leader} killed")]).collect()
}

/// Before the spawn the keeper gets no command that needs an answer.
fn unanswered_trees() -> impl Iterator<Item = String> {
    let commanded = trees().into_iter().filter(|tree| !tree.starts_with("pending"));
    commanded.flat_map(|tree| ["unanswered", "late"].map(|answer| format!("{tree} {answer}")))
}

const UP: &str = "start prepared spawned ready";
/// The first restart, and the last one that the plan allows.
const AGAIN: &str = "start prepared spawned ready exit backoff";
const LAST: &str = "start prepared spawned ready exit backoff prepare-failed backoff";

/// A path to each variant of each phase, in words of `event`. After a word with `!` the keeper does not answer.
fn paths() -> Vec<String> {
    let mut paths: Vec<String> =
        ["", "shutdown", "start prepare-failed", "start", "start prepared", "start prepared spawned", UP].map(str::to_owned).into();
    paths.push("start prepare-failed start".to_owned());
    paths.push("start prepared spawned ready restart exit".to_owned());
    paths.push(format!("{UP} unhealthy"));
    paths.push(format!("{UP} exit"));
    for before in [AGAIN, LAST] {
        paths.extend(["", " prepared", " prepared spawned"].map(|on| format!("{before}{on}")));
    }
    let stopping = [
        "start prepared stop".to_owned(),
        format!("{UP} stop"),
        format!("{UP} stop exit+"),
        format!("{UP} exit0+"),
        "start prepared timeout".to_owned(),
        "start prepared spawned timeout".to_owned(),
        "start prepared spawned timeout exit+".to_owned(),
        format!("{LAST} prepared timeout"),
        format!("{LAST} prepared spawned timeout"),
        format!("{LAST} prepared spawned timeout exit+"),
        format!("{UP} unhealthy unhealthy"),
        format!("{UP} unhealthy unhealthy exit+"),
        format!("{UP} memory"),
        format!("{UP} memory exit+"),
        "start prepared restart".to_owned(),
        format!("{UP} restart"),
        format!("{UP} restart exit+"),
    ];
    paths.extend(stopping.iter().flat_map(|path| [path.clone(), format!("{path} grace")]));
    let backing_off = [format!("{AGAIN} prepared timeout"), format!("{AGAIN} prepared spawned timeout"), format!("{UP} exit+")];
    for path in backing_off {
        paths.extend(["", " grace", " backoff", " grace backoff", " grace kill", " grace kill backoff"].map(|on| format!("{path}{on}")));
    }
    let unanswered =
        [format!("{UP} stop!"), format!("{UP} stop! exit+!"), format!("{AGAIN} prepared spawned timeout!"), format!("{UP} exit+!")];
    for path in unanswered {
        for on in ["", " late!", " ack grace!", " grace!"] {
            paths.push(format!("{path}{on}"));
            if !path.contains("stop") {
                paths.push(format!("{path}{on} backoff!"));
            }
        }
    }
    for on in ["unhealthy unhealthy", "unhealthy unhealthy exit+", "memory", "memory exit+"] {
        let path = format!("{UP} {on}");
        paths.extend([" grace kill", " grace kill backoff"].map(|on| format!("{path}{on}")));
    }
    paths.extend(["start prepared stop", &format!("{UP} stop"), &format!("{UP} stop exit+")].map(|path| format!("{path} grace kill")));
    paths
}

fn event(word: &str, generation: u64) -> Event {
    match word {
        "start" => Event::StartRequested { ticket: START_TICKET },
        "restart" => Event::RestartRequested { ticket: RESTART_TICKET },
        "stop" => Event::StopRequested { ticket: 2 },
        "closed" => Event::Closed,
        "shutdown" => Event::ShutdownRequested { ticket: 2 },
        "prepared" => Event::Prepared { generation },
        "prepare-failed" => Event::PrepareFailed { generation, failure: unwritable() },
        "spawned" => Event::Spawned { generation, pid: PID },
        "ready" => Event::Ready { generation },
        "exit" => exited(generation, code(1), false),
        "exit+" => exited(generation, code(1), true),
        "exit0+" => exited(generation, code(0), true),
        "unhealthy" => Event::ProbeFailed { generation, latency: std::time::Duration::ZERO, error: "refused".to_owned() },
        "memory" => Event::MemoryExceeded { generation, memory: 200 << 20 },
        "timeout" => Event::StartupElapsed { generation, last_problem: None, tail: String::new() },
        "ack" => Event::Acknowledged { generation },
        "late" => Event::AcknowledgementElapsed { generation },
        "grace" => Event::GraceElapsed { generation },
        "kill" => Event::KillElapsed { generation, survivors: vec![PID] },
        "backoff" => Event::BackoffElapsed { generation },
        _ => panic!("unknown word {word}"),
    }
}

fn machine_after(path: &str) -> Machine {
    let mut machine = Machine::new(plan(), at(0), 1);
    for word in path.split_whitespace() {
        let (word, answers) = word.strip_suffix('!').map_or((word, true), |word| (word, false));
        machine.on(event(word, machine.generation()), at(0));
        if answers {
            machine.on(Event::Acknowledged { generation: machine.generation() }, at(0));
        }
    }
    machine
}

/// A sample of each event, and several of an event with different outcomes.
fn columns(generation: u64) -> Vec<(String, Event)> {
    let mut columns: Vec<(String, Event)> = Vec::new();
    for event in samples(Filling { generation, ticket: NEW_TICKET, pid: PID }) {
        let name = name(&event);
        match event {
            Event::StartAborted { .. } => {
                columns.push((format!("{name} of an unknown ticket"), event));
                columns.push((format!("{name} of the start"), Event::StartAborted { ticket: START_TICKET }));
                columns.push((format!("{name} of the restart"), Event::StartAborted { ticket: RESTART_TICKET }));
            }
            Event::StartRevoked { .. } => {
                columns.push((format!("{name} of another start"), Event::StartRevoked { ticket: NEW_TICKET, answer: NEW_TICKET }));
                columns.push((format!("{name} of the start"), Event::StartRevoked { ticket: START_TICKET, answer: NEW_TICKET }));
            }
            Event::Exited { .. } => {
                for (number, remains) in [(0, false), (0, true), (1, false), (1, true)] {
                    let more = if remains { ", descendants remain" } else { "" };
                    columns.push((format!("{name} {number}{more}"), exited(generation, code(number), remains)));
                }
            }
            Event::PrepareFailed { .. } => {
                columns.push((name.to_owned(), event));
                columns.push((format!("{name}, another owner has the name"), Event::PrepareFailed { generation, failure: owned() }));
            }
            Event::TreeGone { .. } => {
                columns.push((name.to_owned(), event));
                let leftover_file = Some(Failure::io(std::path::Path::new("/p/daemon.pid"), "EROFS"));
                columns.push((format!("{name}, a file is left"), Event::TreeGone { generation, leftover_file }));
            }
            event => columns.push((name.to_owned(), event)),
        }
    }
    columns
}

fn describe_effect(effect: &Effect) -> String {
    match effect {
        Effect::Prepare { generation, requested: true } => format!("prepare #{generation}"),
        Effect::Prepare { generation, requested: false } => format!("prepare again #{generation}"),
        Effect::CancelPrepare { generation } => format!("cancel prepare #{generation}"),
        Effect::Spawn { generation } => format!("spawn #{generation}"),
        Effect::AwaitReady { generation } => format!("await ready #{generation}"),
        Effect::StopAwaiting { generation } => format!("stop awaiting #{generation}"),
        Effect::Signal { generation, signal: Signal::Terminate } => format!("terminate #{generation}"),
        Effect::Signal { generation, signal: Signal::Kill } => format!("kill #{generation}"),
        Effect::WakeKeeper { generation } => format!("wake keeper #{generation}"),
        Effect::KillKeeper { generation } => format!("kill keeper #{generation}"),
        Effect::StartProbe { generation } => format!("probe #{generation}"),
        Effect::StopProbe { generation } => format!("stop probe #{generation}"),
        Effect::WatchMemory { generation } => format!("watch memory #{generation}"),
        Effect::StopWatching { generation } => format!("stop watching #{generation}"),
        Effect::Arm { timer, generation, after } => format!("arm {timer:?} #{generation} {after:?}").to_lowercase(),
        Effect::Disarm { timer, generation } => format!("disarm {timer:?} #{generation}").to_lowercase(),
        Effect::Extend { timer, generation, by } => format!("extend {timer:?} #{generation} {by:?}").to_lowercase(),
        Effect::Release { generation } => format!("release #{generation}"),
        Effect::Withdraw { generation } => format!("withdraw #{generation}"),
        Effect::Abandon { generation } => format!("abandon #{generation}"),
        Effect::Settle { ticket, outcome: Ok(()) } => format!("settle {ticket} ok"),
        Effect::Settle { ticket, outcome: Err(failure) } => format!("settle {ticket} {}", failure.code().as_str()),
        Effect::Warn { failure } => format!("warn {}", failure.code().as_str()),
        Effect::Notify(Notice::StateChanged { from, to, pid, reason, .. }) => {
            let pid = pid.map(|pid| format!(" {pid}")).unwrap_or_default();
            let reason = reason.as_ref().map(|reason| format!(" \"{reason}\"")).unwrap_or_default();
            format!("[{} > {}{pid}{reason}]", from.map_or("never", ProcessState::as_str), to.as_str())
        }
        Effect::Notify(Notice::Spawned { pid }) => format!("notify spawned {pid}"),
        Effect::Notify(Notice::Exited { pid, reason, .. }) => format!("notify exited {pid} {reason}"),
        Effect::Notify(Notice::RestartScheduled { attempt, delay, reason }) => format!("notify restart {attempt} in {delay:?} {reason}"),
        Effect::Notify(Notice::Checked { healthy, failures, .. }) => {
            format!("notify {} {failures}", if *healthy { "healthy" } else { "unhealthy" })
        }
    }
}

/// The effects and the next phase of each event in one phase.
fn row(path: &str) -> String {
    let start = machine_after(path);
    let (phase, before) = (describe_phase(start.phase()), format!("{start:?}"));
    let mut text = format!("== {phase}\n   after: {}\n", if path.is_empty() { "nothing" } else { path });
    let mut ignored = Vec::new();
    for (name, event) in columns(start.generation()) {
        let mut machine = machine_after(path);
        let effects: Vec<String> = machine.on(event, at(0)).iter().map(describe_effect).collect();
        let next = describe_phase(machine.phase());
        if effects.is_empty() && before == format!("{machine:?}") {
            ignored.push(name);
            continue;
        }
        let next = if next == phase { "same" } else { &next };
        // Without effects, only the phase changed: a stop waits, or a leader was spawned.
        let effects = if effects.is_empty() { "(phase only)".to_owned() } else { effects.join("; ") };
        text.extend([name.as_str(), " -> ", next, ": ", &effects, "\n"]);
    }
    let ignored = if ignored.is_empty() { "nothing".to_owned() } else { ignored.join(", ") };
    text.extend(["ignored: ", &ignored, "\n"]);
    text
}

#[test]
fn lifecycle_table_is_equal_to_the_golden_file() {
    let paths = paths();
    let reached: BTreeSet<String> = paths.iter().map(|path| describe_phase(machine_after(path).phase())).collect();
    let all = all_descriptions();
    assert_eq!(all.difference(&reached).collect::<Vec<_>>(), Vec::<&String>::new(), "phases without a path");
    assert_eq!(reached.difference(&all).collect::<Vec<_>>(), Vec::<&String>::new(), "phases that `all_descriptions` leaves out");

    let table = paths.iter().map(|path| row(path)).collect::<Vec<_>>().join("\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/lifecycle.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        std::fs::write(&path, &table).expect("the golden file can be written");
        return;
    }
    let golden = std::fs::read_to_string(&path).expect("the golden file exists (UPDATE_GOLDEN=1 writes it)");
    let mut section = "";
    for (number, (was, is)) in (1..).zip(golden.lines().zip(table.lines())) {
        section = if is.starts_with("==") { is } else { section };
        assert_eq!(was, is, "line {number} of {}, below {section:?}", path.display());
    }
    assert_eq!(golden.lines().count(), table.lines().count(), "the tables have different lengths");
}

#[test]
fn event_of_another_generation_changes_nothing_in_any_phase() {
    for path in paths() {
        let mut machine = machine_after(&path);
        let before = format!("{machine:?}");
        for generation in [machine.generation().wrapping_sub(1), machine.generation() + 1] {
            for event in of_generation(Filling { generation, ticket: START_TICKET, pid: PID }) {
                let effects = machine.on(event.clone(), at(1));
                assert!(effects.is_empty(), "{event:?} after {path:?}: {effects:?}");
            }
        }
        assert_eq!(before, format!("{machine:?}"), "after {path:?}");
    }
}
