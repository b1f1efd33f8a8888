//! The restart policy: jitter, `maxAttempts`, `window`, `on`.

use crate::support::events::exited_after_loss;
use crate::support::plan::{narrow, plan};
use crate::support::scenario::{Scenario, code, ms, settled};
use ally_core::error::Failure;
use ally_core::lifecycle::{Effect, Event, Notice, RestartOn, Timer};
use ally_core::model::{ExitReason, ProcessState};

#[test]
fn restart_jitter_differs_between_daemons_of_different_seeds() {
    let mut plan = plan();
    plan.restart.jitter = 0.5;
    let delays = [1, 2, 3].map(|seed| {
        let mut daemon = Scenario::seeded(plan.clone(), seed);
        daemon.start();
        daemon.crash();
        daemon.scheduled()
    });
    assert!(delays[0] != delays[1] && delays[1] != delays[2], "{delays:?}");
}

#[test]
fn restart_max_attempts_ends_in_error_after_the_last_failed_attempt() {
    let mut daemon = Scenario::started(plan());
    daemon.crash();
    assert_eq!((daemon.seen().state, daemon.seen().restart_attempts), (ProcessState::Starting, 1));
    daemon.backoff();
    daemon.boot();
    daemon.crash();
    assert_eq!(daemon.seen().restart_attempts, 2);
    daemon.backoff();
    daemon.boot();
    daemon.crash();
    assert_eq!(daemon.scheduled(), [(1, ms(1_000)), (2, ms(2_000))]);
    assert_eq!(daemon.seen().state, ProcessState::Error);
    assert_eq!(daemon.last_error(), "Maximum restart attempts exceeded (2): the process exited with code 1 before it was ready");
    assert_eq!(daemon.seen().total_restarts, 2);
}

#[test]
fn restart_attempts_is_zero_again_after_a_restart_is_ready() {
    let mut daemon = Scenario::started(plan());
    for _ in 0..3 {
        daemon.crash();
        assert_eq!(daemon.seen().restart_attempts, 1);
        daemon.backoff();
        daemon.up();
        assert_eq!(daemon.seen().restart_attempts, 0);
    }
    assert_eq!(daemon.scheduled(), [(1, ms(1_000)); 3]);
    assert_eq!(daemon.seen().total_restarts, 3);
}

#[test]
fn restart_window_counts_successful_restarts() {
    let mut daemon = Scenario::started(narrow());
    assert!(!daemon.crash_at(1_000));
    assert!(!daemon.crash_at(2_000));
    assert!(daemon.crash_at(10_999));
    assert_eq!(daemon.last_error(), "too many restarts: more than 2 within 10000 ms: the process exited with code 1");
    assert_eq!(daemon.scheduled().len(), 2);
}

#[test]
fn restart_window_slides() {
    let mut daemon = Scenario::started(narrow());
    assert!(!daemon.crash_at(0));
    assert!(!daemon.crash_at(2_000));
    assert!(!daemon.crash_at(10_000), "the first restart is out of the window");
    assert!(daemon.crash_at(11_999));
}

#[test]
fn start_empties_the_restart_window_and_clears_last_error_when_ready() {
    let mut daemon = Scenario::started(narrow());
    assert!(!daemon.crash_at(0) && !daemon.crash_at(1) && daemon.crash_at(2));
    daemon.on(Event::StartRequested { ticket: 2 });
    assert!(!daemon.last_error().is_empty(), "the start has not succeeded yet");
    daemon.up();
    assert_eq!(daemon.seen().last_error, None);
    assert!(!daemon.crash_at(3));
}

#[test]
fn restart_max_attempts_zero_gives_the_failure_itself_as_last_error() {
    let mut plan = plan();
    plan.restart.max_attempts = 0;
    let mut daemon = Scenario::started(plan.clone());
    let mark = daemon.effects.len();
    daemon.crash();
    assert_eq!(daemon.states_since(mark), ["error"]);
    assert_eq!(daemon.last_error(), "the process exited with code 1");

    let mut daemon = Scenario::started(plan);
    let mark = daemon.effects.len();
    daemon.unhealthy();
    daemon.unhealthy();
    daemon.exit(code(0));
    assert_eq!(daemon.states_since(mark), ["stopping", "error"]);
    assert_eq!(daemon.last_error(), "unhealthy after 2 failed health checks: refused");
    assert_eq!((daemon.scheduled().len(), daemon.exit_reason()), (0, Some(ExitReason::Unhealthy)));
}

#[test]
fn restart_on_failure_ends_in_stopped_after_exit_code_0() {
    let mut daemon = Scenario::started(plan());
    let mark = daemon.effects.len();
    let reason = daemon.exit(code(0)).iter().find_map(|effect| match effect {
        Effect::Notify(Notice::StateChanged { reason, .. }) => reason.clone(),
        _ => None,
    });
    assert_eq!(reason.as_deref(), Some("exited"));
    assert_eq!(daemon.states_since(mark), ["stopped"]);
    assert_eq!((daemon.seen().last_error, daemon.scheduled().len()), (None, 0));

    let mut always = plan();
    always.restart.on = RestartOn::Always;
    let mut daemon = Scenario::started(always);
    daemon.exit(code(0));
    assert_eq!((daemon.seen().state, daemon.exit_reason()), (ProcessState::Starting, Some(ExitReason::Exited)));
}

