//! Every order of the events of one daemon: requests of callers, reports of the supervisor, timers. In every state
//! - the rules of the shadow model hold;
//! - a late event changes nothing;
//! - if no more requests come, every open ticket is settled within a few events; a wait for RUNNING also
//!   when the tree of an overdue restart is gone.
//!
//! `ALLY_SEARCH_DEPTH` is the number of events of an order. The search ends earlier if no new state is left.

use crate::support::plan::plan;
use crate::support::search::Search;
use crate::support::shadow::{ShadowModel, pid_of};
use ally_core::error::Code;
use ally_core::lifecycle::{Event, Generation, Plan, RestartOn, Window};
use std::time::Duration;

/// Long enough for a crash, a failing restart, and the end of its tree. A fourth caller adds states, but no new kind of state.
fn explore(name: &'static str, plan: &Plan) {
    Search { name, plan: plan.clone(), after: Vec::new(), depth: 11, callers: 3, tries: |event, _| !is_upgrade(event) }.explore();
}

const fn is_upgrade(event: &Event) -> bool {
    matches!(event, Event::UpgradeRequested { .. })
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

/// Without what the searches above have: refused starts, waits, leftover files, a name that is lost.
fn concerns_upgrades(event: &Event, _: &ShadowModel) -> bool {
    match event {
        Event::StartRefused { .. } | Event::WaitRequested { .. } | Event::StartRevoked { .. } | Event::Extended { .. } => false,
        Event::Exited { name_lost, .. } => name_lost.is_none(),
        Event::TreeGone { leftover_file, .. } => leftover_file.is_none(),
        Event::PrepareFailed { failure, .. } => failure.code() != Code::OwnedElsewhere,
        _ => true,
    }
}

fn beside(event: &Event, model: &ShadowModel) -> bool {
    concerns_upgrades(event, model) && !matches!(event, Event::UpgradeRequested { beside: false, .. })
}

fn in_turn(event: &Event, model: &ShadowModel) -> bool {
    concerns_upgrades(event, model) && !matches!(event, Event::UpgradeRequested { beside: true, .. })
}

/// Without checks, and with one restart.
fn upgrade_plan() -> Plan {
    let mut plan = plan();
    plan.health = None;
    plan.memory = None;
    plan.restart.max_attempts = 1;
    plan.restart.on = RestartOn::Always;
    plan.restart.window = Window { limit: 2, period: Duration::from_secs(300) };
    plan
}

/// From a start to RUNNING.
fn running(generation: Generation) -> Vec<Event> {
    let pid = pid_of(generation);
    vec![
        Event::StartRequested { ticket: 1 },
        Event::Prepared { generation },
        Event::Spawned { generation, pid },
        Event::Ready { generation },
    ]
}

/// From a start to the change-over.
fn changed_over(plan: &Plan) -> Vec<Event> {
    let (mut events, generation) = (running(1), 2);
    events.push(Event::UpgradeRequested { ticket: 1, plan: Box::new(plan.clone()), beside: true });
    events.extend(running(generation).into_iter().skip(1));
    events.push(Event::ChangedOver { generation });
    events
}

#[test]
fn every_order_with_an_upgrade_beside_the_daemon() {
    let plan = upgrade_plan();
    Search { name: "upgrade beside", plan, after: running(1), depth: 8, callers: 2, tries: beside }.explore();
}

#[test]
fn every_order_with_an_upgrade_whose_new_generation_is_checked() {
    let plan = Plan { health: Some((Duration::from_secs(10), 2)), grace: Duration::ZERO, ..upgrade_plan() };
    Search { name: "upgrade with a check", plan, after: running(1), depth: 8, callers: 2, tries: beside }.explore();
}

#[test]
fn every_order_after_the_change_over() {
    let plan = upgrade_plan();
    Search { name: "change-over", after: changed_over(&plan), plan, depth: 7, callers: 2, tries: beside }.explore();
}

#[test]
fn every_order_with_an_upgrade_in_turn() {
    let plan = upgrade_plan();
    Search { name: "upgrade in turn", plan, after: running(1), depth: 9, callers: 2, tries: in_turn }.explore();
}

/// Without a name that is lost, which the searches above have.
fn concerns_connections(event: &Event, model: &ShadowModel) -> bool {
    let waits = matches!(event, Event::WaitRequested { .. });
    (waits || concerns_upgrades(event, model)) && !matches!(event, Event::UpgradeRequested { .. })
}

#[test]
fn every_order_of_a_daemon_on_demand() {
    let plan = Plan { on_demand: true, stops_idle: true, ..upgrade_plan() };
    Search { name: "on demand", plan, after: Vec::new(), depth: 10, callers: 2, tries: concerns_connections }.explore();
}

#[test]
fn every_order_with_an_upgrade_of_a_daemon_on_demand() {
    let plan = Plan { on_demand: true, stops_idle: true, ..upgrade_plan() };
    let mut after = vec![Event::StartRequested { ticket: 1 }, Event::Prepared { generation: 1 }, Event::Connected { generation: 1 }];
    after.extend(running(2).into_iter().skip(1));
    Search { name: "upgrade on demand", plan, after, depth: 6, callers: 2, tries: concerns_upgrades }.explore();
}
