//! The supervisor's thread. The first start creates it, and it serves all managers of the process, including those of
//! workers.

use std::future::{Future, pending};
use std::io;
use std::panic::resume_unwind;
use std::pin::Pin;
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
            .max_blocking_threads(SAMPLES_MAX + LOOKUPS_MAX + FILES_MAX)
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

/// A future as the runtime gets it. Its code for tasks is then in the addon once for each type of output, and not for each future. And
/// a task frees its own memory at the drop of the handle, which may be late, but the box when the future ends.
pub type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Runs `future` on the supervisor's thread. If [`start`] never succeeded, drops it and returns `None`.
pub fn spawn<F>(future: F) -> Option<JoinHandle<F::Output>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    HANDLE.get().map(|handle| handle.spawn(Box::pin(future) as Boxed<F::Output>))
}

/// Work that may take long, or hang in the kernel. Each kind has threads of its own, so that hung work of one kind does not hold
/// up the others.
#[derive(Debug, Clone, Copy)]
pub enum Work {
    /// More than one thread, so that a read of /proc that hangs delays only its own tree.
    Sample,
    /// The lookup of a host's name.
    LookUp,
    /// A file on a disk that may hang.
    OpenFile,
}

const SAMPLES_MAX: usize = 4;
const LOOKUPS_MAX: usize = 8;
const FILES_MAX: usize = 8;
const WORKER_NAME: &str = "ally-worker";
/// Longer than the pause between two samples.
const WORKER_KEEP_ALIVE: Duration = Duration::from_secs(2);

impl Work {
    fn permits(self) -> &'static Semaphore {
        static SAMPLES: Semaphore = Semaphore::const_new(SAMPLES_MAX);
        static LOOKUPS: Semaphore = Semaphore::const_new(LOOKUPS_MAX);
        static FILES: Semaphore = Semaphore::const_new(FILES_MAX);
        match self {
            Self::Sample => &SAMPLES,
            Self::LookUp => &LOOKUPS,
            Self::OpenFile => &FILES,
        }
    }
}

/// Runs `work` on another thread. Must be awaited on the supervisor's thread. The runtime makes such a thread when there is work,
/// and ends it after [`WORKER_KEEP_ALIVE`] without.
pub async fn off_thread<T: Send + 'static>(kind: Work, work: impl FnOnce() -> T + Send + 'static) -> T {
    // The semaphore is never closed.
    let permit = kind.permits().acquire().await;
    let done = tokio::task::spawn_blocking(move || (work(), permit)).await;
    match done {
        Ok((value, _)) => value,
        // The runtime never ends, so the work was not cancelled.
        Err(error) => resume_unwind(error.into_panic()),
    }
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
