//! Turns a [`Raw`] value into a [`ProcessConfig`], or names the first wrong field.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::keys::{CONFIG, HEALTHCHECK, Key, PROBE, RESTART, WINDOW};
use super::{Health, InheritEnv, KillMode, Probe, ProcessConfig, Raw};
use crate::error::Failure;
use crate::lifecycle::{Backoff, RestartOn, RestartPlan, Window};

/// The size of `sun_path` without the final NUL: unix(7), and `sys/un.h` on macOS.
pub const SOCKET_PATH_MAX: usize = if cfg!(target_os = "macos") { 103 } else { 107 };
/// NAME_MAX of the common file systems, in bytes.
const NAME_MAX: usize = 255;
/// The longest timer of Node.js: 2^31 - 1 ms, almost 25 days.
const TIMER_MAX: f64 = 2_147_483_647.0;

/// The defaults of the specification for a health check.
const HEALTH_INTERVAL: Duration = Duration::from_millis(30_000);
const HEALTH_TIMEOUT: Duration = Duration::from_millis(5_000);
const HEALTH_RETRIES: u32 = 3;

#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    pub config: ProcessConfig,
    /// The paths of unknown keys.
    pub unknown: Vec<String>,
}

type Checked<T> = Result<T, Failure>;

/// # Errors
/// `InvalidConfig` with the first field that is missing, mistyped, out of range or not built yet.
pub fn parse(raw: &Raw) -> Checked<Parsed> {
    let mut top = Fields::open(raw, "config", "", CONFIG)?;
    let plugin_name = plugin_name(&mut top)?;
    let plugin_path = top.absolute("pluginPath")?;
    let command = top.text("command")?;
    let args = args(&mut top)?;
    let socket_path = top.absolute("socketPath")?;
    if socket_path.as_os_str().len() > SOCKET_PATH_MAX {
        let problem = format!(
            "must be at most {SOCKET_PATH_MAX} bytes long, which is what a socket address holds; it has {}",
            socket_path.as_os_str().len()
        );
        return Err(top.wrong("socketPath", problem));
    }
    let startup_timeout = top.required_duration("startupTimeout", 1.0)?;
    let shutdown_grace_period = top.required_duration("shutdownGracePeriod", 0.0)?;
    let env_vars = env_vars(&mut top)?;
    let health = top.nested("healthcheck", HEALTHCHECK, health)?;
    let restart = top.nested("restart", RESTART, restart)?.unwrap_or_default();
    let readiness = top.nested("readiness", PROBE, |fields| probe(fields, &[("output", None)]))?.unwrap_or(Probe::Socket);
    top.choice("socket", &[("daemon", Some(())), ("manager", None)])?;
    let kill_mode = top.choice("killMode", &[("tree", Some(KillMode::Tree)), ("group", Some(KillMode::Group))])?.unwrap_or(KillMode::Tree);
    let stop_signal = stop_signal(&mut top)?;
    top.choice("start", &[("eager", Some(())), ("onConnect", None)])?;
    top.accept_only("shared", false)?;
    let inherit_env = inherit_env(&mut top)?;
    top.refuse_unbuilt()?;
    Ok(Parsed {
        config: ProcessConfig {
            plugin_name,
            plugin_path,
            command,
            args,
            socket_path,
            startup_timeout,
            shutdown_grace_period,
            env_vars,
            inherit_env,
            health,
            restart,
            readiness,
            kill_mode,
            stop_signal,
        },
        unknown: top.into_unknown(),
    })
}

/// The problem of a plugin's name, if there is one. `configFromManifest` builds paths from the name before there is a
/// configuration to check.
pub fn name_problem(name: Raw) -> Option<String> {
    problem_of("pluginName", name, plugin_name)
}

/// The problem of an absolute path, if there is one.
pub fn path_problem(path: Raw) -> Option<String> {
    problem_of("pluginPath", path, |top| top.absolute("pluginPath"))
}

fn problem_of<T>(field: &str, value: Raw, read: impl FnOnce(&mut Fields) -> Checked<T>) -> Option<String> {
    let raw = Raw::Object(vec![(field.to_owned(), value)]);
    match Fields::open(&raw, "config", "", CONFIG).and_then(|mut top| read(&mut top)) {
        Err(Failure::InvalidConfig { problem, .. }) => Some(problem),
        Err(_) | Ok(_) => None,
    }
}

fn plugin_name(top: &mut Fields) -> Checked<String> {
    let name = top.text("pluginName")?;
    if name.len() > NAME_MAX {
        return Err(top.wrong("pluginName", format!("must be at most {NAME_MAX} bytes long, got {}", name.len())));
    }
    if name == "." || name == ".." || name.contains('/') {
        return Err(top.wrong("pluginName", "must be a plain folder name: not '.' or '..', and without '/'"));
    }
    Ok(name)
}

