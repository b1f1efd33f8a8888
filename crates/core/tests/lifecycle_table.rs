//! The whole table: every phase, in each of its variants, against every event. What comes of it
//! stands in golden/lifecycle.txt, so that no cell changes unseen. `UPDATE_GOLDEN=1` rewrites the file.
//!
//! Phases are reached the way a daemon reaches them, by events. A phase, variant or event that is
//! added to the machine does not compile here, or is missed when the test runs.

#[path = "lifecycle_support/events.rs"]
mod events;
#[path = "lifecycle_support/fixture.rs"]
mod fixture;

use ally_core::error::Failure;
use ally_core::lifecycle::{Effect, Event, Leader, Machine, Notice, Phase, Run, Signal, StopFor};
use ally_core::model::ProcessState;
use events::{Filling, code, exited, name, of_generation, samples, unwritable};
use fixture::{at, plan};
use std::collections::BTreeSet;
use std::path::Path;

/// Who asked for the start that is going on, and who for the restart.
const STARTER: u64 = 1;
const RESTARTER: u64 = 3;
/// Who asks for something in the cell itself.
const NEWCOMER: u64 = 9;
const PID: i32 = 4242;

/// A list of names and the match that gives them, from one source: what is added to the enum must be
/// named, and what is named must be reached.
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
    "for an unhealthy restart" => StopFor::UnhealthyRestart { .. },
    "for a restart" => StopFor::Restart(_),
}

fn describe(phase: &Phase) -> String {
    let mut words = vec![phase_name(phase)];
    let tree = match phase {
        Phase::Stopped | Phase::Failed | Phase::Running { .. } => None,
        Phase::Preparing { run } | Phase::Spawning { run, .. } | Phase::Booting { run, .. } => {
            words.push(run_name(run));
            None
        }
        Phase::Stuck { tree } => Some(*tree),
        Phase::Stopping { tree, stop_for } => {
            words.push(stop_name(stop_for));
            Some(*tree)
        }
        Phase::BackingOff { tree, .. } => *tree,
    };
    if let Some(tree) = tree {
        words.push(leader_name(&tree.leader));
        words.extend(tree.killed.then_some("killed"));
    }
    if let Phase::BackingOff { waited: true, .. } = phase {
        words.push("waited");
    }
    words.join(" ")
}

/// All that `describe` can say, less what no event leads to.
fn all_descriptions() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for phase in PHASES {
        let variants: Vec<String> = match *phase {
            "preparing" | "spawning" | "booting" => RUNS.iter().map(|run| (*run).to_owned()).collect(),
            // What is stuck got SIGKILL.
            "stuck" => LEADERS.iter().map(|leader| format!("{leader} killed")).collect(),
            "stopping" => STOPS.iter().flat_map(|stop_for| trees().into_iter().map(move |tree| format!("{stop_for} {tree}"))).collect(),
            "backing off" => {
                let with_tree = trees().into_iter().flat_map(|tree| [tree.clone(), format!("{tree} waited")]);
                // Without a tree, the end of the wait is the end of the phase.
                with_tree.chain([String::new()]).collect()
            }
            _ => vec![String::new()],
        };
        all.extend(variants.iter().map(|variant| format!("{phase} {variant}").trim_end().to_owned()));
    }
    // A clean exit comes after the exit, and a daemon that ran is restarted for its health.
    all.retain(|words| {
        !(words.contains("for a clean exit") && !words.contains("exited") || words.contains("for an unhealthy restart pending"))
    });
    all
}

fn trees() -> Vec<String> {
    LEADERS.iter().flat_map(|leader| [(*leader).to_owned(), format!("{leader} killed")]).collect()
}

const UP: &str = "start prepared spawned ready";
/// The first restart, and the last one that the plan admits.
const AGAIN: &str = "start prepared spawned ready exit backoff";
const LAST: &str = "start prepared spawned ready exit backoff prepare-failed backoff";

