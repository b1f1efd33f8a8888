//! A sample of every event, from one list. The list is also an exhaustive match: a new event of the
//! machine does not compile until it is listed here.

use super::plan::upgraded;
use ally_core::error::Failure;
use ally_core::lifecycle::{Event, Generation, Ticket};
use ally_core::model::{Exit, Pid};
use std::time::Duration;

/// The fields of the samples.
#[derive(Debug, Clone, Copy)]
pub struct Filling {
    pub generation: Generation,
    pub ticket: Ticket,
    pub pid: Pid,
}

macro_rules! samples {
    ($filling:ident: $($name:ident { $($field:ident : $value:expr),* }),+ $(,)?) => {
        /// A sample of each event.
        pub fn samples($filling: Filling) -> Vec<Event> {
            vec![$(Event::$name { $($field: $value),* }),+]
        }

        pub fn name(event: &Event) -> &'static str {
            match event {
                $(Event::$name { .. } => stringify!($name),)+
            }
        }
    };
}

samples! { f:
    StartRequested { ticket: f.ticket },
    StartRefused { ticket: f.ticket, failure: claimed() },
    StartAborted { ticket: f.ticket },
    StartRevoked { ticket: f.ticket, answer: f.ticket },
    StartExtended { ticket: f.ticket, by: Duration::from_secs(8) },
    StartExpired { ticket: f.ticket },
    WaitRequested { ticket: f.ticket },
    UseRequested { ticket: f.ticket },
    WaitAborted { ticket: f.ticket },
    StopRequested { ticket: f.ticket },
    RestartRequested { ticket: f.ticket },
    UpgradeRequested { ticket: f.ticket, plan: Box::new(upgraded()), beside: true },
    Closed {},
    ShutdownRequested { ticket: f.ticket },
    Prepared { generation: f.generation },
    PrepareFailed { generation: f.generation, failure: unwritable() },
    Spawned { generation: f.generation, pid: f.pid },
    SpawnFailed { generation: f.generation, failure: unspawnable() },
    OrderLost { generation: f.generation, failure: lost() },
    Acknowledged { generation: f.generation },
    RecordFailed { generation: f.generation, failure: unwritable() },
    Ready { generation: f.generation },
    NotReady { generation: f.generation, failure: Failure::SocketInUse { path: "/run/p.sock".to_owned(), by: foreigner() } },
    Connected { generation: f.generation },
    Idle { generation: f.generation },
    Frozen { generation: f.generation, idle: true },
    ChangedOver { generation: f.generation },
    ChangeOverFailed { generation: f.generation, failure: unwritable() },
    Drained { generation: f.generation, left: 0 },
    EndedBy { generation: f.generation, pid: 77 },
    Exited { generation: f.generation, exit: code(1), usage: None, remains: false, after_probe: None, tail: String::new(), leftover_file: None, name_lost: None, connected: false },
    TreeGone { generation: f.generation, leftover_file: None },
    ProbePassed { generation: f.generation, latency: Duration::from_millis(2) },
    ProbeFailed { generation: f.generation, latency: Duration::from_millis(3), error: "refused".to_owned() },
    MemoryExceeded { generation: f.generation, memory: 200 << 20 },
    SocketLost { generation: f.generation, failure: shut_down() },
    StartupElapsed { generation: f.generation, last_problem: None, tail: String::new() },
    AcknowledgementElapsed { generation: f.generation },
    GraceElapsed { generation: f.generation },
    KillElapsed { generation: f.generation, survivors: vec![f.pid] },
    BackoffElapsed { generation: f.generation },
    ResetElapsed { generation: f.generation },
    ProbeDue { generation: f.generation },
    Extended { generation: f.generation, by: Duration::from_secs(7) },
    Faulted { message: "the task broke down".to_owned() },
}

/// The samples with a generation.
pub fn of_generation(f: Filling) -> impl Iterator<Item = Event> {
    samples(f).into_iter().filter(|event| event.generation().is_some())
}

pub const fn code(code: i32) -> Exit {
    Exit { code: Some(code), signal: None }
}

pub fn exited(generation: Generation, exit: Exit, remains: bool) -> Event {
    Event::Exited {
        generation,
        exit,
        usage: None,
        remains,
        after_probe: None,
        tail: String::new(),
        leftover_file: None,
        name_lost: None,
        connected: false,
    }
}

/// A connection is open, or waits.
pub fn exited_connected(generation: Generation, exit: Exit, remains: bool) -> Event {
    let Event::Exited { usage, after_probe, tail, leftover_file, name_lost, .. } = exited(generation, exit, remains) else {
        unreachable!("exited gives Exited")
    };
    Event::Exited { generation, exit, usage, remains, after_probe, tail, leftover_file, name_lost, connected: true }
}

/// The folder was replaced, and another owner has the name.
pub fn exited_after_loss(generation: Generation, exit: Exit, remains: bool) -> Event {
    let name_lost = Some(Failure::OwnedElsewhere { owner: Some(1234) });
    Event::Exited {
        generation,
        exit,
        usage: None,
        remains,
        after_probe: None,
        tail: String::new(),
        leftover_file: None,
        name_lost,
        connected: false,
    }
}

pub fn unwritable() -> Failure {
    Failure::io(std::path::Path::new("/p/daemon.pid"), "EROFS")
}

pub const fn owned() -> Failure {
    Failure::OwnedElsewhere { owner: Some(1234) }
}

pub fn lost() -> Failure {
    Failure::GuardianLost { path: "/p/ally-guardian".to_owned(), ending: "was killed by SIGKILL".to_owned() }
}

pub fn unspawnable() -> Failure {
    Failure::Spawn { problem: "ENOENT".to_owned(), refused: None }
}

pub fn claimed() -> Failure {
    Failure::SocketInUse { path: "/run/q.sock".to_owned(), by: ally_core::error::Occupant::Plugin("q".to_owned()) }
}

fn foreigner() -> ally_core::error::Occupant {
    ally_core::error::Occupant::Process(77)
}

pub fn shut_down() -> Failure {
    Failure::SocketShutDown { path: "/run/p.sock".to_owned() }
}

pub fn taken() -> Failure {
    Failure::SocketTaken { path: "/run/p.sock".to_owned(), by: foreigner() }
}
