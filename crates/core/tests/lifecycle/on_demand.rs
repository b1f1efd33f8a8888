//! Daemons that the first connection starts, and that are stopped when they have none.

use crate::support::events::exited_connected;
use crate::support::plan::on_demand;
use crate::support::scenario::{PID, Scenario, code, ms, settled};
use ally_core::error::{Code, Failure};
use ally_core::lifecycle::{Effect, Event, Notice, Phase, Signal, Timer};
use ally_core::model::{ExitReason, ProcessState};

fn armed() -> Scenario {
    let mut daemon = Scenario::new(on_demand());
    daemon.on(Event::StartRequested { ticket: 1 });
    daemon.on(Event::Prepared { generation: daemon.machine.generation() });
    daemon
}

fn connect(daemon: &mut Scenario) -> Vec<Effect> {
    daemon.on(Event::Connected { generation: daemon.machine.generation() }).to_vec()
}

fn running() -> Scenario {
    let mut daemon = armed();
    connect(&mut daemon);
    daemon.up();
    daemon
}

fn idle(daemon: &mut Scenario) -> Vec<Effect> {
    daemon.on(Event::Idle { generation: daemon.machine.generation() }).to_vec()
}

fn frozen(daemon: &mut Scenario, idle: bool) -> Vec<Effect> {
    daemon.on(Event::Frozen { generation: daemon.machine.generation(), idle }).to_vec()
}

fn reasons(effects: &[Effect]) -> Vec<Option<&str>> {
    let reasons = effects.iter().filter_map(|effect| match effect {
        Effect::Notify(Notice::StateChanged { reason, .. }) => Some(reason.as_deref()),
        _ => None,
    });
    reasons.collect()
}

fn order(effects: &[Effect], first: impl Fn(&Effect) -> bool, then: impl Fn(&Effect) -> bool) -> bool {
    let at = |matches: &dyn Fn(&Effect) -> bool| effects.iter().position(matches);
    at(&first).zip(at(&then)).is_some_and(|(first, then)| first < then)
}

#[test]
fn start_resolves_when_the_socket_listens_and_has_neither_process_nor_timer() {
    let daemon = armed();
    assert_eq!(settled(&daemon.effects, 1), Some(&Ok(())));
    let seen = daemon.seen();
    assert_eq!((seen.state, seen.armed, seen.pid), (ProcessState::Stopped, true, None));
    assert_eq!(reasons(&daemon.effects), [Some("armed")]);
    assert!(!daemon.effects.iter().any(|effect| matches!(effect, Effect::Arm { .. } | Effect::Spawn { .. })));
    let activity = daemon.machine.activity();
    assert!(activity.pending && !activity.guarded, "armed keeps the event loop alive, without a guardian");
}

#[test]
fn arming_of_a_stopped_plugin_tells_no_state_change() {
    let mut daemon = armed();
    daemon.on(Event::StopRequested { ticket: 2 });
    let mark = daemon.effects.len();
    daemon.on(Event::StartRequested { ticket: 3 });
    daemon.on(Event::Prepared { generation: daemon.machine.generation() });
    assert_eq!(daemon.states_since(mark), [""; 0]);
    assert!(daemon.seen().armed);
}

#[test]
fn first_connection_starts_the_daemon_with_reason_connection() {
    let mut daemon = armed();
    let mark = daemon.effects.len();
    let effects = connect(&mut daemon);
    assert_eq!(reasons(&effects), [Some("connection")]);
    daemon.up();
    assert_eq!(daemon.states_since(mark), ["starting", "running"]);
    assert_eq!(daemon.seen().total_restarts, 0);
}

#[test]
fn calls_on_an_armed_plugin() {
    let mut daemon = armed();
    let effects = daemon.on(Event::StartRequested { ticket: 2 }).to_vec();
    assert_eq!(settled(&effects, 2), Some(&Err(Failure::AlreadyArmed)));
    let effects = daemon.on(Event::RestartRequested { ticket: 3 }).to_vec();
    assert_eq!((settled(&effects, 3), effects.len()), (Some(&Ok(())), 1), "the socket stays");
    assert_eq!(daemon.on(Event::WaitRequested { ticket: 4 }), [], "whenRunning waits, and starts nothing");
    assert!(!daemon.seen().forgettable);
    connect(&mut daemon);
    daemon.up();
    assert_eq!(settled(&daemon.effects, 4), Some(&Ok(())));
}

