//! The rules of sharing, one by one.

use std::time::Duration;

use ally_core::error::Failure;
use ally_core::lifecycle::holds::DaemonState::{Armed, Error, Running, Stopped, Stopping};
use ally_core::lifecycle::holds::{Fit, HoldEvent, Session};

use crate::support::plugin::{PENDING, PREPARING, Plugin, SPAWNED, exited, settled, start, start_differing, start_lingering, timed_out};

const fn let_go(session: Session, request: u64) -> HoldEvent {
    HoldEvent::LetGo { session, request }
}

const fn everywhere(session: Session, request: u64) -> HoldEvent {
    HoldEvent::Everywhere { by: Some((session, request)) }
}

const fn ended(session: Session) -> HoldEvent {
    HoldEvent::SessionEnded { session }
}

const fn wait(session: Session, request: u64) -> HoldEvent {
    HoldEvent::Wait { session, request }
}

const fn abort(session: Session, request: u64) -> HoldEvent {
    HoldEvent::Abort { session, request }
}

const fn restart(session: Session, request: u64) -> HoldEvent {
    HoldEvent::Restart { session, request }
}

#[test]
fn shared_start_makes_the_daemon_once_and_an_equal_one_waits_with_it() {
    let mut plugin = Plugin::default();
    assert_eq!(plugin.on(start(1)), "call 1: start of 1; attach 1");
    assert_eq!(plugin.on(start(2)), "attach 2");
    assert_eq!(
        plugin.all([HoldEvent::Daemon(PREPARING), HoldEvent::Daemon(SPAWNED)]),
        "extend call 1 by 2000 ms; arm timeout 1 1000 ms; arm timeout 2 2000 ms"
    );
    // A later one has its whole time too.
    assert_eq!(plugin.on(start(3)), "attach 3; extend call 1 by 3000 ms; arm timeout 3 3000 ms");
    assert_eq!(plugin.on(HoldEvent::Daemon(Running)), "");
    let all = "disarm timeout 1; answer 1/1 ok; disarm timeout 2; answer 2/2 ok; disarm timeout 3; answer 3/3 ok";
    assert_eq!(plugin.on(settled(1, Ok(()))), all);
    assert_eq!(plugin.sessions(), [1, 2, 3]);
}

#[test]
fn shared_start_that_fails_rejects_for_all_with_one_failure_and_they_still_have_the_plugin() {
    let mut plugin = Plugin::default();
    plugin.all([start(1), start(2), HoldEvent::Daemon(PREPARING), HoldEvent::Daemon(Error)]);
    assert_eq!(plugin.on(settled(1, Err(exited()))), "answer 1/1 ERR_STARTUP_EXIT; answer 2/2 ERR_STARTUP_EXIT");
    assert_eq!(plugin.sessions(), [1, 2]);
    assert!(plugin.holds.keeps_host());
}

#[test]
fn shared_start_that_is_refused_leaves_its_session_without_the_plugin() {
    let mut plugin = Plugin::default();
    plugin.all([start(1), HoldEvent::Daemon(PREPARING), HoldEvent::Daemon(Stopped)]);
    assert_eq!(
        plugin.on(settled(1, Err(Failure::OwnedElsewhere { owner: Some(7) }))),
        "answer 1/1 ERR_OWNED_ELSEWHERE; detach 1 Refused; forget"
    );
    assert!(!plugin.holds.keeps_host());
}

#[test]
fn shared_start_of_a_running_or_armed_daemon_attaches_and_resolves() {
    let mut plugin = Plugin::running([start(1)]);
    assert_eq!(plugin.on(start(2)), "attach 2; answer 2/2 ok");
    plugin.on(HoldEvent::Daemon(Armed));
    assert_eq!(plugin.on(start(3)), "attach 3; answer 3/3 ok");
}

#[test]
fn shared_start_during_an_upgrade_attaches_to_the_serving_daemon() {
    let mut plugin = Plugin::running([start(1)]);
    assert_eq!(plugin.on(HoldEvent::Upgrade { session: 1, request: 9, linger: None }), "call 2: upgrade of 9");
    assert_eq!(plugin.on(start(2)), "attach 2; answer 2/2 ok");
    assert_eq!(plugin.on(settled(2, Ok(()))), "answer 1/9 ok");
}

