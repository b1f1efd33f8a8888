//! A path to each variant of each phase, in words of `event`.
//!
//! After a word with `!` the keeper does not answer. `s:` is an event of the second generation. A path that begins with
//! `on demand:` is of a daemon that starts at the first connection.

use super::{PID, RESTART_TICKET, START_TICKET, UPGRADE_TICKET};
use crate::support::events::{code, exited, exited_connected, owned, unwritable};
use crate::support::plan::{at, on_demand, plan, upgraded};
use ally_core::lifecycle::{Event, Machine, Plan};
use std::time::Duration;

const UP: &str = "start prepared spawned ready";
/// The first restart, and the last one that the plan allows.
const AGAIN: &str = "start prepared spawned ready exit backoff";
const LAST: &str = "start prepared spawned ready exit backoff prepare-failed backoff";

/// Without a second generation.
fn single_paths() -> Vec<String> {
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

/// An on-demand daemon that runs.
const ON_DEMAND: &str = "on demand: start prepared connect prepared spawned ready";

/// Phases of daemons on demand, and of upgrades that stop the old generation first.
fn more_paths() -> Vec<String> {
    let mut paths: Vec<String> = ["start", "start prepared", "start prepare-failed"].map(|path| format!("on demand: {path}")).into();
    paths.push("on demand: start prepared upgrade".to_owned());
    paths.extend(["", " prepared", " prepared spawned"].map(|on| format!("on demand: start prepared connect{on}")));
    paths.push(ON_DEMAND.to_owned());
    paths.extend([" idle", " idle late"].map(|on| format!("{ON_DEMAND}{on}")));
    for on in ["idle frozen", "idle frozen exit+", "exit+"] {
        paths.extend(["", " grace"].map(|then| format!("{ON_DEMAND} {on}{then}")));
    }
    paths.extend([" exit", " exit-open"].map(|on| format!("{ON_DEMAND}{on}")));
    let replacing = format!("{UP} replace");
    for on in ["", " exit+"] {
        paths.extend(["", " grace"].map(|then| format!("{replacing}{on}{then}")));
    }
    paths.extend([" exit", " exit prepared", " exit prepared spawned"].map(|on| format!("{replacing}{on}")));
    for on in ["timeout", "spawned timeout", "spawned timeout exit+"] {
        paths.extend(["", " grace"].map(|then| format!("{replacing} exit prepared {on}{then}")));
    }
    paths.push(format!("{replacing} exit prepare-failed"));
    paths
}

/// During an upgrade.
fn pair_paths() -> Vec<String> {
    let mut paths = Vec::new();
    for before in ["upgrade", "upgrade exit", "upgrade exit+", "upgrade exit0"] {
        let stages =
            ["", " s:prepared", " s:prepared s:spawned", " s:prepared s:spawned s:ready", " s:prepared s:spawned s:ready s:passed"];
        paths.extend(stages.map(|stage| format!("{UP} {before}{stage}")));
        paths.push(format!("{UP} {before} s:prepared s:spawned s:timeout"));
    }
    for leaving in ["s:prepared s:timeout", "s:prepared s:spawned s:timeout", "s:prepared s:spawned s:timeout s:exit+"] {
        paths.extend(["", " s:grace", " s:grace s:kill"].map(|on| format!("{UP} upgrade {leaving}{on}")));
    }
    for on in ["stop", "stop exit", "stop grace kill", "stop grace kill exit"] {
        paths.push(format!("{UP} upgrade s:prepared s:spawned {on}"));
    }
    let over = "upgrade s:prepared s:spawned s:ready s:passed s:over";
    for leaving in ["s:drained", "s:drained s:exit+"] {
        paths.extend(["", " s:grace", " s:grace s:kill"].map(|on| format!("{UP} {over} {leaving}{on}")));
    }
    paths.push(format!("{UP} upgrade s:prepared s:spawned s:ready s:passed exit+ s:over"));
    let stuck = "upgrade s:prepared s:spawned s:timeout s:grace s:kill".to_owned();
    for second in [stuck, over.to_owned(), format!("{over} s:drained"), format!("{over} s:drained s:grace s:kill")] {
        // In the order of a daemon's life: it runs, restarts, ends.
        let serving = ["", " exit", " exit+", " exit backoff", " exit backoff prepared", " exit backoff prepared spawned"];
        let ending = [" exit0+", " exit+ grace kill", " exit0+ grace kill", " exit0"];
        paths.extend(serving.iter().chain(&ending).map(|on| format!("{UP} {second}{on}")));
        paths.extend([" idle", " idle frozen exit", " exit-open start"].map(|on| format!("{ON_DEMAND} {second}{on}")));
    }
    paths
}

pub fn paths() -> Vec<String> {
    let mut all = single_paths();
    for path in more_paths().into_iter().chain(pair_paths()) {
        if !all.contains(&path) {
            all.push(path);
        }
    }
    all
}

fn event(word: &str, generation: u64, plan: &Plan, pid: i32) -> Event {
    match word {
        "start" => Event::StartRequested { ticket: START_TICKET },
        "restart" => Event::RestartRequested { ticket: RESTART_TICKET },
        "upgrade" => Event::UpgradeRequested { ticket: UPGRADE_TICKET, plan: Box::new(plan.clone()), beside: true },
        // An upgrade that stops the old generation first.
        "replace" => Event::UpgradeRequested { ticket: UPGRADE_TICKET, plan: Box::new(plan.clone()), beside: false },
        "stop" => Event::StopRequested { ticket: 2 },
        "closed" => Event::Closed,
        "shutdown" => Event::ShutdownRequested { ticket: 2 },
        "prepared" => Event::Prepared { generation },
        "prepare-failed" => Event::PrepareFailed { generation, failure: unwritable() },
        "prepare-owned" => Event::PrepareFailed { generation, failure: owned() },
        "spawned" => Event::Spawned { generation, pid },
        "ready" => Event::Ready { generation },
        "passed" => Event::ProbePassed { generation, latency: Duration::ZERO },
        "connect" => Event::Connected { generation },
        "idle" => Event::Idle { generation },
        "frozen" => Event::Frozen { generation, idle: true },
        "over" => Event::ChangedOver { generation },
        "drained" => Event::Drained { generation, left: 0 },
        "exit" => exited(generation, code(1), false),
        "exit+" => exited(generation, code(1), true),
        "exit0" => exited(generation, code(0), false),
        "exit0+" => exited(generation, code(0), true),
        // A connection is open, or waits.
        "exit-open" => exited_connected(generation, code(1), false),
        "unhealthy" => Event::ProbeFailed { generation, latency: Duration::ZERO, error: "refused".to_owned() },
        "memory" => Event::MemoryExceeded { generation, memory: 200 << 20 },
        "timeout" => Event::StartupElapsed { generation, last_problem: None, tail: String::new() },
        "ack" => Event::Acknowledged { generation },
        "late" => Event::AcknowledgementElapsed { generation },
        "grace" => Event::GraceElapsed { generation },
        "kill" => Event::KillElapsed { generation, survivors: vec![pid] },
        "backoff" => Event::BackoffElapsed { generation },
        _ => panic!("unknown word {word}"),
    }
}

pub fn machine_after(path: &str) -> Machine {
    let (of, words, next) = match path.strip_prefix("on demand: ") {
        Some(words) => (on_demand(), words, Plan { grace: upgraded().grace, ..on_demand() }),
        None => (plan(), path, upgraded()),
    };
    let mut machine = Machine::new(of, at(0), 1);
    for word in words.split_whitespace() {
        let (word, answers) = word.strip_suffix('!').map_or((word, true), |word| (word, false));
        let event = match (word.strip_prefix("s:"), machine.second().map(|second| second.generation)) {
            (Some(word), Some(generation)) => event(word, generation, &next, PID + 1),
            (Some(_), None) => panic!("no second generation at {word} in {path}"),
            (None, _) => event(word, machine.generation(), &next, PID),
        };
        machine.on(event, at(0));
        if answers {
            for generation in [Some(machine.generation()), machine.second().map(|second| second.generation)].into_iter().flatten() {
                machine.on(Event::Acknowledged { generation }, at(0));
            }
        }
    }
    machine
}
