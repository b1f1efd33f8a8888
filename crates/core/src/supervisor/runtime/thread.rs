//! The supervisor's thread. The first start creates it, and it serves all managers of the process, including those of
//! workers.

use std::future::{Future, pending};
use std::io;
use std::panic::resume_unwind;
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use once_cell::sync::OnceCell;
use tokio::runtime::{Builder, Handle};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

static HANDLE: OnceCell<Handle> = OnceCell::new();

/// # Errors
/// EAGAIN if no thread can be created; EMFILE if no descriptor is free. The next call tries again.
pub fn start() -> io::Result<()> {
    HANDLE.get_or_try_init(|| {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_name(WORKER_NAME)
            .thread_keep_alive(WORKER_KEEP_ALIVE)
            .max_blocking_threads(WORKERS_MAX + LOOKUPS_MAX)
            .build()?;
        let handle = runtime.handle().clone();
        std::thread::Builder::new().name("ally-bpm".to_owned()).spawn(move || {
            // The program's signals must be handled on its own threads. The guardian is spawned from this thread and inherits
            // the mask, so a SIGINT from the terminal can't end the guardian while it starts.
            if let Err(error) = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None) {
                tracing::warn!(%error, "signals could not be blocked in the supervisor's thread");
            }
            runtime.block_on(pending::<()>());
        })?;
        Ok::<_, io::Error>(handle)
    })?;
    Ok(())
}

/// Runs `future` on the supervisor's thread. If [`start`] never succeeded, drops it and returns `None`.
pub fn spawn<F>(future: F) -> Option<JoinHandle<F::Output>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    HANDLE.get().map(|handle| handle.spawn(future))
}

/// Runs `work`, which may take long, on another thread, at most [`WORKERS_MAX`] at once. Must be awaited on the supervisor's
/// thread. The runtime makes such a thread when there is work, and ends it after [`WORKER_KEEP_ALIVE`] without.
pub async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    static PERMITS: Semaphore = Semaphore::const_new(WORKERS_MAX);
    work_within(&PERMITS, work).await
}

/// As [`off_thread`], for lookups of names, at most [`LOOKUPS_MAX`] at once: hung ones must not keep the threads of other work.
pub async fn look_up<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    static PERMITS: Semaphore = Semaphore::const_new(LOOKUPS_MAX);
    work_within(&PERMITS, work).await
}

async fn work_within<T: Send + 'static>(permits: &'static Semaphore, work: impl FnOnce() -> T + Send + 'static) -> T {
    // The semaphore is never closed.
    let permit = permits.acquire().await;
    let done = tokio::task::spawn_blocking(work).await;
    drop(permit);
    match done {
        Ok(value) => value,
        // The runtime never ends, so the work was not cancelled.
        Err(error) => resume_unwind(error.into_panic()),
    }
}

/// More than one, so that a read of /proc that hangs in the kernel delays only its own tree.
const WORKERS_MAX: usize = 4;
const LOOKUPS_MAX: usize = 8;
const WORKER_NAME: &str = "ally-worker";
/// Longer than the pause between two samples.
const WORKER_KEEP_ALIVE: Duration = Duration::from_secs(2);

/// A task of the runtime that is aborted on drop.
pub struct AbortOnDrop(Option<JoinHandle<()>>);

impl AbortOnDrop {
    pub fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(spawn(future))
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.abort();
        }
    }
}
