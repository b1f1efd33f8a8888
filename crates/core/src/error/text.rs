//! The texts of failures. Those of `Display` fit behind the "Failed to …:" of [`Failure::message`].

use std::fmt;

use ally_base::text::{errno_text, printable, signal_name};

use super::{Failure, FileProblem, Occupant};
use crate::model::{Exit, ProbeRole};

impl Failure {
    /// The `message` of the JavaScript Error.
    pub fn message(&self, plugin: &str) -> String {
        let plugin = printable(plugin);
        match self {
            Self::InvalidConfig { .. } if plugin.is_empty() => format!("Invalid configuration: {self}"),
            Self::InvalidConfig { .. } => format!("Invalid configuration for background process '{plugin}': {self}"),
            Self::AlreadyRunning(_) | Self::AtRest => format!("Process '{plugin}' is {self}"),
            Self::ShuttingDown => self.to_string(),
            Self::NotFound => format!("Process '{plugin}' {self}"),
            Self::StopFailed { .. } | Self::LeftoverFile { .. } => format!("Failed to stop background process '{plugin}': {self}"),
            Self::Internal { .. } => format!("Background process '{plugin}' is lost: {self}"),
            _ => format!("Failed to start background process '{plugin}': {self}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidConfig { field, problem } => write!(f, "{field} {problem}"),
            Self::AlreadyRunning(state) => write!(f, "already {}", state.as_str()),
            Self::ShuttingDown => f.write_str("Cannot start process during shutdown"),
            Self::NotFound => f.write_str("is not known to this manager"),
            Self::OwnedElsewhere { owner: Some(pid) } => write!(f, "another live owner runs it (pid {pid})"),
            Self::OwnedElsewhere { owner: None } => f.write_str("another live owner runs it"),
            Self::OwnedInContainer { pid } => write!(
                f,
                "another live owner runs it in another container (process {pid} there): the lock is held, and its note is of another \
                 pid namespace or boot"
            ),
            Self::SocketInUse { path, by } => match by {
                Occupant::Process(pid) => write!(f, "socket {path} is in use by process {pid}"),
                Occupant::Plugin(name) => write!(f, "socket {path} is in use by plugin '{}'", printable(name)),
                Occupant::Unknown => write!(f, "socket {path} is in use by another process"),
                Occupant::NotASocket => write!(f, "socket path {path} is in use by a file that is not a socket"),
                Occupant::Unjudged { reason } => write!(f, "socket {path} {reason}, remove {path} if nothing uses it"),
            },
            Self::Spawn { problem, .. }
            | Self::Unsupported { problem, .. }
            | Self::GuardianLost { problem }
            | Self::Internal { problem } => f.write_str(problem),
            Self::StartupExit { exit, tail } => {
                write!(f, "the process {} before it was ready{}", ExitText(*exit), Excerpt(tail))
            }
            Self::StartupTimeout { socket, after, last_problem, tail } => {
                let problem = last_problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default();
                write!(f, "Timeout waiting for socket: {socket} (not ready within {} ms{problem}){}", after.as_millis(), Excerpt(tail))
            }
            Self::Stopped => f.write_str("stopped before it was ready"),
            Self::AtRest => f.write_str("stopped"),
            Self::StopFailed { survivors } if survivors.is_empty() => f.write_str("it is not gone 2 s after SIGKILL"),
            Self::StopFailed { survivors } => {
                let pids: Vec<String> = survivors.iter().map(ToString::to_string).collect();
                write!(f, "not gone 2 s after SIGKILL: pid {}", pids.join(", "))
            }
            Self::Io { path, problem } => write!(f, "{path}: {problem}"),
            Self::LeftoverFile { cause } => write!(f, "it is gone, but a file of it stays: {cause}"),
            Self::Ended { exit, tail } => write!(f, "the process {}{}", ExitText(*exit), Excerpt(tail)),
            Self::ExitsWhenProbed { by: ProbeRole::Health, cause } => {
                write!(f, "exits when a health check connects; use probe `listen` or `exec`: {cause}")
            }
            Self::ExitsWhenProbed { by: ProbeRole::Readiness, cause } => {
                write!(f, "exited just after the readiness probe had connected; use readiness `listen`: {cause}")
            }
            Self::Unhealthy { checks, last } => write!(f, "unhealthy after {checks} failed health checks: {last}"),
            Self::AttemptsExhausted { attempts, last } => {
                write!(f, "Maximum restart attempts exceeded ({attempts}): {last}")
            }
            Self::WindowExhausted { limit, period, last } => {
                write!(f, "too many restarts: more than {limit} within {} ms: {last}", period.as_millis())
            }
        }
    }
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { errno, .. } => f.write_str(&errno_text(*errno)),
            Self::Found { text, .. } => f.write_str(text),
        }
    }
}

/// `exited with code 3`, `was killed by SIGKILL`.
struct ExitText(Exit);

impl fmt::Display for ExitText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.code, self.0.signal) {
            (Some(code), _) => write!(f, "exited with code {code}"),
            (None, Some(signal)) => write!(f, "was killed by {}", signal_name(signal)),
            (None, None) => f.write_str("ended"),
        }
    }
}

/// The last lines of a daemon's output, shortened and without control characters, so that they fit into a message. If the
/// first line that looks like the reason is further up, it comes before them.
struct Excerpt<'a>(&'a str);

const EXCERPT_LINES: usize = 10;
const EXCERPT_LINE_CHARS: usize = 400;

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.lines().map(printable).filter(|line| !line.trim().is_empty()).collect();
        let start = lines.len().saturating_sub(EXCERPT_LINES);
        let (above, last) = lines.split_at(start);
        let mut shown: Vec<&str> = Vec::new();
        if let Some(first) = above.iter().position(|line| looks_like_a_reason(line)) {
            // Rust prints the message of a panic below its place.
            let end = if lines[first].ends_with(':') { first + 2 } else { first + 1 };
            shown.extend(lines[first..end.min(start)].iter().map(String::as_str));
            shown.extend((end < start).then_some("…"));
        }
        shown.extend(last.iter().map(String::as_str));
        for (index, line) in shown.into_iter().enumerate() {
            f.write_str(if index == 0 { ": " } else { "\n  " })?;
            f.write_str(&line.chars().take(EXCERPT_LINE_CHARS).collect::<String>())?;
        }
        Ok(())
    }
}

/// `SomeError: …`, `SomeError [CODE]: …`, `panicked at`, `fatal: …`. A stack trace or a dump of fields may follow such a line.
fn looks_like_a_reason(line: &str) -> bool {
    let line = line.trim_start();
    let line = line.strip_prefix("Uncaught ").unwrap_or(line);
    if line.contains("panicked at") || line.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("fatal:")) {
        return true;
    }
    let name_end =
        line.find(|character: char| !(character.is_alphanumeric() || matches!(character, '_' | '.' | '$'))).unwrap_or(line.len());
    let (name, rest) = line.split_at(name_end);
    let rest = match rest.strip_prefix(" [") {
        Some(code) => code.split_once(']').map_or(rest, |(_, rest)| rest),
        None => rest,
    };
    (name.ends_with("Error") || name.ends_with("Exception")) && rest.starts_with(':')
}
