//! When a restart comes, when there are no more, what is shown meanwhile, and how stops end: one
//! scenario each, with what a caller then sees.

#[path = "lifecycle_support/fixture.rs"]
mod fixture;
#[path = "lifecycle_support/story.rs"]
mod story;

use ally_core::error::Failure;
use ally_core::lifecycle::{Effect, Event, KILL_TIMEOUT, Notice, Phase, Plan, RestartOn, Signal, Timer, Window};
use ally_core::model::{Exit, ExitReason, ProcessState};
use fixture::{at, plan};
use std::time::Duration;
use story::{PID, Story, code, ms, settled};

// When restarts come, and when there are no more.

#[test]
fn daemons_of_different_seeds_do_not_restart_in_step() {
    let mut plan = plan();
    plan.restart.jitter = 0.5;
    let delays = [1, 2, 3].map(|seed| {
        let mut story = Story::seeded(plan.clone(), seed);
        story.start();
        story.crash();
        story.scheduled()
    });
    assert!(delays[0] != delays[1] && delays[1] != delays[2], "{delays:?}");
}

#[test]
fn attempts_that_fail_follow_each_other_until_there_are_none_left() {
    let mut story = Story::started(plan());
    story.crash();
    assert_eq!((story.seen().state, story.seen().restart_attempts), (ProcessState::Starting, 1));
    story.backoff();
    story.boot();
    story.crash();
    assert_eq!(story.seen().restart_attempts, 2);
    story.backoff();
    story.boot();
    story.crash();
    assert_eq!(story.scheduled(), [(1, ms(1_000)), (2, ms(2_000))]);
    assert_eq!(story.seen().state, ProcessState::Error);
    assert_eq!(story.last_error(), "Maximum restart attempts exceeded (2): the process exited with code 1 before it was ready");
    assert_eq!(story.seen().total_restarts, 2);
}

#[test]
fn a_restart_that_becomes_ready_begins_the_count_anew() {
    let mut story = Story::started(plan());
    for _ in 0..3 {
        story.crash();
        assert_eq!(story.seen().restart_attempts, 1);
        story.backoff();
        story.up();
        assert_eq!(story.seen().restart_attempts, 0);
    }
    assert_eq!(story.scheduled(), [(1, ms(1_000)); 3]);
    assert_eq!(story.seen().total_restarts, 3);
}

/// Crashes at this time, and says whether it gave up.
fn crash_at(story: &mut Story, clock: u64) -> bool {
    story.clock = clock;
    story.crash();
    let given_up = story.seen().state == ProcessState::Error;
    if !given_up {
        story.backoff();
        story.up();
    }
    given_up
}

fn narrow() -> Plan {
    let mut plan = plan();
    plan.restart.window = Window { limit: 2, period: ms(10_000) };
    plan
}

#[test]
fn successful_restarts_count_in_the_window() {
    let mut story = Story::started(narrow());
    assert!(!crash_at(&mut story, 1_000));
    assert!(!crash_at(&mut story, 2_000));
    assert!(crash_at(&mut story, 10_999));
    assert_eq!(story.last_error(), "too many restarts: more than 2 within 10000 ms: the process exited with code 1");
    assert_eq!(story.scheduled().len(), 2);
}

#[test]
fn the_window_slides() {
    let mut story = Story::started(narrow());
    assert!(!crash_at(&mut story, 0));
    assert!(!crash_at(&mut story, 2_000));
    assert!(!crash_at(&mut story, 10_000), "the first is out of the window");
    assert!(crash_at(&mut story, 11_999));
}

#[test]
fn a_start_opens_the_window_again_and_clears_the_error() {
    let mut story = Story::started(narrow());
    assert!(!crash_at(&mut story, 0) && !crash_at(&mut story, 1) && crash_at(&mut story, 2));
    story.hear(Event::StartRequested { ticket: 2 });
    assert!(!story.last_error().is_empty(), "it has not succeeded yet");
    story.up();
    assert_eq!(story.seen().last_error, None);
    assert!(!crash_at(&mut story, 3));
}

#[test]
fn without_attempts_the_error_is_what_happened() {
    let mut plan = plan();
    plan.restart.max_attempts = 0;
    let mut story = Story::started(plan.clone());
    let mark = story.effects.len();
    story.crash();
    assert_eq!(story.states_since(mark), ["error"]);
    assert_eq!(story.last_error(), "the process exited with code 1");

    let mut story = Story::started(plan);
    let mark = story.effects.len();
    story.unhealthy();
    story.unhealthy();
    story.exit(code(0));
    assert_eq!(story.states_since(mark), ["stopping", "error"]);
    assert_eq!(story.last_error(), "unhealthy after 2 failed health checks: refused");
    assert_eq!((story.scheduled().len(), story.exit_reason()), (0, Some(ExitReason::Unhealthy)));
}