#[test]
fn stop_disarms_without_a_state_change_and_rejects_when_running() {
    let mut daemon = armed();
    daemon.on(Event::WaitRequested { ticket: 2 });
    let mark = daemon.effects.len();
    daemon.on(Event::StopRequested { ticket: 3 });
    assert_eq!(daemon.states_since(mark), [""; 0]);
    assert_eq!(settled(&daemon.effects[mark..], 2), Some(&Err(Failure::AtRest)));
    assert_eq!(settled(&daemon.effects[mark..], 3), Some(&Ok(())));
    assert!(daemon.effects[mark..].contains(&Effect::Release { generation: 1 }));
    assert_eq!((daemon.seen().armed, daemon.seen().forgettable), (false, true));
    assert_eq!(connect(&mut daemon), [], "a late connection starts nothing");
}

#[test]
fn start_that_is_revoked_after_it_was_armed_is_disarmed() {
    let mut daemon = armed();
    let effects = daemon.on(Event::StartRevoked { ticket: 1, answer: 2 }).to_vec();
    assert_eq!(settled(&effects, 2), Some(&Ok(())));
    assert!(!daemon.seen().armed);
}

#[test]
fn idle_daemon_is_frozen_looked_at_and_stopped_before_it_is_let_go_on() {
    let mut daemon = running();
    let mark = daemon.effects.len();
    let effects = idle(&mut daemon);
    assert!(effects.contains(&Effect::Freeze { generation: 2 }));
    assert_eq!(daemon.seen().state, ProcessState::Running);
    let effects = frozen(&mut daemon, true);
    assert!(effects.contains(&Effect::Signal { generation: 2, signal: Signal::Terminate }));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Thaw { .. })), "SIGCONT follows the stop signal");
    let effects = daemon.exit(code(0)).to_vec();
    assert_eq!(daemon.states_since(mark), ["stopping", "stopped"]);
    assert_eq!(reasons(&daemon.effects[mark..]), [Some("idle"), Some("idle")]);
    assert_eq!(daemon.exit_reason(), Some(ExitReason::Idle));
    assert!(order(
        &effects,
        |effect| matches!(effect, Effect::Notify(Notice::Exited { .. })),
        |effect| matches!(effect, Effect::Listen { .. })
    ));
    assert!(daemon.seen().armed);
}

#[test]
fn connection_that_is_found_while_frozen_lets_the_daemon_go_on_and_the_checks_begin_anew() {
    let mut daemon = running();
    idle(&mut daemon);
    let effects = frozen(&mut daemon, false);
    for expected in [
        Effect::Thaw { generation: 2 },
        Effect::WatchIdle { generation: 2 },
        Effect::WatchMemory { generation: 2 },
        Effect::Arm { timer: Timer::Probe, generation: 2, after: ms(10_000) },
    ] {
        assert!(effects.contains(&expected), "{expected:?} in {effects:?}");
    }
    assert!(matches!(daemon.machine.phase(), Phase::Running { .. }));
}

#[test]
fn keeper_that_does_not_freeze_in_time_is_woken_and_then_the_daemon_goes_on() {
    let mut daemon = running();
    idle(&mut daemon);
    let late = Event::AcknowledgementElapsed { generation: 2 };
    assert!(daemon.on(late.clone()).contains(&Effect::WakeKeeper { generation: 2 }));
    assert!(daemon.on(late).contains(&Effect::Thaw { generation: 2 }));
    assert_eq!(frozen(&mut daemon, true), [], "a late answer stops nothing");
}

#[test]
fn reset_after_goes_on_while_the_daemon_is_frozen() {
    let mut plan = on_demand();
    plan.restart.reset_after = ms(20_000);
    let mut daemon = Scenario::new(plan);
    daemon.on(Event::StartRequested { ticket: 1 });
    daemon.on(Event::Prepared { generation: 1 });
    connect(&mut daemon);
    daemon.on(Event::Prepared { generation: 2 });
    daemon.on(Event::SpawnFailed { generation: 2, failure: Failure::Internal { problem: String::new() } });
    daemon.backoff();
    daemon.up();
    assert_eq!(daemon.seen().restart_attempts, 1);
    let mark = daemon.effects.len();
    idle(&mut daemon);
    daemon.on(Event::ResetElapsed { generation: 3 });
    assert_eq!(daemon.seen().restart_attempts, 0);
    frozen(&mut daemon, false);
    let touched = |effect: &Effect| matches!(effect, Effect::Arm { timer: Timer::Reset, .. } | Effect::Disarm { timer: Timer::Reset, .. });
    assert!(!daemon.effects[mark..].iter().any(touched));
}

#[test]
fn daemon_that_ends_by_itself_with_code_0_is_armed_again() {
    let mut daemon = running();
    let mark = daemon.effects.len();
    let generation = daemon.machine.generation();
    daemon.on(exited_connected(generation, code(0), false));
    assert_eq!(reasons(&daemon.effects[mark..]), [Some("exited")]);
    assert!(daemon.seen().armed && daemon.scheduled().is_empty());
}

