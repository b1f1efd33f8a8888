//! Random histories with random plans and passing time, longer than the exhaustive search allows.
//!
//! In the first property only possible events happen, and every rule of the shadow model holds. In
//! the second property any event happens at any time, and the rules of the callers' view hold.

use crate::support::caller_view::CallerView;
use crate::support::events::{Filling, exited, samples};
use crate::support::plan::{at, plan};
use crate::support::shadow::ShadowModel;
use crate::support::{Verdict, ensure};
use ally_core::error::Failure;
use ally_core::lifecycle::{Backoff, Effect, Event, Machine, Phase, Plan, RestartOn, Stage, Window};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::BTreeSet;
use std::time::Duration;

/// One event of a history: its kind, its index among the possible ones, and the time since the last event.
#[derive(Debug, Clone, Copy)]
struct Draw {
    kind: Kind,
    pick: usize,
    millis: u64,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// An effect succeeds, or a caller starts the daemon. Without this bias few histories reach Running.
    Progress,
    /// A report of the supervisor, or a timer.
    Report,
    /// A request of a caller. Shutdown is a kind of its own, because few events are possible after it.
    Request,
    Shutdown,
    /// The task that carries out the effects panics.
    Fault,
}

fn draws() -> impl Strategy<Value = Vec<Draw>> {
    let kind = prop_oneof![
        120 => Just(Kind::Progress),
        120 => Just(Kind::Report),
        20 => Just(Kind::Request),
        1 => Just(Kind::Shutdown),
        1 => Just(Kind::Fault),
    ];
    // Mostly short, sometimes longer than the restart window.
    let millis = prop_oneof![9 => 0..2_000u64, 1 => 0..400_000u64];
    let draw = (kind, any::<usize>(), millis).prop_map(|(kind, pick, millis)| Draw { kind, pick, millis });
    prop::collection::vec(draw, 1..120)
}

fn plans() -> impl Strategy<Value = Plan> {
    let health = prop::option::of(1..4u32);
    let backoff = prop_oneof![Just(Backoff::Exponential), Just(Backoff::Linear), Just(Backoff::Constant)];
    let on = prop_oneof![Just(RestartOn::Always), Just(RestartOn::Failure)];
    let policies = (prop_oneof![Just(0u64), Just(20)], prop_oneof![3 => Just(None), 1 => Just(Some(1u8))]);
    (health, any::<[bool; 4]>(), 0..4u32, 0..6u32, 0.0..1.0f64, backoff, on, policies).prop_map(
        |(retries, [patient, limited, on_demand, stops_idle], attempts, limit, jitter, backoff, on, (reset_after, prevented_by))| {
            let mut plan = plan();
            plan.on_demand = on_demand;
            plan.stops_idle = on_demand && stops_idle;
            plan.health = retries.map(|retries| (Duration::from_secs(10), retries));
            plan.memory = plan.memory.filter(|_| limited);
            plan.grace = if patient { Duration::from_secs(5) } else { Duration::ZERO };
            plan.restart.max_attempts = attempts;
            plan.restart.window = Window { limit, period: Duration::from_secs(300) };
            plan.restart.jitter = jitter;
            plan.restart.backoff = backoff;
            plan.restart.on = on;
            plan.restart.reset_after = Duration::from_secs(reset_after);
            plan.restart.prevented_by = prevented_by.into_iter().collect();
            plan
        },
    )
}

fn pick<T>(mut choices: Vec<T>, pick: usize) -> Option<T> {
    if choices.is_empty() { None } else { Some(choices.swap_remove(pick % choices.len())) }
}

/// The events that lead a daemon towards Running.
fn events_of_progress(model: &ShadowModel, machine: &Machine, plan: &Plan) -> Vec<Event> {
    if matches!(machine.phase(), Phase::Stopped | Phase::Failed) {
        return vec![Event::StartRequested { ticket: 0 }];
    }
    let mut reports = model.reports(plan);
    reports.retain(|report| match report {
        Event::Prepared { .. }
        | Event::Spawned { .. }
        | Event::Acknowledged { .. }
        | Event::Ready { .. }
        | Event::ProbeDue { .. }
        | Event::BackoffElapsed { .. }
        | Event::Connected { .. }
        | Event::ProbePassed { .. }
        | Event::ChangedOver { .. }
        | Event::Drained { .. }
        | Event::TreeGone { .. } => true,
        Event::Exited { generation, .. } if *generation != machine.generation() => {
            machine.second().is_some_and(|second| matches!(second.stage, Stage::Leaving { .. }))
        }
        Event::Exited { .. } => machine.phase().clone().stopping_tree().is_some(),
        _ => false,
    });
    reports
}

