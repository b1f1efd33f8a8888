//! Calls at an unusual moment: a start while a restart is pending, whenRunning, an abort after readiness.

use crate::support::events::exited;
use crate::support::plan::{narrow, plan};
use crate::support::scenario::{Scenario, code, settled};
use ally_core::error::{DependencyProblem, Failure};
use ally_core::lifecycle::{Effect, Event, Notice};
use ally_core::model::ProcessState;

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
    assert!(!daemon.crash_at(1) && !daemon.crash_at(2) && daemon.crash_at(3));
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
    daemon.on(exited(generation, code(1), true));
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
    assert_eq!(daemon.on(Event::WaitRequested { ticket: 8 }), [Effect::Settle { ticket: 8, outcome: Err(Failure::NotFound) }]);
    daemon.start();
    daemon.on(Event::StopRequested { ticket: 2 });
    daemon.crash();
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

// Another owner has the name.

fn owned() -> Failure {
    Failure::OwnedElsewhere { owner: Some(77) }
}

/// A start that is refused 5 s later, beside a wait for RUNNING. Returns the answer of the wait.
fn refused_start(daemon: &mut Scenario) -> Failure {
    daemon.clock += 5_000;
    let before = daemon.seen();
    let started = daemon.on(Event::StartRequested { ticket: 21 });
    assert!(!started.iter().any(|effect| matches!(effect, Effect::Notify(_))), "{started:?}");
    assert_eq!(daemon.seen().state, ProcessState::Starting);
    assert!(daemon.seen().known);
    daemon.on(Event::WaitRequested { ticket: 22 });
    let generation = daemon.machine.generation();
    let refused = daemon.on(Event::PrepareFailed { generation, failure: owned() }).to_vec();
    let [Effect::Withdraw { .. }, Effect::Settle { ticket: 21, outcome }, Effect::Settle { ticket: 22, outcome: Err(waited) }] =
        &refused[..]
    else {
        panic!("{refused:?}")
    };
    assert_eq!(*outcome, Err(owned()));
    assert_eq!(daemon.seen(), before);
    waited.clone()
}

#[test]
fn owned_elsewhere_leaves_an_unknown_plugin_unknown() {
    let mut daemon = Scenario::new(plan());
    assert!(!daemon.seen().known);
    for _ in 0..2 {
        assert_eq!(refused_start(&mut daemon), Failure::NotFound);
    }
    // The first start that listeners hear of is the first one.
    daemon.start();
    assert_eq!(daemon.states_since(0), ["starting", "running"]);
    assert!(daemon.effects.iter().any(|effect| matches!(effect, Effect::Notify(Notice::StateChanged { from: None, .. }))));
}

#[test]
fn owned_elsewhere_leaves_a_stopped_plugin_stopped() {
    let mut daemon = Scenario::started(plan());
    daemon.on(Event::StopRequested { ticket: 2 });
    daemon.crash();
    assert_eq!(refused_start(&mut daemon), Failure::AtRest);
}

#[test]
fn owned_elsewhere_leaves_error_its_last_error_and_counts() {
    let mut daemon = Scenario::started(plan());
    daemon.crash();
    daemon.backoff();
    for _ in 0..2 {
        let generation = daemon.machine.generation();
        daemon.on(Event::PrepareFailed { generation, failure: Failure::Internal { problem: "no luck".to_owned() } });
        daemon.backoff();
    }
    assert_eq!((daemon.seen().state, daemon.seen().restart_attempts), (ProcessState::Error, 2));
    assert!(refused_start(&mut daemon).to_string().starts_with("Maximum restart attempts exceeded"));
}

#[test]
fn owned_elsewhere_after_a_start_in_place_of_a_pending_restart_leads_to_error() {
    let mut daemon = Scenario::started(plan());
    daemon.crash();
    daemon.on(Event::StartRequested { ticket: 2 });
    let generation = daemon.machine.generation();
    daemon.on(Event::PrepareFailed { generation, failure: owned() });
    assert_eq!(daemon.seen().state, ProcessState::Error);
    assert_eq!(settled(&daemon.effects, 2), Some(&Err(owned())));
}

