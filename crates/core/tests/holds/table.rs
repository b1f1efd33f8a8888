//! The table of the situations of a shared plugin against every event. golden/holds.txt has the expected table; `UPDATE_GOLDEN=1`
//! rewrites it.
//!
//! The sessions 1 and 2 are those of the situation, and 3 comes new. Their starts have the numbers 1 and 2 as requests; the request
//! in the cell itself is 9.

use std::path::Path;
use std::time::Duration;

use ally_core::error::Failure;
use ally_core::lifecycle::holds::DaemonState::{self, Armed, Error, Running, Stopped, Stopping, Unknown};
use ally_core::lifecycle::holds::{CallId, Fit, HoldEvent, Request, Session};

use crate::support::plugin::{PENDING, PREPARING, Plugin, SPAWNED, exited, settled, start, start_lingering, timed_out};
use crate::support::text::outcome_text;

const REQUEST: Request = 9;

/// A situation, with the calls to the manager that are open, and the starts that a timer or an abort can end.
struct Situation {
    name: &'static str,
    plugin: Plugin,
    calls: Vec<CallId>,
    starts: Vec<(Session, Request)>,
}

fn situation<const N: usize>(name: &'static str, plugin: Plugin, calls: &[CallId], starts: &[Session], then: [HoldEvent; N]) -> Situation {
    let mut plugin = plugin;
    plugin.all(then);
    Situation { name, plugin, calls: calls.to_vec(), starts: starts.iter().map(|session| (*session, *session)).collect() }
}

fn situations() -> Vec<Situation> {
    let new = Plugin::default;
    let told = HoldEvent::Daemon;
    let one = || Plugin::running([start(1)]);
    let two = || Plugin::running([start(1), start(2)]);
    let lingers = || Plugin::running([start_lingering(1, 500)]);
    let let_go = |session| HoldEvent::LetGo { session, request: 7 };
    let everywhere = HoldEvent::Everywhere { by: Some((1, 7)) };
    let restart = HoldEvent::Restart { session: 1, request: 7 };
    let upgrade = HoldEvent::Upgrade { session: 1, request: 7, linger: None };
    let wait = HoldEvent::Wait { session: 1, request: 7 };
    let stuck = || settled(2, Err(Failure::StopFailed { survivors: vec![9] }));
    vec![
        situation("unknown", new(), &[], &[], []),
        situation("one starts, prepared", new(), &[1], &[1], [start(1), told(PREPARING)]),
        situation("one starts, spawned", new(), &[1], &[1], [start(1), told(PREPARING), told(SPAWNED)]),
        situation("two start, spawned", new(), &[1], &[1, 2], [start(1), start(2), told(PREPARING), told(SPAWNED)]),
        situation("one has it, running", one(), &[], &[], []),
        situation("two have it, running", two(), &[], &[], []),
        situation("two have it, armed", two(), &[], &[], [told(Armed)]),
        situation("two have it, a restart is pending", two(), &[], &[], [told(PENDING)]),
        situation("two have it, restarted by the policy", two(), &[], &[], [told(PREPARING), told(SPAWNED)]),
        situation("one has it, another waits for a restart by the policy", one(), &[2], &[2], [told(SPAWNED), start(2)]),
        situation("two have it, one restarts it", two(), &[2], &[], [restart.clone(), told(Stopping)]),
        situation(
            "two have it, one restarts it and has died",
            two(),
            &[2],
            &[],
            [restart, told(Stopping), HoldEvent::SessionEnded { session: 1 }],
        ),
        situation("two have it, one upgrades it", two(), &[2], &[], [upgrade]),
        situation("two have it in error, one waits for RUNNING", two(), &[2], &[], [told(PREPARING), wait, told(Error)]),
        situation("two have it, stopped by itself", two(), &[], &[], [told(Stopped)]),
        situation("it lingers", lingers(), &[], &[], [let_go(1)]),
        situation("the last stops it", one(), &[2], &[], [let_go(1), told(Stopping)]),
        situation("the last stops it, another one waits", one(), &[2], &[2], [let_go(1), told(Stopping), start(2)]),
        situation("stopped for all", two(), &[2], &[], [everywhere.clone(), told(Stopping)]),
        situation("stopped for all while it starts", new(), &[2], &[], [start(1), start(2), told(SPAWNED), everywhere, told(Stopping)]),
        situation(
            "the host ends, and processes have outlived the stop",
            two(),
            &[],
            &[],
            [HoldEvent::Everywhere { by: None }, told(Stopping), told(Error), stuck()],
        ),
        situation("processes have outlived the stop of the last", one(), &[], &[], [let_go(1), told(Stopping), told(Error), stuck()]),
    ]
}

