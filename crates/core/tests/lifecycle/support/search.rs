//! The breadth-first search of all orders of events. The first broken rule comes with its shortest path. States that differ only
//! in counters are visited once.

use super::Verdict;
use super::caller_view::Request;
use super::plan::at;
use super::shadow::{ShadowModel, pid_of};
use ally_core::lifecycle::{Event, Machine, Phase, Plan, Stage};
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Above the number of events of the longest path to an answer.
const MAX_EVENTS_TO_ANSWER: usize = 20;

/// The time never changes, so that equal states have equal fingerprints.
const NOW: u64 = 1_000;

pub struct Search {
    pub name: &'static str,
    pub plan: Plan,
    /// The events before the search begins.
    pub after: Vec<Event>,
    /// The number of events of an order, unless `ALLY_SEARCH_DEPTH` says another.
    pub depth: usize,
    /// Callers that wait at once.
    pub callers: usize,
    /// The events to try. Those that a search leaves out are tried by another one.
    pub tries: fn(&Event, &ShadowModel) -> bool,
}

struct Node {
    path: Vec<Event>,
    model: ShadowModel,
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
fn search(search: &Search) -> (usize, Option<usize>) {
    let Search { name, plan, .. } = search;
    let mut seen = HashSet::new();
    let mut level = vec![search.beginning()];
    for depth in 0..search.depth() {
        if level.is_empty() {
            return (seen.len(), Some(depth));
        }
        let mut next = Vec::new();
        for node in &level {
            for event in search.moves(node) {
                let mut machine = node.machine(plan);
                let mut model = node.model.clone();
                let mut path = node.path.clone();
                path.push(event.clone());
                assert_verdict(name, &path, model.step(&mut machine, plan, &event, at(NOW)));
                if seen.insert(hash(&(fingerprint(&machine), &model))) {
                    assert_verdict(name, &path, model.ignores_late_events(&mut machine, at(NOW)));
                    let node = Node { path, model };
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

/// 128 bits: no two states share them.
fn hash(state: &impl Hash) -> (u64, u64) {
    let [mut first, mut second] = [DefaultHasher::new(), DefaultHasher::new()];
    (1u8, state).hash(&mut first);
    (2u8, state).hash(&mut second);
    (first.finish(), second.finish())
}

impl Search {
    fn depth(&self) -> usize {
        std::env::var("ALLY_SEARCH_DEPTH").map_or(self.depth, |depth| depth.parse().expect("ALLY_SEARCH_DEPTH is a number"))
    }

    fn beginning(&self) -> Node {
        let (mut machine, mut model) = (Machine::new(self.plan.clone(), at(NOW), 1), ShadowModel::new());
        for event in &self.after {
            assert_verdict(self.name, &self.after, model.step(&mut machine, &self.plan, event, at(NOW)));
        }
        Node { path: self.after.clone(), model }
    }

    fn moves(&self, node: &Node) -> Vec<Event> {
        let full = node.model.callers.open.len() >= self.callers;
        let mut requests = node.model.requests(&self.plan);
        requests.retain(|request| !full || matches!(request, Event::StartAborted { .. } | Event::WaitAborted { .. } | Event::Closed));
        let mut moves = node.model.reports(&self.plan);
        moves.extend(requests);
        moves.retain(|event| (self.tries)(event, &node.model));
        moves
    }

    pub fn explore(&self) {
        let (states, all) = search(self);
        match all {
            Some(events) => println!("{}: {states} states within {events} events, exhaustive", self.name),
            None => println!("{}: {states} states within {} events", self.name, self.depth()),
        }
        // A search that reaches few states would pass with any machine.
        assert!(states > 100 || self.depth() < 4, "{}: only {states} states", self.name);
    }
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
        let reports = model.reports(plan);
        let likely = reports.iter().find(|event| fits(event, behaviour, &machine));
        // A timer that is armed again and again does not keep the others from firing.
        let timers = || reports.iter().filter(|event| is_timer(event));
        let next = timers().find(|event| done.last() != Some(*event)).or_else(|| timers().next());
        let Some(event) = likely.or(next) else {
            // A wait lasts as long as a restart is pending, and an overdue one waits for its old tree without a limit. An
            // armed daemon may never have a connection.
            let only_waits = model.callers.open.values().all(|request| *request == Request::Wait);
            if only_waits && matches!(machine.phase(), Phase::Overdue { .. } | Phase::Armed) {
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

fn fits(event: &Event, behaviour: Behaviour, machine: &Machine) -> bool {
    let of_second = event.generation() != Some(machine.generation());
    let stopping = match machine.second().filter(|_| of_second) {
        Some(second) => matches!(second.stage, Stage::Leaving { .. } | Stage::Stuck { .. }),
        None => machine.phase().clone().stopping_tree().is_some() || matches!(machine.phase(), Phase::Overdue { .. }),
    };
    match behaviour {
        Behaviour::AllSucceeds => match event {
            Event::Prepared { .. }
            | Event::Spawned { .. }
            | Event::Ready { .. }
            | Event::ChangedOver { .. }
            | Event::Drained { .. }
            | Event::TreeGone { .. } => true,
            Event::ProbePassed { .. } => of_second,
            Event::Exited { remains, .. } => !remains && stopping,
            _ => false,
        },
        Behaviour::AllFails => match event {
            Event::PrepareFailed { .. } | Event::SpawnFailed { .. } | Event::OrderLost { .. } | Event::NotReady { .. } => true,
            Event::ChangeOverFailed { .. } | Event::Drained { .. } => true,
            Event::ProbeFailed { .. } => of_second,
            Event::Exited { remains, .. } => *remains && stopping,
            Event::TreeGone { .. } => true,
            _ => false,
        },
        // A preparation, a change-over and a drain have time limits of their own, and so has a check.
        Behaviour::TimersOnly => match event {
            Event::Prepared { .. } | Event::ChangedOver { .. } | Event::Drained { .. } => true,
            Event::ProbeFailed { .. } => of_second,
            _ => false,
        },
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
    let mut text = without_plans(format!("{machine:?}"));
    for (from, to) in [
        ("generation: ", "second: "),
        ("activations: ", "failed_checks: "),
        ("last_error: ", "next_restart_at: "),
        ("total_restarts: ", "effects: "),
    ] {
        let cut = text.find(from).and_then(|start| Some((start, start + text[start..].find(to)?)));
        let (start, end) = cut.unwrap_or_else(|| panic!("the machine has no field {from} before {to} any more"));
        text.replace_range(start..end, "");
    }
    let second = machine.second().map(|second| second.generation);
    let known = [(Some(machine.generation()), "PID"), (second, "PID2")];
    for (generation, name) in known.into_iter().filter_map(|(generation, name)| Some((generation?, name))) {
        text = text.replace(&pid_of(generation).to_string(), name).replace(&format!("generation: {generation}"), "");
    }
    text
}

/// All plans of a search are equal.
fn without_plans(mut text: String) -> String {
    const PLAN: &str = "Plan { socket_path";
    while let Some(start) = text.find(PLAN) {
        let mut depth = 0;
        let end = text[start..].find(|letter| {
            depth += i32::from(letter == '{') - i32::from(letter == '}');
            letter == '}' && depth == 0
        });
        text.replace_range(start..=start + end.expect("the braces of a plan are balanced"), "PLAN");
    }
    text
}
