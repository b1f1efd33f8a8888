//! Long random histories, longer than the exhaustive search can go, with all kinds of plans and with
//! time passing. In the first property the world is consistent, and the whole shadow model judges;
//! in the second it lies, and what callers and listeners see must still make sense.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic")]

mod lifecycle_support;

use ally_core::lifecycle::{Backoff, Effect, Event, Machine, Phase, Plan, RestartOn, Window};
use lifecycle_support::events::{Filling, samples};
use lifecycle_support::fixture::{at, plan};
use lifecycle_support::ledger::Ledger;
use lifecycle_support::world::{Tree, World};
use lifecycle_support::{Verdict, ensure};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::BTreeSet;
use std::time::Duration;

/// One thing that happens: what kind, which of those that are possible, and how long after the last.
#[derive(Debug, Clone, Copy)]
struct Draw {
    kind: Kind,
    pick: usize,
    millis: u64,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Something succeeds or a caller starts it; without a bias for that, few histories get far.
    Help,
    /// The supervisor reports, or a timer fires.
    Report,
    /// A caller asks. Shutdown is a kind of its own: after it little can happen.
    Wish,
    Shutdown,
    /// The task that carries out the effects breaks down.
    Fault,
}

fn draws() -> impl Strategy<Value = Vec<Draw>> {
    let kind = prop_oneof![
        120 => Just(Kind::Help),
        120 => Just(Kind::Report),
        20 => Just(Kind::Wish),
        1 => Just(Kind::Shutdown),
        1 => Just(Kind::Fault),
    ];
    // Mostly quick, now and then past a window.
    let millis = prop_oneof![9 => 0..2_000u64, 1 => 0..400_000u64];
    let draw = (kind, any::<usize>(), millis).prop_map(|(kind, pick, millis)| Draw { kind, pick, millis });
    prop::collection::vec(draw, 1..120)
}

fn plans() -> impl Strategy<Value = Plan> {
    let health = prop::option::of(1..4u32);
    let backoff = prop_oneof![Just(Backoff::Exponential), Just(Backoff::Linear), Just(Backoff::Constant)];
    let on = prop_oneof![Just(RestartOn::Always), Just(RestartOn::Failure)];
    (health, any::<bool>(), 0..4u32, 0..6u32, 0.0..1.0f64, backoff, on).prop_map(
        |(retries, patient, attempts, limit, jitter, backoff, on)| {
            let mut plan = plan();
            plan.health = retries.map(|retries| (Duration::from_secs(10), retries));
            plan.grace = if patient { Duration::from_secs(5) } else { Duration::ZERO };
            plan.restart.max_attempts = attempts;
            plan.restart.window = Window { limit, period: Duration::from_secs(300) };
            plan.restart.jitter = jitter;
            plan.restart.backoff = backoff;
            plan.restart.on = on;
            plan
        },
    )
}

fn pick<T>(mut choices: Vec<T>, pick: usize) -> Option<T> {
    if choices.is_empty() { None } else { Some(choices.swap_remove(pick % choices.len())) }
}

/// What gets a daemon on that is not there yet.
fn helpful(world: &World, machine: &Machine, plan: &Plan) -> Vec<Event> {
    if matches!(machine.phase(), Phase::Stopped | Phase::Failed) {
        return vec![Event::StartRequested { ticket: 0 }];
    }
    let mut reports = world.reports(machine.generation(), plan);
    reports.retain(|report| match report {
        Event::Prepared { .. }
        | Event::Spawned { .. }
        | Event::Ready { .. }
        | Event::ProbeDue { .. }
        | Event::BackoffElapsed { .. }
        | Event::TreeGone { .. } => true,
        Event::Exited { .. } => matches!(machine.phase(), Phase::Stopping { .. } | Phase::BackingOff { .. }),
        _ => false,
    });
    reports
}

/// No ticket is ever given out twice here, so that one that is settled twice can't go unnoticed.
fn unique(event: Event, ticket: &mut u64) -> Event {
    *ticket += 1;
    let ticket = *ticket;
    match event {
        Event::StartRequested { .. } => Event::StartRequested { ticket },
        Event::StopRequested { .. } => Event::StopRequested { ticket },
        Event::RestartRequested { .. } => Event::RestartRequested { ticket },
        Event::ShutdownRequested { .. } => Event::ShutdownRequested { ticket },
        other => other,
    }
}