/// A way to each variant of each phase, in words that `event` knows.
fn roads() -> Vec<String> {
    let mut roads: Vec<String> =
        ["", "shutdown", "start prepare-failed", "start", "start prepared", "start prepared spawned", UP].map(str::to_owned).into();
    roads.push(format!("{UP} unhealthy"));
    roads.push(format!("{UP} exit"));
    for before in [AGAIN, LAST] {
        roads.extend(["", " prepared", " prepared spawned"].map(|on| format!("{before}{on}")));
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
        "start prepared restart".to_owned(),
        format!("{UP} restart"),
        format!("{UP} restart exit+"),
    ];
    roads.extend(stopping.iter().flat_map(|road| [road.clone(), format!("{road} grace")]));
    let backing_off = [format!("{AGAIN} prepared timeout"), format!("{AGAIN} prepared spawned timeout"), format!("{UP} exit+")];
    for road in backing_off {
        roads.extend(["", " grace", " backoff", " grace backoff"].map(|on| format!("{road}{on}")));
    }
    roads.extend(["start prepared stop", &format!("{UP} stop"), &format!("{UP} stop exit+")].map(|road| format!("{road} grace kill")));
    roads
}

fn event(word: &str, generation: u64) -> Event {
    match word {
        "start" => Event::StartRequested { ticket: STARTER },
        "restart" => Event::RestartRequested { ticket: RESTARTER },
        "stop" => Event::StopRequested { ticket: 2 },
        "shutdown" => Event::ShutdownRequested { ticket: 2 },
        "prepared" => Event::Prepared { generation },
        "prepare-failed" => Event::PrepareFailed { generation, failure: unwritable() },
        "spawned" => Event::Spawned { generation, pid: PID },
        "ready" => Event::Ready { generation },
        "exit" => exited(generation, code(1), false),
        "exit+" => exited(generation, code(1), true),
        "exit0+" => exited(generation, code(0), true),
        "unhealthy" => Event::ProbeFailed { generation, latency: std::time::Duration::ZERO, error: "refused".to_owned() },
        "timeout" => Event::StartupElapsed { generation, last_problem: None, tail: String::new() },
        "grace" => Event::GraceElapsed { generation },
        "kill" => Event::KillElapsed { generation, survivors: vec![PID] },
        "backoff" => Event::BackoffElapsed { generation },
        _ => panic!("{word} is no word for an event"),
    }
}

fn travel(road: &str) -> Machine {
    let mut machine = Machine::new(plan(), at(0), 1);
    for word in road.split_whitespace() {
        let event = event(word, machine.generation());
        machine.on(event, at(0));
    }
    machine
}

/// One of each event, and more of those that lead to different ends.
fn columns(generation: u64) -> Vec<(String, Event)> {
    let mut columns: Vec<(String, Event)> = Vec::new();
    for event in samples(Filling { generation, ticket: NEWCOMER, pid: PID }) {
        let name = name(&event);
        match event {
            Event::StartAborted { .. } => {
                columns.push((format!("{name} by a stranger"), event));
                columns.push((format!("{name} by the starter"), Event::StartAborted { ticket: STARTER }));
                columns.push((format!("{name} by the restarter"), Event::StartAborted { ticket: RESTARTER }));
            }
            Event::Exited { .. } => {
                for (number, remains) in [(0, false), (0, true), (1, false), (1, true)] {
                    let more = if remains { ", others remain" } else { "" };
                    columns.push((format!("{name} {number}{more}"), exited(generation, code(number), remains)));
                }
            }
            Event::TreeGone { .. } => {
                columns.push((name.to_owned(), event));
                let leftover_file = Some(Failure::io(std::path::Path::new("/p/daemon.pid"), "EROFS"));
                columns.push((format!("{name}, a file stays"), Event::TreeGone { generation, leftover_file }));
            }
            event => columns.push((name.to_owned(), event)),
        }
    }
    columns
}

