//! Converts values from JavaScript and to JavaScript.

use std::time::Duration;

use napi::bindgen_prelude::{Array, JsObjectValue, KeyCollectionMode, KeyConversion, KeyFilter, Object, Unknown};
use napi::{JsValue, ValueType};
use napi_derive::napi;

use ally_base::text::signal_name;
use ally_core::config::Raw;
use ally_core::config::keys::{CONFIG, Key, Shape};
use ally_core::error::{Facts, Failure};
use ally_core::lifecycle::LastExit;
use ally_core::model::{Changes, ExitReason};
use ally_core::supervisor::{PluginMetrics, Published, Refusal, Resources};

/// Facts about a configuration that its copy does not show.
#[derive(Default)]
pub struct Remarks {
    /// The paths of unknown keys. Their values were not read.
    pub unread: Vec<String>,
    /// Path and kind, alternating ("envVars", "a Map"), of objects with contents outside their properties.
    pub built_in: Vec<String>,
}

impl Remarks {
    fn kind(&self, path: &str) -> Option<&str> {
        self.built_in.chunks_exact(2).find_map(|pair| match pair {
            [at, kind] if at == path => Some(kind.as_str()),
            _ => None,
        })
    }
}

/// The changed fields of an upgrade. `flat`: names and values alternating.
pub fn changes(flat: Vec<String>) -> Changes {
    let mut flat = flat.into_iter();
    std::iter::from_fn(|| Some((flat.next()?, flat.next()?))).collect()
}

/// Reads a configuration: only the keys of the list `CONFIG`. No getter of the caller runs, because the value is the copy that
/// the JavaScript layer made.
///
/// # Errors
/// A failed call of napi.
pub fn config(value: &Unknown<'_>, remarks: Remarks) -> napi::Result<Raw> {
    let mut raw = read(value, Shape::Object(CONFIG), "", &remarks)?;
    if let Raw::Object(entries) = &mut raw {
        // Under their whole paths, because the warning names the path.
        entries.extend(remarks.unread.into_iter().map(|path| (path, Raw::Other("a value that was not read"))));
    }
    Ok(raw)
}

/// Reads a value without its properties.
///
/// # Errors
/// A failed call of napi.
pub fn value(value: &Unknown<'_>) -> napi::Result<Raw> {
    read(value, Shape::Value, "", &Remarks::default())
}

fn read(value: &Unknown<'_>, shape: Shape, path: &str, remarks: &Remarks) -> napi::Result<Raw> {
    Ok(match value.get_type()? {
        ValueType::Undefined => Raw::Undefined,
        ValueType::Null => Raw::Null,
        // SAFETY: `get_type` returned this type.
        ValueType::Boolean => Raw::Bool(unsafe { value.cast() }?),
        // SAFETY: as above.
        ValueType::Number => Raw::Number(unsafe { value.cast() }?),
        // SAFETY: as above.
        ValueType::String => Raw::String(unsafe { value.cast() }?),
        ValueType::Object => read_object(value, shape, path, remarks)?,
        ValueType::Function => Raw::Other("a function"),
        ValueType::Symbol => Raw::Other("a symbol"),
        ValueType::BigInt => Raw::Other("a bigint"),
        _ => Raw::Other("a value of an unknown kind"),
    })
}

