//! Upgrades beside the daemon, and in turn.

use crate::support::events::{exited, exited_connected, unwritable};
use crate::support::plan::{on_demand, plan, upgraded};
use crate::support::scenario::{PID, Scenario, code, ms, settled};
use ally_core::error::{Code, Failure};
use ally_core::lifecycle::{Effect, Event, Notice, Phase, Plan, Signal, Timer};
use ally_core::model::{ExitReason, ProcessState};

const NEW: i32 = 5_000;
const UPGRADE: u64 = 7;

fn request(daemon: &mut Scenario, beside: bool) -> Vec<Effect> {
    daemon.on(Event::UpgradeRequested { ticket: UPGRADE, plan: Box::new(upgraded()), beside }).to_vec()
}

/// The new generation is up to this stage of a start.
fn boot_successor(daemon: &mut Scenario) {
    daemon.on(Event::Prepared { generation: 2 });
    daemon.on(Event::Spawned { generation: 2, pid: NEW });
}

fn prove_successor(daemon: &mut Scenario) {
    boot_successor(daemon);
    daemon.on(Event::Ready { generation: 2 });
    daemon.on(Event::ProbePassed { generation: 2, latency: ms(1) });
}

fn upgrading() -> Scenario {
    let mut daemon = Scenario::started(plan());
    request(&mut daemon, true);
    daemon
}

fn changed_over() -> Scenario {
    let mut daemon = upgrading();
    prove_successor(&mut daemon);
    daemon.on(Event::ChangedOver { generation: 2 });
    daemon
}

fn outcome(daemon: &Scenario) -> Option<Result<(), Code>> {
    settled(&daemon.effects, UPGRADE).map(|outcome| outcome.as_ref().copied().map_err(Failure::code))
}

fn adopted(effects: &[Effect]) -> Vec<u64> {
    let adopted = effects.iter().filter_map(|effect| match effect {
        Effect::Adopt { generation } => Some(*generation),
        _ => None,
    });
    adopted.collect()
}

fn position(effects: &[Effect], wanted: &Effect) -> usize {
    effects.iter().position(|effect| effect == wanted).unwrap_or_else(|| panic!("{wanted:?} in {effects:?}"))
}

// Beside.

#[test]
fn new_generation_starts_beside_the_old_one_which_does_not_notice() {
    let mut daemon = upgrading();
    let mark = daemon.effects.len();
    boot_successor(&mut daemon);
    daemon.on(Event::Ready { generation: 2 });
    assert_eq!((daemon.seen().state, daemon.seen().pid), (ProcessState::Running, Some(PID)));
    assert_eq!(adopted(&daemon.effects), [0; 0]);
    let touches_old = |effect: &Effect| matches!(effect, Effect::Signal { generation: 1, .. } | Effect::Freeze { generation: 1 });
    assert!(!daemon.effects[mark..].iter().any(touches_old));
}

#[test]
fn upgrade_changes_over_after_one_health_check_and_resolves_when_the_old_one_is_gone() {
    let mut daemon = upgrading();
    let mark = daemon.effects.len();
    boot_successor(&mut daemon);
    assert!(daemon.on(Event::Ready { generation: 2 }).contains(&Effect::StartProbe { generation: 2 }));
    assert!(daemon.on(Event::ProbePassed { generation: 2, latency: ms(1) }).contains(&Effect::ChangeOver { generation: 2 }));
    assert_eq!(daemon.seen().pid, Some(PID), "until the change-over the old one's");
    daemon.on(Event::ChangedOver { generation: 2 });
    assert_eq!((daemon.seen().pid, adopted(&daemon.effects)), (Some(NEW), vec![2]));
    daemon.on(Event::Drained { generation: 1, left: 0 });
    assert_eq!(outcome(&daemon), None, "the old one is not gone");
    daemon.on(exited(1, code(0), false));
    assert_eq!(outcome(&daemon), Some(Ok(())));
    assert_eq!(daemon.states_since(mark), [""; 0], "the state stays RUNNING throughout");
    assert_eq!(daemon.exit_reason(), Some(ExitReason::Upgraded));
    let effects = &daemon.effects;
    let stop = position(effects, &Effect::Signal { generation: 1, signal: Signal::Terminate });
    assert!(position(effects, &Effect::Drain { generation: 1 }) < stop, "the old one works its queue off first");
    assert!(position(effects, &Effect::Discard { generation: 1 }) > stop);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Release { .. })), "the name is kept");
}

