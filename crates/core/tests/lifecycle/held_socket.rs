//! `socket: 'manager'`: a socket that the daemon can't serve any more.

use crate::support::events::{shut_down, taken};
use crate::support::plan::plan;
use crate::support::scenario::{Scenario, code};
use ally_core::error::Code;
use ally_core::lifecycle::{Effect, Event, Timer};
use ally_core::model::{ExitReason, ProcessState};

#[test]
fn socket_that_was_shut_down_restarts_the_daemon_as_an_unhealthy_one() {
    let mut daemon = Scenario::started(plan());
    let (mark, generation) = (daemon.effects.len(), daemon.machine.generation());
    daemon.socket_lost(shut_down());
    assert_eq!((daemon.seen().state, daemon.seen().restart_attempts), (ProcessState::Stopping, 1));
    assert_eq!(daemon.last_error(), "it has shut down the socket that it was given (/run/p.sock)");
    for effect in
        [Effect::StopProbe { generation }, Effect::Disarm { timer: Timer::Probe, generation }, Effect::StopWatching { generation }]
    {
        assert!(daemon.effects[mark..].contains(&effect), "{effect:?}");
    }
    daemon.exit(code(0));
    assert_eq!(daemon.exit_reason(), Some(ExitReason::Unhealthy));
    daemon.backoff();
    daemon.up();
    assert_eq!(daemon.states_since(mark), ["stopping", "starting", "running"]);
}

#[test]
fn socket_that_was_shut_down_before_ready_fails_the_start_and_during_a_stop_changes_nothing() {
    let mut daemon = Scenario::started(plan());
    daemon.crash();
    daemon.backoff();
    let mark = daemon.effects.len();
    // No process yet.
    daemon.socket_lost(shut_down());
    assert!(daemon.effects[mark..].is_empty());

    let mut daemon = Scenario::started(plan());
    daemon.on(Event::StopRequested { ticket: 2 });
    let mark = daemon.effects.len();
    daemon.socket_lost(shut_down());
    assert!(daemon.effects[mark..].is_empty());
}

#[test]
fn socket_that_another_process_has_taken_ends_in_error_without_a_restart() {
    let mut daemon = Scenario::started(plan());
    daemon.socket_lost(taken());
    daemon.exit(code(0));
    assert_eq!((daemon.seen().state, daemon.seen().restart_attempts), (ProcessState::Error, 0));
    assert_eq!(daemon.last_error(), "socket /run/p.sock is in use by process 77");
    assert_eq!(taken().code(), Code::SocketInUse);
}
