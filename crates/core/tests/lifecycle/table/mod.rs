//! The table of every phase, in each of its variants, against every event. golden/lifecycle.txt has
//! the expected table; `UPDATE_GOLDEN=1` rewrites it.
//!
//! Each phase is reached by events, as in a daemon's life. If the machine gets a new phase, variant
//! or event, this module does not compile, or the test fails.

mod effects;
mod paths;
mod phases;

use self::effects::describe_effect;
use self::paths::{machine_after, paths};
use self::phases::{all_descriptions, all_pairs, all_seconds, describe, describe_phase, describe_second, pair};
use crate::support::events::{Filling, code, exited, exited_connected, name, of_generation, owned, samples};
use crate::support::plan::{at, upgraded};
use ally_core::error::Failure;
use ally_core::lifecycle::{Event, Machine};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

/// The tickets of the current start, restart and upgrade.
const START_TICKET: u64 = 1;
const RESTART_TICKET: u64 = 3;
const UPGRADE_TICKET: u64 = 4;
/// The ticket of the request in the cell itself.
const NEW_TICKET: u64 = 9;
/// The pid of the serving generation, and plus one that of the second.
const PID: i32 = 4242;

/// A sample of each event, and several of an event with different outcomes.
fn columns(generation: u64, pid: i32) -> Vec<(String, Event)> {
    let mut columns: Vec<(String, Event)> = Vec::new();
    for event in samples(Filling { generation, ticket: NEW_TICKET, pid }) {
        let name = name(&event);
        match event {
            Event::StartAborted { .. } => {
                columns.push((format!("{name} of an unknown ticket"), event));
                columns.push((format!("{name} of the start"), Event::StartAborted { ticket: START_TICKET }));
                columns.push((format!("{name} of the restart"), Event::StartAborted { ticket: RESTART_TICKET }));
            }
            Event::StartExtended { .. } => {
                columns.push((format!("{name} of another start"), event));
                columns.push((format!("{name} of the start"), Event::StartExtended { ticket: START_TICKET, by: Duration::from_secs(8) }));
            }
            Event::StartExpired { .. } => {
                columns.push((format!("{name} of another start"), event));
                columns.push((format!("{name} of the start"), Event::StartExpired { ticket: START_TICKET }));
            }
            Event::StartRevoked { .. } => {
                columns.push((format!("{name} of another start"), Event::StartRevoked { ticket: NEW_TICKET, answer: NEW_TICKET }));
                columns.push((format!("{name} of the start"), Event::StartRevoked { ticket: START_TICKET, answer: NEW_TICKET }));
            }
            Event::UpgradeRequested { .. } => {
                let plan = Box::new(upgraded());
                columns.push((format!("{name} beside"), event));
                columns.push((format!("{name} in turn"), Event::UpgradeRequested { ticket: NEW_TICKET, plan, beside: false }));
            }
            Event::Frozen { .. } => {
                columns.push((format!("{name} idle"), event));
                columns.push((format!("{name} with a connection"), Event::Frozen { generation, idle: false }));
            }
            Event::Drained { .. } => {
                columns.push((name.to_owned(), event));
                columns.push((format!("{name}, connections are left"), Event::Drained { generation, left: 2 }));
            }
            Event::Exited { .. } => {
                for (number, remains) in [(0, false), (0, true), (1, false), (1, true)] {
                    let more = if remains { ", descendants remain" } else { "" };
                    columns.push((format!("{name} {number}{more}"), exited(generation, code(number), remains)));
                }
                columns.push((format!("{name} 1 with a connection"), exited_connected(generation, code(1), false)));
            }
            Event::PrepareFailed { .. } => {
                columns.push((name.to_owned(), event));
                columns.push((format!("{name}, another owner has the name"), Event::PrepareFailed { generation, failure: owned() }));
            }
            Event::TreeGone { .. } => {
                columns.push((name.to_owned(), event));
                let leftover_file = Some(Failure::io(Path::new("/p/daemon.pid"), "EROFS"));
                columns.push((format!("{name}, a file is left"), Event::TreeGone { generation, leftover_file }));
            }
            event => columns.push((name.to_owned(), event)),
        }
    }
    columns
}

/// The columns of the serving generation, and of the second one if there is one.
fn all_columns(machine: &Machine) -> Vec<(String, Event)> {
    let mut all = columns(machine.generation(), PID);
    if let Some(second) = machine.second() {
        let of_second = columns(second.generation, PID + 1).into_iter().filter(|(_, event)| event.generation().is_some());
        all.extend(of_second.map(|(name, event)| (format!("second: {name}"), event)));
    }
    all
}

/// The effects and the next phase of each event in one phase.
fn row(path: &str) -> String {
    let start = machine_after(path);
    let (phase, before) = (describe(&start), format!("{start:?}"));
    let mut text = format!("== {phase}\n   after: {}\n", if path.is_empty() { "nothing" } else { path });
    let mut ignored = Vec::new();
    for (name, event) in all_columns(&start) {
        let mut machine = machine_after(path);
        let effects: Vec<String> = machine.on(event, at(0)).iter().map(describe_effect).collect();
        let next = describe(&machine);
        if effects.is_empty() && before == format!("{machine:?}") {
            ignored.push(name);
            continue;
        }
        let next = if next == phase { "same" } else { &next };
        // Without effects, only the phase changed: a stop waits, or a leader was spawned.
        let effects = if effects.is_empty() { "(phase only)".to_owned() } else { effects.join("; ") };
        text.extend([name.as_str(), " -> ", next, ": ", &effects, "\n"]);
    }
    let ignored = match ignored.len() {
        0 => "nothing".to_owned(),
        // With a second generation the columns are twice as many.
        count if start.second().is_some() => format!("the other {count} events"),
        _ => ignored.join(", "),
    };
    text.extend(["ignored: ", &ignored, "\n"]);
    text
}

fn assert_same<T: Ord + Debug>(what: &str, all: &BTreeSet<T>, reached: &BTreeSet<T>) {
    assert_eq!(all.difference(reached).collect::<Vec<_>>(), Vec::<&T>::new(), "{what} without a path");
    assert_eq!(reached.difference(all).collect::<Vec<_>>(), Vec::<&T>::new(), "{what} that the list of all leaves out");
}

#[test]
fn lifecycle_table_has_every_phase_and_every_pair_of_generations() {
    let machines: Vec<Machine> = paths().iter().map(|path| machine_after(path)).collect();
    let alone = machines.iter().filter(|machine| machine.second().is_none());
    assert_same("phases", &all_descriptions(), &alone.map(|machine| describe_phase(machine.phase())).collect());
    let seconds = || machines.iter().filter_map(|machine| machine.second().map(|second| (machine.phase(), second)));
    assert_same("second generations", &all_seconds(), &seconds().map(|(_, second)| describe_second(second)).collect());
    assert_same("pairs of generations", &all_pairs(), &seconds().map(|(phase, second)| pair(phase, second)).collect());
}

#[test]
fn lifecycle_table_is_equal_to_the_golden_file() {
    let table = paths().iter().map(|path| row(path)).collect::<Vec<_>>().join("\n");
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
        let present = [Some(machine.generation()), machine.second().map(|second| second.generation)];
        for generation in (0..9).filter(|generation| !present.contains(&Some(*generation))) {
            for event in of_generation(Filling { generation, ticket: START_TICKET, pid: PID }) {
                let effects = machine.on(event.clone(), at(1));
                assert!(effects.is_empty(), "{event:?} after {path:?}: {effects:?}");
            }
        }
        assert_eq!(before, format!("{machine:?}"), "after {path:?}");
    }
}
