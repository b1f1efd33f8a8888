//! `restart`, health and stop as a caller sees them: one scenario for each promise.

use crate::support::plan::{at, plan};
use crate::support::scenario::{PID, Scenario, code, ms, settled};
use ally_core::error::Failure;
use ally_core::lifecycle::{Effect, Event, KILL_TIMEOUT, Notice, Phase, Plan, RestartOn, Signal, Timer, Window};
use ally_core::model::{Exit, ExitReason, ProcessState};
use std::time::Duration;

// maxAttempts, window, on.

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

/// Crashes at this time. True if no restart follows.
fn crash_at(daemon: &mut Scenario, clock: u64) -> bool {
    daemon.clock = clock;
    daemon.crash();
    let given_up = daemon.seen().state == ProcessState::Error;
    if !given_up {
        daemon.backoff();
        daemon.up();
    }
    given_up
}

fn narrow() -> Plan {
    let mut plan = plan();
    plan.restart.window = Window { limit: 2, period: ms(10_000) };
    plan
}

#[test]
fn restart_window_counts_successful_restarts() {
    let mut daemon = Scenario::started(narrow());
    assert!(!crash_at(&mut daemon, 1_000));
    assert!(!crash_at(&mut daemon, 2_000));
    assert!(crash_at(&mut daemon, 10_999));
    assert_eq!(daemon.last_error(), "too many restarts: more than 2 within 10000 ms: the process exited with code 1");
    assert_eq!(daemon.scheduled().len(), 2);
}

#[test]
fn restart_window_slides() {
    let mut daemon = Scenario::started(narrow());
    assert!(!crash_at(&mut daemon, 0));
    assert!(!crash_at(&mut daemon, 2_000));
    assert!(!crash_at(&mut daemon, 10_000), "the first restart is out of the window");
    assert!(crash_at(&mut daemon, 11_999));
}