#[test]
fn code_0_is_no_failure_where_only_failures_restart() {
    let mut story = Story::started(plan());
    let mark = story.effects.len();
    let reason = story.exit(code(0)).iter().find_map(|effect| match effect {
        Effect::Notify(Notice::StateChanged { reason, .. }) => reason.clone(),
        _ => None,
    });
    assert_eq!(reason.as_deref(), Some("exited"));
    assert_eq!(story.states_since(mark), ["stopped"]);
    assert_eq!((story.seen().last_error, story.scheduled().len()), (None, 0));

    let mut always = plan();
    always.restart.on = RestartOn::Always;
    let mut story = Story::started(always);
    story.exit(code(0));
    assert_eq!((story.seen().state, story.exit_reason()), (ProcessState::Starting, Some(ExitReason::Exited)));
}

#[test]
fn a_failed_start_is_not_restarted() {
    let mut story = Story::new(plan());
    story.hear(Event::StartRequested { ticket: 1 });
    story.boot();
    let effects = story.crash().to_vec();
    assert_eq!(settled(&effects, 1), Some(&Err(Failure::StartupExit { exit: code(1), tail: String::new() })));
    assert_eq!((story.states_since(0), story.scheduled().len()), (vec!["starting", "error"], 0));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Arm { .. })), "{effects:?}");
}

// What is shown meanwhile.

#[test]
fn a_crash_shows_as_starting_and_running() {
    let mut story = Story::started(plan());
    let mark = story.effects.len();
    story.clock = 500;
    story.crash();
    let seen = story.seen();
    assert_eq!((seen.state, seen.pid, seen.restart_attempts), (ProcessState::Starting, None, 1));
    assert_eq!(seen.next_restart_at, Some(at(1_500).wall), "counted from the crash");
    story.backoff();
    story.up();
    assert_eq!(story.states_since(mark), ["starting", "running"]);
}

#[test]
fn checks_keep_their_interval_whatever_they_take() {
    let mut story = Story::started(plan());
    let generation = story.machine.generation();
    let mut next = |latency, passed: bool| {
        let event = if passed {
            Event::ProbePassed { generation, latency }
        } else {
            Event::ProbeFailed { generation, latency, error: "late".to_owned() }
        };
        story.hear(event).iter().find_map(|effect| match effect {
            Effect::Arm { timer: Timer::Probe, after, .. } => Some(*after),
            _ => None,
        })
    };
    assert_eq!(next(ms(0), true), Some(ms(10_000)));
    assert_eq!(next(ms(4_000), true), Some(ms(6_000)));
    assert_eq!(next(ms(9_000), false), Some(ms(1_000)));
    // One that took longer than the interval is followed at once.
    assert_eq!(next(ms(25_000), true), Some(ms(0)));
    assert_eq!(next(ms(25_000), false), Some(ms(0)));
}

#[test]
fn an_unhealthy_daemon_shows_as_stopping_starting_and_running() {
    let mut story = Story::started(plan());
    let mark = story.effects.len();
    story.unhealthy();
    assert_eq!((story.seen().state, story.seen().failed_health_checks), (ProcessState::Running, 1));
    story.unhealthy();
    assert_eq!((story.seen().pid, story.seen().failed_health_checks), (Some(PID), 2));
    story.exit(code(0));
    assert_eq!(story.seen().pid, None);
    story.backoff();
    story.up();
    assert_eq!(story.states_since(mark), ["stopping", "starting", "running"]);
    assert_eq!(story.seen().failed_health_checks, 0);
}

#[test]
fn the_wait_of_an_unhealthy_daemon_runs_while_it_is_stopped() {
    for (took, left) in [(400, ms(600)), (5_000, Duration::ZERO)] {
        let mut story = Story::started(plan());
        story.unhealthy();
        story.unhealthy();
        story.clock = took;
        let generation = story.machine.generation();
        let armed = Effect::Arm { timer: Timer::Backoff, generation, after: left };
        assert!(story.exit(code(0)).contains(&armed), "{:?}", story.effects);
    }
}

#[test]
fn next_restart_at_is_there_only_while_a_restart_is_pending() {
    let mut story = Story::started(plan());
    assert_eq!(story.seen().next_restart_at, None);
    story.crash();
    assert_eq!(story.seen().next_restart_at, Some(at(1_000).wall));
    story.backoff();
    assert_eq!(story.seen().next_restart_at, None, "it is not pending: it is being made");
    story.up();
    story.unhealthy();
    story.unhealthy();
    assert_eq!(story.seen().next_restart_at, Some(at(1_000).wall));
    story.hear(Event::StopRequested { ticket: 2 });
    assert_eq!(story.seen().next_restart_at, None, "the restart is off");
}

// How a stop ends.

#[test]
fn no_grace_means_sigkill_at_once() {
    let mut plan = plan();
    plan.grace = Duration::ZERO;
    let mut story = Story::started(plan);
    let generation = story.machine.generation();
    let effects = story.hear(Event::StopRequested { ticket: 2 });
    assert!(effects.contains(&Effect::Signal { generation, signal: Signal::Kill }), "{effects:?}");
    assert!(!effects.contains(&Effect::Signal { generation, signal: Signal::Terminate }), "{effects:?}");
    assert!(effects.contains(&Effect::Arm { timer: Timer::Kill, generation, after: KILL_TIMEOUT }), "{effects:?}");
}

