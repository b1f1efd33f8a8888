//! Every order of the events of two or three sessions and of one daemon. In every state the rules hold; if nobody asks for anything
//! more, every request is answered; and if all sessions end, nothing of the plugin is left.
//!
//! `ALLY_SEARCH_DEPTH` is the number of events of an order. The search ends earlier if no new state is left.

use crate::support::shadow::{Habit, Kind, Shadow};
use crate::support::world::{MOVES, Move};
use ally_core::lifecycle::holds::{DaemonState, HoldEvent, Session};
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// Above the number of reports until everything is answered.
const MAX_REPORTS: usize = 60;

pub struct Search {
    name: &'static str,
    habits: Vec<Habit>,
    on_demand: bool,
    depth: usize,
    moves: &'static [Move],
    /// The requests beside start, stop and the end of a session.
    requests: &'static [Kind],
    /// The host may end, and then stops the daemon whoever has it.
    ends: bool,
}

#[derive(Clone)]
struct Node {
    path: Vec<String>,
    shadow: Shadow,
}

const fn habit(config: u8, linger: u64, timeout: u64) -> Habit {
    Habit { config, linger: Duration::from_millis(linger), timeout: Duration::from_millis(timeout) }
}

/// The events that can come now.
pub fn events(shadow: &Shadow, habits: &[Habit], requests: &[Kind], ends: bool) -> Vec<HoldEvent> {
    let mut events = Vec::new();
    events.extend(shadow.world.mail.front().cloned());
    if ends && !shadow.ends {
        events.push(HoldEvent::Everywhere { by: None });
    }
    let request = shadow.free_request();
    for (session, habit) in (0..).zip(habits) {
        let own = |kind: Kind| shadow.open.values().filter(|open| **open == (session, kind)).count();
        let asks = |kind: Kind| requests.contains(&kind) && own(kind) == 0 && !shadow.ends;
        if own(Kind::Start) == 0 && !shadow.ends {
            events.push(shadow.start(session, request, habit));
        }
        if own(Kind::LetGo) == 0 && (!shadow.ends || shadow.holds.ends_for(session)) {
            events.push(HoldEvent::LetGo { session, request });
        }
        events.push(HoldEvent::SessionEnded { session });
        if asks(Kind::Everywhere) {
            events.push(HoldEvent::Everywhere { by: Some((session, request)) });
        }
        if asks(Kind::Restart) {
            events.push(HoldEvent::Restart { session, request });
        }
        if asks(Kind::Upgrade) {
            events.push(HoldEvent::Upgrade { session, request, linger: None });
        }
        if asks(Kind::Wait) {
            events.push(HoldEvent::Wait { session, request });
        }
    }
    for (request, (session, kind)) in &shadow.open {
        if matches!(kind, Kind::Start | Kind::Wait) && (requests.contains(&Kind::Wait) || *kind == Kind::Start) {
            events.push(HoldEvent::Abort { session: *session, request: *request });
        }
    }
    events.extend(shadow.timers.iter().map(|request| Shadow::timed_out(*request)));
    events.extend(shadow.lingers.then_some(HoldEvent::LingerOver));
    events
}

/// One event. The report at the front of the mailbox is taken out of it.
pub fn feed(shadow: &mut Shadow, event: &HoldEvent, habits: &[Habit]) -> Result<(), String> {
    if shadow.world.mail.front() == Some(event) {
        shadow.world.mail.pop_front();
    }
    shadow.step(event, habits)
}

/// All reports, and what leads to them, until nothing more comes by itself.
pub fn settle(shadow: &mut Shadow, habits: &[Habit]) -> Result<(), String> {
    for _ in 0..MAX_REPORTS {
        if let Some(event) = shadow.world.mail.front().cloned() {
            feed(shadow, &event, habits)?;
        } else if shadow.world.state == DaemonState::Armed || !shadow.world.happen(Move::Progress) {
            return Ok(());
        }
    }
    Err("the reports do not end".to_owned())
}