#[test]
fn crash_without_a_connection_arms_again_and_one_with_a_connection_restarts() {
    let mut daemon = running();
    let mark = daemon.effects.len();
    daemon.crash();
    assert_eq!(reasons(&daemon.effects[mark..]), [Some("crashed")]);
    assert!(daemon.seen().armed && daemon.scheduled().is_empty());
    connect(&mut daemon);
    daemon.up();
    let generation = daemon.machine.generation();
    daemon.on(exited_connected(generation, code(1), false));
    assert_eq!((daemon.seen().state, daemon.scheduled().len()), (ProcessState::Starting, 1));
}

#[test]
fn crashes_without_a_connection_count_in_the_window() {
    let mut daemon = running();
    for _ in 0..on_demand().restart.window.limit {
        daemon.crash();
        assert!(daemon.seen().armed);
        daemon.clock += 2_000;
        connect(&mut daemon);
        daemon.up();
    }
    daemon.crash();
    assert_eq!((daemon.seen().state, daemon.seen().armed), (ProcessState::Error, false));
}

#[test]
fn failure_before_ready_restarts_under_the_policy_and_then_ends_in_error() {
    let mut daemon = armed();
    daemon.on(Event::WaitRequested { ticket: 2 });
    connect(&mut daemon);
    daemon.boot();
    daemon.on(exited_connected(daemon.machine.generation(), code(1), false));
    for _ in 0..on_demand().restart.max_attempts {
        assert_eq!(daemon.seen().state, ProcessState::Starting);
        daemon.backoff();
        daemon.boot();
        daemon.on(exited_connected(daemon.machine.generation(), code(1), false));
    }
    assert_eq!((daemon.seen().state, daemon.seen().armed), (ProcessState::Error, false));
    assert!(daemon.effects.iter().any(|effect| matches!(effect, Effect::Release { .. })), "the socket closes");
    assert!(matches!(settled(&daemon.effects, 2), Some(Err(Failure::AttemptsExhausted { .. }))));
}

#[test]
fn restart_attempts_are_reset_when_armed() {
    let mut daemon = armed();
    connect(&mut daemon);
    daemon.boot();
    daemon.on(exited_connected(daemon.machine.generation(), code(1), false));
    assert_eq!(daemon.seen().restart_attempts, 1);
    daemon.on(Event::StopRequested { ticket: 2 });
    daemon.on(Event::StartRequested { ticket: 3 });
    daemon.on(Event::Prepared { generation: daemon.machine.generation() });
    assert_eq!((daemon.seen().armed, daemon.seen().restart_attempts), (true, 0));
}

#[test]
fn more_than_20_activations_in_10_s_end_in_error() {
    let mut plan = on_demand();
    plan.restart.window.limit = 100;
    let mut daemon = Scenario::new(plan);
    daemon.on(Event::StartRequested { ticket: 1 });
    daemon.on(Event::Prepared { generation: 1 });
    for _ in 0..20 {
        connect(&mut daemon);
        daemon.up();
        daemon.exit(code(0));
        assert!(daemon.seen().armed);
    }
    connect(&mut daemon);
    assert_eq!((daemon.seen().state, daemon.seen().armed), (ProcessState::Error, false));
    assert!(daemon.last_error().contains("20"), "{}", daemon.last_error());
}

#[test]
fn after_the_shutdown_began_an_idle_daemon_serves_on() {
    let mut daemon = running();
    idle(&mut daemon);
    let effects = daemon.on(Event::Closed).to_vec();
    assert!(effects.contains(&Effect::Thaw { generation: 2 }));
    assert!(!effects.contains(&Effect::WatchIdle { generation: 2 }));
    assert_eq!(idle(&mut daemon), []);
    assert_eq!(daemon.seen().pid, Some(PID));
}

#[test]
fn arming_that_fails_is_an_error_and_one_that_another_owner_refuses_changes_nothing() {
    let mut daemon = Scenario::new(on_demand());
    daemon.on(Event::StartRequested { ticket: 1 });
    daemon.on(Event::PrepareFailed { generation: 1, failure: Failure::OwnedElsewhere { owner: Some(9) } });
    assert_eq!((daemon.seen().known, daemon.states_since(0)), (false, vec![]));
    daemon.on(Event::StartRequested { ticket: 2 });
    daemon.on(Event::PrepareFailed { generation: 2, failure: Failure::io(std::path::Path::new("/p"), "EROFS") });
    assert_eq!(daemon.seen().state, ProcessState::Error);
    assert_eq!(settled(&daemon.effects, 2).and_then(|outcome| outcome.as_ref().err()).map(Failure::code), Some(Code::Io));
}