#[test]
fn start_empties_the_restart_window_and_clears_last_error_when_ready() {
    let mut daemon = Scenario::started(narrow());
    assert!(!crash_at(&mut daemon, 0) && !crash_at(&mut daemon, 1) && crash_at(&mut daemon, 2));
    daemon.on(Event::StartRequested { ticket: 2 });
    assert!(!daemon.last_error().is_empty(), "the start has not succeeded yet");
    daemon.up();
    assert_eq!(daemon.seen().last_error, None);
    assert!(!crash_at(&mut daemon, 3));
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

// States, health checks, nextRestartAt.

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

// Stop, lastExit.

#[test]
fn shutdown_grace_period_zero_sends_sigkill_at_once() {
    let mut plan = plan();
    plan.grace = Duration::ZERO;
    let mut daemon = Scenario::started(plan);
    let generation = daemon.machine.generation();
    let effects = daemon.on(Event::StopRequested { ticket: 2 });
    assert!(effects.contains(&Effect::Signal { generation, signal: Signal::Kill }), "{effects:?}");
    assert!(!effects.contains(&Effect::Signal { generation, signal: Signal::Terminate }), "{effects:?}");
    assert!(effects.contains(&Effect::Arm { timer: Timer::Kill, generation, after: KILL_TIMEOUT }), "{effects:?}");
}

#[test]
fn stop_failed_names_the_pids_that_survived_sigkill() {
    let mut daemon = Scenario::started(plan());
    let generation = daemon.machine.generation();
    daemon.on(Event::StopRequested { ticket: 2 });
    let effects = daemon.on(Event::GraceElapsed { generation });
    assert_eq!(
        effects,
        [Effect::Signal { generation, signal: Signal::Kill }, Effect::Arm { timer: Timer::Kill, generation, after: ms(2_000) }]
    );
    let effects = daemon.on(Event::KillElapsed { generation, survivors: vec![PID, 4243] }).to_vec();
    let failure = Failure::StopFailed { survivors: vec![PID, 4243] };
    assert_eq!(settled(&effects, 2), Some(&Err(failure.clone())));
    assert!(failure.message("p").contains("4242") && failure.message("p").contains("4243"), "{}", failure.message("p"));
    assert_eq!((daemon.seen().state, daemon.seen().pid), (ProcessState::Error, Some(PID)));
    assert_eq!(daemon.last_error(), failure.to_string());
    // When the tree ends later, the name is free again.
    assert!(daemon.crash().ends_with(&[Effect::Release { generation }]));
    assert_eq!(daemon.machine.phase(), &Phase::Failed);
}

#[test]
fn stop_cancels_a_pending_restart_and_keeps_last_error() {
    let mut daemon = Scenario::started(plan());
    daemon.crash();
    let mark = daemon.effects.len();
    daemon.on(Event::StopRequested { ticket: 2 });
    assert_eq!(daemon.states_since(mark), ["stopping", "stopped"]);
    assert_eq!(daemon.last_error(), "the process exited with code 1");
    let generation = daemon.machine.generation();
    assert!(daemon.effects.contains(&Effect::Disarm { timer: Timer::Backoff, generation }));
}

#[test]
fn last_exit_reason_is_crashed_startup_stopped_or_unhealthy() {
    let mut daemon = Scenario::started(plan());
    daemon.exit(Exit { code: None, signal: Some(9) });
    let last = daemon.seen().last_exit.expect("the daemon has ended");
    assert_eq!((last.pid, last.exit.signal, last.reason), (PID, Some(9), ExitReason::Crashed));

    daemon.backoff();
    daemon.boot();
    daemon.crash();
    assert_eq!(daemon.exit_reason(), Some(ExitReason::Startup));

    let mut daemon = Scenario::started(plan());
    daemon.on(Event::StopRequested { ticket: 2 });
    daemon.crash();
    assert_eq!(daemon.exit_reason(), Some(ExitReason::Stopped));

    let mut daemon = Scenario::started(plan());
    daemon.unhealthy();
    daemon.unhealthy();
    daemon.crash();
    assert_eq!(daemon.exit_reason(), Some(ExitReason::Unhealthy));

    let mut daemon = Scenario::new(plan());
    daemon.on(Event::StartRequested { ticket: 1 });
    daemon.boot();
    daemon.timeout();
    daemon.crash();
    assert_eq!(daemon.exit_reason(), Some(ExitReason::Startup));
}

#[test]
fn last_exit_reason_of_a_last_attempt_without_readiness_is_startup() {
    let mut plan = plan();
    plan.restart.max_attempts = 1;
    let mut daemon = Scenario::started(plan);
    daemon.crash();
    daemon.backoff();
    daemon.boot();
    daemon.timeout();
    daemon.crash();
    assert_eq!(daemon.exit_reason(), Some(ExitReason::Startup));
}

#[test]
fn stop_with_a_following_restart_resolves_after_the_release_of_the_name() {
    let mut daemon = Scenario::started(plan());
    daemon.on(Event::StopRequested { ticket: 2 });
    daemon.on(Event::RestartRequested { ticket: 3 });
    let generation = daemon.machine.generation();
    let effects = daemon.crash();
    let answer = effects.iter().position(|effect| matches!(effect, Effect::Settle { ticket: 2, outcome: Ok(()) })).expect("an answer");
    assert!(effects[..answer].contains(&Effect::Release { generation }), "{effects:?}");
}

#[test]
fn stop_rejects_with_err_io_if_a_file_could_not_be_removed() {
    let stays = Failure::io(std::path::Path::new("/p/daemon.pid"), "EROFS");
    for whole in [false, true] {
        let mut daemon = Scenario::started(plan());
        let generation = daemon.machine.generation();
        daemon.on(Event::StopRequested { ticket: 2 });
        daemon.on(Event::StopRequested { ticket: 3 });
        let exit = Exit { code: Some(0), signal: None };
        let leftover_file = whole.then(|| stays.clone());
        let mut effects = daemon.on(Event::Exited { generation, exit, remains: !whole, tail: String::new(), leftover_file }).to_vec();
        if !whole {
            effects = daemon.on(Event::TreeGone { generation, leftover_file: Some(stays.clone()) }).to_vec();
        }
        for ticket in [2, 3] {
            assert_eq!(settled(&effects, ticket), Some(&Err(stays.clone())));
        }
        // Every process is gone, so another owner may start the name.
        assert!(effects.contains(&Effect::Release { generation }));
        assert_eq!((daemon.seen().state, daemon.seen().pid), (ProcessState::Stopped, None));
        assert_eq!(daemon.last_error(), stays.to_string());
    }
}

// A tree that SIGKILL does not end in time.

/// A crash that leaves descendants, and the end of both time limits.
fn crash_with_slow_death(daemon: &mut Scenario) {
    let generation = daemon.machine.generation();
    daemon.on(Event::Exited { generation, exit: code(1), remains: true, tail: String::new(), leftover_file: None });
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

// A start while a restart is pending.

#[test]
fn start_while_a_restart_is_pending_begins_at_once_as_a_first_start() {
    let mut daemon = Scenario::started(narrow());
    daemon.crash();
    let mark = daemon.effects.len();
    let mut other = narrow();
    other.socket_path = "/run/other.sock".to_owned();
    assert!(daemon.machine.replan(other), "the new configuration is accepted");
    daemon.on(Event::StartRequested { ticket: 2 });
    let seen = daemon.seen();
    assert_eq!((seen.state, seen.restart_attempts, seen.total_restarts, seen.next_restart_at), (ProcessState::Starting, 0, 0, None));
    daemon.up();
    assert_eq!(daemon.states_since(mark), ["running"]);
    assert_eq!(settled(&daemon.effects[mark..], 2), Some(&Ok(())));
    // The window is empty again: two more restarts are admitted.
    assert!(!crash_at(&mut daemon, 1) && !crash_at(&mut daemon, 2) && crash_at(&mut daemon, 3));
}

#[test]
fn start_while_a_restart_is_pending_ends_in_error_if_it_fails() {
    let mut daemon = Scenario::started(plan());
    daemon.crash();
    let scheduled = daemon.scheduled().len();
    daemon.on(Event::StartRequested { ticket: 2 });
    daemon.boot();
    let effects = daemon.crash().to_vec();
    assert_eq!(settled(&effects, 2), Some(&Err(Failure::StartupExit { exit: code(1), tail: String::new() })));
    assert_eq!((daemon.seen().state, daemon.scheduled().len()), (ProcessState::Error, scheduled));
}

#[test]
fn start_while_the_old_tree_lives_is_refused_as_starting() {
    let mut daemon = Scenario::started(plan());
    let generation = daemon.machine.generation();
    daemon.on(Event::Exited { generation, exit: code(1), remains: true, tail: String::new(), leftover_file: None });
    assert!(!daemon.machine.replan(plan()));
    let effects = daemon.on(Event::StartRequested { ticket: 2 }).to_vec();
    assert_eq!(settled(&effects, 2), Some(&Err(Failure::AlreadyRunning(ProcessState::Starting))));
}

#[test]
fn start_with_a_claimed_socket_path_leaves_a_pending_restart() {
    let mut daemon = Scenario::started(plan());
    daemon.crash();
    let next = daemon.seen().next_restart_at;
    let failure = Failure::ShuttingDown;
    let effects = daemon.on(Event::StartRefused { ticket: 2, failure: failure.clone() }).to_vec();
    assert_eq!(effects, [Effect::Settle { ticket: 2, outcome: Err(failure) }]);
    assert_eq!((daemon.seen().next_restart_at, daemon.seen().restart_attempts), (next, 1));
    daemon.backoff();
    daemon.up();
    assert_eq!(daemon.seen().total_restarts, 1);
}

// whenRunning.

#[test]
fn when_running_resolves_at_readiness_and_at_once_in_running() {
    let mut daemon = Scenario::new(plan());
    daemon.on(Event::StartRequested { ticket: 1 });
    assert_eq!(daemon.on(Event::WaitRequested { ticket: 2 }), []);
    daemon.up();
    assert_eq!(settled(&daemon.effects, 2), Some(&Ok(())));
    daemon.crash();
    assert_eq!(daemon.on(Event::WaitRequested { ticket: 3 }), []);
    daemon.backoff();
    daemon.up();
    assert_eq!(settled(&daemon.effects, 3), Some(&Ok(())));
    assert_eq!(daemon.on(Event::WaitRequested { ticket: 4 }), [Effect::Settle { ticket: 4, outcome: Ok(()) }]);
}

#[test]
fn when_running_waits_through_stopped_on_the_way_of_a_restart() {
    let mut daemon = Scenario::started(plan());
    daemon.on(Event::RestartRequested { ticket: 2 });
    daemon.on(Event::WaitRequested { ticket: 3 });
    daemon.crash();
    assert_eq!(settled(&daemon.effects, 3), None);
    daemon.up();
    assert_eq!(settled(&daemon.effects, 3), Some(&Ok(())));
}

#[test]
fn when_running_rejects_at_rest() {
    let mut daemon = Scenario::new(plan());
    assert_eq!(daemon.on(Event::WaitRequested { ticket: 9 }), [Effect::Settle { ticket: 9, outcome: Err(Failure::AtRest) }]);

    let mut plan = plan();
    plan.restart.max_attempts = 0;
    let mut daemon = Scenario::started(plan);
    daemon.unhealthy();
    daemon.unhealthy();
    daemon.on(Event::WaitRequested { ticket: 2 });
    daemon.crash();
    let outcome = settled(&daemon.effects, 2).expect("an answer").clone();
    assert_eq!(outcome.expect_err("the daemon is given up").code().as_str(), "ERR_UNHEALTHY");

    daemon.on(Event::StartRequested { ticket: 3 });
    daemon.on(Event::WaitRequested { ticket: 4 });
    daemon.on(Event::StopRequested { ticket: 5 });
    assert_eq!(settled(&daemon.effects, 4), Some(&Err(Failure::AtRest)));
}

#[test]
fn abort_of_when_running_ends_the_wait_and_nothing_else() {
    let mut daemon = Scenario::new(plan());
    daemon.on(Event::StartRequested { ticket: 1 });
    daemon.on(Event::WaitRequested { ticket: 2 });
    let phase = daemon.machine.phase().clone();
    assert_eq!(daemon.on(Event::WaitAborted { ticket: 2 }), [Effect::Settle { ticket: 2, outcome: Err(Failure::Stopped) }]);
    assert_eq!(daemon.on(Event::WaitAborted { ticket: 2 }), []);
    assert_eq!(daemon.machine.phase(), &phase);
}

// An abort after readiness.

#[test]
fn abort_between_readiness_and_the_settled_promise_is_a_stop() {
    let mut daemon = Scenario::started(plan());
    let mark = daemon.effects.len();
    daemon.on(Event::StartRevoked { ticket: 1, answer: 2 });
    daemon.crash();
    assert_eq!(daemon.states_since(mark), ["stopping", "stopped"]);
    assert_eq!(settled(&daemon.effects, 2), Some(&Ok(())));
}

#[test]
fn abort_after_a_later_start_or_restart_stops_nothing() {
    let mut daemon = Scenario::started(plan());
    daemon.on(Event::RestartRequested { ticket: 2 });
    daemon.crash();
    daemon.up();
    assert_eq!(daemon.on(Event::StartRevoked { ticket: 1, answer: 3 }), [Effect::Settle { ticket: 3, outcome: Ok(()) }]);
    assert_eq!(daemon.seen().state, ProcessState::Running);
}

#[test]
fn abort_between_readiness_and_the_settled_promise_cancels_the_restart_after_a_crash() {
    let mut daemon = Scenario::started(plan());
    daemon.crash();
    daemon.on(Event::StartRevoked { ticket: 1, answer: 2 });
    assert_eq!((daemon.seen().state, daemon.seen().next_restart_at), (ProcessState::Stopped, None));
    assert_eq!(settled(&daemon.effects, 2), Some(&Ok(())));
}
