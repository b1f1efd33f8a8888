//! Turns a [`Raw`] value into a [`ProcessConfig`], or names the first wrong field.

use std::str::FromStr;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::fields::{Checked, Fields};
use super::keys::{CONFIG, HEALTHCHECK, LIMITS, LOGS, PROBE, RESTART, WINDOW};
use super::{Health, InheritEnv, KillMode, Probe, ProcessConfig, Raw, SocketMaker, StartMode, limits, logs, probe, shared};
use crate::error::Failure;
use crate::lifecycle::{Backoff, ExitCodes, RestartOn, RestartPlan, Window};
use ally_base::stop::StopSignalTo;

/// The size of `sun_path` without the final NUL: unix(7), and `sys/un.h` on macOS.
const ADDRESS_MAX: usize = if cfg!(target_os = "macos") { 103 } else { 107 };
/// The endings of the names beside the socket: `.held`, and `.next` or `.nxt1` in an upgrade.
const ENDING_LENGTH: usize = 5;
/// The longest `socketPath`, in bytes. A name beside the socket must fit into a socket address too.
pub const SOCKET_PATH_MAX: usize = ADDRESS_MAX - ENDING_LENGTH;
/// The host of shared daemons has a folder beside those of the plugins.
const RESERVED: &str = ".ally-";
/// NAME_MAX of the common file systems, in bytes.
const NAME_MAX: usize = 255;

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
            "must be at most {SOCKET_PATH_MAX} bytes long: a socket address holds {ADDRESS_MAX}, and {ENDING_LENGTH} are for the \
             ending of a name beside it, as .held; it has {}",
            socket_path.as_os_str().len()
        );
        return Err(top.wrong("socketPath", problem));
    }
    let startup_timeout = top.required_duration("startupTimeout", 1.0)?;
    let shutdown_grace_period = top.required_duration("shutdownGracePeriod", 0.0)?;
    let env_vars = env_vars(&mut top)?;
    let makers = [("daemon", Some(SocketMaker::Daemon)), ("manager", Some(SocketMaker::Manager))];
    let socket = top.choice("socket", &makers)?.unwrap_or(SocketMaker::Daemon);
    let health = top.nested("healthcheck", HEALTHCHECK, |fields| health(fields, socket))?;
    let restart = top.nested("restart", RESTART, restart)?.unwrap_or_default();
    let readiness = top.nested("readiness", PROBE, |fields| probe::readiness(fields, socket))?;
    let readiness = readiness.unwrap_or(if socket == SocketMaker::Manager { Probe::Accept } else { Probe::Listen });
    let stop_signal_to = top
        .choice("stopSignalTo", &[("leader", Some(StopSignalTo::Leader)), ("tree", Some(StopSignalTo::Tree))])?
        .unwrap_or(StopSignalTo::Leader);
    let kill_mode = top.choice("killMode", &[("tree", Some(KillMode::Tree)), ("group", Some(KillMode::Group))])?.unwrap_or(KillMode::Tree);
    let stop_signal = stop_signal(&mut top)?;
    let group = if top.is_absent("group") { None } else { Some(top.text("group")?) };
    let depends_on = depends_on(&mut top)?;
    let (start, idle_timeout) = start(&mut top, socket)?;
    let shared = shared::shared(&mut top)?;
    let inherit_env = inherit_env(&mut top, shared.is_some())?;
    let limits = top.nested("limits", LIMITS, limits::limits)?.unwrap_or_default();
    let umask = limits::umask(&mut top)?;
    let logs = top.nested("logs", LOGS, logs::logs)?.flatten();
    if logs.as_ref().is_some_and(|logs| logs.file == socket_path) {
        return Err(top.wrong("logs.file", "must not be socketPath"));
    }
    top.refuse_unbuilt()?;
    Ok(Parsed {
        config: ProcessConfig {
            plugin_name,
            plugin_path,
            command,
            args,
            socket_path,
            socket,
            start,
            idle_timeout,
            startup_timeout,
            shutdown_grace_period,
            env_vars,
            inherit_env,
            health,
            restart,
            readiness,
            kill_mode,
            stop_signal_to,
            stop_signal,
            group,
            depends_on,
            limits,
            umask,
            logs,
            shared,
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
    check_name(top, "pluginName", &name)?;
    Ok(name)
}

fn check_name(top: &Fields, field: &str, name: &str) -> Checked<()> {
    if name.len() > NAME_MAX {
        return Err(top.wrong(field, format!("must be at most {NAME_MAX} bytes long, got {}", name.len())));
    }
    if name == "." || name == ".." || name.contains('/') {
        return Err(top.wrong(field, "must be a plain folder name: not '.' or '..', and without '/'"));
    }
    // What JavaScript's half of a character becomes: two such names would be one plugin.
    if name.contains(char::REPLACEMENT_CHARACTER) {
        return Err(top.wrong(field, "must be well-formed text, without half a character and without U+FFFD"));
    }
    if name.starts_with(RESERVED) {
        return Err(top.wrong(field, format!("must not begin with '{RESERVED}': such folders are this package's own")));
    }
    Ok(())
}

fn depends_on(top: &mut Fields) -> Checked<Vec<String>> {
    let items = match top.optional("dependsOn") {
        Raw::Undefined => return Ok(Vec::new()),
        Raw::Array(items) => items,
        _ => return Err(top.mistyped("dependsOn", "an array of plugin names")),
    };
    let mut names: Vec<String> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let field = format!("dependsOn[{index}]");
        match item {
            Raw::String(name) if name.is_empty() || name.contains('\0') => {
                return Err(top.wrong(&field, "must be a name that is not empty and has no NUL"));
            }
            Raw::String(name) => {
                check_name(top, &field, name)?;
                if !names.contains(name) {
                    names.push(name.clone());
                }
            }
            other => return Err(top.wrong(&field, format!("must be a string, got {}", other.kind()))),
        }
    }
    Ok(names)
}

pub fn args(top: &mut Fields) -> Checked<Vec<String>> {
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
            let field = format!("envVars.{name}");
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

/// The environment of one session says nothing about the others'.
fn inherit_env(top: &mut Fields, is_shared: bool) -> Checked<InheritEnv> {
    let names = match top.optional("inheritEnv") {
        Raw::Undefined if is_shared => return Ok(InheritEnv::Listed(Vec::new())),
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

fn start(top: &mut Fields, socket: SocketMaker) -> Checked<(StartMode, Option<Duration>)> {
    let modes = [("eager", Some(StartMode::Eager)), ("onConnect", Some(StartMode::OnConnect))];
    let start = top.choice("start", &modes)?.unwrap_or(StartMode::Eager);
    if start == StartMode::OnConnect && socket != SocketMaker::Manager {
        return Err(top.wrong("start", "'onConnect' needs socket 'manager': otherwise nobody listens before the daemon does"));
    }
    let idle_timeout = top.duration("idleTimeout", 1.0)?;
    if idle_timeout.is_some() && start != StartMode::OnConnect {
        return Err(top.wrong("idleTimeout", "needs start 'onConnect': otherwise no connection would start the daemon again"));
    }
    Ok((start, idle_timeout))
}

fn health(fields: &mut Fields, socket: SocketMaker) -> Checked<Health> {
    let default = if socket == SocketMaker::Manager { Probe::Accept } else { Probe::Socket };
    Ok(Health {
        interval: fields.duration("interval", 1.0)?.unwrap_or(HEALTH_INTERVAL),
        timeout: fields.duration("timeout", 1.0)?.unwrap_or(HEALTH_TIMEOUT),
        // 0 counts as 1: in both cases the first failed check decides.
        retries: fields.count("retries", 0)?.map_or(HEALTH_RETRIES, |retries| retries.max(1)),
        probe: fields.nested("probe", PROBE, |fields| probe::health(fields, socket))?.unwrap_or(default),
    })
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
        reset_after: fields.duration("resetAfter", 0.0)?.unwrap_or(default.reset_after),
        prevented_by: exit_codes(fields)?,
    };
    fields.refuse_unbuilt()?;
    Ok(plan)
}

fn exit_codes(fields: &mut Fields) -> Checked<ExitCodes> {
    let codes = match fields.optional("preventExitCodes") {
        Raw::Undefined => return Ok(ExitCodes::default()),
        Raw::Array(codes) => codes,
        _ => return Err(fields.mistyped("preventExitCodes", "an array of exit codes")),
    };
    let code = |(index, code): (usize, &Raw)| {
        let field = format!("preventExitCodes[{index}]");
        match code {
            Raw::Number(code) if code.fract() == 0.0 && (0.0..=255.0).contains(code) => {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and within range, as just checked")]
                let code = *code as u8;
                Ok(code)
            }
            Raw::Number(code) => Err(fields.wrong(&field, format!("must be a whole number from 0 to 255, got {code}"))),
            other => Err(fields.wrong(&field, format!("must be a number, got {}", other.kind()))),
        }
    };
    codes.iter().enumerate().map(code).collect()
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
