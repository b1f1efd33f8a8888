//! EXTEND_TIMEOUT_USEC: more time for a start or a stop.

use crate::support::events::exited;
use crate::support::plan::plan;
use crate::support::scenario::{Scenario, code};
use ally_core::lifecycle::{Effect, Event, Timer};
use std::time::Duration;

const BY: Duration = Duration::from_secs(7);

fn extended(daemon: &mut Scenario) -> Vec<Effect> {
    let generation = daemon.machine.generation();
    daemon.on(Event::Extended { generation, by: BY }).to_vec()
}

fn extends(daemon: &mut Scenario, timer: Timer) -> bool {
    let generation = daemon.machine.generation();
    extended(daemon) == [Effect::Extend { timer, generation, by: BY }]
}

#[test]
fn extended_gives_a_start_more_time_and_a_running_daemon_none() {
    let mut daemon = Scenario::new(plan());
    daemon.on(Event::StartRequested { ticket: 1 });
    assert_eq!(extended(&mut daemon), []);
    daemon.boot();
    assert!(extends(&mut daemon, Timer::Startup));
    daemon.on(Event::Ready { generation: daemon.machine.generation() });
    assert_eq!(extended(&mut daemon), []);
}

#[test]
fn extended_gives_a_stop_more_time_until_sigkill() {
    let mut daemon = Scenario::started(plan());
    let generation = daemon.machine.generation();
    daemon.on(Event::StopRequested { ticket: 2 });
    assert!(extends(&mut daemon, Timer::Grace));
    // The leader has exited, and its workers drain.
    daemon.on(exited(generation, code(0), true));
    assert!(extends(&mut daemon, Timer::Grace));
    daemon.on(Event::GraceElapsed { generation });
    assert_eq!(extended(&mut daemon), []);
}

#[test]
fn extended_gives_what_a_crash_left_more_time() {
    let mut daemon = Scenario::started(plan());
    let generation = daemon.machine.generation();
    daemon.on(exited(generation, code(1), true));
    assert!(extends(&mut daemon, Timer::Grace));
    daemon.on(Event::TreeGone { generation, leftover_file: None });
    assert_eq!(extended(&mut daemon), []);
}

#[test]
fn extended_does_nothing_without_a_grace_period() {
    let mut plan = plan();
    plan.grace = Duration::ZERO;
    let mut daemon = Scenario::started(plan);
    daemon.on(Event::StopRequested { ticket: 2 });
    assert_eq!(extended(&mut daemon), []);
}
