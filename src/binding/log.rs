//! Where tracing's records go: to the logger of the manager that they name, or, where no manager of
//! the process has one, to stderr as `ALLY_LOG` says.

use std::collections::HashMap;
use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, Weak};

use once_cell::sync::{Lazy, OnceCell};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{Targets, dynamic_filter_fn};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::supervisor::{Mailbox, Message};

struct Sink {
    mailbox: Weak<Mailbox>,
    debug: bool,
}

static SINKS: Lazy<RwLock<HashMap<u64, Sink>>> = Lazy::new(RwLock::default);
/// Asked at every record, so not worth a lock.
static ANY_SINK: AtomicBool = AtomicBool::new(false);
static ANY_DEBUG: AtomicBool = AtomicBool::new(false);

/// Once in the life of the process; later filters are not looked at.
pub fn install(filter: Option<&str>) {
    static INSTALLED: OnceCell<()> = OnceCell::new();
    INSTALLED.get_or_init(|| {
        let targets = filter.filter(|filter| !filter.is_empty()).map(|filter| {
            filter.parse::<Targets>().unwrap_or_else(|error| {
                eprintln!("ALLY_LOG is not understood ({error}); showing warnings and errors");
                Targets::new().with_default(Level::WARN)
            })
        });
        let stderr = targets.map(|targets| {
            let nobody_else = dynamic_filter_fn(|_, _| !ANY_SINK.load(Ordering::Relaxed));
            tracing_subscriber::fmt::layer().with_ansi(false).with_writer(std::io::stderr).with_filter(targets).with_filter(nobody_else)
        });
        let wanted = dynamic_filter_fn(|metadata, _| {
            ANY_SINK.load(Ordering::Relaxed)
                && (*metadata.level() <= Level::INFO || (*metadata.level() == Level::DEBUG && ANY_DEBUG.load(Ordering::Relaxed)))
        });
        let subscriber = tracing_subscriber::registry().with(stderr).with(Router.with_filter(wanted));
        if tracing::subscriber::set_global_default(subscriber).is_err() {
            eprintln!("ally-background-process-manager: another tracing subscriber is installed; loggers stay silent");
        }
    });
}

/// From now on the manager's records go to its mailbox; those at debug only if they are read.
pub fn connect(manager: u64, mailbox: Weak<Mailbox>, debug: bool) {
    let mut sinks = SINKS.write().unwrap_or_else(PoisonError::into_inner);
    sinks.insert(manager, Sink { mailbox, debug });
    note(&sinks);
}

pub fn disconnect(manager: u64) {
    let mut sinks = SINKS.write().unwrap_or_else(PoisonError::into_inner);
    sinks.remove(&manager);
    note(&sinks);
}

fn note(sinks: &HashMap<u64, Sink>) {
    ANY_SINK.store(!sinks.is_empty(), Ordering::Relaxed);
    ANY_DEBUG.store(sinks.values().any(|sink| sink.debug), Ordering::Relaxed);
}

struct Router;

impl<S: Subscriber> Layer<S> for Router {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut record = Record::default();
        event.record(&mut record);
        let level = *event.metadata().level();
        let sinks = SINKS.read().unwrap_or_else(PoisonError::into_inner);
        // A record of no manager in particular is everyone's.
        for (manager, sink) in sinks.iter() {
            if record.manager.is_some_and(|named| named != *manager) || (level > Level::INFO && !sink.debug) {
                continue;
            }
            if let Some(mailbox) = sink.mailbox.upgrade() {
                mailbox.post(Message::Log { level, text: record.text.clone(), fields: record.fields.clone() });
            }
        }
    }
}

#[derive(Default)]
struct Record {
    manager: Option<u64>,
    text: String,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Record {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "manager" { self.manager = Some(value) } else { self.fields.push((field.name(), value.to_string())) }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.push((field.name(), value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            // Writing to a String can't fail.
            if write!(self.text, "{value:?}").is_err() {
                self.text.clear();
            }
        } else {
            self.fields.push((field.name(), format!("{value:?}")));
        }
    }
}
