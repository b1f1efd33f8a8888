//! A session and a host that the test plays: what a real host says at a moment that can't be chosen.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use ally_base::wire::{FrameBuffer, Hello};
use ally_build_id::{BUILD_ID, VERSION};
use ally_core::config::Raw;
use ally_core::error::{Code, Facts, Failure};
use ally_core::lifecycle::{Notice, Snapshot};
use ally_core::model::ProcessState::{self, Error, Running, Starting, Stopped};
use ally_core::model::{Exit, ExitReason, Stream};
use ally_core::sharing::protocol::{
    Call, ClientGreeting, Detachment, HostGreeting, Inbound, Push, Request, RequestId, SentLine, Shown, TO_HOST_MAX, TO_SESSION_MAX, Told,
    Verdict, encode,
};
use ally_core::supervisor::{Message, PluginMetrics};

use crate::support::{Session, World, within};

struct PlayedHost {
    stream: UnixStream,
    inbound: Inbound,
}

/// Binds the host's socket.
fn listen(world: &World) -> UnixListener {
    world.make_folder();
    UnixListener::bind(world.socket()).unwrap()
}

impl PlayedHost {
    fn accept(listener: &UnixListener) -> Self {
        listener.set_nonblocking(true).unwrap();
        let mut accepted = None;
        assert!(within(Duration::from_secs(10), || {
            accepted = listener.accept().ok();
            accepted.is_some()
        }));
        let (mut stream, _) = accepted.unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut greeting = FrameBuffer::default();
        while ClientGreeting::take_from(&mut greeting).unwrap().is_none() {
            greeting.extend(&read_some(&mut stream));
        }
        let hello = Hello { version: VERSION.to_owned(), build: BUILD_ID.to_owned(), pid: std::process::id().cast_signed() };
        stream.write_all(&HostGreeting { hello, verdict: Verdict::Welcome { token: 1 } }.encode()).unwrap();
        let mut inbound = Inbound::new(TO_HOST_MAX);
        inbound.extend(&greeting.into_rest());
        Self { stream, inbound }
    }

    /// The next request that asks for something.
    fn next(&mut self) -> (RequestId, Call) {
        loop {
            match self.inbound.next_message::<Request>().unwrap() {
                Some(Request { call: Call::Listen(_), .. }) => {}
                Some(Request { id, call, .. }) => return (id, call),
                None => self.inbound.extend(&read_some(&mut self.stream)),
            }
        }
    }

    fn say(&mut self, pushes: impl IntoIterator<Item = Push>) {
        let frames: Vec<u8> = pushes.into_iter().flat_map(|push| encode(&push, TO_SESSION_MAX).unwrap()).collect();
        self.stream.write_all(&frames).unwrap();
    }

    /// Answers the start that comes next: the plugin runs.
    fn start(&mut self, plugin: &str, pid: i32) {
        let (id, call) = self.next();
        assert!(matches!(&call, Call::Start(start) if start.plugin == plugin), "{call:?}");
        self.say([Push::Read { id }, attached(plugin, pid), answer(id)]);
    }
}

fn read_some(stream: &mut UnixStream) -> Vec<u8> {
    let mut piece = vec![0; 64 * 1024];
    let count = stream.read(&mut piece).expect("the session says something");
    assert_ne!(count, 0, "the session goes on");
    piece.truncate(count);
    piece
}

fn shown(plugin: &str, state: ProcessState, pid: Option<i32>) -> Box<Shown> {
    let snapshot = Snapshot { known: true, state, pid, forgettable: pid.is_none(), ..Snapshot::none() };
    Box::new(Shown { snapshot, uptime: None, status: None, sessions: 1, ends_for_all: false, metrics: PluginMetrics::none(plugin) })
}

fn attached(plugin: &str, pid: i32) -> Push {
    Push::Attached { plugin: plugin.to_owned(), shown: shown(plugin, Running, Some(pid)), at: 0.0 }
}