/// Each ticket is used once, so that a ticket that is settled twice is detected.
fn unique(event: Event, ticket: &mut u64) -> Event {
    *ticket += 1;
    let ticket = *ticket;
    match event {
        Event::StartRequested { .. } => Event::StartRequested { ticket },
        Event::StartRefused { failure, .. } => Event::StartRefused { ticket, failure },
        Event::StartRevoked { ticket: started, .. } => Event::StartRevoked { ticket: started, answer: ticket },
        Event::WaitRequested { .. } => Event::WaitRequested { ticket },
        Event::StopRequested { .. } => Event::StopRequested { ticket },
        Event::RestartRequested { .. } => Event::RestartRequested { ticket },
        Event::UpgradeRequested { plan, beside, .. } => Event::UpgradeRequested { ticket, plan, beside },
        Event::ShutdownRequested { .. } => Event::ShutdownRequested { ticket },
        other => other,
    }
}

/// The phases and stages of a history.
type Seen = BTreeSet<&'static str>;

/// Without a second generation that is stuck, which takes too long a row of failures. The search of all orders has it.
const ALL: [&str; 25] = [
    "Stopped",
    "Failed",
    "Arming",
    "Armed",
    "Stuck",
    "Preparing",
    "Spawning",
    "Booting",
    "Running",
    "Freezing",
    "Upgrading",
    "AwaitingSuccessor",
    "AwaitingSuccessor with a tree",
    "Stopping",
    "Stopping for the second generation",
    "BackingOff",
    "BackingOff with a tree",
    "Overdue",
    "second Preparing",
    "second Spawning",
    "second Booting",
    "second Proving",
    "second ChangingOver",
    "second Draining",
    "second Leaving",
];

fn names(machine: &Machine) -> impl Iterator<Item = &'static str> {
    let phase = match machine.phase() {
        Phase::Stopped => "Stopped",
        Phase::Failed => "Failed",
        Phase::Arming { .. } => "Arming",
        Phase::Armed => "Armed",
        Phase::Stuck { .. } => "Stuck",
        Phase::Preparing { .. } => "Preparing",
        Phase::Spawning { .. } => "Spawning",
        Phase::Booting { .. } => "Booting",
        Phase::Running { .. } => "Running",
        Phase::Freezing { .. } => "Freezing",
        Phase::Upgrading { .. } => "Upgrading",
        Phase::AwaitingSuccessor { tree: None, .. } => "AwaitingSuccessor",
        Phase::AwaitingSuccessor { tree: Some(_), .. } => "AwaitingSuccessor with a tree",
        Phase::Stopping { tree, .. } if tree.is_gone() => "Stopping for the second generation",
        Phase::Stopping { .. } => "Stopping",
        Phase::BackingOff { tree: None, .. } => "BackingOff",
        Phase::BackingOff { tree: Some(_), .. } => "BackingOff with a tree",
        Phase::Overdue { .. } => "Overdue",
    };
    let stage = machine.second().map(|second| match second.stage {
        Stage::Preparing => "second Preparing",
        Stage::Spawning { .. } => "second Spawning",
        Stage::Booting { .. } => "second Booting",
        Stage::Proving { .. } => "second Proving",
        Stage::ChangingOver { .. } => "second ChangingOver",
        Stage::Draining { .. } => "second Draining",
        Stage::Leaving { .. } => "second Leaving",
        Stage::Stuck { .. } => "second Stuck",
    });
    [Some(phase), stage].into_iter().flatten()
}