fn args(top: &mut Fields) -> Checked<Vec<String>> {
    let Raw::Array(items) = top.take("args") else { return Err(top.mistyped("args", "an array of strings")) };
    items
        .iter()
        .enumerate()
        .map(|(index, item)| match item {
            Raw::String(text) if !text.contains('\0') => Ok(text.clone()),
            Raw::String(_) => Err(top.wrong(&format!("args[{index}]"), "must not contain NUL")),
            // A manifest may have a port as a number.
            Raw::Number(number) => Ok(number_text(*number)),
            other => Err(top.wrong(&format!("args[{index}]"), format!("must be a string, got {}", other.kind()))),
        })
        .collect()
}

fn env_vars(top: &mut Fields) -> Checked<Vec<(String, Option<String>)>> {
    let entries = match top.optional("envVars") {
        Raw::Undefined => return Ok(Vec::new()),
        Raw::Object(entries) => entries.clone(),
        Raw::BuiltIn(kind) => return Err(top.wrong("envVars", format!("must be plain data, got {kind}"))),
        _ => return Err(top.mistyped("envVars", "an object of strings")),
    };
    entries
        .into_iter()
        .map(|(key, value)| {
            // The text behind a '=' may be a secret value, so the message leaves it out.
            let name = key.split('=').next().unwrap_or_default();
            let field = format!("envVars.{}", ally_base::text::printable(name));
            if key.is_empty() || key.contains(['=', '\0']) {
                return Err(top.wrong(&field, "must have a name that is not empty and has neither '=' nor NUL"));
            }
            match value {
                Raw::Undefined => Ok((key, None)),
                Raw::String(text) if !text.contains('\0') => Ok((key, Some(text))),
                Raw::String(_) => Err(top.wrong(&field, "must not contain NUL")),
                Raw::Number(number) => Ok((key, Some(number_text(number)))),
                Raw::Bool(value) => Ok((key, Some(value.to_string()))),
                other => Err(top.wrong(&field, format!("must be a string or undefined, got {}", other.kind()))),
            }
        })
        .collect()
}

fn inherit_env(top: &mut Fields) -> Checked<InheritEnv> {
    let names = match top.optional("inheritEnv") {
        Raw::Undefined | Raw::Bool(true) => return Ok(InheritEnv::All),
        Raw::Bool(false) => return Ok(InheritEnv::Listed(Vec::new())),
        Raw::Array(names) => names,
        _ => return Err(top.mistyped("inheritEnv", "a boolean or an array of names")),
    };
    let name = |(index, name): (usize, &Raw)| {
        let field = format!("inheritEnv[{index}]");
        match name {
            // The text behind a '=' may be a secret value, so the message leaves the name out.
            Raw::String(name) if name.is_empty() || name.contains(['=', '\0']) => {
                Err(top.wrong(&field, "must be a name that is not empty and has neither '=' nor NUL"))
            }
            Raw::String(name) => Ok(name.clone()),
            other => Err(top.wrong(&field, format!("must be a string, got {}", other.kind()))),
        }
    };
    names.iter().enumerate().map(name).collect::<Checked<_>>().map(InheritEnv::Listed)
}

/// The text that JavaScript's `String(number)` gives.
fn number_text(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    if number == 0.0 || (1e-6..1e21).contains(&number.abs()) {
        // The sum is 0 also for -0.
        return (number + 0.0).to_string();
    }
    let text = format!("{number:e}");
    if number.abs() < 1.0 { text } else { text.replace('e', "e+") }
}

fn health(fields: &mut Fields) -> Checked<Health> {
    Ok(Health {
        interval: fields.duration("interval", 1.0)?.unwrap_or(HEALTH_INTERVAL),
        timeout: fields.duration("timeout", 1.0)?.unwrap_or(HEALTH_TIMEOUT),
        // 0 counts as 1: in both cases the first failed check decides.
        retries: fields.count("retries", 0)?.map_or(HEALTH_RETRIES, |retries| retries.max(1)),
        probe: fields.nested("probe", PROBE, |fields| probe(fields, &[]))?.unwrap_or(Probe::Socket),
    })
}

/// `further`: types that are allowed only for this field.
fn probe(fields: &mut Fields, further: &[(&str, Option<Probe>)]) -> Checked<Probe> {
    let everywhere = [
        ("listen", None),
        ("socket", Some(Probe::Socket)),
        ("accept", Some(Probe::Accept)),
        ("http", None),
        ("exec", None),
        ("notify", None),
        ("tcp", None),
    ];
    fields
        .choice("type", &[&everywhere, further].concat())?
        .ok_or_else(|| fields.mistyped("type", "the name of a probe, as 'socket' or 'accept'"))
}