const fn answer(id: RequestId) -> Push {
    Push::Answer { id, outcome: Ok(()) }
}

fn line(text: &str) -> Push {
    let line = SentLine { stream: Stream::Stdout, text: text.to_owned(), end: 1, at: 0.0, pid: Some(7) };
    Push::Lines { plugin: "plugin".to_owned(), output: 1, dropped: 0, lines: vec![line] }
}

fn shows(state: ProcessState, pid: Option<i32>) -> Push {
    Push::Shown { plugin: "plugin".to_owned(), shown: shown("plugin", state, pid) }
}

fn fails(from: ProcessState) -> [Push; 2] {
    let told = Told::StateChanged { from: Some(from), to: Error, pid: Some(7), reason: None };
    [shows(Error, None), Push::Told { plugin: "plugin".to_owned(), told, at: 1.0 }]
}

fn resync(taken: RequestId) -> Push {
    Push::Resync { lost: 3, plugins: vec!["plugin".to_owned()], taken }
}

fn refused(id: RequestId, failure: &Failure) -> Push {
    Push::Answer { id, outcome: Err(Facts::chain(failure, "plugin")) }
}

/// A session and its host, whose plugin has failed.
struct Failed {
    session: Session,
    config: Raw,
    host: PlayedHost,
}

impl Failed {
    fn new(world: &World) -> Self {
        let listener = listen(world);
        let (session, config) = (world.session(), world.config("plugin"));
        let ticket = session.begin(&config);
        let mut host = PlayedHost::accept(&listener);
        host.start("plugin", 7);
        session.answer(ticket).unwrap();
        host.say([line("last words")].into_iter().chain(fails(Running)));
        assert!(within(Duration::from_secs(10), || session.router.state("plugin") == Some(Error)));
        Self { session, config, host }
    }

    /// Starts it again. The ticket, and the number of the call.
    fn start(&mut self) -> (u64, RequestId) {
        let ticket = self.session.begin(&self.config);
        let (start, call) = self.host.next();
        assert!(matches!(call, Call::Start(_)), "{call:?}");
        (ticket, start)
    }

    /// Forgets it, and starts it anew. The ticket, and the numbers of the calls.
    fn start_anew(&mut self) -> (u64, [RequestId; 2]) {
        assert!(self.session.router.forget("plugin"));
        let ticket = self.session.begin(&self.config);
        let (abandon, call) = self.host.next();
        assert!(matches!(call, Call::Abandon { .. }), "{call:?}");
        let (start, call) = self.host.next();
        assert!(matches!(call, Call::Start(_)), "{call:?}");
        (ticket, [abandon, start])
    }

    fn shown(&self) -> (ProcessState, Option<i32>) {
        (self.session.router.state("plugin").unwrap(), self.session.router.pid("plugin"))
    }
}

#[test]
fn a_resync_in_front_of_the_answer_to_forget_tells_of_the_start_that_came_after() {
    let world = World::new();
    let mut played = Failed::new(&world);
    let (ticket, [abandon, start]) = played.start_anew();
    played.host.say([resync(start), shows(Running, Some(9)), answer(abandon), answer(start)]);
    played.session.answer(ticket).unwrap();
    assert_eq!(played.shown(), (Running, Some(9)));
    assert_eq!(played.session.told(), [Starting, Running, Error, Starting, Running]);
}

#[test]
fn a_resync_of_before_forget_tells_nothing_of_the_start_that_comes_after() {
    let world = World::new();
    let mut played = Failed::new(&world);
    let (ticket, [abandon, start]) = played.start_anew();
    played.host.say([resync(abandon - 1), shows(Error, None), answer(abandon), attached("plugin", 9), answer(start)]);
    played.session.answer(ticket).unwrap();
    assert_eq!(played.shown(), (Running, Some(9)));
    assert_eq!(played.session.told(), [Starting, Running, Error, Starting, Running]);
}