/// The phases that a history went through.
type Seen = BTreeSet<&'static str>;

const fn name(phase: &Phase) -> &'static str {
    match phase {
        Phase::Stopped => "Stopped",
        Phase::Failed => "Failed",
        Phase::Stuck { .. } => "Stuck",
        Phase::Preparing { .. } => "Preparing",
        Phase::Spawning { .. } => "Spawning",
        Phase::Booting { .. } => "Booting",
        Phase::Running { .. } => "Running",
        Phase::Stopping { .. } => "Stopping",
        Phase::BackingOff { tree: None, .. } => "BackingOff",
        Phase::BackingOff { tree: Some(_), .. } => "BackingOff with a tree",
    }
}

/// Runs a history through a consistent world, and then brings that world to rest.
fn live(plan: &Plan, seed: u64, draws: &[Draw]) -> Result<Seen, String> {
    let mut seen = Seen::new();
    let mut machine = Machine::new(plan.clone(), at(0), seed);
    let mut world = World::new();
    let mut clock = 0;
    let mut ticket = 0;
    let mut history = Vec::new();
    for draw in draws {
        clock += draw.millis;
        let event = match draw.kind {
            Kind::Help => pick(helpful(&world, &machine, plan), draw.pick),
            Kind::Report => pick(world.reports(machine.generation(), plan), draw.pick),
            Kind::Wish => pick(world.wishes(), draw.pick).filter(|wish| !matches!(wish, Event::ShutdownRequested { .. })),
            Kind::Shutdown => Some(Event::ShutdownRequested { ticket: 0 }),
            Kind::Fault => Some(Event::Faulted { message: "the task broke down".to_owned() }),
        };
        let Some(event) = event.map(|event| unique(event, &mut ticket)) else { continue };
        history.push(event.clone());
        let judged = world.step(&mut machine, plan, &event, at(clock)).and_then(|()| world.ignores_echoes(&mut machine, at(clock)));
        judged.map_err(|rule| format!("{rule}\nafter {history:#?}"))?;
        seen.insert(name(machine.phase()));
    }
    rest(plan, &mut machine, &mut world, clock, ticket + 1).map_err(|rule| format!("{rule}\nafter a stop that follows {history:#?}"))?;
    Ok(seen)
}

/// After a stop, and with a world that does what it is told, all is over soon and nobody waits.
fn rest(plan: &Plan, machine: &mut Machine, world: &mut World, clock: u64, ticket: u64) -> Verdict {
    let mut event = Event::StopRequested { ticket };
    for _ in 0..6 {
        world.step(machine, plan, &event, at(clock))?;
        world.ignores_echoes(machine, at(clock))?;
        let reports = world.reports(machine.generation(), plan);
        let obeys = reports.into_iter().find(|report| match report {
            Event::Spawned { .. } | Event::TreeGone { .. } => true,
            Event::Exited { remains, .. } => !remains,
            _ => false,
        });
        match obeys {
            Some(report) => event = report,
            None => break,
        }
    }
    ensure(matches!(machine.phase(), Phase::Stopped), format_args!("{:?} is no rest", machine.phase()))?;
    ensure(world.ledger.open.is_empty(), format_args!("{:?} still wait", world.ledger.open))?;
    ensure(world.tree == Tree::None && world.armed.is_empty() && world.owed.is_empty(), format_args!("something is left: {world:?}"))
}

/// Any event at all, possible or not, mostly of the current generation.
#[derive(Debug, Clone, Copy)]
struct Lie {
    /// Whether it is one of those that get a daemon on; without a bias for them, few histories get far.
    helpful: bool,
    pick: usize,
    age: u8,
    millis: u64,
}

fn lies() -> impl Strategy<Value = Vec<Lie>> {
    let lie = (any::<bool>(), any::<usize>(), 0..20u8, 0..20_000u64);
    prop::collection::vec(lie.prop_map(|(helpful, pick, age, millis)| Lie { helpful, pick, age, millis }), 1..120)
}