#[test]
fn failed_start_is_not_restarted() {
    let mut daemon = Scenario::new(plan());
    daemon.on(Event::StartRequested { ticket: 1 });
    daemon.boot();
    let effects = daemon.crash().to_vec();
    assert_eq!(settled(&effects, 1), Some(&Err(Failure::StartupExit { exit: code(1), tail: String::new() })));
    assert_eq!((daemon.states_since(0), daemon.scheduled().len()), (vec!["starting", "error"], 0));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Arm { .. })), "{effects:?}");
}

#[test]
fn restart_is_given_up_at_once_where_another_owner_has_the_name() {
    for remains in [false, true] {
        let mut daemon = Scenario::started(plan());
        let generation = daemon.machine.generation();
        daemon.on(exited_after_loss(generation, code(1), remains));
        if remains {
            assert_eq!(daemon.seen().state, ProcessState::Stopping);
            daemon.on(Event::TreeGone { generation, leftover_file: None });
        }
        assert_eq!(daemon.seen().state, ProcessState::Error);
        assert_eq!(daemon.last_error(), "another live owner runs it (pid 1234)");
        assert_eq!((daemon.scheduled(), daemon.seen().total_restarts), (Vec::new(), 0));
        daemon.start();
        assert_eq!(daemon.seen().state, ProcessState::Running);
    }
}

#[test]
fn restart_that_finds_another_owner_is_the_last_one() {
    let mut daemon = Scenario::started(plan());
    daemon.crash();
    daemon.backoff();
    let generation = daemon.machine.generation();
    daemon.on(Event::PrepareFailed { generation, failure: Failure::OwnedElsewhere { owner: Some(1234) } });
    assert_eq!(daemon.seen().state, ProcessState::Error);
    assert_eq!(daemon.last_error(), "another live owner runs it (pid 1234)");
    assert_eq!(daemon.scheduled().len(), 1);
}

#[test]
fn restart_reset_after_keeps_the_attempts_until_the_daemon_has_run_for_so_long() {
    let mut plan = plan();
    plan.restart.reset_after = ms(20_000);
    let mut daemon = Scenario::started(plan.clone());
    for attempt in 1..=2 {
        daemon.crash();
        daemon.backoff();
        daemon.up();
        assert_eq!(daemon.seen().restart_attempts, attempt, "readiness is not enough");
    }
    daemon.crash();
    assert_eq!(daemon.seen().state, ProcessState::Error, "the attempts are exhausted, although each restart became ready");

    let mut daemon = Scenario::started(plan);
    daemon.crash();
    daemon.backoff();
    daemon.up();
    let generation = daemon.machine.generation();
    assert!(daemon.effects.contains(&Effect::Arm { timer: Timer::Reset, generation, after: ms(20_000) }));
    daemon.on(Event::ResetElapsed { generation });
    assert_eq!(daemon.seen().restart_attempts, 0);
    daemon.crash();
    assert_eq!(daemon.scheduled(), [(1, ms(1_000)); 2]);
}

#[test]
fn restart_prevent_exit_codes_lead_to_error_at_once() {
    let mut plan = plan();
    plan.restart.prevented_by = [78, 255].into_iter().collect();
    for exit in [78, 255] {
        let mut daemon = Scenario::started(plan.clone());
        daemon.exit(code(exit));
        assert_eq!((daemon.seen().state, daemon.scheduled()), (ProcessState::Error, vec![]));
        let expected = format!("not restarted, because restart.preventExitCodes has {exit}: the process exited with code {exit}");
        assert_eq!(daemon.last_error(), expected);
    }
    let mut daemon = Scenario::started(plan);
    daemon.exit(code(79));
    assert_eq!(daemon.seen().state, ProcessState::Starting);
    // A restart that exits before it is ready.
    daemon.backoff();
    daemon.boot();
    daemon.exit(code(78));
    assert_eq!(daemon.seen().state, ProcessState::Error);
    assert!(daemon.last_error().starts_with("not restarted, because restart.preventExitCodes has 78: "), "{}", daemon.last_error());
}

/// The list names the code, `on: 'failure'` does not.
#[test]
fn restart_prevent_exit_codes_with_0_count_more_than_on_failure() {
    let mut plan = plan();
    plan.restart.prevented_by = [0].into_iter().collect();
    let mut daemon = Scenario::started(plan);
    daemon.exit(code(0));
    assert_eq!((daemon.seen().state, daemon.exit_reason()), (ProcessState::Error, Some(ExitReason::Exited)));
}
