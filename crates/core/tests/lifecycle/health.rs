//! Health checks, and the states and times of a restart.

use crate::support::plan::{at, plan};
use crate::support::scenario::{PID, Scenario, code, ms};
use ally_core::lifecycle::{Effect, Event, Timer};
use ally_core::model::ProcessState;
use std::time::Duration;

#[test]
fn crash_leads_to_starting_and_running() {
    let mut daemon = Scenario::started(plan());
    let mark = daemon.effects.len();
    daemon.clock = 500;
    daemon.crash();
    let seen = daemon.seen();
    assert_eq!((seen.state, seen.pid, seen.restart_attempts), (ProcessState::Starting, None, 1));
    assert_eq!(seen.next_restart_at, Some(at(1_500).wall), "nextRestartAt counts from the crash");
    daemon.backoff();
    daemon.up();
    assert_eq!(daemon.states_since(mark), ["starting", "running"]);
}

#[test]
fn healthcheck_interval_includes_the_latency_of_the_check() {
    let mut daemon = Scenario::started(plan());
    let generation = daemon.machine.generation();
    let mut next = |latency, passed: bool| {
        let event = if passed {
            Event::ProbePassed { generation, latency }
        } else {
            Event::ProbeFailed { generation, latency, error: "late".to_owned() }
        };
        daemon.on(event).iter().find_map(|effect| match effect {
            Effect::Arm { timer: Timer::Probe, after, .. } => Some(*after),
            _ => None,
        })
    };
    assert_eq!(next(ms(0), true), Some(ms(10_000)));
    assert_eq!(next(ms(4_000), true), Some(ms(6_000)));
    assert_eq!(next(ms(9_000), false), Some(ms(1_000)));
    // If a check took longer than the interval, the next check follows at once.
    assert_eq!(next(ms(25_000), true), Some(ms(0)));
    assert_eq!(next(ms(25_000), false), Some(ms(0)));
}

#[test]
fn unhealthy_daemon_leads_to_stopping_starting_and_running() {
    let mut daemon = Scenario::started(plan());
    let mark = daemon.effects.len();
    daemon.unhealthy();
    assert_eq!((daemon.seen().state, daemon.seen().failed_health_checks), (ProcessState::Running, 1));
    daemon.unhealthy();
    assert_eq!((daemon.seen().pid, daemon.seen().failed_health_checks), (Some(PID), 2));
    daemon.exit(code(0));
    assert_eq!(daemon.seen().pid, None);
    daemon.backoff();
    daemon.up();
    assert_eq!(daemon.states_since(mark), ["stopping", "starting", "running"]);
    assert_eq!(daemon.seen().failed_health_checks, 0);
}

#[test]
fn restart_delay_of_an_unhealthy_daemon_includes_the_time_of_its_stop() {
    for (took, left) in [(400, ms(600)), (5_000, Duration::ZERO)] {
        let mut daemon = Scenario::started(plan());
        daemon.unhealthy();
        daemon.unhealthy();
        daemon.clock = took;
        let generation = daemon.machine.generation();
        let armed = Effect::Arm { timer: Timer::Backoff, generation, after: left };
        assert!(daemon.exit(code(0)).contains(&armed), "{:?}", daemon.effects);
    }
}

#[test]
fn next_restart_at_is_set_only_while_a_restart_is_pending() {
    let mut daemon = Scenario::started(plan());
    assert_eq!(daemon.seen().next_restart_at, None);
    daemon.crash();
    assert_eq!(daemon.seen().next_restart_at, Some(at(1_000).wall));
    daemon.backoff();
    assert_eq!(daemon.seen().next_restart_at, None, "the restart has begun");
    daemon.up();
    daemon.unhealthy();
    daemon.unhealthy();
    assert_eq!(daemon.seen().next_restart_at, Some(at(1_000).wall));
    daemon.on(Event::StopRequested { ticket: 2 });
    assert_eq!(daemon.seen().next_restart_at, None, "the stop cancels the restart");
}
