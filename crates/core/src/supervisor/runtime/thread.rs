//! The one thread on which everything here runs. It is made at the first start and serves all
//! managers of the process, those of workers too.

use std::future::{Future, pending};
use std::io;

use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use once_cell::sync::OnceCell;
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;

static HANDLE: OnceCell<Handle> = OnceCell::new();

/// # Errors
/// EAGAIN where no thread can be had, EMFILE where no descriptor can; the next call tries again.
pub fn start() -> io::Result<()> {
    HANDLE.get_or_try_init(|| {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        std::thread::Builder::new().name("ally-bpm".to_owned()).spawn(move || {
            // No signal of the program's is ever handled here, and the guardian, which is spawned from
            // this thread, begins its life with the same mask: there is no moment at which Ctrl-C hits it.
            if let Err(error) = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None) {
                tracing::warn!(%error, "signals could not be blocked in the supervisor's thread");
            }
            runtime.block_on(pending::<()>());
        })?;
        Ok::<_, io::Error>(handle)
    })?;
    Ok(())
}

/// Runs `future` on the thread, or drops it where [`start`] was never called.
pub fn spawn<F>(future: F) -> Option<JoinHandle<F::Output>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    HANDLE.get().map(|handle| handle.spawn(future))
}

/// A task that is aborted when this is dropped.
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