#[test]
fn a_resync_of_before_a_start_of_a_plugin_that_the_session_has_tells_nothing_of_that_start() {
    let world = World::new();
    let mut played = Failed::new(&world);
    let (ticket, start) = played.start();
    played.host.say([resync(start - 1), shows(Error, None), attached("plugin", 9), answer(start)]);
    played.session.answer(ticket).unwrap();
    assert_eq!(played.shown(), (Running, Some(9)));
    assert_eq!(played.session.told(), [Starting, Running, Error, Starting, Running]);
    // The host does not send it again to a session that has the plugin.
    assert_eq!(played.session.router.output("plugin", 10), ["last words"]);
}

#[test]
fn a_refused_start_of_a_plugin_that_the_session_has_leaves_what_it_has_become_meanwhile() {
    let world = World::new();
    let mut played = Failed::new(&world);
    let (ticket, start) = played.start();
    // Another session was first.
    played.host.say([shows(Running, Some(9)), refused(start, &Failure::AlreadyRunning(Running))]);
    assert_eq!(played.session.answer(ticket).unwrap_err().code(), Code::AlreadyRunning);
    assert_eq!(played.shown(), (Running, Some(9)));
    // It did not take part in the start.
    assert_eq!(played.session.told(), [Starting, Running, Error, Starting, Running]);
}

#[test]
fn a_stop_for_all_sessions_that_crosses_a_start_is_one_of_before_it() {
    let world = World::new();
    let mut played = Failed::new(&world);
    let (ticket, start) = played.start();
    let detached = Push::Detached { plugin: "plugin".to_owned(), why: Detachment::Everywhere };
    played.host.say([detached, attached("plugin", 9), answer(start)]);
    played.session.answer(ticket).unwrap();
    assert_eq!(played.shown(), (Running, Some(9)));
    assert_eq!(played.session.told(), [Starting, Running, Error, Starting, Running]);
    // The session has it.
    let stop = played.session.router.stop("plugin", false);
    let (id, call) = played.host.next();
    assert!(matches!(call, Call::LetGo { .. }), "{call:?}");
    played.host.say([answer(id)]);
    played.session.answer(stop).unwrap();
}

#[test]
fn a_stop_for_all_sessions_that_crosses_a_refused_start_has_stopped_the_plugin() {
    let world = World::new();
    let mut played = Failed::new(&world);
    let (ticket, start) = played.start();
    let detached = Push::Detached { plugin: "plugin".to_owned(), why: Detachment::Everywhere };
    played.host.say([detached, refused(start, &Failure::OwnedElsewhere { owner: None })]);
    assert_eq!(played.session.answer(ticket).unwrap_err().code(), Code::OwnedElsewhere);
    assert_eq!(played.shown(), (Stopped, None));
}

#[test]
fn the_answer_of_a_start_that_was_told_to_have_failed_changes_nothing_of_the_next_one() {
    let world = World::new();
    let mut played = Failed::new(&world);
    let (first_ticket, first) = played.start();
    played.host.say([attached("plugin", 8)].into_iter().chain(fails(Running)));
    assert!(within(Duration::from_secs(10), || played.session.router.pid("plugin").is_none() && played.shown().0 == Error));
    let (second_ticket, second) = played.start();
    let failure = Failure::Ended { exit: Exit::UNKNOWN, tail: String::new() };
    played.host.say([refused(first, &failure), attached("plugin", 9), answer(second)]);
    played.session.answer(first_ticket).unwrap_err();
    played.session.answer(second_ticket).unwrap();
    assert_eq!(played.shown(), (Running, Some(9)));
}

#[test]
fn what_a_host_says_at_its_end_is_read_by_a_session_whose_call_it_does_not_take_any_more() {
    for _ in 0..20 {
        let world = World::new();
        let listener = listen(&world);
        let session = world.session();
        let ticket = session.begin(&world.config("plugin"));
        let mut host = PlayedHost::accept(&listener);
        host.start("plugin", 7);
        session.answer(ticket).unwrap();
        fs::remove_file(world.socket()).unwrap();
        drop(listener);
        host.stream.shutdown(Shutdown::Read).unwrap();
        let ticket = session.router.stop("plugin", false);
        host.say([line("last words"), Push::Leaving { left: Vec::new() }]);
        drop(host);
        session.answer(ticket).unwrap();
        assert_eq!(session.router.output("plugin", 10), ["last words"]);
    }
}

