//! The call from any thread that tells the JavaScript layer that there is mail. napi's own wrapper can't say whether it
//! keeps the event loop alive, and what can't say so counts as an open handle (`jest --detectOpenHandles`);
//! this one carries a resource with `hasRef`, as timers and sockets do.

use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, PoisonError, RwLock};

use napi::bindgen_prelude::{Function, Object};
use napi::{Env, JsValue, Status, sys};

/// Weak: whether it keeps the event loop alive is said by hand. Used by any thread until it is closed, on
/// either side.
pub struct Wake {
    /// `None` once it must not be used any more.
    function: RwLock<Option<Raw>>,
}

#[derive(Clone, Copy)]
struct Raw(sys::napi_threadsafe_function);

// SAFETY: made to be used by any thread, as long as it is open.
unsafe impl Send for Raw {}
// SAFETY: as above.
unsafe impl Sync for Raw {}

impl Wake {
    /// `resource`: what stands for it before whoever looks for open handles, by its `hasRef`.
    pub fn new(env: Env, callback: Function<'_, (), ()>, resource: Object<'_>) -> napi::Result<Arc<Self>> {
        let env = env.raw();
        let mut name = ptr::null_mut();
        let text = "ally-bpm";
        // SAFETY: on the environment's own thread; the text outlives the call.
        check(unsafe { sys::napi_create_string_utf8(env, text.as_ptr().cast(), text.len().cast_signed(), &raw mut name) })?;
        let wake = Arc::new(Self { function: RwLock::new(None) });
        let closing = Arc::into_raw(Arc::clone(&wake));
        let mut raw = ptr::null_mut();
        // SAFETY: on the environment's own thread, with values of this environment. `closed` takes over `closing`.
        let status = unsafe {
            sys::napi_create_threadsafe_function(
                env,
                callback.raw(),
                resource.raw(),
                name,
                0,
                1,
                closing.cast_mut().cast(),
                Some(closed),
                ptr::null_mut(),
                Some(called),
                &raw mut raw,
            )
        };
        if let Err(error) = check(status) {
            // SAFETY: nobody took it over.
            drop(unsafe { Arc::from_raw(closing) });
            return Err(error);
        }
        *wake.function.write().unwrap_or_else(PoisonError::into_inner) = Some(Raw(raw));
        wake.keep_alive(env, false)?;
        Ok(wake)
    }

    pub fn call(&self) {
        if let Some(Raw(raw)) = *self.function.read().unwrap_or_else(PoisonError::into_inner) {
            // Refused only while the environment is being torn down, when there is no reader left.
            // SAFETY: open, as long as the lock is held.
            unsafe { sys::napi_call_threadsafe_function(raw, ptr::null_mut(), sys::ThreadsafeFunctionCallMode::nonblocking) };
        }
    }

    /// Whether the event loop stays alive for it. On the environment's own thread.
    pub fn keep_alive(&self, env: sys::napi_env, on: bool) -> napi::Result<()> {
        let Some(Raw(raw)) = *self.function.read().unwrap_or_else(PoisonError::into_inner) else { return Ok(()) };
        // SAFETY: on the environment's own thread, and open as long as the lock is held.
        check(unsafe { if on { sys::napi_ref_threadsafe_function(env, raw) } else { sys::napi_unref_threadsafe_function(env, raw) } })
    }

    /// There will be no more calls.
    pub fn close(&self) {
        let function = self.function.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Raw(raw)) = function {
            // SAFETY: the one thread that was counted gives it up, and nobody can use it any more.
            unsafe { sys::napi_release_threadsafe_function(raw, sys::ThreadsafeFunctionReleaseMode::release) };
        }
    }
}

/// Given up by us, or the environment ends.
unsafe extern "C" fn closed(_: sys::napi_env, wake: *mut c_void, _: *mut c_void) {
    // SAFETY: as `Wake::new` gave it, and given back only here.
    let wake = unsafe { Arc::from_raw(wake.cast_const().cast::<Wake>()) };
    wake.function.write().unwrap_or_else(PoisonError::into_inner).take();
}

unsafe extern "C" fn called(env: sys::napi_env, callback: sys::napi_value, _: *mut c_void, _: *mut c_void) {
    // Without an environment the call only comes to be freed, and it carries nothing.
    if env.is_null() {
        return;
    }
    // SAFETY: Node calls this on the environment's own thread, with its function.
    unsafe {
        let mut receiver = ptr::null_mut();
        let mut result = ptr::null_mut();
        sys::napi_get_undefined(env, &raw mut receiver);
        if sys::napi_call_function(env, receiver, callback, 0, ptr::null(), &raw mut result) == sys::Status::napi_pending_exception {
            // A listener threw: an uncaught exception like any other emitter's.
            let mut error = ptr::null_mut();
            sys::napi_get_and_clear_last_exception(env, &raw mut error);
            sys::napi_fatal_exception(env, error);
        }
    }
}

fn check(status: sys::napi_status) -> napi::Result<()> {
    match Status::from(status) {
        Status::Ok => Ok(()),
        status => Err(napi::Error::new(status, "Node refused a function that wakes its event loop")),
    }
}