#[test]
fn shared_start_with_another_configuration_names_the_fields_and_says_whether_an_upgrade_changed_them() {
    let mut plugin = Plugin::running([start(1)]);
    assert_eq!(plugin.on(start_differing(2)), "answer 2/2 differs: args[0]");
    let fit = Fit::Differs { fields: vec!["envVars.A".to_owned()], upgraded: true };
    let other = HoldEvent::Start { session: 3, request: 3, fit, timeout: Duration::from_secs(1), linger: Duration::ZERO };
    assert_eq!(plugin.on(other), "answer 3/3 differs: envVars.A, upgraded");
    assert_eq!(plugin.sessions(), [1]);
}

#[test]
fn shared_start_of_a_session_that_has_the_daemon_is_refused_as_already_running() {
    let mut plugin = Plugin::default();
    plugin.on(start(1));
    let again = HoldEvent::Start { session: 1, request: 8, fit: Fit::Equal, timeout: Duration::from_secs(1), linger: Duration::ZERO };
    assert_eq!(plugin.on(again.clone()), "answer 1/8 ERR_ALREADY_RUNNING");
    plugin.all([HoldEvent::Daemon(Running), settled(1, Ok(()))]);
    assert_eq!(plugin.on(again), "answer 1/8 ERR_ALREADY_RUNNING");
}

#[test]
fn shared_start_while_a_restart_is_pending_begins_at_once_for_all() {
    let mut plugin = Plugin::running([start(1), start(2)]);
    plugin.on(HoldEvent::Daemon(PENDING));
    assert_eq!(plugin.on(start(3)), "call 2: start of 3; attach 3");
    // A session that has the plugin joins it.
    assert_eq!(plugin.on(start(1)), "answer 1/1 ERR_ALREADY_RUNNING");
    plugin.all([HoldEvent::Daemon(PREPARING), HoldEvent::Daemon(Running)]);
    assert_eq!(plugin.on(settled(2, Ok(()))), "answer 3/3 ok");
    plugin.on(HoldEvent::Daemon(PENDING));
    assert_eq!(plugin.on(start(1)), "call 3: start of 1; attach 1");
}

#[test]
fn shared_start_while_a_restart_is_pending_with_another_configuration_needs_the_plugin_for_itself() {
    let mut plugin = Plugin::running([start(1), start(2)]);
    plugin.on(HoldEvent::Daemon(PENDING));
    assert_eq!(plugin.on(start_differing(3)), "answer 3/3 differs: args[0]");
    assert_eq!(plugin.on(start_differing(2)), "answer 2/2 differs: args[0]");
    plugin.on(let_go(1, 9));
    assert_eq!(plugin.on(start_differing(2)), "call 2: start of 2; attach 2");
}

#[test]
fn shared_start_while_the_last_session_stops_waits_for_the_end_and_then_makes_its_own_daemon() {
    let mut plugin = Plugin::running([start(1)]);
    assert_eq!(plugin.on(let_go(1, 9)), "detach 1 LetGo; call 2: stop");
    plugin.on(HoldEvent::Daemon(Stopping));
    assert_eq!(plugin.all([start_differing(2), start(3)]), "");
    // The stop is answered by the end of the old daemon, before the new one is there.
    assert_eq!(plugin.all([HoldEvent::Daemon(Stopped), settled(2, Ok(()))]), "answer 1/9 ok; call 3: start of 2; attach 2; again 3/3");
}

#[test]
fn shared_start_while_it_is_stopped_everywhere_waits_also_for_the_session_that_stops_it() {
    let mut plugin = Plugin::running([start(1), start(2)]);
    assert_eq!(plugin.on(everywhere(3, 9)), "call 2: stop");
    plugin.on(HoldEvent::Daemon(Stopping));
    assert_eq!(plugin.on(start(2)), "answer 2/2 ERR_ALREADY_RUNNING");
    assert_eq!(plugin.on(start(3)), "");
    assert_eq!(
        plugin.all([HoldEvent::Daemon(Stopped), settled(2, Ok(()))]),
        "detach 1 Everywhere; detach 2 Everywhere; answer 3/9 ok; call 3: start of 3; attach 3"
    );
}

#[test]
fn shared_start_while_a_session_restarts_waits_for_the_restart() {
    let mut plugin = Plugin::running([start(1)]);
    assert_eq!(plugin.on(restart(1, 9)), "call 2: restart");
    plugin.on(HoldEvent::Daemon(Stopping));
    assert_eq!(plugin.on(start(2)), "attach 2; call 3: use");
    assert_eq!(plugin.all([HoldEvent::Daemon(PREPARING), HoldEvent::Daemon(SPAWNED)]), "arm timeout 2 2000 ms");
    assert_eq!(
        plugin.all([HoldEvent::Daemon(Running), settled(2, Ok(())), settled(3, Ok(()))]),
        "answer 1/9 ok; disarm timeout 2; answer 2/2 ok"
    );
}

