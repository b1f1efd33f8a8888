//! The texts of failures. Those of `Display` fit behind the "Failed to …:" of [`Failure::message`].
//!
//! Paths, names and reasons come from plugins and from other programs. `Display` makes the whole text printable, so no other
//! place has to.

use std::fmt;

use ally_base::record::Elsewhere;
use ally_base::text::{errno_text, printable, signal_name};

use super::{DependencyProblem, Failure, FileProblem, Occupant};
use crate::model::{Exit, MemoryLimit, ProbeRole};

/// The fields of a configuration that a text names.
const FIELDS_MAX: usize = 20;

impl Failure {
    /// The `message` of the JavaScript Error.
    pub fn message(&self, plugin: &str) -> String {
        let plugin = printable(plugin);
        match self {
            Self::InvalidConfig { .. } if plugin.is_empty() => format!("Invalid configuration: {self}"),
            Self::InvalidConfig { .. } => format!("Invalid configuration for background process '{plugin}': {self}"),
            Self::AlreadyRunning(_) | Self::AlreadyArmed | Self::AlreadyUpgrading | Self::AtRest => format!("Process '{plugin}' is {self}"),
            Self::ShuttingDown => self.to_string(),
            Self::NotFound => format!("Process '{plugin}' {self}"),
            Self::StopFailed { .. } | Self::NotEnded { .. } | Self::LeftoverFile { .. } => {
                format!("Failed to stop background process '{plugin}': {self}")
            }
            Self::GroupNotStarted { .. } => format!("Failed to start the group: {self}"),
            Self::GroupNotStopped { .. } => format!("Failed to stop the group: {self}"),
            Self::Upgrade { .. } => format!("Failed to upgrade background process '{plugin}': {self}"),
            Self::Remote { facts, .. } => facts.message.clone(),
            Self::Internal { .. } => format!("Background process '{plugin}' is lost: {self}"),
            _ => format!("Failed to start background process '{plugin}': {self}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Remote { facts, .. } = self {
            // Complete, and printable already.
            return f.write_str(&facts.text);
        }
        f.write_str(&printable(&Sentence(self).to_string()))?;
        // Behind the sentence, because its line breaks are wanted.
        Excerpt(self.tail().unwrap_or_default()).fmt(f)
    }
}

/// The text of a failure without the daemon's output. It may contain control characters.
struct Sentence<'a>(&'a Failure);

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Failure::InvalidConfig { field, problem } => write!(f, "{field} {problem}"),
            Failure::AlreadyRunning(state) => write!(f, "already {}", state.as_str()),
            Failure::AlreadyArmed => f.write_str("already armed"),
            Failure::AlreadyUpgrading => f.write_str("already upgrading"),
            Failure::Upgrade { cause } => write!(f, "{}", Sentence(cause)),
            Failure::TooManyActivations { limit, period } => {
                write!(f, "connections started it more than {limit} times within {} ms", period.as_millis())
            }
            Failure::ShuttingDown => f.write_str("Cannot start process during shutdown"),
            Failure::NotFound => f.write_str("is not known to this manager"),
            Failure::OwnedElsewhere { owner: Some(pid) } => write!(f, "another live owner runs it (pid {pid})"),
            Failure::OwnedElsewhere { owner: None } => f.write_str("another live owner runs it"),
            Failure::SharedElsewhere { host, sessions: 0, linger } => {
                let left = linger.unwrap_or_default().as_secs_f64().ceil();
                write!(f, "it is shared, and lingers, {left} s left (its host is process {host})")
            }
            Failure::SharedElsewhere { host, sessions, .. } => {
                let noun = if *sessions == 1 { "session" } else { "sessions" };
                write!(f, "it is shared by {sessions} {noun} (their host is process {host})")
            }
            Failure::OwnedOutside { pid, place } => {
                let (place, kind) = match place {
                    Elsewhere::Machine(name) => (format!("on another machine, {name}"), "boot"),
                    Elsewhere::PidNamespace => ("in another container".to_owned(), "pid namespace"),
                    Elsewhere::NetworkNamespace => ("in another container".to_owned(), "network namespace"),
                };
                write!(f, "another live owner runs it {place} (process {pid} there): the lock is held, and its note is of another {kind}")
            }
            Failure::SharedDiffers { fields, upgraded } => {
                let more = fields.len().saturating_sub(FIELDS_MAX);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let names = fields.get(..FIELDS_MAX).unwrap_or(fields).join(", ");
                let why = if *upgraded { ", since an upgrade by another session" } else { "" };
                write!(f, "it is shared, and runs with another configuration{why}; fields that differ: {names}{more}")
            }
            Failure::LogFileOwned { path, owner: Some(pid) } => write!(f, "log file {path} is in use by another live owner (pid {pid})"),
            Failure::LogFileOwned { path, owner: None } => write!(f, "log file {path} is in use by another live owner"),
            Failure::SocketInUse { path, by } | Failure::SocketTaken { path, by } => match by {
                Occupant::Process(pid) => write!(f, "socket {path} is in use by process {pid}"),
                Occupant::Plugin(name) => write!(f, "socket {path} is in use by plugin '{name}'"),
                Occupant::Unknown => write!(f, "socket {path} is in use by another process"),
                Occupant::NotASocket => write!(f, "socket path {path} is in use by a file that is not a socket"),
                Occupant::Unjudged { reason } => write!(f, "socket {path} {reason}, remove {path} if nothing uses it"),
            },
            Failure::BindsHeldSocket { path, cause } => {
                write!(
                    f,
                    "it binds {path} itself, although the manager holds that socket; let it serve descriptor 3 (ALLY_LISTEN_FD, \
                     sd_listen_fds), or configure socket: 'daemon'"
                )?;
                cause.as_ref().map_or(Ok(()), |cause| write!(f, ": {}", Sentence(cause)))
            }
            Failure::SocketShutDown { path } => write!(f, "it has shut down the socket that it was given ({path})"),
            Failure::SocketReplaced { path } => {
                write!(f, "every name of its socket {path} was removed, so clients reach a new one, which it does not have")
            }
            Failure::Spawn { problem, .. }
            | Failure::Unsupported { problem, .. }
            | Failure::NoQueueDiag { problem }
            | Failure::NotEnded { problem }
            | Failure::Internal { problem }
            | Failure::HostRefuses { problem, .. }
            | Failure::HostSilent { problem } => f.write_str(problem),
            Failure::Remote { facts, .. } => f.write_str(&facts.text),
            Failure::GuardianLost { path, ending } => write!(f, "the guardian {path} {ending}"),
            Failure::StartupExit { exit, .. } => write!(f, "the process {} before it was ready", ExitText(*exit)),
            Failure::StartupTimeout { socket, after, last_problem, .. } => {
                let problem = last_problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default();
                write!(f, "Timeout waiting for socket: {socket} (not ready within {} ms{problem})", after.as_millis())
            }
            Failure::Stopped => f.write_str("stopped before it was ready"),
            Failure::EndedBy { pid } => write!(f, "stopped by process {pid} (ally-daemons)"),
            Failure::AtRest => f.write_str("stopped"),
            Failure::StopFailed { survivors } if survivors.is_empty() => f.write_str("it is not gone 2 s after SIGKILL"),
            Failure::StopFailed { survivors } => {
                let pids: Vec<String> = survivors.iter().map(ToString::to_string).collect();
                write!(f, "not gone 2 s after SIGKILL: pid {}", pids.join(", "))
            }
            Failure::Io { path, problem } => write!(f, "{path}: {problem}"),
            Failure::LeftoverFile { cause } => write!(f, "it is gone, but a file of it stays: {}", Sentence(cause)),
            Failure::Ended { exit, .. } => write!(f, "the process {}", ExitText(*exit)),
            Failure::ExitsWhenProbed { by: ProbeRole::Health, cause } => {
                write!(f, "exits when a health check connects; use probe `listen` or `exec`: {}", Sentence(cause))
            }
            Failure::ExitsWhenProbed { by: ProbeRole::Readiness, cause } => {
                write!(f, "exited just after the readiness probe had connected; use readiness `listen`: {}", Sentence(cause))
            }
            Failure::RestartPrevented { code, cause } => {
                write!(f, "not restarted, because restart.preventExitCodes has {code}: {}", Sentence(cause))
            }
            Failure::Unhealthy { checks, last } => write!(f, "unhealthy after {checks} failed health checks: {last}"),
            Failure::OverMemory { memory, limit: MemoryLimit { max, sustain } } => {
                let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
                let (used, allowed, ms) = (mib(*memory), mib(*max), sustain.as_millis());
                write!(f, "memory: {used:.1} MiB of {allowed:.1} MiB ({memory} of {max} bytes) for {ms} ms")
            }
            Failure::AttemptsExhausted { attempts, last } => {
                write!(f, "Maximum restart attempts exceeded ({attempts}): {}", Sentence(last))
            }
            Failure::Dependency { problem } => match problem {
                DependencyProblem::Unknown { name, nearest } => {
                    let hint = nearest.as_ref().map(|name| format!("; did you mean '{name}'?")).unwrap_or_default();
                    write!(f, "it depends on '{name}', which is not known{hint}")
                }
                DependencyProblem::Cycle { names } => write!(f, "it depends on itself: {}", names.join(" → ")),
                DependencyProblem::NotRunning { name, cause } => {
                    write!(f, "it depends on '{name}', which does not run: {}", Sentence(cause))
                }
                DependencyProblem::GroupFailed => f.write_str("another plugin of the group failed"),
                DependencyProblem::NotShared { name } => {
                    write!(f, "it depends on '{name}', which is not shared; a shared plugin can depend only on shared ones")
                }
            },
            Failure::GroupNotStarted { problem } | Failure::GroupNotStopped { problem } => f.write_str(problem),
            Failure::WindowExhausted { limit, period, last } => {
                write!(f, "too many restarts: more than {limit} within {} ms: {}", period.as_millis(), Sentence(last))
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