fn restart(fields: &mut Fields) -> Checked<RestartPlan> {
    let default = RestartPlan::default();
    let backoffs = [("exponential", Some(Backoff::Exponential)), ("linear", Some(Backoff::Linear)), ("constant", Some(Backoff::Constant))];
    let plan = RestartPlan {
        max_attempts: fields.count("maxAttempts", 0)?.unwrap_or(default.max_attempts),
        delay: fields.duration("delay", 0.0)?.unwrap_or(default.delay),
        backoff: fields.choice("backoff", &backoffs)?.unwrap_or(default.backoff),
        factor: fields.number("factor", 1.0, 1e6)?.unwrap_or(default.factor),
        max_delay: fields.duration("maxDelay", 0.0)?.unwrap_or(default.max_delay),
        jitter: fields.number("jitter", 0.0, 1.0)?.unwrap_or(default.jitter),
        window: fields.nested("window", WINDOW, window)?.unwrap_or(default.window),
        on: fields.choice("on", &[("always", Some(RestartOn::Always)), ("failure", Some(RestartOn::Failure))])?.unwrap_or(default.on),
    };
    fields.refuse_unbuilt()?;
    Ok(plan)
}

fn window(fields: &mut Fields) -> Checked<Window> {
    Ok(Window { limit: fields.required_count("limit", 1)?, period: fields.required_duration("period", 1.0)? })
}

fn stop_signal(top: &mut Fields) -> Checked<i32> {
    let name = match top.optional("stopSignal") {
        Raw::Undefined => return Ok(Signal::SIGTERM as i32),
        Raw::String(name) => name.clone(),
        _ => return Err(top.mistyped("stopSignal", "the name of a signal")),
    };
    match Signal::from_str(&name) {
        Ok(signal) if can_end(signal) => Ok(signal as i32),
        Ok(_) | Err(_) => Err(top.wrong("stopSignal", "must be the name of a signal that can end a process, as 'SIGTERM' or 'SIGINT'")),
    }
}

/// False for a signal that by default stops or continues a process, or is ignored: signal(7).
fn can_end(signal: Signal) -> bool {
    use Signal::{SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH};
    #[cfg(target_os = "macos")]
    if matches!(signal, Signal::SIGINFO | Signal::SIGIO) {
        return false;
    }
    !matches!(signal, SIGCHLD | SIGCONT | SIGSTOP | SIGTSTP | SIGTTIN | SIGTTOU | SIGURG | SIGWINCH)
}

/// The properties of one object, and the keys that the parser has read.
struct Fields<'a> {
    prefix: String,
    entries: &'a [(String, Raw)],
    /// The keys that this object may have.
    keys: &'static [Key],
    read: Vec<String>,
    unknown: Vec<String>,
}

impl<'a> Fields<'a> {
    fn open(raw: &'a Raw, field: &str, prefix: &str, keys: &'static [Key]) -> Checked<Self> {
        let problem = match raw {
            Raw::Object(entries) => {
                return Ok(Self { prefix: prefix.to_owned(), entries, keys, read: Vec::new(), unknown: Vec::new() });
            }
            Raw::BuiltIn(kind) => format!("must be plain data, got {kind}"),
            other => format!("must be an object, got {}", other.kind()),
        };
        Err(Failure::InvalidConfig { field: field.to_owned(), problem })
    }

