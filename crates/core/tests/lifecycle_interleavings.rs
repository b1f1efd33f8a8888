//! Every order in which few things can happen to one daemon: what callers ask, what the supervisor
//! reports, when timers fire. The search is breadth-first, so the first broken rule comes with the
//! shortest way to it; states that differ only in counters are visited once. In every state the
//! rules of the shadow model must hold, late events must leave no trace, and if the world cooperates
//! from there, whoever waits must be answered within a few steps.
//!
//! `ALLY_SEARCH_DEPTH` sets how many events an order has. With 30 the search comes to its end: there
//! are no more states to find.

mod lifecycle_support;

use ally_core::lifecycle::{Event, Generation, Machine, Phase, Plan, RestartOn, Window};
use lifecycle_support::Verdict;
use lifecycle_support::fixture::{at, plan};
use lifecycle_support::world::{Tree, World};
use std::collections::HashSet;
use std::time::Duration;

/// Enough for a crash, a restart that fails, and the end of its tree.
const DEPTH: usize = 12;
/// How many callers may wait at once: a fourth adds states, but no kind of state.
const CALLERS: usize = 3;
/// More than the longest way to an answer takes.
const PATIENCE: usize = 12;

/// Time stands still, so that states which are alike also look alike.
const NOW: u64 = 1_000;

struct Node {
    path: Vec<Event>,
    world: World,
    generation: Generation,
}

impl Node {
    /// The machine is not made to be copied; it is taken to the same place again.
    fn machine(&self, plan: &Plan) -> Machine {
        let mut machine = Machine::new(plan.clone(), at(NOW), 1);
        for event in &self.path {
            machine.on(event.clone(), at(NOW));
        }
        machine
    }
}

/// How many states there are, and within how many events all of them were found, if they were.
fn search(name: &str, plan: &Plan, depth: usize) -> (usize, Option<usize>) {
    let mut seen = HashSet::new();
    let mut level = vec![Node { path: Vec::new(), world: World::new(), generation: 0 }];
    for depth in 0..depth {
        if level.is_empty() {
            return (seen.len(), Some(depth));
        }
        let mut next = Vec::new();
        for node in &level {
            for event in moves(node, plan) {
                let mut machine = node.machine(plan);
                let mut world = node.world.clone();
                let mut path = node.path.clone();
                path.push(event.clone());
                told(name, &path, world.step(&mut machine, plan, &event, at(NOW)));
                if seen.insert((fingerprint(&machine), world.clone())) {
                    told(name, &path, world.ignores_echoes(&mut machine, at(NOW)));
                    let node = Node { path, world, generation: machine.generation() };
                    for manner in [Manner::Willing, Manner::Unwilling, Manner::Mute] {
                        told(name, &node.path, answered(&node, plan, manner));
                    }
                    next.push(node);
                }
            }
        }
        level = next;
    }
    (seen.len(), None)
}

fn told(name: &str, path: &[Event], verdict: Verdict) {
    if let Err(rule) = verdict {
        let steps: Vec<String> = path.iter().map(|event| format!("  {event:?}")).collect();
        panic!("{name}, after {} events:\n{}\n{rule}", steps.len(), steps.join("\n"));
    }
}

fn moves(node: &Node, plan: &Plan) -> Vec<Event> {
    let mut moves = node.world.reports(node.generation, plan);
    let full = node.world.ledger.open.len() >= CALLERS;
    moves.extend(node.world.wishes().into_iter().filter(|wish| !full || matches!(wish, Event::StartAborted { .. })));
    moves
}

/// How the world behaves when it is left to itself.
#[derive(Debug, Clone, Copy)]
enum Manner {
    /// All that is asked for succeeds, signals are honoured.
    Willing,
    /// All that can fail does, and leaders leave others behind.
    Unwilling,
    /// Nothing comes but timers, and the answer to a preparation, which has limits of its own.
    Mute,
}

