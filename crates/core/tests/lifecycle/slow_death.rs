//! Restarts and stops while SIGKILL does not end the old tree in time.

use crate::support::events::exited;
use crate::support::plan::{at, plan};
use crate::support::scenario::{PID, Scenario, code, settled};
use ally_core::error::Failure;
use ally_core::lifecycle::{Effect, Event, KILL_TIMEOUT, Signal, Timer};
use ally_core::model::{ExitReason, ProcessState};

/// A crash that leaves descendants, and the end of both time limits.
fn crash_with_slow_death(daemon: &mut Scenario) {
    let generation = daemon.machine.generation();
    daemon.on(exited(generation, code(1), true));
    daemon.on(Event::GraceElapsed { generation });
    daemon.on(Event::KillElapsed { generation, survivors: vec![4243] });
}

#[test]
fn restart_survives_a_tree_that_is_not_gone_2_s_after_sigkill() {
    for waited in [false, true] {
        let mut daemon = Scenario::started(plan());
        let mark = daemon.effects.len();
        let generation = daemon.machine.generation();
        crash_with_slow_death(&mut daemon);
        if waited {
            daemon.backoff();
        }
        assert_eq!((daemon.seen().state, daemon.seen().next_restart_at), (ProcessState::Starting, None));
        assert_eq!(daemon.last_error(), "not gone 2 s after SIGKILL: pid 4243");
        assert!(daemon.machine.activity().pending, "the event loop is kept alive");
        let warnings = daemon.effects.iter().filter(|effect| matches!(effect, Effect::Warn { .. })).count();
        assert_eq!(warnings, 1);

        daemon.on(Event::TreeGone { generation, leftover_file: None });
        if !waited {
            assert_eq!(daemon.seen().next_restart_at, Some(at(1_000).wall), "the delay goes on");
            daemon.backoff();
        }
        daemon.up();
        assert_eq!(daemon.states_since(mark), ["starting", "running"]);
        assert_eq!((daemon.seen().total_restarts, daemon.seen().last_error), (1, None));
    }
}

#[test]
fn restart_of_an_unhealthy_daemon_survives_a_slow_death() {
    let mut daemon = Scenario::started(plan());
    let mark = daemon.effects.len();
    let generation = daemon.machine.generation();
    daemon.unhealthy();
    daemon.unhealthy();
    daemon.on(Event::GraceElapsed { generation });
    daemon.on(Event::KillElapsed { generation, survivors: vec![PID] });
    assert_eq!((daemon.seen().state, daemon.seen().pid), (ProcessState::Starting, Some(PID)));
    daemon.backoff();
    daemon.crash();
    assert_eq!(daemon.exit_reason(), Some(ExitReason::Unhealthy));
    daemon.up();
    assert_eq!(daemon.states_since(mark), ["stopping", "starting", "running"]);
}

#[test]
fn stop_of_an_overdue_restart_fails_2_s_after_its_own_sigkill() {
    let mut daemon = Scenario::started(plan());
    let generation = daemon.machine.generation();
    crash_with_slow_death(&mut daemon);
    let effects = daemon.on(Event::StopRequested { ticket: 2 }).to_vec();
    assert!(effects.contains(&Effect::Signal { generation, signal: Signal::Kill }), "{effects:?}");
    assert!(effects.contains(&Effect::Arm { timer: Timer::Kill, generation, after: KILL_TIMEOUT }), "{effects:?}");
    let effects = daemon.on(Event::KillElapsed { generation, survivors: vec![4243] }).to_vec();
    assert_eq!(settled(&effects, 2), Some(&Err(Failure::StopFailed { survivors: vec![4243] })));
    assert_eq!(daemon.seen().state, ProcessState::Error);
}