    fn take(&mut self, field: &str) -> &'a Raw {
        debug_assert!(
            self.keys.iter().any(|key| key.name == field),
            "{field} is not listed in keys.rs, so the JavaScript layer never reads it"
        );
        self.read.push(field.to_owned());
        self.entries.iter().find(|(key, _)| key == field).map_or(&Raw::Undefined, |(_, value)| value)
    }

    /// The value of an optional field: null counts as absent, as in a manifest.
    fn optional(&mut self, field: &str) -> &'a Raw {
        match self.take(field) {
            Raw::Null => &Raw::Undefined,
            value => value,
        }
    }

    /// The keys that the parser has not read, including those of nested objects.
    fn into_unknown(mut self) -> Vec<String> {
        let own = self.entries.iter().filter(|(key, _)| !self.read.contains(key)).map(|(key, _)| format!("{}{key}", self.prefix));
        self.unknown.extend(own);
        self.unknown
    }

    fn wrong(&self, field: &str, problem: impl Into<String>) -> Failure {
        Failure::InvalidConfig { field: format!("{}{field}", self.prefix), problem: problem.into() }
    }

    fn missing(&self, field: &str, wanted: &str) -> Failure {
        self.wrong(field, format!("is required and must be {wanted}"))
    }

    fn mistyped(&mut self, field: &str, wanted: &str) -> Failure {
        match self.take(field) {
            Raw::Undefined => self.missing(field, wanted),
            got => self.wrong(field, format!("must be {wanted}, got {}", got.kind())),
        }
    }

    /// A required string that is not empty and has no NUL, so that a system call can take it.
    fn text(&mut self, field: &str) -> Checked<String> {
        match self.take(field) {
            Raw::String(text) if text.is_empty() => Err(self.wrong(field, "must not be empty")),
            Raw::String(text) if text.contains('\0') => Err(self.wrong(field, "must not contain NUL")),
            Raw::String(text) => Ok(text.clone()),
            _ => Err(self.mistyped(field, "a string")),
        }
    }

    fn absolute(&mut self, field: &str) -> Checked<PathBuf> {
        let path = PathBuf::from(self.text(field)?);
        if path.is_absolute() { Ok(path) } else { Err(self.wrong(field, "must be an absolute path")) }
    }

    fn number(&mut self, field: &str, least: f64, most: f64) -> Checked<Option<f64>> {
        match self.optional(field) {
            Raw::Undefined => Ok(None),
            Raw::Number(number) if (least..=most).contains(number) => Ok(Some(*number)),
            Raw::Number(number) => Err(self.wrong(field, format!("must be a number from {least} to {most}, got {number}"))),
            other => Err(self.wrong(field, format!("must be a number, got {}", other.kind()))),
        }
    }

    fn count(&mut self, field: &str, least: u32) -> Checked<Option<u32>> {
        match self.number(field, f64::from(least), f64::from(u32::MAX))? {
            None => Ok(None),
            Some(number) if number.fract() == 0.0 => {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and within range, as just checked")]
                let count = number as u32;
                Ok(Some(count))
            }
            Some(number) => Err(self.wrong(field, format!("must be a whole number, got {number}"))),
        }
    }

    /// Milliseconds. A longer duration than a timer holds is its longest.
    fn duration(&mut self, field: &str, least: f64) -> Checked<Option<Duration>> {
        match self.optional(field) {
            Raw::Undefined => Ok(None),
            Raw::Number(ms) if ms.is_finite() && *ms >= least => Ok(Some(Duration::from_secs_f64(ms.min(TIMER_MAX) / 1e3))),
            Raw::Number(ms) => Err(self.wrong(field, format!("must be a number of milliseconds from {least} upwards, got {ms}"))),
            other => Err(self.wrong(field, format!("must be a number of milliseconds, got {}", other.kind()))),
        }
    }

    fn required_duration(&mut self, field: &str, least: f64) -> Checked<Duration> {
        self.duration(field, least)?.ok_or_else(|| self.mistyped(field, "a number of milliseconds"))
    }

    fn required_count(&mut self, field: &str, least: u32) -> Checked<u32> {
        self.count(field, least)?.ok_or_else(|| self.mistyped(field, "a whole number"))
    }

    /// A named value. `None` beside a name: this value is not built yet.
    fn choice<T: Clone>(&mut self, field: &str, choices: &[(&str, Option<T>)]) -> Checked<Option<T>> {
        let names = || choices.iter().map(|(name, _)| format!("'{name}'")).collect::<Vec<_>>().join(", ");
        match self.optional(field) {
            Raw::Undefined => Ok(None),
            Raw::String(text) => match choices.iter().find(|(name, _)| name == text) {
                Some((_, Some(value))) => Ok(Some(value.clone())),
                Some((name, None)) => Err(self.wrong(field, format!("'{name}' is not supported yet"))),
                None => Err(self.wrong(field, format!("must be one of {}", names()))),
            },
            other => Err(self.wrong(field, format!("must be one of {}, got {}", names(), other.kind()))),
        }
    }

    /// Accepts the value that asks for the behaviour of this version, and refuses the values that are not built yet.
    fn accept_only(&mut self, field: &str, built: bool) -> Checked<()> {
        match self.optional(field) {
            Raw::Undefined => Ok(()),
            Raw::Bool(given) if *given == built => Ok(()),
            _ => Err(self.wrong(field, "is not supported yet")),
        }
    }

    fn refuse_unbuilt(&mut self) -> Checked<()> {
        for key in self.keys.iter().filter(|key| !key.built) {
            if !matches!(self.optional(key.name), Raw::Undefined) {
                return Err(self.wrong(key.name, "is not supported yet"));
            }
        }
        Ok(())
    }

    fn nested<T>(&mut self, field: &str, keys: &'static [Key], read: impl FnOnce(&mut Fields) -> Checked<T>) -> Checked<Option<T>> {
        let raw = self.optional(field);
        if matches!(raw, Raw::Undefined) {
            return Ok(None);
        }
        let path = format!("{}{field}", self.prefix);
        let mut fields = Fields::open(raw, &path, &format!("{path}."), keys)?;
        let value = read(&mut fields)?;
        self.unknown.extend(fields.into_unknown());
        Ok(Some(value))
    }
}