#[test]
fn connections_that_the_old_one_leaves_are_reported() {
    let mut daemon = changed_over();
    let effects = daemon.on(Event::Drained { generation: 1, left: 3 }).to_vec();
    assert!(effects.contains(&Effect::Notify(Notice::NotDrained { left: 3 })));
    assert!(effects.contains(&Effect::Signal { generation: 1, signal: Signal::Terminate }));
}

#[test]
fn each_generation_is_stopped_within_the_grace_period_of_its_own_configuration() {
    let mut daemon = changed_over();
    let effects = daemon.on(Event::Drained { generation: 1, left: 0 }).to_vec();
    assert!(effects.contains(&Effect::Arm { timer: Timer::Grace, generation: 1, after: plan().grace }));
    let effects = daemon.on(Event::StopRequested { ticket: 8 }).to_vec();
    assert!(effects.contains(&Effect::Arm { timer: Timer::Grace, generation: 2, after: upgraded().grace }));
}

#[test]
fn failed_successor_is_err_upgrade_and_the_old_one_is_checked_again() {
    let mut daemon = upgrading();
    boot_successor(&mut daemon);
    let effects = daemon.on(exited(2, code(3), false)).to_vec();
    let Some(Err(Failure::Upgrade { cause })) = settled(&effects, UPGRADE) else { panic!("{effects:?}") };
    assert_eq!(**cause, Failure::StartupExit { exit: code(3), tail: String::new() });
    assert!(effects.contains(&Effect::Arm { timer: Timer::Probe, generation: 1, after: ms(10_000) }));
    assert!(effects.contains(&Effect::WatchMemory { generation: 1 }));
    assert_eq!((daemon.seen().pid, daemon.seen().last_error, adopted(&daemon.effects)), (Some(PID), None, vec![]));
    assert_eq!(effects.iter().filter(|effect| **effect == Effect::Discard { generation: 2 }).count(), 1);
}

#[test]
fn successor_out_of_time_is_stopped_before_the_upgrade_rejects() {
    let mut daemon = upgrading();
    boot_successor(&mut daemon);
    daemon.on(Event::StartupElapsed { generation: 2, last_problem: None, tail: String::new() });
    assert_eq!(outcome(&daemon), None);
    daemon.on(exited(2, code(0), false));
    assert_eq!(outcome(&daemon), Some(Err(Code::Upgrade)));
}

#[test]
fn successor_that_fails_its_health_checks_fails_the_upgrade() {
    let mut daemon = upgrading();
    boot_successor(&mut daemon);
    daemon.on(Event::Ready { generation: 2 });
    let failed = Event::ProbeFailed { generation: 2, latency: ms(1), error: "refused".to_owned() };
    daemon.on(failed.clone());
    daemon.on(Event::ProbeDue { generation: 2 });
    daemon.on(failed);
    daemon.on(exited(2, code(0), false));
    assert_eq!(outcome(&daemon), Some(Err(Code::Upgrade)));
}

#[test]
fn change_over_that_fails_leaves_the_old_one() {
    let mut daemon = upgrading();
    prove_successor(&mut daemon);
    daemon.on(Event::ChangeOverFailed { generation: 2, failure: unwritable() });
    daemon.on(exited(2, code(0), false));
    assert_eq!((outcome(&daemon), daemon.seen().pid), (Some(Err(Code::Upgrade)), Some(PID)));
}