fn told(effect: &Effect) -> String {
    match effect {
        Effect::Prepare { generation } => format!("prepare #{generation}"),
        Effect::CancelPrepare { generation } => format!("cancel prepare #{generation}"),
        Effect::Spawn { generation } => format!("spawn #{generation}"),
        Effect::AwaitReady { generation } => format!("await ready #{generation}"),
        Effect::StopAwaiting { generation } => format!("stop awaiting #{generation}"),
        Effect::Signal { generation, signal: Signal::Terminate } => format!("terminate #{generation}"),
        Effect::Signal { generation, signal: Signal::Kill } => format!("kill #{generation}"),
        Effect::StartProbe { generation } => format!("probe #{generation}"),
        Effect::StopProbe { generation } => format!("stop probe #{generation}"),
        Effect::Arm { timer, generation, after } => format!("arm {timer:?} #{generation} {after:?}").to_lowercase(),
        Effect::Disarm { timer, generation } => format!("disarm {timer:?} #{generation}").to_lowercase(),
        Effect::Release { generation } => format!("release #{generation}"),
        Effect::Abandon { generation } => format!("abandon #{generation}"),
        Effect::Settle { ticket, outcome: Ok(()) } => format!("settle {ticket} ok"),
        Effect::Settle { ticket, outcome: Err(failure) } => format!("settle {ticket} {}", failure.code().as_str()),
        Effect::Notify(Notice::StateChanged { from, to, pid, reason }) => {
            let pid = pid.map(|pid| format!(" {pid}")).unwrap_or_default();
            let reason = reason.as_ref().map(|reason| format!(" \"{reason}\"")).unwrap_or_default();
            format!("[{} > {}{pid}{reason}]", from.map_or("never", ProcessState::as_str), to.as_str())
        }
        Effect::Notify(Notice::Spawned { pid }) => format!("tell spawned {pid}"),
        Effect::Notify(Notice::Exited { pid, reason, .. }) => format!("tell exited {pid} {reason}"),
        Effect::Notify(Notice::RestartScheduled { attempt, delay, reason }) => format!("tell restart {attempt} in {delay:?} {reason}"),
        Effect::Notify(Notice::Checked { healthy, failures, .. }) => {
            format!("tell {} {failures}", if *healthy { "healthy" } else { "unhealthy" })
        }
    }
}

/// What one phase makes of each event.
fn row(road: &str) -> String {
    let start = travel(road);
    let (phase, before) = (describe(start.phase()), format!("{start:?}"));
    let mut text = format!("== {phase}\n   after: {}\n", if road.is_empty() { "nothing" } else { road });
    let mut ignored = Vec::new();
    for (name, event) in columns(start.generation()) {
        let mut machine = travel(road);
        let effects: Vec<String> = machine.on(event, at(0)).iter().map(told).collect();
        let next = describe(machine.phase());
        if effects.is_empty() && before == format!("{machine:?}") {
            ignored.push(name);
            continue;
        }
        let next = if next == phase { "same" } else { &next };
        // Without effects, something is only remembered: that a stop waits, that a leader is born.
        let effects = if effects.is_empty() { "(remembered)".to_owned() } else { effects.join("; ") };
        text.extend([name.as_str(), " -> ", next, ": ", &effects, "\n"]);
    }
    let ignored = if ignored.is_empty() { "nothing".to_owned() } else { ignored.join(", ") };
    text.extend(["ignored: ", &ignored, "\n"]);
    text
}

#[test]
fn every_cell_is_as_written() {
    let roads = roads();
    let reached: BTreeSet<String> = roads.iter().map(|road| describe(travel(road).phase())).collect();
    let all = all_descriptions();
    assert_eq!(all.difference(&reached).collect::<Vec<_>>(), Vec::<&String>::new(), "no road leads there");
    assert_eq!(reached.difference(&all).collect::<Vec<_>>(), Vec::<&String>::new(), "thought to be out of reach");

    let table = roads.iter().map(|road| row(road)).collect::<Vec<_>>().join("\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/lifecycle.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        std::fs::write(&path, &table).expect("the golden file can be written");
        return;
    }
    let golden = std::fs::read_to_string(&path).expect("the golden file is there (UPDATE_GOLDEN=1 writes it)");
    let mut section = "";
    for (number, (was, is)) in (1..).zip(golden.lines().zip(table.lines())) {
        section = if is.starts_with("==") { is } else { section };
        assert_eq!(was, is, "line {number} of {}, below {section:?}", path.display());
    }
    assert_eq!(golden.lines().count(), table.lines().count(), "one table goes on where the other ends");
}

#[test]
fn events_of_another_generation_leave_no_trace_anywhere() {
    for road in roads() {
        let mut machine = travel(&road);
        let before = format!("{machine:?}");
        for generation in [machine.generation().wrapping_sub(1), machine.generation() + 1] {
            for event in of_generation(Filling { generation, ticket: STARTER, pid: PID }) {
                let effects = machine.on(event.clone(), at(1));
                assert!(effects.is_empty(), "{event:?} after {road:?}: {effects:?}");
            }
        }
        assert_eq!(before, format!("{machine:?}"), "after {road:?}");
    }
}