#[test]
fn a_start_that_waits_for_another_plugin_is_never_sent_behind_its_stop() {
    let world = World::new();
    let listener = listen(&world);
    let session = world.session();
    let mut host = None;
    // The stop comes as near as it can to the moment in which the start is sent.
    let mut spins = 1_000_u32;
    for round in 0..300 {
        let (first, second) = (format!("first-{round}"), format!("second-{round}"));
        let Raw::Object(mut dependent) = world.config(&second) else { panic!("a configuration is an object") };
        dependent.push(("dependsOn".to_owned(), Raw::Array(vec![Raw::String(first.clone())])));
        let ticket = session.begin(&world.config(&first));
        let host = host.get_or_insert_with(|| PlayedHost::accept(&listener));
        let withheld = session.begin(&Raw::Object(dependent));
        host.start(&first, 7);
        (0..spins).for_each(|_| std::hint::spin_loop());
        let stop = session.router.stop(&second, false);
        let (mut id, mut call) = host.next();
        spins = spins.saturating_add_signed(if matches!(call, Call::Start(_)) { -50 } else { 50 });
        if let Call::Start(_) = call {
            host.say([refused(id, &Failure::Stopped)]);
            (id, call) = host.next();
        }
        assert!(matches!(call, Call::LetGo { .. }), "round {round}: {call:?}");
        host.say([answer(id)]);
        session.answer(ticket).unwrap();
        session.answer(stop).unwrap();
        assert_eq!(session.answer(withheld).unwrap_err().code(), Code::Stopped);
        // A start behind the stop would be in front of this.
        let asked = session.router.restart(&first);
        let (id, call) = host.next();
        assert!(matches!(call, Call::Restart { .. }), "round {round}: {call:?}");
        host.say([answer(id)]);
        session.answer(asked).unwrap();
    }
}

/// A process ends by itself as soon as nothing keeps its event loop alive, and its listeners hear nothing more.
#[test]
fn a_session_is_pending_until_it_has_told_what_led_to_the_state_that_it_shows() {
    let world = World::new();
    let (session, mut host, tells_error) = shows_an_untold_error(&world);
    assert!(session.router.is_pending());
    let exited = Told::Exited { pid: 7, exit: Exit { code: Some(3), signal: None }, reason: ExitReason::Crashed };
    host.say([Push::Told { plugin: "plugin".to_owned(), told: exited, at: 1.0 }, tells_error]);
    assert!(within(Duration::from_secs(10), || !session.router.is_pending()));
    let has_exit = |message: &Message| matches!(message, Message::Notice { notice: Notice::Exited { .. }, .. });
    assert!(session.router.mailbox().take().iter().any(has_exit));
}

#[test]
fn a_plugin_that_is_forgotten_before_its_last_events_keeps_no_event_loop_alive() {
    let world = World::new();
    let (session, _host, _) = shows_an_untold_error(&world);
    assert!(session.router.forget("plugin"));
    assert!(within(Duration::from_secs(10), || !session.router.is_pending()));
}

/// The plugin has failed, as the getters show, and the host has not told the events yet: the last one is returned.
fn shows_an_untold_error(world: &World) -> (Session, PlayedHost, Push) {
    let listener = listen(world);
    let session = world.session();
    let ticket = session.begin(&world.config("plugin"));
    let mut host = PlayedHost::accept(&listener);
    host.start("plugin", 7);
    session.answer(ticket).unwrap();
    let [shows_error, tells_error] = fails(Running);
    host.say([shows_error]);
    assert!(within(Duration::from_secs(10), || session.router.state("plugin") == Some(Error)));
    (session, host, tells_error)
}
