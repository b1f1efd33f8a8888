//! Stops, and the reason of the last exit.

use crate::support::plan::plan;
use crate::support::scenario::{PID, Scenario, ms, settled};
use ally_core::error::Failure;
use ally_core::lifecycle::{Effect, Event, KILL_TIMEOUT, Phase, Signal, Timer};
use ally_core::model::{Exit, ExitReason, ProcessState};
use std::time::Duration;

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
    assert_eq!(effects[0], Effect::Signal { generation, signal: Signal::Kill });
    assert!(effects.contains(&Effect::Arm { timer: Timer::Kill, generation, after: ms(2_000) }), "{effects:?}");
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
        let mut effects = daemon
            .on(Event::Exited {
                generation,
                exit,
                usage: None,
                remains: !whole,
                after_probe: None,
                tail: String::new(),
                leftover_file,
                name_lost: None,
                connected: false,
            })
            .to_vec();
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