impl Lie {
    fn event(self, machine: &Machine, ledger: &Ledger, ticket: u64) -> Option<Event> {
        let generation = match self.age {
            0 => machine.generation().wrapping_sub(1),
            1 => machine.generation() + 1,
            _ => machine.generation(),
        };
        let mut candidates = samples(Filling { generation, ticket, pid: 1_000 + i32::from(self.age) });
        candidates.retain(|event| match event {
            Event::StartRequested { .. }
            | Event::Prepared { .. }
            | Event::Spawned { .. }
            | Event::Ready { .. }
            | Event::GraceElapsed { .. }
            | Event::BackoffElapsed { .. } => true,
            // After the one little happens, and the other ends everything: not too often.
            Event::ShutdownRequested { .. } | Event::Faulted { .. } => !self.helpful && self.age == 19,
            _ => !self.helpful,
        });
        // Half of the aborts are those of somebody who waits.
        match (pick(candidates, self.pick)?, ledger.open.keys().next()) {
            (Event::StartAborted { .. }, Some(ticket)) if self.age.is_multiple_of(2) => Some(Event::StartAborted { ticket: *ticket }),
            (event, _) => Some(event),
        }
    }
}

fn lie(plan: &Plan, lies: &[Lie]) -> Result<Seen, String> {
    let mut seen = Seen::new();
    let mut machine = Machine::new(plan.clone(), at(0), 1);
    let mut ledger = Ledger::new();
    let mut clock = 0;
    let mut history = Vec::new();
    for (turn, lie) in (1u64..).zip(lies) {
        clock += lie.millis;
        let Some(event) = lie.event(&machine, &ledger, turn) else { continue };
        history.push(event.clone());
        believe(plan, &mut machine, &mut ledger, &event, clock).map_err(|rule| format!("{rule}\nafter {history:#?}"))?;
        seen.insert(name(machine.phase()));
    }
    // However confused it is: a stop ends it, in the worst case by the clock.
    let generation = machine.generation();
    for event in [
        Event::StopRequested { ticket: u64::MAX },
        Event::GraceElapsed { generation },
        Event::KillElapsed { generation, survivors: vec![1] },
    ] {
        believe(plan, &mut machine, &mut ledger, &event, clock).map_err(|rule| format!("{rule}\nafter {event:?} after {history:#?}"))?;
    }
    ensure(ledger.open.is_empty(), format_args!("{:?} still wait after a stop that follows {history:#?}", ledger.open))?;
    Ok(seen)
}

fn believe(plan: &Plan, machine: &mut Machine, ledger: &mut Ledger, event: &Event, clock: u64) -> Verdict {
    ledger.hear(event);
    let before = format!("{machine:?}");
    let stale = event.generation().is_some_and(|generation| generation != machine.generation());
    let effects: Vec<Effect> = machine.on(event.clone(), at(clock));
    let untouched = effects.is_empty() && before == format!("{machine:?}");
    ensure(!stale || untouched, format_args!("the stale {event:?} causes {effects:?}"))?;
    effects.iter().try_for_each(|effect| ledger.judge(effect, plan))?;
    ledger.close(machine, plan)
}

fn draw<T: std::fmt::Debug>(strategy: &impl Strategy<Value = T>, count: usize) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// Histories that get nowhere would pass whatever the machine does.
#[test]
fn the_histories_reach_every_phase() {
    let all = Seen::from([
        "Stopped",
        "Failed",
        "Stuck",
        "Preparing",
        "Spawning",
        "Booting",
        "Running",
        "Stopping",
        "BackingOff",
        "BackingOff with a tree",
    ]);
    let lived = draw(&(plans(), draws()), 200).into_iter().flat_map(|(plan, draws)| live(&plan, 1, &draws).unwrap());
    assert_eq!(lived.collect::<Seen>(), all);
    let lied = draw(&(plans(), lies()), 200).into_iter().flat_map(|(plan, lies)| lie(&plan, &lies).unwrap());
    assert_eq!(lied.collect::<Seen>(), all);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_consistent_world_is_served_by_the_rules(plan in plans(), seed in any::<u64>(), draws in draws()) {
        live(&plan, seed, &draws).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn a_lying_world_does_not_confuse_those_who_watch(plan in plans(), lies in lies()) {
        lie(&plan, &lies).map_err(TestCaseError::fail)?;
    }
}
