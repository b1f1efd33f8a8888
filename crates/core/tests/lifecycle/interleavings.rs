//! Every order of the events of one daemon: requests of callers, reports of the supervisor, timers.
//!
//! The search is breadth-first, so the first broken rule comes with its shortest path. States that
//! differ only in counters are visited once. In every state
//! - the rules of the shadow model hold;
//! - a late event changes nothing;
//! - if no more requests come, every open ticket is settled within a few events; a wait for RUNNING also
//!   when the tree of an overdue restart is gone.
//!
//! `ALLY_SEARCH_DEPTH` is the number of events of an order. The search ends earlier if no new state is left.

use crate::support::Verdict;
use crate::support::caller_view::Request;
use crate::support::plan::{at, plan};
use crate::support::shadow::{ShadowModel, Tree};
use ally_core::lifecycle::{Event, Generation, Machine, Phase, Plan, RestartOn, Window};
use std::collections::HashSet;
use std::time::Duration;

/// Long enough for a crash, a failing restart, and the end of its tree.
const DEPTH: usize = 11;
/// Callers that wait at once. A fourth caller adds states, but no new kind of state.
const CALLERS: usize = 3;
/// Above the number of events of the longest path to an answer.
const MAX_EVENTS_TO_ANSWER: usize = 12;

/// The time never changes, so that equal states have equal fingerprints.
const NOW: u64 = 1_000;

struct Node {
    path: Vec<Event>,
    model: ShadowModel,
    generation: Generation,
}

impl Node {
    /// A machine has no `Clone`, so the path is replayed.
    fn machine(&self, plan: &Plan) -> Machine {
        let mut machine = Machine::new(plan.clone(), at(NOW), 1);
        for event in &self.path {
            machine.on(event.clone(), at(NOW));
        }
        machine
    }
}

/// The number of states; and if the search was exhaustive, the number of events within which it found all of them.
fn search(name: &str, plan: &Plan, depth: usize) -> (usize, Option<usize>) {
    let mut seen = HashSet::new();
    let mut level = vec![Node { path: Vec::new(), model: ShadowModel::new(), generation: 0 }];
    for depth in 0..depth {
        if level.is_empty() {
            return (seen.len(), Some(depth));
        }
        let mut next = Vec::new();
        for node in &level {
            for event in moves(node, plan) {
                let mut machine = node.machine(plan);
                let mut model = node.model.clone();
                let mut path = node.path.clone();
                path.push(event.clone());
                assert_verdict(name, &path, model.step(&mut machine, plan, &event, at(NOW)));
                if seen.insert((fingerprint(&machine), model.clone())) {
                    assert_verdict(name, &path, model.ignores_late_events(&mut machine, at(NOW)));
                    let node = Node { path, model, generation: machine.generation() };
                    for behaviour in [Behaviour::AllSucceeds, Behaviour::AllFails, Behaviour::TimersOnly] {
                        assert_verdict(name, &node.path, all_tickets_settle(&node, plan, behaviour));
                    }
                    next.push(node);
                }
            }
        }
        level = next;
    }
    (seen.len(), None)
}

fn assert_verdict(name: &str, path: &[Event], verdict: Verdict) {
    if let Err(rule) = verdict {
        let steps: Vec<String> = path.iter().map(|event| format!("  {event:?}")).collect();
        panic!("{name}, after {} events:\n{}\n{rule}", steps.len(), steps.join("\n"));
    }
}

fn moves(node: &Node, plan: &Plan) -> Vec<Event> {
    let mut moves = node.model.reports(node.generation, plan);
    let full = node.model.callers.open.len() >= CALLERS;
    moves.extend(
        node.model
            .requests()
            .into_iter()
            .filter(|request| !full || matches!(request, Event::StartAborted { .. } | Event::WaitAborted { .. })),
    );
    moves
}

/// The events that follow if no caller asks for anything more.
#[derive(Debug, Clone, Copy)]
enum Behaviour {
    /// Every effect succeeds, and a signal ends the tree.
    AllSucceeds,
    /// Every effect that can fail fails, and a leader leaves descendants behind.
    AllFails,
    /// Only timers fire, and `Prepare` succeeds, because a preparation has time limits of its own.
    TimersOnly,
}

