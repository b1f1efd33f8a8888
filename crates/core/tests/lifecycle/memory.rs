//! `limits.maxMemory`: the restart of a daemon that uses too much memory.

use crate::support::plan::{at, plan};
use crate::support::scenario::{Scenario, code, ms};
use ally_core::lifecycle::{Effect, Notice, Plan, Timer};
use ally_core::model::{ExitReason, ProcessState};

const HOW_MUCH: &str = "memory: 200.0 MiB of 100.0 MiB (209715200 of 104857600 bytes) for 3000 ms";

#[test]
fn limits_max_memory_leads_to_stopping_starting_and_running_with_reason_memory() {
    let mut daemon = Scenario::started(plan());
    let mark = daemon.effects.len();
    daemon.over_memory();
    assert_eq!((daemon.seen().state, daemon.seen().restart_attempts), (ProcessState::Stopping, 1));
    assert_eq!(daemon.last_error(), HOW_MUCH);
    let told = daemon.effects[mark..].iter().any(|effect| {
        matches!(effect, Effect::Notify(Notice::StateChanged { to: ProcessState::Stopping, reason: Some(text), .. }) if text == HOW_MUCH)
    });
    assert!(told, "{:?}", &daemon.effects[mark..]);
    assert!(matches!(
        daemon.effects[mark..].iter().find(|effect| matches!(effect, Effect::Notify(Notice::RestartScheduled { .. }))),
        Some(Effect::Notify(Notice::RestartScheduled { attempt: 1, reason: ExitReason::Memory, .. }))
    ));
    daemon.clock = 400;
    daemon.exit(code(0));
    assert_eq!(daemon.exit_reason(), Some(ExitReason::Memory));
    assert_eq!(daemon.seen().next_restart_at, Some(at(1_000).wall), "the delay includes the time of the stop");
    daemon.backoff();
    daemon.up();
    assert_eq!(daemon.states_since(mark), ["stopping", "starting", "running"]);
    assert_eq!((daemon.seen().restart_attempts, daemon.seen().total_restarts, daemon.seen().last_error), (0, 1, None));
}

#[test]
fn limits_max_memory_counts_as_a_restart_attempt_and_in_the_window() {
    let mut daemon = Scenario::started(Plan { restart: ally_core::lifecycle::RestartPlan { max_attempts: 0, ..plan().restart }, ..plan() });
    daemon.over_memory();
    daemon.exit(code(0));
    assert_eq!((daemon.seen().state, daemon.last_error()), (ProcessState::Error, HOW_MUCH.to_owned()));
    assert_eq!(daemon.exit_reason(), Some(ExitReason::Memory));

    let mut daemon = Scenario::started(crate::support::plan::narrow());
    for _ in 0..2 {
        daemon.over_memory();
        daemon.exit(code(0));
        daemon.backoff();
        daemon.up();
    }
    daemon.over_memory();
    daemon.exit(code(0));
    assert_eq!(daemon.seen().state, ProcessState::Error);
    assert!(daemon.last_error().starts_with("too many restarts: more than 2 within 10000 ms: memory: "), "{}", daemon.last_error());
}

#[test]
fn limits_max_memory_ends_the_health_checks_and_failed_checks_end_the_watch() {
    let mut daemon = Scenario::started(plan());
    let generation = daemon.machine.generation();
    assert!(daemon.effects.contains(&Effect::WatchMemory { generation }));
    let mark = daemon.effects.len();
    daemon.over_memory();
    for effect in [Effect::StopProbe { generation }, Effect::Disarm { timer: Timer::Probe, generation }] {
        assert!(daemon.effects[mark..].contains(&effect), "{effect:?}");
    }

    let mut daemon = Scenario::started(plan());
    daemon.unhealthy();
    daemon.unhealthy();
    assert!(daemon.effects.contains(&Effect::StopWatching { generation: daemon.machine.generation() }));
    // Late: the daemon is being stopped already.
    let mark = daemon.effects.len();
    daemon.over_memory();
    assert!(daemon.effects[mark..].is_empty());
}

#[test]
fn a_daemon_without_limits_max_memory_is_not_watched() {
    let mut daemon = Scenario::started(Plan { memory: None, ..plan() });
    daemon.clock = 10;
    daemon.over_memory();
    daemon.crash();
    let watch = |effect: &&Effect| matches!(effect, Effect::WatchMemory { .. } | Effect::StopWatching { .. });
    assert_eq!((daemon.effects.iter().find(watch), daemon.scheduled()), (None, vec![(1, ms(1_000))]));
}