/// Runs a history of possible events, and then stops the daemon.
fn run_possible_history(plan: &Plan, seed: u64, draws: &[Draw]) -> Result<Seen, String> {
    let mut seen = Seen::new();
    let mut machine = Machine::new(plan.clone(), at(0), seed);
    let mut model = ShadowModel::new();
    let mut clock = 0;
    let mut ticket = 0;
    let mut history = Vec::new();
    let mut at_rest = machine.snapshot();
    for draw in draws {
        clock += draw.millis;
        let event = match draw.kind {
            Kind::Progress => pick(events_of_progress(&model, &machine, plan), draw.pick),
            Kind::Report => pick(model.reports(plan), draw.pick),
            // A shutdown is rare, because few events are possible after it.
            Kind::Request => {
                pick(model.requests(plan), draw.pick).filter(|request| !matches!(request, Event::ShutdownRequested { .. } | Event::Closed))
            }
            Kind::Shutdown if draw.pick.is_multiple_of(2) => Some(Event::Closed),
            Kind::Shutdown => Some(Event::ShutdownRequested { ticket: 0 }),
            Kind::Fault => Some(Event::Faulted { message: "the task panicked".to_owned() }),
        };
        let Some(event) = event.map(|event| unique(event, &mut ticket)) else { continue };
        history.push(event.clone());
        if !machine.activity().pending {
            at_rest = machine.snapshot();
        }
        let refused = machine.may_withdraw() && matches!(event, Event::PrepareFailed { failure: Failure::OwnedElsewhere { .. }, .. });
        let judged = model.step(&mut machine, plan, &event, at(clock)).and_then(|()| model.ignores_late_events(&mut machine, at(clock)));
        let unchanged = || ensure(!refused || machine.snapshot() == at_rest, format_args!("a refused start changes {at_rest:?}"));
        judged.and_then(|()| unchanged()).map_err(|rule| format!("{rule}\nafter {history:#?}"))?;
        seen.extend(names(&machine));
    }
    stop_ends_all(plan, &mut machine, &mut model, clock, ticket + 1)
        .map_err(|rule| format!("{rule}\nafter a stop that follows {history:#?}"))?;
    Ok(seen)
}

/// If signals end the tree after a stop, then within a few events the phase is Stopped and no ticket is open.
fn stop_ends_all(plan: &Plan, machine: &mut Machine, model: &mut ShadowModel, clock: u64, ticket: u64) -> Verdict {
    let mut event = Event::StopRequested { ticket };
    for _ in 0..12 {
        model.step(machine, plan, &event, at(clock))?;
        model.ignores_late_events(machine, at(clock))?;
        let reports = model.reports(plan);
        let obeying = reports.into_iter().find(|report| match report {
            Event::Spawned { .. } | Event::TreeGone { .. } => true,
            Event::Exited { remains, .. } => !remains,
            _ => false,
        });
        match obeying {
            Some(report) => event = report,
            None => break,
        }
    }
    ensure(matches!(machine.phase(), Phase::Stopped), format_args!("the phase after the stop is {:?}", machine.phase()))?;
    ensure(model.callers.open.is_empty(), format_args!("tickets are open after the stop: {:?}", model.callers.open))?;
    ensure(
        model.second.is_none() && model.no_tree() && model.serving.armed.is_empty() && model.serving.expected_replies.is_empty(),
        format_args!("a tree, a timer or an expected reply is left: {model:?}"),
    )
}

/// Any event, possible or impossible, mostly of the current generation.
#[derive(Debug, Clone, Copy)]
struct ArbitraryEvent {
    /// Only an event that leads towards Running. Without this bias few histories reach Running.
    progress: bool,
    pick: usize,
    age: u8,
    millis: u64,
}

fn arbitrary_events() -> impl Strategy<Value = Vec<ArbitraryEvent>> {
    let lie = (prop::bool::weighted(0.7), any::<usize>(), 0..20u8, 0..20_000u64);
    prop::collection::vec(lie.prop_map(|(progress, pick, age, millis)| ArbitraryEvent { progress, pick, age, millis }), 1..120)
}

impl ArbitraryEvent {
    fn event(self, plan: &Plan, machine: &Machine, callers: &CallerView, ticket: u64) -> Option<Event> {
        let generation = match self.age {
            0 => machine.generation().wrapping_sub(1),
            1 => machine.generation() + 1,
            2..10 => machine.second().map_or(machine.generation(), |second| second.generation),
            _ => machine.generation(),
        };
        let mut candidates = samples(Filling { generation, ticket, pid: 1_000 + i32::from(self.age) });
        candidates.retain(|event| match event {
            // Otherwise few restarts would be left: a start takes the place of a pending one.
            Event::StartRequested { .. } => !self.progress || matches!(machine.phase(), Phase::Stopped | Phase::Failed),
            Event::Prepared { .. }
            | Event::Spawned { .. }
            | Event::Acknowledged { .. }
            | Event::Ready { .. }
            | Event::GraceElapsed { .. }
            | Event::KillElapsed { .. }
            | Event::BackoffElapsed { .. }
            | Event::Connected { .. }
            | Event::ProbePassed { .. }
            | Event::ChangedOver { .. } => true,
            Event::UpgradeRequested { .. } => matches!(machine.phase(), Phase::Running { .. }) || !self.progress,
            Event::Idle { .. } => self.age.is_multiple_of(4) || !self.progress,
            // Seldom, so that they leave room for the others.
            Event::EndedBy { .. } | Event::StartExtended { .. } | Event::StartExpired { .. } => {
                !self.progress && self.age.is_multiple_of(5)
            }
            // Rare, because few events are possible after either.
            Event::ShutdownRequested { .. } | Event::Closed | Event::Faulted { .. } => !self.progress && self.age == 19,
            _ => !self.progress,
        });
        // One plan, which the rules know.
        for event in &mut candidates {
            if let Event::UpgradeRequested { plan: changed, beside, .. } = event {
                **changed = plan.clone();
                *beside = !self.age.is_multiple_of(4);
            }
        }
        // Half of the aborts name an open ticket.
        match (pick(candidates, self.pick)?, callers.open.keys().next()) {
            (Event::StartAborted { .. }, Some(ticket)) if self.age.is_multiple_of(2) => Some(Event::StartAborted { ticket: *ticket }),
            (Event::WaitAborted { .. }, Some(ticket)) if self.age.is_multiple_of(2) => Some(Event::WaitAborted { ticket: *ticket }),
            // Half of the exits leave descendants.
            (Event::Exited { generation, exit, .. }, _) if self.age.is_multiple_of(2) => Some(exited(generation, exit, true)),
            (event, _) => Some(event),
        }
    }
}

