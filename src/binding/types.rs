//! From JavaScript values and to them.

use napi::bindgen_prelude::{Array, JsObjectValue, KeyCollectionMode, KeyConversion, KeyFilter, Object, Unknown};
use napi::{JsValue, ValueType};
use napi_derive::napi;

use ally_base::text::{errno_name, signal_name};
use ally_core::config::Raw;
use ally_core::config::names::{CONFIG, Key, Shape};
use ally_core::error::Failure;
use ally_core::lifecycle::LastExit;
use ally_core::model::Exit;
use ally_core::supervisor::{Published, Refusal};

/// What the JavaScript layer found beside the values of a configuration that it copied.
#[derive(Default)]
pub struct Remarks {
    /// The paths of keys that mean nothing, whose values nobody has read.
    pub unread: Vec<String>,
    /// Path and kind in turn ("envVars", "a Map") of values that keep their contents where no property shows them.
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

/// A configuration, of which only the keys of the list are read.
///
/// # Errors
/// What napi refuses. The caller's getters are not called: the value is the JavaScript layer's own copy.
pub fn config(value: &Unknown<'_>, remarks: Remarks) -> napi::Result<Raw> {
    let mut raw = read(value, Shape::Object(CONFIG), "", &remarks)?;
    if let Raw::Object(entries) = &mut raw {
        // By their whole paths, so that the warning has these.
        entries.extend(remarks.unread.into_iter().map(|path| (path, Raw::Other("a value that was not read"))));
    }
    Ok(raw)
}

/// A value of which no property matters.
///
/// # Errors
/// What napi refuses.
pub fn value(value: &Unknown<'_>) -> napi::Result<Raw> {
    read(value, Shape::Value, "", &Remarks::default())
}

fn read(value: &Unknown<'_>, shape: Shape, path: &str, remarks: &Remarks) -> napi::Result<Raw> {
    Ok(match value.get_type()? {
        ValueType::Undefined => Raw::Undefined,
        ValueType::Null => Raw::Null,
        // SAFETY: its type was just asked for, here and in the next two.
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
    // SAFETY: the caller asked for its type.
    let object: Object = unsafe { value.cast() }?;
    if object.is_array()? {
        if shape != Shape::List {
            return Ok(Raw::Array(Vec::new()));
        }
        // SAFETY: just asked.
        let array: Array = unsafe { value.cast() }?;
        let item = |index| {
            let item = array.get::<Unknown>(index)?.ok_or_else(|| napi::Error::from_reason("an array shrank while it was read"))?;
            self::value(&item)
        };
        return Ok(Raw::Array((0..array.len()).map(item).collect::<napi::Result<_>>()?));
    }
    Ok(Raw::Object(match shape {
        // The error about a mistyped value names its kind alone.
        Shape::Value | Shape::List => Vec::new(),
        Shape::Map => {
            // Not what somebody has added to Object.prototype.
            let own = KeyCollectionMode::OwnOnly;
            let names = object.get_all_property_names(own, KeyFilter::Enumerable, KeyConversion::NumbersToStrings)?;
            let entry = |index| {
                let key = names.get_element::<Unknown>(index)?;
                // By the key's own value: one that holds NUL has no C string.
                let value = self::value(&object.get_property::<Unknown, Unknown>(key)?)?;
                // SAFETY: the names of properties, as they were asked for, are strings.
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

/// What the JavaScript layer makes an Error of.
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
    /// One, or none.
    pub cause: Vec<NativeFailure>,
    /// Where several failed: each of them.
    pub causes: Vec<NativeFailure>,
}

impl From<Refusal> for NativeFailure {
    fn from(Refusal { plugin, failure, causes }: Refusal) -> Self {
        Self { causes: causes.into_iter().map(Self::from).collect(), ..self::failure(&failure, Some(plugin)) }
    }
}

pub fn failure(failure: &Failure, plugin: Option<String>) -> NativeFailure {
    let message = failure.message(plugin.as_deref().unwrap_or_default());
    native(failure, message, plugin)
}

fn native(failure: &Failure, message: String, plugin: Option<String>) -> NativeFailure {
    let Exit { code, signal } = failure.exit();
    let refused = failure.refused();
    NativeFailure {
        code: failure.code().as_str().to_owned(),
        message,
        errno: refused.as_ref().map(|refused| errno_name(refused.errno)),
        syscall: refused.and_then(|refused| refused.call).map(str::to_owned),
        path: failure.path().map(str::to_owned),
        // With its own text: the sentence around it is the error's that it is the cause of.
        cause: failure.cause().map(|cause| native(cause, cause.to_string(), plugin.clone())).into_iter().collect(),
        causes: Vec::new(),
        plugin_name: plugin,
        pid: failure.pid(),
        exit_code: code,
        signal: signal.map(signal_name),
        stderr: failure.tail().map(str::to_owned),
    }
}

/// `field problem` reads as a sentence.
#[napi(object)]
pub struct NativeProblem {
    pub field: String,
    pub problem: String,
}

/// The keys that are known. `restart.window.limit`, `args[]` where there is an array, `envVars.*` where the keys are the caller's.
#[napi(object)]
pub struct NativeKeys {
    pub config: Vec<String>,
    /// Of the manager's options: what is not built yet.
    pub unbuilt_options: Vec<String>,
}

/// What a start was answered at once: a failure, or a ticket whose outcome comes with the messages.
#[napi(object)]
pub struct NativeStart {
    pub ticket: Option<f64>,
    /// Whether the configuration is the daemon's from now on.
    pub taken: bool,
    pub failure: Option<NativeFailure>,
}

#[napi(object)]
pub struct NativeExit {
    pub pid: i32,
    pub code: Option<i32>,
    pub signal: Option<String>,
    pub at: f64,
    pub reason: String,
}

impl From<LastExit> for NativeExit {
    fn from(last: LastExit) -> Self {
        Self {
            pid: last.pid,
            code: last.exit.code,
            signal: last.exit.signal.map(signal_name),
            at: last.at,
            reason: last.reason.as_str().to_owned(),
        }
    }
}

/// Times are milliseconds since 1970.
#[napi(object)]
pub struct NativeInfo {
    pub revision: f64,
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
}

impl From<Published> for NativeInfo {
    fn from(Published { snapshot, revision, uptime }: Published) -> Self {
        Self {
            revision: count(revision),
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
        }
    }
}

/// JavaScript's numbers are exact up to 2^53, which no counter here will see.
#[expect(clippy::cast_precision_loss, reason = "see above")]
pub const fn count(count: u64) -> f64 {
    count as f64
}