#[test]
fn exit_during_the_change_over_is_that_of_a_successor_or_of_the_daemon_as_the_answer_says() {
    let mut before = upgrading();
    prove_successor(&mut before);
    assert_eq!(before.on(exited(2, code(1), false)), []);
    before.on(Event::ChangeOverFailed { generation: 2, failure: unwritable() });
    assert_eq!((outcome(&before), before.seen().pid), (Some(Err(Code::Upgrade)), Some(PID)));

    let mut after = upgrading();
    prove_successor(&mut after);
    after.on(exited(2, code(1), false));
    after.on(Event::ChangedOver { generation: 2 });
    assert_eq!((after.seen().state, after.scheduled().len()), (ProcessState::Starting, 1), "an ordinary crash");
    assert_eq!(after.seen().last_exit.map(|exit| (exit.pid, exit.reason)), Some((NEW, ExitReason::Crashed)));
}

#[test]
fn crash_of_the_old_one_schedules_no_restart_and_the_new_one_is_waited_for() {
    let mut daemon = upgrading();
    let mark = daemon.effects.len();
    daemon.crash();
    assert_eq!((daemon.seen().state, daemon.seen().pid), (ProcessState::Starting, None));
    assert_eq!((daemon.exit_reason(), daemon.scheduled().len()), (Some(ExitReason::Crashed), 0));
    prove_successor(&mut daemon);
    daemon.on(Event::ChangedOver { generation: 2 });
    assert_eq!(daemon.states_since(mark), ["starting", "running"]);
    assert_eq!(outcome(&daemon), Some(Ok(())));
    assert_eq!(daemon.seen().last_error, None);
}

#[test]
fn who_waits_hears_of_a_new_one_that_ran_for_a_moment_only() {
    let mut daemon = upgrading();
    daemon.crash();
    daemon.on(Event::WaitRequested { ticket: 9 });
    prove_successor(&mut daemon);
    daemon.on(exited(2, code(1), false));
    let mark = daemon.effects.len();
    daemon.on(Event::ChangedOver { generation: 2 });
    assert_eq!(daemon.states_since(mark), ["running", "starting"]);
    assert_eq!((outcome(&daemon), settled(&daemon.effects, 9)), (Some(Ok(())), Some(&Ok(()))));
}

#[test]
fn if_both_fail_the_old_configuration_restarts_as_the_attempt_of_the_crash() {
    let mut daemon = upgrading();
    daemon.crash();
    boot_successor(&mut daemon);
    daemon.on(exited(2, code(1), false));
    assert_eq!(outcome(&daemon), Some(Err(Code::Upgrade)));
    assert_eq!((daemon.scheduled(), adopted(&daemon.effects)), (vec![(1, ms(1_000))], vec![]));
}

#[test]
fn crash_with_a_connection_during_an_upgrade_restarts_a_daemon_on_demand() {
    let mut daemon = Scenario::new(on_demand());
    daemon.on(Event::StartRequested { ticket: 1 });
    daemon.on(Event::Prepared { generation: 1 });
    daemon.on(Event::Connected { generation: 1 });
    daemon.up();
    request(&mut daemon, true);
    daemon.on(exited_connected(2, code(1), false));
    daemon.on(Event::PrepareFailed { generation: 3, failure: unwritable() });
    assert_eq!((daemon.seen().armed, daemon.scheduled().len()), (false, 1));
}

#[test]
fn crash_after_the_change_over_is_an_ordinary_one_under_the_new_configuration() {
    let mut daemon = changed_over();
    daemon.crash();
    assert_eq!((daemon.seen().state, daemon.scheduled().len()), (ProcessState::Starting, 1));
    daemon.on(exited(1, code(0), false));
    assert_eq!(outcome(&daemon), Some(Ok(())), "the old one is gone");
    daemon.backoff();
    assert_eq!(adopted(&daemon.effects), [2], "there is no return to the old configuration");
}