fn run_arbitrary_history(plan: &Plan, arbitrary_events: &[ArbitraryEvent]) -> Result<Seen, String> {
    let mut seen = Seen::new();
    let mut machine = Machine::new(plan.clone(), at(0), 1);
    let mut callers = CallerView::new();
    let mut clock = 0;
    let mut history = Vec::new();
    for (turn, arbitrary) in (1u64..).zip(arbitrary_events) {
        clock += arbitrary.millis;
        let Some(event) = arbitrary.event(plan, &machine, &callers, turn) else { continue };
        history.push(event.clone());
        step_arbitrary(plan, &mut machine, &mut callers, &event, clock).map_err(|rule| format!("{rule}\nafter {history:#?}"))?;
        seen.extend(names(&machine));
    }
    // From every state a stop settles all tickets, at the latest when its timers have fired.
    let mut last = vec![Event::StopRequested { ticket: u64::MAX }];
    for generation in [machine.generation(), machine.second().map_or(0, |second| second.generation)] {
        last.push(Event::GraceElapsed { generation });
        // The first one kills a keeper that has not answered.
        last.extend([1, 2].map(|pid| Event::KillElapsed { generation, survivors: vec![pid] }));
    }
    for event in last {
        step_arbitrary(plan, &mut machine, &mut callers, &event, clock)
            .map_err(|rule| format!("{rule}\nafter {event:?} after {history:#?}"))?;
    }
    ensure(callers.open.is_empty(), format_args!("tickets are open after a stop that follows {history:#?}: {:?}", callers.open))?;
    Ok(seen)
}

fn step_arbitrary(plan: &Plan, machine: &mut Machine, callers: &mut CallerView, event: &Event, clock: u64) -> Verdict {
    callers.on(event);
    let before = format!("{machine:?}");
    let present = [Some(machine.generation()), machine.second().map(|second| second.generation)];
    let stale = event.generation().is_some_and(|generation| !present.contains(&Some(generation)));
    let effects: Vec<Effect> = machine.on(event.clone(), at(clock));
    let untouched = effects.is_empty() && before == format!("{machine:?}");
    ensure(!stale || untouched, format_args!("the stale {event:?} causes {effects:?}"))?;
    effects.iter().try_for_each(|effect| callers.judge(effect, plan))?;
    callers.forget_started(event, machine);
    callers.close(machine, plan)
}

fn draw<T: std::fmt::Debug>(strategy: &impl Strategy<Value = T>, count: usize) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// Histories that reach few phases would pass with any machine.
#[test]
fn random_histories_reach_every_phase() {
    let missing = |seen: Seen| Seen::from(ALL).difference(&seen).copied().collect::<Vec<_>>();
    let possible = draw(&(plans(), draws()), 400).into_iter().flat_map(|(plan, draws)| run_possible_history(&plan, 1, &draws).unwrap());
    assert_eq!(missing(possible.collect()), [""; 0]);
    let arbitrary =
        draw(&(plans(), arbitrary_events()), 2_000).into_iter().flat_map(|(plan, events)| run_arbitrary_history(&plan, &events).unwrap());
    assert_eq!(missing(arbitrary.collect()), [""; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_of_possible_events_keeps_the_rules_of_the_shadow_model(plan in plans(), seed in any::<u64>(), draws in draws()) {
        run_possible_history(&plan, seed, &draws).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn every_history_of_arbitrary_events_keeps_the_rules_of_the_callers_view(plan in plans(), events in arbitrary_events()) {
        run_arbitrary_history(&plan, &events).map_err(TestCaseError::fail)?;
    }
}
