//! Exits just after a probe has connected: from when on `lastError` names the probe.

use crate::support::plan::plan;
use crate::support::scenario::{Scenario, code};
use ally_core::lifecycle::{Event, Plan, RestartPlan};
use ally_core::model::{Exit, ProbeRole, ProcessState};

const CHECK: &str = "exits when a health check connects; use probe `listen` or `exec`: the process exited with code 1";
const READINESS: &str = "exited just after the readiness probe had connected; use readiness `listen`: the process exited with code";

/// A daemon that exits after each of these probes, and is ready again each time. `lastError` after the last exit.
fn last_error(daemon: &mut Scenario, probes: &[Option<ProbeRole>]) -> String {
    for (index, probe) in probes.iter().enumerate() {
        if index > 0 {
            daemon.backoff();
            daemon.up();
        }
        daemon.exit_after(code(1), *probe);
    }
    daemon.last_error()
}

#[test]
fn last_error_names_the_health_check_at_the_third_exit_in_a_row() {
    let health = Some(ProbeRole::Health);
    let exited = "the process exited with code 1";
    for (probes, expected) in [
        (&[health][..], exited),
        (&[health, health], exited),
        (&[health, health, health], CHECK),
        (&[health, health, health, health], CHECK),
        (&[health, health, None, health], exited),
        (&[health, health, None, health, health, health], CHECK),
        (&[health, health, health, None], exited),
    ] {
        assert_eq!(last_error(&mut Scenario::started(plan()), probes), expected, "{probes:?}");
    }
}

#[test]
fn last_error_names_the_readiness_probe_at_the_first_exit() {
    assert_eq!(last_error(&mut Scenario::started(plan()), &[Some(ProbeRole::Readiness)]), format!("{READINESS} 1"));
    // Before readiness: the error of the start.
    let mut daemon = Scenario::new(plan());
    daemon.on(Event::StartRequested { ticket: 1 });
    daemon.boot();
    daemon.exit_after(code(3), Some(ProbeRole::Readiness));
    assert_eq!(daemon.last_error(), format!("{READINESS} 3 before it was ready"));
}

#[test]
fn last_error_names_the_health_check_when_the_restarts_are_exhausted() {
    let mut daemon = Scenario::started(Plan { restart: RestartPlan { max_attempts: 0, ..plan().restart }, ..plan() });
    for _ in 0..2 {
        daemon.exit_after(code(1), Some(ProbeRole::Health));
        daemon.start();
    }
    // Caller's starts do not end the row.
    daemon.exit_after(code(1), Some(ProbeRole::Health));
    assert_eq!((daemon.seen().state, daemon.last_error().as_str()), (ProcessState::Error, CHECK));
}

#[test]
fn an_exit_that_was_asked_for_or_has_no_status_ends_the_row() {
    let health = Some(ProbeRole::Health);
    let mut daemon = Scenario::started(plan());
    last_error(&mut daemon, &[health, health]);
    daemon.backoff();
    daemon.up();
    daemon.on(Event::StopRequested { ticket: 2 });
    daemon.exit_after(code(1), health);
    daemon.start();
    assert_eq!(last_error(&mut daemon, &[health, health]), "the process exited with code 1");
    daemon.backoff();
    daemon.up();
    // The keeper was killed.
    daemon.exit_after(Exit::UNKNOWN, health);
    assert!(!daemon.last_error().contains("health check"), "{}", daemon.last_error());
}