#[test]
fn shared_start_after_an_error_or_an_end_by_itself_is_made_anew_with_its_own_configuration() {
    for rest in [Error, Stopped] {
        let mut plugin = Plugin::running([start(1)]);
        assert_eq!(plugin.on(HoldEvent::Daemon(rest)), "", "a session still has it");
        assert!(plugin.holds.keeps_host());
        assert_eq!(plugin.on(start_differing(2)), "call 2: start of 2; attach 2");
        assert_eq!(plugin.sessions(), [1, 2]);
    }
}

#[test]
fn shared_linger_keeps_the_daemon_after_the_last_session_and_ends_with_a_start() {
    let mut plugin = Plugin::running([start_lingering(1, 500)]);
    assert_eq!(plugin.on(let_go(1, 9)), "detach 1 LetGo; answer 1/9 ok; arm linger 500 ms");
    assert!(plugin.holds.lingers() && plugin.holds.keeps_host());
    assert_eq!(plugin.on(start(2)), "disarm linger; attach 2; answer 2/2 ok");
    assert_eq!(plugin.on(let_go(2, 9)), "detach 2 LetGo; call 2: stop", "the linger time of the last session counts");
}

#[test]
fn shared_linger_that_is_over_stops_the_daemon() {
    let mut plugin = Plugin::running([start_lingering(1, 500)]);
    plugin.on(ended(1));
    assert_eq!(plugin.on(HoldEvent::LingerOver), "call 2: stop");
    assert_eq!(plugin.all([HoldEvent::Daemon(Stopping), HoldEvent::Daemon(Stopped), settled(2, Ok(()))]), "forget");
    assert!(!plugin.holds.keeps_host());
}

#[test]
fn shared_linger_makes_room_for_a_start_with_another_configuration() {
    let mut plugin = Plugin::running([start_lingering(1, 500)]);
    plugin.on(let_go(1, 9));
    assert_eq!(plugin.on(start_differing(2)), "disarm linger; call 2: stop");
    assert_eq!(plugin.all([HoldEvent::Daemon(Stopped), settled(2, Ok(()))]), "call 3: start of 2; attach 2");
}

#[test]
fn shared_linger_does_not_apply_to_a_start_that_is_not_over() {
    let mut plugin = Plugin::default();
    plugin.all([start_lingering(1, 500), HoldEvent::Daemon(SPAWNED)]);
    assert_eq!(plugin.on(ended(1)), "detach 1 Ended; call 2: stop; disarm timeout 1");
}

#[test]
fn shared_linger_of_a_daemon_that_ends_meanwhile_is_over() {
    let mut plugin = Plugin::running([start_lingering(1, 500)]);
    plugin.on(let_go(1, 9));
    assert_eq!(plugin.on(HoldEvent::Daemon(Stopped)), "disarm linger; forget");
    assert!(!plugin.holds.keeps_host());
}

#[test]
fn shared_startup_timeout_of_one_session_rejects_its_start_only() {
    let mut plugin = Plugin::default();
    plugin.all([start(1), start(2), HoldEvent::Daemon(SPAWNED)]);
    assert_eq!(plugin.on(timed_out(1)), "detach 1 TimedOut; answer 1/1 ERR_STARTUP_TIMEOUT");
    assert_eq!(plugin.sessions(), [2]);
    // The last one ends the start itself.
    assert_eq!(plugin.on(timed_out(2)), "expire call 1");
    assert_eq!(plugin.all([HoldEvent::Daemon(Error), settled(1, Err(exited()))]), "answer 2/2 ERR_STARTUP_EXIT");
}

#[test]
fn shared_start_that_is_aborted_lets_go_and_waits_for_the_tree_only_as_the_last() {
    let mut plugin = Plugin::default();
    plugin.all([start(1), start(2), HoldEvent::Daemon(SPAWNED)]);
    assert_eq!(plugin.on(abort(1, 1)), "detach 1 Aborted; disarm timeout 1; answer 1/1 ERR_STOPPED");
    assert_eq!(plugin.on(abort(2, 2)), "detach 2 Aborted; call 2: stop; disarm timeout 2");
    assert_eq!(plugin.all([HoldEvent::Daemon(Stopped), settled(2, Ok(()))]), "answer 2/2 ERR_STOPPED; forget");
}

