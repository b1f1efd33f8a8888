//! A threadsafe function that wakes the JavaScript layer if messages wait. `jest --detectOpenHandles` asks the resource of a
//! handle with `hasRef` whether the handle keeps the event loop alive. The ThreadsafeFunction of napi-rs has no resource, so it
//! would always count as open.

use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, PoisonError, RwLock};

use napi::bindgen_prelude::{Function, Object};
use napi::{Env, JsValue, Status, sys};

/// Keeps the event loop alive only after [`Wake::keep_alive`]. Any thread may call it, until this side or the environment closes
/// it.
pub struct Wake {
    /// `None` after the close.
    function: RwLock<Option<RawFunction>>,
}

#[derive(Clone, Copy)]
struct RawFunction(sys::napi_threadsafe_function);

// SAFETY: Node allows calls from any thread, as long as the function is open.
unsafe impl Send for RawFunction {}
// SAFETY: as above.
unsafe impl Sync for RawFunction {}

impl Wake {
    /// `resource`: the object that async_hooks shows for this handle. Its `hasRef` is called by `jest --detectOpenHandles`.
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
            // SAFETY: after an error `closed` is never called, so the reference is still here.
            drop(unsafe { Arc::from_raw(closing) });
            return Err(error);
        }
        *wake.function.write().unwrap_or_else(PoisonError::into_inner) = Some(RawFunction(raw));
        wake.keep_alive(env, false)?;
        Ok(wake)
    }

    pub fn call(&self) {
        if let Some(RawFunction(raw)) = *self.function.read().unwrap_or_else(PoisonError::into_inner) {
            // The call fails only during the teardown of the environment. Then there is no reader.
            // SAFETY: the function is open as long as the lock is held.
            unsafe { sys::napi_call_threadsafe_function(raw, ptr::null_mut(), sys::ThreadsafeFunctionCallMode::nonblocking) };
        }
    }

    /// Sets whether this function keeps the event loop alive. Must run on the environment's own thread.
    pub fn keep_alive(&self, env: sys::napi_env, on: bool) -> napi::Result<()> {
        let Some(RawFunction(raw)) = *self.function.read().unwrap_or_else(PoisonError::into_inner) else { return Ok(()) };
        // SAFETY: on the environment's own thread; the function is open as long as the lock is held.
        check(unsafe { if on { sys::napi_ref_threadsafe_function(env, raw) } else { sys::napi_unref_threadsafe_function(env, raw) } })
    }

    /// Ends all calls.
    pub fn close(&self) {
        let function = self.function.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(RawFunction(raw)) = function {
            // SAFETY: the thread count is 1, and `function` is `None` now, so there is no further use.
            unsafe { sys::napi_release_threadsafe_function(raw, sys::ThreadsafeFunctionReleaseMode::release) };
        }
    }
}

/// Node calls this after the release, or at the end of the environment.
unsafe extern "C" fn closed(_: sys::napi_env, wake: *mut c_void, _: *mut c_void) {
    // SAFETY: the reference is from `Wake::new`, and is released only here.
    let wake = unsafe { Arc::from_raw(wake.cast_const().cast::<Wake>()) };
    wake.function.write().unwrap_or_else(PoisonError::into_inner).take();
}

unsafe extern "C" fn called(env: sys::napi_env, callback: sys::napi_value, _: *mut c_void, _: *mut c_void) {
    // During the teardown Node calls this without an environment, only to free the data of the call. There is none.
    if env.is_null() {
        return;
    }
    // SAFETY: Node calls this on the environment's own thread, with its function.
    unsafe {
        let mut receiver = ptr::null_mut();
        let mut result = ptr::null_mut();
        sys::napi_get_undefined(env, &raw mut receiver);
        if sys::napi_call_function(env, receiver, callback, 0, ptr::null(), &raw mut result) == sys::Status::napi_pending_exception {
            // A listener threw. As with other emitters, that is an uncaught exception.
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