fn read_object(value: &Unknown<'_>, shape: Shape, path: &str, remarks: &Remarks) -> napi::Result<Raw> {
    if let Some(kind) = remarks.kind(path) {
        return Ok(Raw::BuiltIn(kind.to_owned()));
    }
    // SAFETY: the caller has checked the type.
    let object: Object = unsafe { value.cast() }?;
    if object.is_array()? {
        if shape != Shape::List {
            return Ok(Raw::Array(Vec::new()));
        }
        // SAFETY: `is_array` returned true.
        let array: Array = unsafe { value.cast() }?;
        let item = |index| {
            let item = array.get::<Unknown>(index)?.ok_or_else(|| napi::Error::from_reason("an array shrank while it was read"))?;
            self::value(&item)
        };
        return Ok(Raw::Array((0..array.len()).map(item).collect::<napi::Result<_>>()?));
    }
    Ok(Raw::Object(match shape {
        // The error about a wrong type names only the kind, so the properties are not needed.
        Shape::Value | Shape::List => Vec::new(),
        Shape::Map => {
            // Without properties of Object.prototype.
            let own = KeyCollectionMode::OwnOnly;
            let names = object.get_all_property_names(own, KeyFilter::Enumerable, KeyConversion::NumbersToStrings)?;
            let entry = |index| {
                let key = names.get_element::<Unknown>(index)?;
                // With the key as a value, because a key with NUL has no C string.
                let value = self::value(&object.get_property::<Unknown, Unknown>(key)?)?;
                // SAFETY: with `NumbersToStrings`, and without symbols, every name of a property is a string.
                Ok((unsafe { key.cast() }?, value))
            };
            (0..names.get_array_length()?).map(entry).collect::<napi::Result<_>>()?
        }
        Shape::Object(keys) => {
            let mut entries = Vec::with_capacity(keys.len());
            for Key { name, shape, .. } in keys {
                let below = if path.is_empty() { (*name).to_owned() } else { format!("{path}.{name}") };
                match read(&object.get_named_property_unchecked::<Unknown>(name)?, *shape, &below, remarks)? {
                    Raw::Undefined => {}
                    value => entries.push(((*name).to_owned(), value)),
                }
            }
            entries
        }
    }))
}

/// The data of a JavaScript Error.
#[napi(object)]
pub struct NativeFailure {
    pub code: String,
    pub message: String,
    pub plugin_name: Option<String>,
    pub pid: Option<i32>,
    pub exit_code: Option<i32>,
    pub signal: Option<String>,
    pub errno: Option<String>,
    pub syscall: Option<String>,
    pub path: Option<String>,
    pub stderr: Option<String>,
    /// At most one.
    pub cause: Vec<NativeFailure>,
    /// If several plugins failed: one failure per plugin.
    pub causes: Vec<NativeFailure>,
}

impl From<Refusal> for NativeFailure {
    fn from(Refusal { plugin, failure, causes }: Refusal) -> Self {
        Self {
            causes: causes.into_iter().map(Self::from).collect(),
            ..self::failure(&failure, Some(plugin).filter(|plugin| !plugin.is_empty()))
        }
    }
}

pub fn failure(failure: &Failure, plugin: Option<String>) -> NativeFailure {
    let chain = Facts::chain(failure, plugin.as_deref().unwrap_or_default());
    let mut facts = chain.into_iter().rev();
    let innermost = facts.next().map_or_else(|| native(Facts::of(failure, ""), None), |facts| native(facts, None));
    facts.fold(innermost, |cause, facts| native(facts, Some(cause)))
}

fn native(facts: Facts, cause: Option<NativeFailure>) -> NativeFailure {
    let Facts { code, message, plugin, pid, exit, errno, syscall, path, stderr, .. } = facts;
    NativeFailure {
        code: code.as_str().to_owned(),
        message,
        plugin_name: plugin,
        pid,
        exit_code: exit.code,
        signal: exit.signal.map(signal_name),
        errno,
        syscall,
        path,
        stderr,
        cause: cause.into_iter().collect(),
        causes: Vec::new(),
    }
}

/// `field problem` reads as a sentence.
#[napi(object)]
pub struct NativeProblem {
    pub field: String,
    pub problem: String,
}

/// The known keys. `restart.window.limit` for a value, `args[]` for a list, `envVars.*` for a map.
#[napi(object)]
pub struct NativeKeys {
    pub config: Vec<String>,
    /// The manager's options.
    pub options: Vec<String>,
    /// The manager's options that are not built yet.
    pub unbuilt_options: Vec<String>,
}

/// The immediate answer to a start: a failure, or a ticket. The outcome of the ticket is a message.
#[napi(object)]
pub struct NativeStart {
    pub ticket: Option<f64>,
    /// Whether the daemon uses this configuration from now on.
    pub accepted: bool,
    pub failure: Option<NativeFailure>,
}

/// The immediate answer to a startGroup.
#[napi(object)]
pub struct NativeGroupStart {
    pub ticket: Option<f64>,
    /// Per configuration: the number by which `info` names it. 0 if the daemon does not use it.
    pub jobs: Vec<f64>,
    pub failure: Option<NativeFailure>,
}