/// Whoever waits is answered within a few steps.
fn answered(node: &Node, plan: &Plan, manner: Manner) -> Verdict {
    if node.world.ledger.open.is_empty() {
        return Ok(());
    }
    let mut machine = node.machine(plan);
    let mut world = node.world.clone();
    let mut done = Vec::new();
    while !world.ledger.open.is_empty() {
        let reports = world.reports(machine.generation(), plan);
        let likely = reports.iter().find(|event| fits(event, manner, &world, &machine));
        let Some(event) = likely.or_else(|| reports.iter().find(|event| is_timer(event))) else {
            return Err(format!("nothing can happen any more ({manner:?}) after {done:?}, and {:?} wait", world.ledger.open));
        };
        done.push(event.clone());
        if done.len() > PATIENCE {
            return Err(format!("no answer ({manner:?}) after {done:?}"));
        }
        world.step(&mut machine, plan, event, at(NOW)).map_err(|rule| format!("{rule}\nafter also ({manner:?}) {done:?}"))?;
    }
    Ok(())
}

fn fits(event: &Event, manner: Manner, world: &World, machine: &Machine) -> bool {
    let stopping = matches!(machine.phase(), Phase::Stopping { .. } | Phase::BackingOff { .. });
    match manner {
        Manner::Willing => match event {
            Event::Prepared { .. } | Event::Spawned { .. } | Event::Ready { .. } | Event::TreeGone { .. } => true,
            Event::Exited { remains, .. } => !remains && stopping,
            _ => false,
        },
        Manner::Unwilling => match event {
            Event::PrepareFailed { .. } | Event::SpawnFailed { .. } | Event::OrderLost { .. } | Event::NotReady { .. } => true,
            Event::Exited { remains, .. } => *remains && stopping,
            Event::TreeGone { .. } => world.tree == Tree::Remains,
            _ => false,
        },
        Manner::Mute => matches!(event, Event::Prepared { .. }),
    }
}

const fn is_timer(event: &Event) -> bool {
    matches!(
        event,
        Event::StartupElapsed { .. }
            | Event::GraceElapsed { .. }
            | Event::KillElapsed { .. }
            | Event::BackoffElapsed { .. }
            | Event::ProbeDue { .. }
    )
}

/// What the machine will do, without what it has counted: its own text, less the fields that decide
/// nothing. A new field is part of it until someone takes it out here.
fn fingerprint(machine: &Machine) -> String {
    let mut text = format!("{machine:?}");
    for (from, to) in [
        ("plan: ", "phase: "),
        ("generation: ", "closed: "),
        ("jitter: ", "failed_checks: "),
        ("last_error: ", "next_restart_at: "),
        ("total_restarts: ", "effects: "),
    ] {
        let cut = text.find(from).zip(text.find(to)).filter(|(start, end)| start < end);
        let (start, end) = cut.unwrap_or_else(|| panic!("no longer a part of the machine: {from} before {to}"));
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
        Some(events) => println!("{name}: {states} states, which is all there are, within {events} events"),
        None => println!("{name}: {states} states within {} events", depth()),
    }
    // A search that reaches next to nothing would pass whatever the machine does.
    assert!(states > 100 || depth() < 4, "{name}: only {states} states");
}

#[test]
fn one_failed_check_and_one_attempt() {
    let mut plan = plan();
    plan.health = Some((Duration::from_secs(10), 1));
    plan.restart.max_attempts = 1;
    plan.restart.window = Window { limit: 2, period: Duration::from_secs(300) };
    plan.restart.on = RestartOn::Always;
    explore("one of each", &plan);
}

#[test]
fn no_health_checks_and_no_grace() {
    let mut plan = plan();
    plan.health = None;
    plan.grace = Duration::ZERO;
    plan.restart.max_attempts = 2;
    plan.restart.window = Window { limit: 3, period: Duration::from_secs(300) };
    plan.restart.on = RestartOn::Failure;
    explore("no grace", &plan);
}

#[test]
fn no_restarts() {
    let mut plan = plan();
    plan.restart.max_attempts = 0;
    explore("no restarts", &plan);
}