#[test]
fn what_survives_sigkill_is_named() {
    let mut story = Story::started(plan());
    let generation = story.machine.generation();
    story.hear(Event::StopRequested { ticket: 2 });
    let effects = story.hear(Event::GraceElapsed { generation });
    assert_eq!(
        effects,
        [Effect::Signal { generation, signal: Signal::Kill }, Effect::Arm { timer: Timer::Kill, generation, after: ms(2_000) }]
    );
    let effects = story.hear(Event::KillElapsed { generation, survivors: vec![PID, 4243] }).to_vec();
    let failure = Failure::StopFailed { survivors: vec![PID, 4243] };
    assert_eq!(settled(&effects, 2), Some(&Err(failure.clone())));
    assert!(failure.message("p").contains("4242") && failure.message("p").contains("4243"), "{}", failure.message("p"));
    assert_eq!((story.seen().state, story.seen().pid), (ProcessState::Error, Some(PID)));
    assert_eq!(story.last_error(), failure.to_string());
    // When it goes at last, the name is free again.
    assert!(story.crash().ends_with(&[Effect::Release { generation }]));
    assert_eq!(story.machine.phase(), &Phase::Failed);
}

#[test]
fn a_stop_calls_a_pending_restart_off_and_keeps_the_last_error() {
    let mut story = Story::started(plan());
    story.crash();
    let mark = story.effects.len();
    story.hear(Event::StopRequested { ticket: 2 });
    assert_eq!(story.states_since(mark), ["stopping", "stopped"]);
    assert_eq!(story.last_error(), "the process exited with code 1");
    let generation = story.machine.generation();
    assert!(story.effects.contains(&Effect::Disarm { timer: Timer::Backoff, generation }));
}

#[test]
fn the_last_exit_says_why() {
    let mut story = Story::started(plan());
    story.exit(Exit { code: None, signal: Some(9) });
    let last = story.seen().last_exit.expect("it has ended");
    assert_eq!((last.pid, last.exit.signal, last.reason), (PID, Some(9), ExitReason::Crashed));

    story.backoff();
    story.boot();
    story.crash();
    assert_eq!(story.exit_reason(), Some(ExitReason::Startup));

    let mut story = Story::started(plan());
    story.hear(Event::StopRequested { ticket: 2 });
    story.crash();
    assert_eq!(story.exit_reason(), Some(ExitReason::Stopped));

    let mut story = Story::started(plan());
    story.unhealthy();
    story.unhealthy();
    story.crash();
    assert_eq!(story.exit_reason(), Some(ExitReason::Unhealthy));

    let mut story = Story::new(plan());
    story.hear(Event::StartRequested { ticket: 1 });
    story.boot();
    story.timeout();
    story.crash();
    assert_eq!(story.exit_reason(), Some(ExitReason::Startup));
}

#[test]
fn a_last_attempt_that_is_not_ready_in_time_did_not_die_unhealthy() {
    let mut plan = plan();
    plan.restart.max_attempts = 1;
    let mut story = Story::started(plan);
    story.crash();
    story.backoff();
    story.boot();
    story.timeout();
    story.crash();
    assert_eq!(story.exit_reason(), Some(ExitReason::Startup));
}

#[test]
fn a_stop_that_a_restart_follows_resolves_when_the_name_is_free() {
    let mut story = Story::started(plan());
    story.hear(Event::StopRequested { ticket: 2 });
    story.hear(Event::RestartRequested { ticket: 3 });
    let generation = story.machine.generation();
    let effects = story.crash();
    let answered = effects.iter().position(|effect| matches!(effect, Effect::Settle { ticket: 2, outcome: Ok(()) })).expect("an answer");
    assert!(effects[..answered].contains(&Effect::Release { generation }), "{effects:?}");
}

#[test]
fn a_stop_hears_of_files_that_could_not_be_removed() {
    let stays = Failure::io(std::path::Path::new("/p/daemon.pid"), "EROFS");
    for whole in [false, true] {
        let mut story = Story::started(plan());
        let generation = story.machine.generation();
        story.hear(Event::StopRequested { ticket: 2 });
        story.hear(Event::StopRequested { ticket: 3 });
        let exit = Exit { code: Some(0), signal: None };
        let leftover_file = whole.then(|| stays.clone());
        let mut effects = story.hear(Event::Exited { generation, exit, remains: !whole, tail: String::new(), leftover_file }).to_vec();
        if !whole {
            effects = story.hear(Event::TreeGone { generation, leftover_file: Some(stays.clone()) }).to_vec();
        }
        for ticket in [2, 3] {
            assert_eq!(settled(&effects, ticket), Some(&Err(stays.clone())));
        }
        // All the same, nothing runs any more, and another owner may try.
        assert!(effects.contains(&Effect::Release { generation }));
        assert_eq!((story.seen().state, story.seen().pid), (ProcessState::Stopped, None));
        assert_eq!(story.last_error(), stays.to_string());
    }
}