#[test]
fn starting_is_reported_with_its_own_time_when_the_name_is_this_owners() {
    for event in [
        Event::Prepared { generation: 1 },
        Event::PrepareFailed { generation: 1, failure: Failure::Internal { problem: "no luck".to_owned() } },
        Event::StopRequested { ticket: 2 },
        Event::Faulted { message: "no luck".to_owned() },
    ] {
        let mut daemon = Scenario::new(plan());
        daemon.clock = 10;
        daemon.on(Event::StartRequested { ticket: 1 });
        let began = daemon.seen().last_state_change;
        daemon.clock = 900;
        let effects = daemon.on(event.clone());
        let reported = effects.iter().find_map(|effect| match effect {
            Effect::Notify(Notice::StateChanged { at, to, .. }) => Some((*at, *to)),
            _ => None,
        });
        assert_eq!(reported, Some((began, ProcessState::Starting)), "{event:?}");
    }
}

#[test]
fn a_start_that_another_plugin_holds_up_changes_nothing_if_that_one_does_not_run() {
    let mut daemon = Scenario::started(plan());
    daemon.on(Event::StopRequested { ticket: 2 });
    daemon.crash();
    let before = daemon.seen();
    daemon.on(Event::StartRequested { ticket: 3 });
    let generation = daemon.machine.generation();
    let cause = Box::new(Failure::AtRest);
    let failure = Failure::Dependency { problem: DependencyProblem::NotRunning { name: "db".to_owned(), cause } };
    let effects = daemon.on(Event::PrepareFailed { generation, failure: failure.clone() }).to_vec();
    assert_eq!(settled(&effects, 3), Some(&Err(failure)));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Notify(_))), "{effects:?}");
    assert_eq!(daemon.seen(), before);
}

#[test]
fn only_an_attempt_that_a_caller_asked_for_waits_for_other_plugins() {
    let requested = |effects: &[Effect]| {
        effects.iter().find_map(|effect| match effect {
            Effect::Prepare { requested, .. } => Some(*requested),
            _ => None,
        })
    };
    let mut daemon = Scenario::new(plan());
    assert_eq!(requested(daemon.on(Event::StartRequested { ticket: 1 })), Some(true));
    daemon.up();
    daemon.crash();
    let generation = daemon.machine.generation();
    assert_eq!(requested(daemon.on(Event::BackoffElapsed { generation })), Some(false));
    daemon.up();
    daemon.on(Event::RestartRequested { ticket: 2 });
    assert_eq!(requested(daemon.crash()), Some(true));
}

#[test]
fn after_the_shutdown_began_a_running_daemon_goes_on_and_is_not_restarted() {
    let mut daemon = Scenario::started(plan());
    assert_eq!(daemon.on(Event::Closed), []);
    assert_eq!(daemon.seen().state, ProcessState::Running);
    let effects = daemon.on(Event::StartRequested { ticket: 2 }).to_vec();
    assert_eq!(settled(&effects, 2), Some(&Err(Failure::ShuttingDown)));
    daemon.crash();
    assert_eq!((daemon.seen().state, daemon.seen().next_restart_at), (ProcessState::Error, None));
    let effects = daemon.on(Event::ShutdownRequested { ticket: 3 }).to_vec();
    assert_eq!(settled(&effects, 3), Some(&Ok(())));
    assert_eq!(daemon.seen().state, ProcessState::Stopped);
}

#[test]
fn after_the_shutdown_began_a_pending_restart_is_off() {
    let mut daemon = Scenario::started(plan());
    daemon.crash();
    daemon.on(Event::Closed);
    assert_eq!((daemon.seen().state, daemon.seen().next_restart_at), (ProcessState::Stopped, None));
}