/// Every open ticket is settled within `MAX_EVENTS_TO_ANSWER` events.
fn all_tickets_settle(node: &Node, plan: &Plan, behaviour: Behaviour) -> Verdict {
    if node.model.callers.open.is_empty() {
        return Ok(());
    }
    let mut machine = node.machine(plan);
    let mut model = node.model.clone();
    let mut done = Vec::new();
    while !model.callers.open.is_empty() {
        let reports = model.reports(machine.generation(), plan);
        let likely = reports.iter().find(|event| fits(event, behaviour, &model, &machine));
        let Some(event) = likely.or_else(|| reports.iter().find(|event| is_timer(event))) else {
            // A wait lasts as long as a restart is pending, and an overdue one waits for its old tree without a limit.
            let only_waits = model.callers.open.values().all(|request| *request == Request::Wait);
            if only_waits && matches!(machine.phase(), Phase::Overdue { .. }) {
                return Ok(());
            }
            return Err(format!(
                "no event is possible any more ({behaviour:?}) after {done:?}, and tickets are open: {:?}",
                model.callers.open
            ));
        };
        done.push(event.clone());
        if done.len() > MAX_EVENTS_TO_ANSWER {
            return Err(format!("no answer ({behaviour:?}) after {done:?}"));
        }
        model.step(&mut machine, plan, event, at(NOW)).map_err(|rule| format!("{rule}\nfollowed by ({behaviour:?}) {done:?}"))?;
    }
    Ok(())
}

fn fits(event: &Event, behaviour: Behaviour, model: &ShadowModel, machine: &Machine) -> bool {
    let stopping = matches!(machine.phase(), Phase::Stopping { .. } | Phase::BackingOff { .. } | Phase::Overdue { .. });
    match behaviour {
        Behaviour::AllSucceeds => match event {
            Event::Prepared { .. } | Event::Spawned { .. } | Event::Ready { .. } | Event::TreeGone { .. } => true,
            Event::Exited { remains, .. } => !remains && stopping,
            _ => false,
        },
        Behaviour::AllFails => match event {
            Event::PrepareFailed { .. } | Event::SpawnFailed { .. } | Event::OrderLost { .. } | Event::NotReady { .. } => true,
            Event::Exited { remains, .. } => *remains && stopping,
            Event::TreeGone { .. } => model.tree == Tree::Remains,
            _ => false,
        },
        Behaviour::TimersOnly => matches!(event, Event::Prepared { .. }),
    }
}

const fn is_timer(event: &Event) -> bool {
    matches!(
        event,
        Event::StartupElapsed { .. }
            | Event::AcknowledgementElapsed { .. }
            | Event::GraceElapsed { .. }
            | Event::KillElapsed { .. }
            | Event::BackoffElapsed { .. }
            | Event::ResetElapsed { .. }
            | Event::ProbeDue { .. }
    )
}

/// The machine's debug text without the fields that decide nothing, such as counters. A new field is
/// part of the fingerprint unless it is listed here.
fn fingerprint(machine: &Machine) -> String {
    let mut text = format!("{machine:?}");
    for (from, to) in [
        ("plan: ", "phase: "),
        ("generation: ", "closed: "),
        ("jitter: ", "failed_checks: "),
        ("last_error: ", "next_restart_at: "),
        ("total_restarts: ", "effects: "),
    ] {
        let cut = text.find(from).and_then(|start| Some((start, start + text[start..].find(to)?)));
        let (start, end) = cut.unwrap_or_else(|| panic!("the machine has no field {from} before {to} any more"));
        text.replace_range(start..end, "");
    }
    match machine.snapshot().pid {
        Some(pid) => text.replace(&pid.to_string(), "PID"),
        None => text,
    }
}

fn depth() -> usize {
    std::env::var("ALLY_SEARCH_DEPTH").map_or(DEPTH, |depth| depth.parse().expect("ALLY_SEARCH_DEPTH is a number"))
}

fn explore(name: &str, plan: &Plan) {
    let (states, all) = search(name, plan, depth());
    match all {
        Some(events) => println!("{name}: {states} states within {events} events, exhaustive"),
        None => println!("{name}: {states} states within {} events", depth()),
    }
    // A search that reaches few states would pass with any machine.
    assert!(states > 100 || depth() < 4, "{name}: only {states} states");
}

#[test]
fn every_order_with_one_health_retry_and_one_restart_attempt() {
    let mut plan = plan();
    plan.health = Some((Duration::from_secs(10), 1));
    plan.memory = None;
    plan.restart.max_attempts = 1;
    plan.restart.window = Window { limit: 2, period: Duration::from_secs(300) };
    plan.restart.on = RestartOn::Always;
    explore("one retry, one attempt", &plan);
}

#[test]
fn every_order_with_a_memory_limit_without_health_checks_and_without_a_grace_period() {
    let mut plan = plan();
    plan.health = None;
    plan.grace = Duration::ZERO;
    plan.restart.max_attempts = 2;
    plan.restart.window = Window { limit: 3, period: Duration::from_secs(300) };
    plan.restart.on = RestartOn::Failure;
    explore("a memory limit, no health checks, no grace period", &plan);
}

#[test]
fn every_order_without_restarts() {
    let mut plan = plan();
    plan.restart.max_attempts = 0;
    plan.memory = None;
    explore("no restarts", &plan);
}
