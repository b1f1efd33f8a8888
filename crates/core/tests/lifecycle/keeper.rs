//! A keeper that does not acknowledge its commands.

use crate::support::plan::plan;
use crate::support::scenario::{PID, Scenario, ms, settled};
use ally_core::error::Failure;
use ally_core::lifecycle::{Effect, Event, Plan, Signal, Timer};
use ally_core::model::ProcessState;
use std::time::Duration;

/// A running daemon with a keeper that does not act, after a stop request.
fn stopping(grace: Duration) -> Scenario {
    let mut daemon = Scenario::started(Plan { grace, ..plan() });
    daemon.keeper_answers = false;
    daemon.on(Event::StopRequested { ticket: 2 });
    daemon
}

impl Scenario {
    fn answer_elapsed(&mut self) -> Vec<Effect> {
        self.on(Event::AcknowledgementElapsed { generation: self.machine.generation() }).to_vec()
    }

    fn grace_elapsed(&mut self) -> Vec<Effect> {
        self.on(Event::GraceElapsed { generation: self.machine.generation() }).to_vec()
    }

    fn kill_elapsed(&mut self) -> Vec<Effect> {
        self.on(Event::KillElapsed { generation: self.machine.generation(), survivors: vec![PID] }).to_vec()
    }
}

const fn arm(timer: Timer, after: Duration) -> Effect {
    Effect::Arm { timer, generation: 1, after }
}

const WAKE: Effect = Effect::WakeKeeper { generation: 1 };
const KILL_KEEPER: Effect = Effect::KillKeeper { generation: 1 };
const KILL: Effect = Effect::Signal { generation: 1, signal: Signal::Kill };

#[test]
fn keeper_has_a_second_to_answer_and_then_gets_sigcont_once() {
    let mut daemon = stopping(ms(5_000));
    assert!(daemon.effects.contains(&arm(Timer::Acknowledgement, ms(1_000))));
    assert_eq!(daemon.answer_elapsed(), [WAKE]);
    assert_eq!(daemon.answer_elapsed(), []);
}

#[test]
fn keeper_that_has_not_answered_when_sigkill_is_due_is_killed_and_the_2_s_begin() {
    let mut daemon = stopping(ms(5_000));
    daemon.answer_elapsed();
    let effects = daemon.grace_elapsed();
    assert!(effects.contains(&KILL_KEEPER) && effects.contains(&arm(Timer::Kill, ms(2_000))), "{effects:?}");
    // The keeper may not be killable.
    assert!(effects.contains(&KILL), "{effects:?}");
    let effects = daemon.kill_elapsed();
    assert_eq!(settled(&effects, 2), Some(&Err(Failure::StopFailed { survivors: vec![PID] })));
}

#[test]
fn keeper_that_answers_late_goes_on_with_the_stop() {
    let mut daemon = stopping(ms(5_000));
    daemon.answer_elapsed();
    daemon.on(Event::Acknowledged { generation: 1 });
    let effects = daemon.grace_elapsed();
    assert!(effects.contains(&KILL) && !effects.contains(&KILL_KEEPER), "{effects:?}");
}

/// SIGCONT and the end of the grace period come together.
#[test]
fn grace_period_of_a_second_gives_the_keeper_half_a_second_after_sigcont() {
    let mut daemon = stopping(ms(1_000));
    assert_eq!(daemon.answer_elapsed(), [WAKE]);
    let effects = daemon.grace_elapsed();
    assert!(effects.contains(&KILL) && !effects.contains(&KILL_KEEPER), "{effects:?}");
    assert!(effects.contains(&arm(Timer::Acknowledgement, ms(500))), "{effects:?}");
    assert!(daemon.answer_elapsed().contains(&KILL_KEEPER));
}

/// On a busy machine a keeper may need some milliseconds.
#[test]
fn grace_period_shorter_than_the_time_for_an_answer_gives_the_keeper_half_a_second_after_sigcont() {
    let mut daemon = stopping(ms(100));
    let effects = daemon.grace_elapsed();
    assert!(effects.contains(&WAKE) && effects.contains(&KILL) && !effects.contains(&KILL_KEEPER), "{effects:?}");
    assert!(effects.contains(&arm(Timer::Acknowledgement, ms(500))), "{effects:?}");
    assert!(daemon.answer_elapsed().contains(&KILL_KEEPER));
}

#[test]
fn sigkill_that_the_keeper_does_not_acknowledge_is_not_counted_as_sent() {
    let mut daemon = stopping(Duration::ZERO);
    assert!(daemon.effects.contains(&KILL));
    let effects = daemon.kill_elapsed();
    assert!(effects.contains(&KILL_KEEPER) && effects.contains(&arm(Timer::Kill, ms(2_000))), "{effects:?}");
    assert_eq!(settled(&effects, 2), None);
    assert_eq!(daemon.seen().state, ProcessState::Stopping);
    daemon.kill_elapsed();
    assert_eq!(daemon.seen().state, ProcessState::Error);
}

#[test]
fn keeper_of_a_pending_restart_is_watched_as_well() {
    let mut daemon = Scenario::started(plan());
    daemon.keeper_answers = false;
    let exit = ally_core::model::Exit { code: Some(1), signal: None };
    daemon.on(Event::Exited {
        generation: 1,
        exit,
        usage: None,
        remains: true,
        after_probe: None,
        tail: String::new(),
        leftover_file: None,
        name_lost: None,
        connected: false,
    });
    assert_eq!(daemon.answer_elapsed(), [WAKE]);
    assert!(daemon.grace_elapsed().contains(&KILL_KEEPER));
    daemon.on(Event::TreeGone { generation: 1, leftover_file: None });
    daemon.backoff();
    daemon.up();
    assert_eq!(daemon.seen().state, ProcessState::Running);
}
