//! From JavaScript values and to them.

use napi::bindgen_prelude::{Array, JsObjectValue, Object, Unknown};
use napi::{JsValue, ValueType};
use napi_derive::napi;

use ally_base::text::signal_name;
use ally_core::config::Raw;
use ally_core::error::Failure;
use ally_core::lifecycle::LastExit;
use ally_core::model::Exit;
use ally_core::supervisor::{Published, Refusal};

/// A configuration has four levels; deeper is nobody's, or goes round in a circle.
const DEPTH: u32 = 5;

/// # Errors
/// Whatever a getter of the caller's throws.
pub fn raw(value: &Unknown<'_>, depth: u32) -> napi::Result<Raw> {
    Ok(match value.get_type()? {
        ValueType::Undefined => Raw::Undefined,
        ValueType::Null => Raw::Null,
        // SAFETY: its type was just asked for, here and in the next two.
        ValueType::Boolean => Raw::Bool(unsafe { value.cast() }?),
        // SAFETY: as above.
        ValueType::Number => Raw::Number(unsafe { value.cast() }?),
        // SAFETY: as above.
        ValueType::String => Raw::String(unsafe { value.cast() }?),
        ValueType::Object if depth >= DEPTH => Raw::Other("a value nested too deep"),
        ValueType::Object => object(value, depth)?,
        ValueType::Function => Raw::Other("a function"),
        ValueType::Symbol => Raw::Other("a symbol"),
        ValueType::BigInt => Raw::Other("a bigint"),
        _ => Raw::Other("a value of an unknown kind"),
    })
}

fn object(value: &Unknown<'_>, depth: u32) -> napi::Result<Raw> {
    // SAFETY: the caller asked for its type.
    let object: Object = unsafe { value.cast() }?;
    if object.is_array()? {
        // SAFETY: just asked.
        let array: Array = unsafe { value.cast() }?;
        let item = |index| {
            raw(&array.get::<Unknown>(index)?.ok_or_else(|| napi::Error::from_reason("an array shrank while it was read"))?, depth + 1)
        };
        return Ok(Raw::Array((0..array.len()).map(item).collect::<napi::Result<_>>()?));
    }
    let names = object.get_property_names()?;
    let entry = |index| {
        let key = names.get_element::<Unknown>(index)?;
        // By the key's own value: one that holds NUL has no C string.
        let value = raw(&object.get_property::<Unknown, Unknown>(key)?, depth + 1)?;
        // SAFETY: the names of properties, as they were asked for, are strings.
        Ok((unsafe { key.cast() }?, value))
    };
    Ok(Raw::Object((0..names.get_array_length()?).map(entry).collect::<napi::Result<_>>()?))
}

/// What an Error of the face is made of.
#[napi(object)]
pub struct NativeFailure {
    pub code: String,
    pub message: String,
    pub plugin_name: Option<String>,
    pub pid: Option<i32>,
    pub exit_code: Option<i32>,
    pub signal: Option<String>,
    pub stderr: Option<String>,
}

impl From<Refusal> for NativeFailure {
    fn from(refusal: Refusal) -> Self {
        failure(&refusal.failure, Some(refusal.plugin))
    }
}

pub fn failure(failure: &Failure, plugin: Option<String>) -> NativeFailure {
    let Exit { code, signal } = failure.exit();
    NativeFailure {
        code: failure.code().as_str().to_owned(),
        message: failure.message(plugin.as_deref().unwrap_or_default()),
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
