//! Converts messages of the supervisor for the JavaScript layer.

use std::borrow::Cow;

use napi::bindgen_prelude::Either3;
use napi_derive::napi;

use super::types::{NativeFailure, count};
use ally_base::text::{printable, printable_lines, signal_name};
use ally_core::lifecycle::Notice;
use ally_core::supervisor::{LogValue, MemberStart, Message};

/// `kind` determines which of the other fields are set.
#[napi(object)]
#[derive(Default)]
pub struct NativeMessage {
    /// settled, stateChange, exit, restart, health, output, log, lines or upgraded
    pub kind: String,
    pub ticket: Option<f64>,
    pub failure: Option<NativeFailure>,
    pub plugin_name: Option<String>,
    pub from: Option<String>,
    pub to: Option<String>,
    pub pid: Option<i32>,
    pub reason: Option<String>,
    pub at: Option<f64>,
    pub code: Option<i32>,
    pub signal: Option<String>,
    pub attempt: Option<u32>,
    pub delay: Option<f64>,
    pub healthy: Option<bool>,
    pub latency: Option<f64>,
    pub failures: Option<u32>,
    pub error: Option<String>,
    pub stream: Option<String>,
    pub line: Option<String>,
    pub level: Option<String>,
    pub text: Option<String>,
    /// Names and values alternate.
    pub fields: Option<Vec<Either3<String, f64, bool>>>,
    pub starts: Option<Vec<NativeMemberStart>>,
    pub follower: Option<f64>,
}

/// When a plugin of a group was started, in milliseconds from the call on.
#[napi(object)]
pub struct NativeMemberStart {
    pub plugin_name: String,
    pub queued: f64,
    pub spawned: f64,
    pub ready: f64,
}

impl From<MemberStart> for NativeMemberStart {
    fn from(start: MemberStart) -> Self {
        let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        Self { plugin_name: start.plugin, queued: ms(start.queued), spawned: ms(start.spawned), ready: ms(start.ready) }
    }
}

impl From<Message> for NativeMessage {
    fn from(message: Message) -> Self {
        match message {
            Message::Settled { ticket, outcome } => Self {
                kind: "settled".into(),
                ticket: Some(count(ticket)),
                failure: outcome.err().map(NativeFailure::from),
                ..Self::default()
            },
            Message::GroupStarted { ticket, starts } => Self {
                kind: "settled".into(),
                ticket: Some(count(ticket)),
                starts: Some(starts.into_iter().map(NativeMemberStart::from).collect()),
                ..Self::default()
            },
            Message::Notice { plugin, notice, at } => Self { plugin_name: Some(plugin), at: Some(at), ..notice.into() },
            Message::Output { plugin, stream, line } => Self {
                kind: "output".into(),
                plugin_name: Some(plugin),
                stream: Some(stream.as_str().to_owned()),
                line: Some(line),
                ..Self::default()
            },
            Message::Log { level, text, fields } => Self {
                kind: "log".into(),
                level: Some(level.as_str().to_ascii_lowercase()),
                text: Some(log_text(&text, &fields)),
                fields: Some(
                    fields.into_iter().flat_map(|(name, value)| [Either3::A(name.to_string()), log_value(&name, value)]).collect(),
                ),
                ..Self::default()
            },
            // The changed fields are `fields`.
            Message::Upgraded { plugin, changes } => Self {
                kind: "upgraded".into(),
                plugin_name: Some(plugin),
                fields: Some(changes.into_iter().flat_map(|(name, value)| [Either3::A(name), Either3::A(value)]).collect()),
                ..Self::default()
            },
            Message::Lines { follower } => Self { kind: "lines".into(), follower: Some(count(follower)), ..Self::default() },
            // Never delivered: see `NativeManager::for_javascript`.
            Message::Dropped { .. } | Message::Published { .. } => Self { kind: "dropped".into(), ..Self::default() },
        }
    }
}

impl From<Notice> for NativeMessage {
    fn from(notice: Notice) -> Self {
        match notice {
            // Only logged, never posted: see `Reporter::notice`.
            Notice::Spawned { pid } | Notice::ChangedOver { pid, .. } => Self { kind: "spawned".into(), pid: Some(pid), ..Self::default() },
            Notice::Armed | Notice::Disarmed | Notice::Connected | Notice::UpgradeFailed { .. } | Notice::NotDrained { .. } => {
                Self { kind: "dropped".into(), ..Self::default() }
            }
            Notice::StateChanged { from, to, pid, reason, .. } => Self {
                kind: "stateChange".into(),
                from: from.map(|from| from.as_str().to_owned()),
                to: Some(to.as_str().to_owned()),
                pid,
                reason,
                ..Self::default()
            },
            Notice::Exited { pid, exit, reason } => Self {
                kind: "exit".into(),
                pid: Some(pid),
                code: exit.code,
                signal: exit.signal.map(signal_name),
                reason: Some(reason.as_str().to_owned()),
                ..Self::default()
            },
            Notice::RestartScheduled { attempt, delay, reason } => Self {
                kind: "restart".into(),
                attempt: Some(attempt),
                delay: Some(delay.as_secs_f64() * 1e3),
                reason: Some(reason.as_str().to_owned()),
                ..Self::default()
            },
            Notice::Checked { healthy, latency, failures, error } => Self {
                kind: "health".into(),
                healthy: Some(healthy),
                latency: Some(latency.as_secs_f64() * 1e3),
                failures: Some(failures),
                error,
                ..Self::default()
            },
        }
    }
}

fn log_value(name: &str, value: LogValue) -> Either3<String, f64, bool> {
    match value {
        // The name of the plugin stays as the caller gave it, so that the caller can compare it.
        LogValue::Text(text) => Either3::A(if name == "plugin" { text } else { printable_lines(&text) }),
        LogValue::Number(number) => Either3::B(number),
        LogValue::Bool(value) => Either3::C(value),
    }
}

/// The message for the logger. A logger like console shows only the message, so the message has the name of the plugin in front
/// and the values of all fields behind: `search: exited (pid 4711, reason crashed, code 3)`, `search: gave up: REASON`.
fn log_text(text: &str, fields: &[(Cow<'static, str>, LogValue)]) -> String {
    // A line of output has no values behind it.
    let is_line = fields.iter().any(|(name, _)| name == "stream");
    let (mut plugin, mut details, mut sentences) = (None, Vec::new(), Vec::new());
    for (name, value) in fields {
        match (&**name, value) {
            ("plugin", LogValue::Text(name)) => plugin = Some(name),
            _ if is_line => {}
            (_, LogValue::Text(empty)) if empty.is_empty() => {}
            ("error" | "failure" | "problem", LogValue::Text(sentence)) => sentences.push(sentence.as_str()),
            // A reason is a word such as "crashed", or the sentence of `lastError`.
            ("reason", LogValue::Text(sentence)) if sentence.contains(' ') => sentences.push(sentence.as_str()),
            ("ending", LogValue::Text(ending)) => details.push(ending.clone()),
            (_, LogValue::Text(value)) => details.push(format!("{name} {value}")),
            (_, LogValue::Number(number)) => details.push(match name.strip_suffix("_ms") {
                Some(name) => format!("{name} {number:.0} ms"),
                None => format!("{name} {number}"),
            }),
            (_, LogValue::Bool(value)) => details.push(format!("{name} {value}")),
        }
    }
    let text = if details.is_empty() { text.to_owned() } else { format!("{text} ({})", details.join(", ")) };
    let parts: Vec<&str> = plugin.map(String::as_str).into_iter().chain([text.as_str()]).chain(sentences).collect();
    printable(&parts.join(": "))
}