#[test]
fn shared_stop_lets_go_at_once_while_another_session_has_the_daemon() {
    let mut plugin = Plugin::running([start(1), start(2)]);
    assert_eq!(plugin.on(let_go(1, 9)), "detach 1 LetGo; answer 1/9 ok");
    assert_eq!(plugin.on(let_go(1, 9)), "answer 1/9 ok", "it has nothing any more");
    assert_eq!(plugin.sessions(), [2]);
}

#[test]
fn shared_stop_of_the_last_session_resolves_when_the_tree_is_gone() {
    let mut plugin = Plugin::running([start(1)]);
    plugin.on(let_go(1, 8));
    assert_eq!(plugin.on(let_go(1, 9)), "", "it joins the stop");
    assert_eq!(
        plugin.all([HoldEvent::Daemon(Stopping), HoldEvent::Daemon(Stopped), settled(2, Ok(()))]),
        "answer 1/8 ok; answer 1/9 ok; forget"
    );
}

#[test]
fn shared_daemon_that_can_not_be_ended_does_not_keep_a_host_that_ends() {
    let failed = || Err(Failure::StopFailed { survivors: vec![9] });
    let mut plugin = Plugin::running([start(1), start(2)]);
    plugin.on(HoldEvent::Everywhere { by: None });
    assert!(plugin.holds.keeps_host() && plugin.holds.ends_for(1));
    plugin.on(let_go(1, 9));
    assert_eq!(plugin.all([HoldEvent::Daemon(Error), settled(2, failed())]), "answer 1/9 ERR_STOP_FAILED");
    assert!(!plugin.holds.keeps_host() && plugin.holds.outlives_host().is_some());
    // Nothing is stopped again.
    assert_eq!(plugin.on(let_go(2, 8)), "answer 2/8 ERR_STOP_FAILED");
    assert_eq!(plugin.all([ended(1), ended(2)]), "detach 1 Ended; detach 2 Ended");
    assert!(!plugin.holds.keeps_host());
}

#[test]
fn shared_stop_that_fails_gives_the_daemon_back() {
    let failed = || Err(Failure::StopFailed { survivors: vec![9] });
    let mut plugin = Plugin::running([start(1)]);
    plugin.on(let_go(1, 9));
    assert_eq!(plugin.all([HoldEvent::Daemon(Error), settled(2, failed())]), "attach 1; answer 1/9 ERR_STOP_FAILED");
    assert_eq!(plugin.sessions(), [1]);
    let mut plugin = Plugin::running([start(1), start(2)]);
    plugin.on(everywhere(1, 9));
    assert_eq!(plugin.all([HoldEvent::Daemon(Error), settled(2, failed())]), "answer 1/9 ERR_STOP_FAILED");
    assert_eq!(plugin.sessions(), [1, 2]);
}

#[test]
fn shared_stop_everywhere_ends_it_for_all_without_linger_and_rejects_what_waits() {
    let mut plugin = Plugin::default();
    plugin.all([start_lingering(1, 500), start(2), wait(2, 5), HoldEvent::Daemon(SPAWNED)]);
    assert!((plugin.holds.sharers(), plugin.holds.ends_for_all()) == (2, false));
    assert_eq!(plugin.on(everywhere(3, 9)), "disarm timeout 1; disarm timeout 2; call 3: stop");
    // No session has it any more, and each of them is counted until the end.
    assert!((plugin.holds.sharers(), plugin.holds.ends_for_all()) == (2, true));
    assert_eq!(
        plugin.all([HoldEvent::Daemon(Stopped), settled(2, Err(Failure::AtRest)), settled(3, Ok(()))]),
        "answer 2/5 ERR_STOPPED; detach 1 Everywhere; detach 2 Everywhere; answer 1/1 ERR_STOPPED; answer 2/2 ERR_STOPPED; answer 3/9 ok; forget"
    );
    assert!((plugin.holds.sharers(), plugin.holds.ends_for_all()) == (0, false));
}

#[test]
fn shared_stop_everywhere_of_a_daemon_at_rest_takes_it_from_all() {
    let mut plugin = Plugin::running([start(1), start(2)]);
    plugin.on(HoldEvent::Daemon(Stopped));
    assert_eq!(plugin.on(everywhere(2, 9)), "detach 1 Everywhere; detach 2 Everywhere; answer 2/9 ok; forget");
    assert_eq!(Plugin::default().on(everywhere(2, 9)), "answer 2/9 ok");
}