#[test]
fn second_upgrade_and_a_restart_meanwhile_are_refused() {
    let mut daemon = upgrading();
    let effects = daemon.on(Event::UpgradeRequested { ticket: 8, plan: Box::new(plan()), beside: true }).to_vec();
    assert_eq!(settled(&effects, 8), Some(&Err(Failure::AlreadyUpgrading)));
    let effects = daemon.on(Event::RestartRequested { ticket: 9 }).to_vec();
    assert_eq!(settled(&effects, 9), Some(&Err(Failure::AlreadyUpgrading)));
}

#[test]
fn stop_during_an_upgrade_ends_both_and_releases_the_name_after_the_last_tree() {
    let mut daemon = upgrading();
    boot_successor(&mut daemon);
    let mark = daemon.effects.len();
    daemon.on(Event::StopRequested { ticket: 8 });
    daemon.exit(code(0));
    assert_eq!((outcome(&daemon), settled(&daemon.effects, 8)), (None, None));
    daemon.on(exited(2, code(0), false));
    assert_eq!((outcome(&daemon), settled(&daemon.effects, 8)), (Some(Err(Code::Stopped)), Some(&Ok(()))));
    assert_eq!(daemon.states_since(mark), ["stopping", "stopped"]);
    let effects = &daemon.effects[mark..];
    assert!(position(effects, &Effect::Discard { generation: 2 }) < position(effects, &Effect::Release { generation: 1 }));
}

#[test]
fn successor_that_failed_before_the_stop_fails_the_upgrade_with_its_own_failure() {
    let mut daemon = upgrading();
    boot_successor(&mut daemon);
    daemon.on(Event::NotReady { generation: 2, failure: unwritable() });
    daemon.on(Event::StopRequested { ticket: 8 });
    daemon.on(exited(2, code(0), false));
    daemon.exit(code(0));
    assert_eq!(outcome(&daemon), Some(Err(Code::Upgrade)));
}

#[test]
fn shutdown_gives_the_successor_up_and_the_old_one_serves_on() {
    let mut daemon = upgrading();
    daemon.on(Event::Closed);
    assert_eq!((outcome(&daemon), daemon.seen().pid), (Some(Err(Code::Stopped)), Some(PID)));
    assert!(matches!(daemon.machine.phase(), Phase::Running { .. }));
}

#[test]
fn shutdown_waits_for_a_change_over_that_has_begun() {
    let mut daemon = upgrading();
    prove_successor(&mut daemon);
    assert_eq!(daemon.on(Event::Closed), []);
    daemon.on(Event::ChangedOver { generation: 2 });
    assert_eq!(daemon.seen().pid, Some(NEW));
}

#[test]
fn old_one_that_sigkill_does_not_end_fails_the_upgrade_while_the_new_one_serves() {
    let mut daemon = changed_over();
    daemon.on(Event::Drained { generation: 1, left: 0 });
    daemon.on(Event::GraceElapsed { generation: 1 });
    daemon.on(Event::KillElapsed { generation: 1, survivors: vec![PID] });
    assert_eq!((outcome(&daemon), daemon.seen().pid), (Some(Err(Code::StopFailed)), Some(NEW)));
    daemon.on(Event::StopRequested { ticket: 8 });
    daemon.exit(code(0));
    assert!(!daemon.effects.iter().any(|effect| matches!(effect, Effect::Release { .. })), "a tree lives");
    daemon.on(exited(1, code(0), false));
    assert_eq!(settled(&daemon.effects, 8), Some(&Ok(())));
    assert!(daemon.effects.contains(&Effect::Release { generation: 2 }));
}