#[napi(object)]
pub struct NativeExit {
    pub pid: i32,
    pub code: Option<i32>,
    pub signal: Option<String>,
    pub at: f64,
    pub reason: String,
    pub memory_peak: Option<f64>,
    /// Milliseconds.
    pub cpu_time: Option<f64>,
}

impl From<LastExit> for NativeExit {
    fn from(last: LastExit) -> Self {
        Self {
            pid: last.pid,
            code: last.exit.code,
            signal: last.exit.signal.map(signal_name),
            at: last.at,
            reason: last.reason.as_str().to_owned(),
            memory_peak: last.usage.map(|usage| count(usage.memory_peak)),
            cpu_time: last.usage.map(|usage| millis(usage.cpu_time)),
        }
    }
}

/// Times are milliseconds since 1970.
#[napi(object)]
pub struct NativeInfo {
    pub revision: f64,
    /// The ticket of the start that gave the configuration.
    pub job: f64,
    pub state: String,
    pub pid: Option<i32>,
    pub failed_health_checks: u32,
    pub restart_attempts: u32,
    pub last_error: Option<String>,
    pub last_state_change: f64,
    pub uptime: Option<f64>,
    pub total_restarts: f64,
    pub last_exit: Option<NativeExit>,
    pub next_restart_at: Option<f64>,
    pub status: Option<String>,
    pub armed: bool,
    pub sessions: Option<u32>,
}

impl From<Published> for NativeInfo {
    fn from(Published { snapshot, revision, uptime, status, job, sessions }: Published) -> Self {
        Self {
            revision: count(revision),
            job: count(job),
            state: snapshot.state.as_str().to_owned(),
            pid: snapshot.pid,
            failed_health_checks: snapshot.failed_health_checks,
            restart_attempts: snapshot.restart_attempts,
            last_error: snapshot.last_error,
            last_state_change: snapshot.last_state_change,
            uptime,
            total_restarts: count(snapshot.total_restarts),
            last_exit: snapshot.last_exit.map(NativeExit::from),
            next_restart_at: snapshot.next_restart_at,
            status,
            armed: snapshot.armed,
            sessions,
        }
    }
}

/// Durations are milliseconds, sizes are bytes.
#[napi(object)]
pub struct NativeMetrics {
    pub plugin_name: String,
    pub state: String,
    pub uptime: Option<f64>,
    pub starts: f64,
    pub restarts: f64,
    pub crashes: f64,
    pub checks_passed: f64,
    pub checks_failed: f64,
    pub last_latency: Option<f64>,
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    pub resources: Option<NativeResources>,
    pub output_bytes: f64,
}

#[napi(object)]
pub struct NativeResources {
    pub cpu_percent: f64,
    pub cpu_time: f64,
    pub memory: f64,
    pub processes: u32,
    pub threads: u32,
    pub open_files: u32,
}

impl From<PluginMetrics> for NativeMetrics {
    fn from(metrics: PluginMetrics) -> Self {
        let PluginMetrics { plugin, state, uptime, counts, check_quantiles, output, resources, .. } = metrics;
        Self {
            plugin_name: plugin,
            state: state.as_str().to_owned(),
            uptime,
            starts: count(counts.starts),
            restarts: count(counts.restarts.iter().sum()),
            crashes: count(counts.exits[ExitReason::Crashed as usize]),
            checks_passed: count(counts.checks_passed),
            checks_failed: count(counts.checks_failed),
            last_latency: counts.last_check.map(millis),
            p50: check_quantiles.map(|[p50, _]| millis(p50)),
            p99: check_quantiles.map(|[_, p99]| millis(p99)),
            resources: resources.map(NativeResources::from),
            output_bytes: count(output.bytes.iter().sum()),
        }
    }
}

impl From<Resources> for NativeResources {
    fn from(Resources { cpu_percent, cpu_time, memory, processes, threads, open_files }: Resources) -> Self {
        Self { cpu_percent, cpu_time: millis(cpu_time), memory: count(memory), processes, threads, open_files }
    }
}

pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// A counter as a JavaScript number.
#[expect(clippy::cast_precision_loss, reason = "no counter reaches 2^53, up to which an f64 is exact")]
pub const fn count(count: u64) -> f64 {
    count as f64
}