#[test]
fn shared_session_that_dies_is_not_answered_and_the_daemon_goes_on() {
    let mut plugin = Plugin::default();
    plugin.all([start(1), start(2), wait(1, 5)]);
    assert_eq!(plugin.on(ended(1)), "detach 1 Ended; abort call 2");
    assert_eq!(plugin.all([HoldEvent::Daemon(Running), settled(1, Ok(()))]), "answer 2/2 ok");
    assert_eq!(plugin.on(ended(2)), "detach 2 Ended; call 3: stop");
    assert_eq!(plugin.all([HoldEvent::Daemon(Stopped), settled(3, Ok(()))]), "forget");
}

#[test]
fn shared_session_that_dies_while_its_start_waits_for_a_stop_starts_nothing() {
    let mut plugin = Plugin::running([start(1)]);
    plugin.all([let_go(1, 9), start(2), wait(2, 5)]);
    assert_eq!(plugin.on(ended(2)), "");
    assert_eq!(plugin.all([HoldEvent::Daemon(Stopped), settled(2, Ok(()))]), "answer 1/9 ok; forget");
}

#[test]
fn shared_restart_acts_for_all_also_by_a_session_without_the_plugin() {
    let mut plugin = Plugin::running([start(1)]);
    assert_eq!(plugin.on(restart(2, 9)), "call 2: restart");
    assert_eq!(plugin.on(settled(2, Ok(()))), "answer 2/9 ok");
    assert_eq!(Plugin::default().on(restart(2, 9)), "answer 2/9 ERR_NOT_FOUND");
}

#[test]
fn shared_restart_overtakes_the_callers_start_and_the_others_wait_for_it() {
    let mut plugin = Plugin::default();
    plugin.all([start(1), start(2), HoldEvent::Daemon(SPAWNED)]);
    assert_eq!(plugin.on(restart(1, 9)), "disarm timeout 1; answer 1/1 ERR_STOPPED; call 2: restart");
    plugin.on(HoldEvent::Daemon(Stopping));
    assert_eq!(plugin.on(settled(1, Err(Failure::Stopped))), "call 3: use");
    assert_eq!(
        plugin.all([HoldEvent::Daemon(Running), settled(2, Ok(())), settled(3, Ok(()))]),
        "answer 1/9 ok; disarm timeout 2; answer 2/2 ok"
    );
}

#[test]
fn shared_restart_by_a_session_without_the_plugin_keeps_nothing_alive_for_nobody() {
    let mut plugin = Plugin::default();
    plugin.all([start(1), HoldEvent::Daemon(PREPARING)]);
    // Another owner has the name, and before this host has handled that, another session restarts.
    assert_eq!(plugin.on(restart(3, 9)), "call 2: restart");
    plugin.on(HoldEvent::Daemon(Stopped));
    assert_eq!(plugin.on(settled(1, Err(Failure::OwnedElsewhere { owner: Some(7) }))), "answer 1/1 ERR_OWNED_ELSEWHERE; detach 1 Refused");
    assert_eq!(plugin.on(HoldEvent::Daemon(PREPARING)), "call 3: stop");
    assert_eq!(plugin.all([HoldEvent::Daemon(Stopped), settled(3, Ok(()))]), "");
    assert_eq!(plugin.on(settled(2, Err(Failure::Stopped))), "answer 3/9 ERR_STOPPED; forget");
}

#[test]
fn shared_upgrade_needs_the_plugin_and_changes_the_linger_time_when_it_is_done() {
    let mut plugin = Plugin::running([start(1)]);
    let upgrade = |session| HoldEvent::Upgrade { session, request: 9, linger: Some(Duration::from_millis(700)) };
    assert_eq!(plugin.on(upgrade(2)), "answer 2/9 ERR_NOT_FOUND");
    assert_eq!(plugin.on(upgrade(1)), "call 2: upgrade of 9");
    assert_eq!(plugin.on(settled(2, Ok(()))), "answer 1/9 ok");
    assert_eq!(plugin.on(ended(1)), "detach 1 Ended; arm linger 700 ms");
}

#[test]
fn shared_when_running_of_a_session_whose_start_waits_for_a_stop_begins_with_that_start() {
    let mut plugin = Plugin::running([start(1)]);
    plugin.all([let_go(1, 9), start(2)]);
    assert_eq!(plugin.on(wait(2, 5)), "");
    assert_eq!(plugin.on(wait(3, 6)), "answer 3/6 ERR_NOT_FOUND");
    assert_eq!(plugin.all([HoldEvent::Daemon(Stopped), settled(2, Ok(()))]), "answer 1/9 ok; call 3: start of 2; attach 2; call 4: wait");
    assert_eq!(plugin.on(abort(2, 5)), "abort call 4; answer 2/5 ERR_STOPPED");
}