#[test]
fn two_trees_that_sigkill_does_not_end_hold_the_name_until_the_last_one_is_gone() {
    let mut daemon = upgrading();
    boot_successor(&mut daemon);
    daemon.on(Event::StopRequested { ticket: 8 });
    for generation in [1, 2] {
        daemon.on(Event::GraceElapsed { generation });
    }
    daemon.exit(code(0));
    daemon.on(Event::KillElapsed { generation: 2, survivors: vec![NEW] });
    assert_eq!(daemon.seen().state, ProcessState::Error);
    assert!(!daemon.effects.iter().any(|effect| matches!(effect, Effect::Release { .. })));
    daemon.on(exited(2, code(0), false));
    assert!(daemon.effects.contains(&Effect::Release { generation: 1 }));
}

// Without a process.

#[test]
fn upgrade_of_a_plugin_that_does_not_run_is_a_start() {
    let mut daemon = Scenario::new(plan());
    request(&mut daemon, true);
    assert_eq!(adopted(&daemon.effects).len(), 1);
    daemon.up();
    assert_eq!((outcome(&daemon), daemon.seen().state), (Some(Ok(())), ProcessState::Running));
}

#[test]
fn upgrade_of_an_armed_plugin_arms_it_anew() {
    let mut daemon = Scenario::new(on_demand());
    daemon.on(Event::StartRequested { ticket: 1 });
    daemon.on(Event::Prepared { generation: 1 });
    let mark = daemon.effects.len();
    let changed = Plan { grace: upgraded().grace, ..on_demand() };
    daemon.on(Event::UpgradeRequested { ticket: UPGRADE, plan: Box::new(changed), beside: true });
    daemon.on(Event::Prepared { generation: 2 });
    assert_eq!((outcome(&daemon), daemon.seen().armed), (Some(Ok(())), true));
    assert_eq!((adopted(&daemon.effects).len(), daemon.states_since(mark)), (1, vec![]));
}

// In turn.

fn in_turn() -> Scenario {
    let mut daemon = Scenario::started(plan());
    request(&mut daemon, false);
    daemon
}

#[test]
fn in_turn_the_old_one_is_stopped_then_the_new_configuration_starts() {
    let mut daemon = in_turn();
    let effects = daemon.exit(code(0)).to_vec();
    assert_eq!(daemon.exit_reason(), Some(ExitReason::Upgraded));
    let prepare = Effect::Prepare { generation: 2, requested: true, succeeds: None };
    assert!(position(&effects, &Effect::Adopt { generation: 1 }) < position(&effects, &prepare));
    daemon.up();
    assert_eq!((outcome(&daemon), adopted(&daemon.effects).len()), (Some(Ok(())), 1));
}

#[test]
fn in_turn_a_failed_new_one_brings_the_old_configuration_back_before_the_upgrade_rejects() {
    let mut daemon = in_turn();
    daemon.exit(code(0));
    daemon.boot();
    daemon.crash();
    assert_eq!((outcome(&daemon), adopted(&daemon.effects).len()), (None, 2));
    assert!(daemon.last_error().contains("exited"), "{}", daemon.last_error());
    daemon.up();
    assert_eq!((outcome(&daemon), daemon.seen().state), (Some(Err(Code::Upgrade)), ProcessState::Running));
    let effects = daemon.on(Event::StopRequested { ticket: 8 }).to_vec();
    assert!(effects.contains(&Effect::Arm { timer: Timer::Grace, generation: 3, after: plan().grace }));
}

#[test]
fn in_turn_a_stop_leaves_the_old_configuration() {
    let mut daemon = in_turn();
    daemon.exit(code(0));
    daemon.boot();
    let effects = daemon.on(Event::StopRequested { ticket: 8 }).to_vec();
    assert!(effects.contains(&Effect::Arm { timer: Timer::Grace, generation: 2, after: upgraded().grace }), "it is the new one's tree");
    daemon.exit(code(0));
    assert_eq!((outcome(&daemon), adopted(&daemon.effects).len()), (Some(Err(Code::Stopped)), 2));
}
