//! The supervisor's thread. The first start creates it, and it serves all managers of the process, including those of
//! workers.

use std::future::{Future, pending};
use std::io;
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use once_cell::sync::OnceCell;
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;

/// How long a thread that has opened a log file stays, in case the next start follows.
const IDLE_THREAD: Duration = Duration::from_secs(1);

static HANDLE: OnceCell<Handle> = OnceCell::new();

/// # Errors
/// EAGAIN if no thread can be created; EMFILE if no descriptor is free. The next call tries again.
pub fn start() -> io::Result<()> {
    HANDLE.get_or_try_init(|| {
        let runtime = Builder::new_current_thread().enable_all().thread_keep_alive(IDLE_THREAD).build()?;
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
