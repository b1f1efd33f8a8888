//! Routes log entries, which are events of tracing. An entry names a manager. If that manager has a logger, the entry goes to
//! its mailbox. Otherwise the entry goes to stderr, if `ALLY_LOG` lets it through.

use std::collections::HashMap;
use std::fmt::Debug;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, Weak};

use once_cell::sync::{Lazy, OnceCell};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Filter, Layer, SubscriberExt};

use ally_core::supervisor::{LogEntry, Mailbox, Message};

struct Sink {
    mailbox: Weak<Mailbox>,
    debug: bool,
}

static SINKS: Lazy<RwLock<HashMap<u64, Sink>>> = Lazy::new(RwLock::default);
/// The most verbose level that any logger reads, as an index into `LEVELS`. An atomic, because each log entry reads it.
static WANTED: AtomicUsize = AtomicUsize::new(0);
const LEVELS: [LevelFilter; 3] = [LevelFilter::OFF, LevelFilter::INFO, LevelFilter::DEBUG];

fn wanted() -> LevelFilter {
    LEVELS.get(WANTED.load(Ordering::Relaxed)).copied().unwrap_or(LevelFilter::OFF)
}

/// Lets through the entries that a logger reads. Because of its level hint, `tracing::enabled!` returns false for lines of output
/// without a reader, and the output is not split into lines.
struct WantedLevel;

impl<S> Filter<S> for WantedLevel {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        *metadata.level() <= wanted()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(wanted())
    }
}

/// Installs the subscriber, once per process. The filters of later calls are ignored.
pub fn install(filter: Option<&str>) {
    static INSTALLED: OnceCell<()> = OnceCell::new();
    INSTALLED.get_or_init(|| {
        let targets = filter.filter(|filter| !filter.is_empty()).map(|filter| {
            filter.parse::<Targets>().unwrap_or_else(|error| {
                print_problem(&format!("ALLY_LOG is not understood ({error}); showing warnings and errors"));
                Targets::new().with_default(Level::WARN)
            })
        });
        let stderr = targets.map(|targets| {
            let format = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(|| NonBlockingStderr);
            WithoutLogger(format).with_filter(targets)
        });
        let subscriber = tracing_subscriber::registry().with(stderr).with(Router.with_filter(WantedLevel));
        if tracing::subscriber::set_global_default(subscriber).is_err() {
            print_problem("ally-background-process-manager: another tracing subscriber is installed; loggers stay silent");
        }
    });
}

/// Routes the manager's log entries to its mailbox. Debug entries only if `debug`.
pub fn connect(manager: u64, mailbox: Weak<Mailbox>, debug: bool) {
    let mut sinks = SINKS.write().unwrap_or_else(PoisonError::into_inner);
    sinks.insert(manager, Sink { mailbox, debug });
    update_wanted(&sinks);
}

pub fn disconnect(manager: u64) {
    let mut sinks = SINKS.write().unwrap_or_else(PoisonError::into_inner);
    sinks.remove(&manager);
    update_wanted(&sinks);
}

fn update_wanted(sinks: &HashMap<u64, Sink>) {
    let level = sinks.values().map(|sink| 1 + usize::from(sink.debug)).max().unwrap_or(0);
    if WANTED.swap(level, Ordering::Relaxed) != level {
        // The hint has changed.
        tracing::callsite::rebuild_interest_cache();
    }
}

/// Stderr without waiting. If write(2) would block (a full pipe, a terminal stopped by Ctrl-S), the text is dropped.
struct NonBlockingStderr;

impl std::io::Write for NonBlockingStderr {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut poll = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
        // SAFETY: one structure, which outlives the call.
        if unsafe { libc::poll(&raw mut poll, 1, 0) } == 1 && poll.revents & libc::POLLOUT != 0 {
            // A writable pipe has room for PIPE_BUF bytes (pipe(7)), so this write does not block.
            let piece = bytes.get(..libc::PIPE_BUF).unwrap_or(bytes);
            return std::io::stderr().write(piece);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Prints a problem of the subscriber itself. `eprintln!` would panic if stderr is closed.
fn print_problem(problem: &str) {
    drop(writeln!(std::io::stderr(), "{problem}"));
}

/// Lets through the log entries of managers without a logger.
struct WithoutLogger<L>(L);

impl<S: Subscriber, L: Layer<S>> Layer<S> for WithoutLogger<L> {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut manager = ManagerField::default();
        event.record(&mut manager);
        let has_logger = match manager.0 {
            Some(manager) => SINKS.read().unwrap_or_else(PoisonError::into_inner).contains_key(&manager),
            None => wanted() > LevelFilter::OFF,
        };
        if !has_logger {
            self.0.on_event(event, context);
        }
    }
}

struct Router;

impl<S: Subscriber> Layer<S> for Router {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        let mut manager = ManagerField::default();
        event.record(&mut manager);
        let sinks = SINKS.read().unwrap_or_else(PoisonError::into_inner);
        // An entry that names no manager goes to every logger.
        let named = sinks.iter().filter(|(id, _)| manager.0.is_none_or(|named| named == **id)).map(|(_, sink)| sink);
        for sink in named.filter(|sink| level <= Level::INFO || sink.debug) {
            let Some(mailbox) = sink.mailbox.upgrade() else { continue };
            // Lines are frequent, so a line that would be dropped is not formatted.
            if level > Level::INFO && mailbox.drop_line_if_full() {
                continue;
            }
            let LogEntry { text, fields } = LogEntry::of(event);
            mailbox.post(Message::Log { level, text, fields });
        }
    }
}

/// Reads only the manager of a log entry.
#[derive(Default)]
struct ManagerField(Option<u64>);

impl Visit for ManagerField {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "manager" {
            self.0 = Some(value);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}