fn events(Situation { calls, starts, .. }: &Situation) -> Vec<(String, HoldEvent)> {
    let mut events = Vec::new();
    for session in 1..=3 {
        let request = REQUEST;
        let starts = |fit| HoldEvent::Start { session, request, fit, timeout: Duration::from_secs(4), linger: Duration::ZERO };
        events.push((format!("{session} starts"), starts(Fit::Equal)));
        events.push((format!("{session} starts another"), starts(Fit::Differs { fields: vec!["args[0]".to_owned()], upgraded: false })));
        events.push((format!("{session} lets go"), HoldEvent::LetGo { session, request }));
        events.push((format!("{session} ends"), HoldEvent::SessionEnded { session }));
        events.push((format!("{session} stops for all"), HoldEvent::Everywhere { by: Some((session, request)) }));
        events.push((format!("{session} restarts"), HoldEvent::Restart { session, request }));
        events.push((format!("{session} upgrades"), HoldEvent::Upgrade { session, request, linger: None }));
        events.push((format!("{session} waits"), HoldEvent::Wait { session, request }));
    }
    events.push(("the host stops".to_owned(), HoldEvent::Everywhere { by: None }));
    for (session, request) in starts {
        events.push((format!("the start of {session} is aborted"), HoldEvent::Abort { session: *session, request: *request }));
        events.push((format!("the start of {session} is timed out"), timed_out(*request)));
    }
    events.push(("the linger time is over".to_owned(), HoldEvent::LingerOver));
    events.extend(states().into_iter().map(|state| (format!("{state:?}"), HoldEvent::Daemon(state))));
    for call in calls {
        events.extend(
            outcomes().into_iter().map(|outcome| (format!("call {call} settled {}", outcome_text(&outcome)), settled(*call, outcome))),
        );
    }
    events
}

fn states() -> Vec<DaemonState> {
    let all = [Unknown, PREPARING, SPAWNED, PENDING, Running, Armed, Stopping, Stopped, Error];
    // A new state does not compile before it is listed.
    all.into_iter()
        .inspect(|state| match state {
            Unknown | DaemonState::Starting(_) | Running | Armed | Stopping | Stopped | Error => {}
        })
        .collect()
}

fn outcomes() -> [Result<(), Failure>; 5] {
    [
        Ok(()),
        Err(Failure::Stopped),
        Err(exited()),
        Err(Failure::OwnedElsewhere { owner: Some(7) }),
        Err(Failure::StopFailed { survivors: vec![9] }),
    ]
}

fn summary(Plugin { holds }: &Plugin) -> String {
    let sessions: Vec<String> = (1..=3).filter(|session| holds.has(*session)).map(|session| session.to_string()).collect();
    let who = if sessions.is_empty() { "nobody".to_owned() } else { sessions.join(" and ") };
    let lingers = if holds.lingers() { ", lingers" } else { "" };
    let host = if holds.keeps_host() { "" } else { ", the host may leave" };
    format!("{who}{lingers}{host}")
}

fn section(situation: &Situation) -> String {
    let Situation { name, plugin, .. } = situation;
    let mut text = format!("== {name}\n   {}\n", summary(plugin));
    let mut ignored = Vec::new();
    for (name, event) in events(situation) {
        let mut after = plugin.clone();
        let effects = after.on(event);
        if effects.is_empty() && format!("{after:?}") == format!("{plugin:?}") {
            ignored.push(name);
            continue;
        }
        let effects = if effects.is_empty() { "(noted)" } else { &effects };
        text.extend([&name, " -> ", &summary(&after), ": ", effects, "\n"]);
    }
    let ignored = if ignored.is_empty() { "nothing".to_owned() } else { ignored.join(", ") };
    text.extend(["ignored: ", &ignored, "\n"]);
    text
}

#[test]
fn holds_table_is_equal_to_the_golden_file() {
    let table = situations().iter().map(section).collect::<Vec<_>>().join("\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/holds.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        std::fs::write(&path, &table).expect("the golden file can be written");
        return;
    }
    let golden = std::fs::read_to_string(&path).expect("the golden file exists (UPDATE_GOLDEN=1 writes it)");
    let mut section = "";
    for (number, (was, is)) in (1..).zip(golden.lines().zip(table.lines())) {
        section = if is.starts_with("==") { is } else { section };
        assert_eq!(was, is, "line {number} of {}, below {section:?}", path.display());
    }
    assert_eq!(golden.lines().count(), table.lines().count(), "the tables have different lengths");
}