/// If nothing more is asked, everything is answered; and if all sessions end, nothing is left.
pub fn ends_well(shadow: &Shadow, habits: &[Habit]) -> Result<(), String> {
    let mut shadow = shadow.clone();
    settle(&mut shadow, habits)?;
    if shadow.ends {
        let is_over = shadow.open.is_empty() && !shadow.holds.keeps_host();
        return if is_over { Ok(()) } else { Err(format!("the host ends, and {:?} is open; {:?}", shadow.open, shadow.holds)) };
    }
    let is_armed = shadow.world.state == DaemonState::Armed;
    let open: Vec<_> = shadow.open.values().filter(|(_, kind)| !(is_armed && *kind == Kind::Wait)).collect();
    if !open.is_empty() {
        return Err(format!("nobody answers {open:?}; {:?}", shadow.holds));
    }
    for session in 0..habits.len() as Session {
        feed(&mut shadow, &HoldEvent::SessionEnded { session }, habits)?;
        settle(&mut shadow, habits)?;
    }
    if shadow.lingers {
        feed(&mut shadow, &HoldEvent::LingerOver, habits)?;
        settle(&mut shadow, habits)?;
    }
    let is_over = shadow.world.state == DaemonState::Unknown && !shadow.holds.keeps_host() && shadow.attached.is_empty();
    if is_over { Ok(()) } else { Err(format!("all sessions ended, and {:?} is left; {:?}", shadow.world.state, shadow.holds)) }
}

/// The text of a state, with the numbers of calls by their order.
fn fingerprint(shadow: &Shadow) -> String {
    let text = format!("{shadow:?}");
    let mut calls: Vec<u64> = Vec::new();
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    // `calls: {3: Use(…)}` and `call: 3`.
    let map = text.find("calls: {").map(|start| start + "calls: {".len());
    let map_end = map.and_then(|start| Some(start + text.get(start..)?.find("lingers:")?));
    while let Some(digit) = rest.find(|letter: char| letter.is_ascii_digit()) {
        let (before, numbered) = rest.split_at(digit);
        let end = numbered.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(numbered.len());
        let (number, after) = numbered.split_at(end);
        let at = text.len() - numbered.len();
        let in_map = map.is_some_and(|start| at >= start) && map_end.is_some_and(|end| at < end);
        let is_key = in_map
            && after.starts_with(": ")
            && (before.ends_with('{') || before.ends_with("), ") || before.ends_with("}, ") || before.ends_with("Unasked, "));
        out.push_str(before);
        if before.ends_with("issued: ") {
            // How many calls there were.
        } else if before.ends_with("call: ") || is_key {
            let call = number.parse().unwrap_or_default();
            let index = calls.iter().position(|known| *known == call).unwrap_or_else(|| {
                calls.push(call);
                calls.len() - 1
            });
            out.extend(["#", &index.to_string()]);
        } else {
            out.push_str(number);
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// 128 bits: no two states share them.
fn hash(state: &str) -> (u64, u64) {
    let [mut first, mut second] = [DefaultHasher::new(), DefaultHasher::new()];
    (1u8, state).hash(&mut first);
    (2u8, state).hash(&mut second);
    (first.finish(), second.finish())
}

impl Search {
    fn explore(&self) {
        let depth = std::env::var("ALLY_SEARCH_DEPTH").map_or(self.depth, |depth| depth.parse().expect("ALLY_SEARCH_DEPTH is a number"));
        let mut seen = HashSet::new();
        let mut level = vec![Node { path: Vec::new(), shadow: Shadow::new(self.on_demand) }];
        for events in 0..depth {
            if level.is_empty() {
                println!("{}: {} states within {events} events, exhaustive", self.name, seen.len());
                return;
            }
            let mut next = Vec::new();
            for node in &level {
                self.follow(node, &mut seen, &mut next);
            }
            level = next;
        }
        println!("{}: {} states within {depth} events", self.name, seen.len());
        // A search that reaches few states would pass with any machine.
        assert!(seen.len() > 500 || depth < 5, "{}: only {} states", self.name, seen.len());
    }

    fn follow(&self, node: &Node, seen: &mut HashSet<(u64, u64)>, next: &mut Vec<Node>) {
        let mut visit = |mut node: Node, step: String, outcome: Result<(), String>| {
            node.path.push(step);
            let outcome = outcome.and_then(|()| {
                if seen.insert(hash(&fingerprint(&node.shadow))) { ends_well(&node.shadow, &self.habits).map(|()| true) } else { Ok(false) }
            });
            match outcome {
                Ok(true) => next.push(node),
                Ok(false) => {}
                Err(rule) => panic!("{}, after\n  {}\n{rule}", self.name, node.path.join("\n  ")),
            }
        };
        for event in events(&node.shadow, &self.habits, self.requests, self.ends) {
            let mut after = node.clone();
            let outcome = feed(&mut after.shadow, &event, &self.habits);
            visit(after, format!("{event:?}"), outcome);
        }
        for what in MOVES.into_iter().filter(|what| self.moves.contains(what)) {
            let mut after = node.clone();
            if after.shadow.world.happen(what) {
                visit(after, format!("{what:?}"), Ok(()));
            }
        }
    }
}

const CALM: &[Move] = &[Move::Progress, Move::Failure, Move::Refusal];
const RESTLESS: &[Move] = &[Move::Progress, Move::Crash, Move::GiveUp, Move::CleanExit, Move::Unhealthy];

#[test]
fn every_order_of_two_sessions_that_start_and_stop() {
    let habits = vec![habit(0, 0, 1_000), habit(0, 0, 2_000)];
    let requests = &[Kind::Everywhere];
    Search { name: "two sessions", habits, on_demand: false, depth: 10, moves: CALM, requests, ends: false }.explore();
}

#[test]
fn every_order_of_two_sessions_with_restarts() {
    let habits = vec![habit(0, 0, 1_000), habit(0, 100, 2_000)];
    let requests = &[Kind::Restart];
    Search { name: "restarts", habits, on_demand: false, depth: 9, moves: RESTLESS, requests, ends: false }.explore();
}

#[test]
fn every_order_of_two_sessions_with_upgrades_and_waits() {
    let habits = vec![habit(0, 0, 1_000), habit(0, 100, 2_000)];
    let requests = &[Kind::Upgrade, Kind::Wait];
    Search {
        name: "upgrades",
        habits,
        on_demand: false,
        depth: 8,
        moves: &[Move::Progress, Move::Failure, Move::Crash],
        requests,
        ends: false,
    }
    .explore();
}

#[test]
fn every_order_of_two_sessions_whose_configurations_differ() {
    let habits = vec![habit(0, 100, 1_000), habit(1, 0, 2_000)];
    let requests = &[Kind::Everywhere];
    Search {
        name: "unequal",
        habits,
        on_demand: false,
        depth: 10,
        moves: &[Move::Progress, Move::Failure, Move::Crash],
        requests,
        ends: false,
    }
    .explore();
}

#[test]
fn every_order_of_two_sessions_with_a_daemon_on_demand() {
    let habits = vec![habit(0, 0, 1_000), habit(0, 100, 2_000)];
    let requests = &[Kind::Everywhere, Kind::Wait];
    Search { name: "on demand", habits, on_demand: true, depth: 7, moves: &[Move::Progress, Move::Crash], requests, ends: false }.explore();
}

#[test]
fn every_order_of_two_sessions_with_a_host_that_ends() {
    let habits = vec![habit(0, 0, 1_000), habit(0, 100, 2_000)];
    let requests = &[Kind::Everywhere, Kind::Restart];
    Search { name: "a host that ends", habits, on_demand: false, depth: 9, moves: CALM, requests, ends: true }.explore();
}

#[test]
fn every_order_of_three_sessions() {
    let habits = vec![habit(0, 0, 1_000), habit(0, 0, 2_000), habit(1, 0, 3_000)];
    Search {
        name: "three sessions",
        habits,
        on_demand: false,
        depth: 8,
        moves: &[Move::Progress, Move::Failure],
        requests: &[],
        ends: false,
    }
    .explore();
}
