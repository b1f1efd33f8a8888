//! What the command line asks: observations of plugins, and the abilities of this system.

use std::path::Path;

use napi_derive::napi;

use super::manager::NativeManager;
use super::types::{count, millis};
use ally_base::os::{self, FolderWatcher, Listeners, SockDiag};
use ally_base::record::{Elsewhere, SameBoot};
use ally_base::text::io_text;
use ally_core::supervisor::{Holder, Observation, ObservedGeneration, Observer, Usage};

/// A plugin as a process sees it that is not the owner.
#[napi(object)]
pub struct NativeObservation {
    pub plugin_name: String,
    /// Why the plugin can't be observed. The other fields are then empty.
    pub problem: Option<String>,
    /// nobody, owner, keeper, elsewhere
    pub holder: String,
    pub holder_pid: Option<i32>,
    /// If `holder` is elsewhere: the place, as in an error.
    pub place: Option<String>,
    /// The serving generation first.
    pub generations: Vec<NativeGeneration>,
    /// The pid of a `daemon.pid` that `daemon.id` does not name.
    pub unidentified_pid: Option<i32>,
    pub unidentified_lives: bool,
    pub log_path: Option<String>,
    /// The socket at its default path, if no process holds it.
    pub stale_socket: Option<String>,
}

#[napi(object)]
pub struct NativeGeneration {
    pub pid: i32,
    /// As in `daemon.id`. A text, because a number of JavaScript is not exact.
    pub start: String,
    /// yes, no, unknown
    pub same_boot: String,
    pub keeper: Option<i32>,
    pub version: Option<String>,
    pub lives: bool,
    pub listens: bool,
    /// Milliseconds.
    pub cpu_time: Option<f64>,
    pub memory: Option<f64>,
    pub processes: Option<f64>,
    pub left: Vec<i32>,
    pub doubtful: Vec<i32>,
}

/// The problems of this system. Absent: none.
#[napi(object)]
pub struct NativeSystem {
    pub proc: Option<String>,
    pub pidfd: Option<String>,
    pub unix_diag: Option<String>,
    pub inotify: Option<String>,
}

#[napi]
impl NativeManager {
    /// Takes no lock, and changes nothing.
    #[napi]
    pub fn observe(envs_dir: String, plugin_names: Vec<String>) -> Vec<NativeObservation> {
        let observer = Observer::new(Path::new(&envs_dir));
        plugin_names
            .into_iter()
            .map(|name| match observer.observe(&name) {
                Ok(observation) => NativeObservation::of(name, observation),
                Err(failure) => NativeObservation::failed(name, failure.to_string()),
            })
            .collect()
    }

    /// What the supervisor needs of this system.
    #[napi]
    pub fn system_problems() -> NativeSystem {
        NativeSystem {
            proc: problem(os::must_be_visible()),
            pidfd: problem(os::check_pidfd()),
            unix_diag: problem(SockDiag::open().and_then(|diag| Listeners::read(&diag))),
            inotify: problem(FolderWatcher::new()),
        }
    }

    /// Sends SIGKILL to each process of the daemons of this process, for a user who waits no longer. The stops that are under way end
    /// with the trees. On macOS a process that has lost its parent is met by SIGKILL at the end of the grace period only.
    #[napi]
    pub fn kill_trees() {
        let below = os::descendants(os::own_pid()).seen;
        let pids_below = |parents: &[i32]| {
            let children = below.iter().filter(|process| parents.contains(&process.parent));
            children.map(|process| process.pid).collect::<Vec<_>>()
        };
        let guardians = pids_below(&[os::own_pid()]);
        let keepers = pids_below(&guardians);
        for process in below.iter().filter(|process| !guardians.contains(&process.pid) && !keepers.contains(&process.pid)) {
            // A process that has ended meanwhile needs no signal.
            os::signal(process, libc::SIGKILL).unwrap_or_default();
        }
    }
}

fn problem<T>(result: std::io::Result<T>) -> Option<String> {
    result.err().map(|error| io_text(&error))
}

impl NativeObservation {
    fn of(plugin_name: String, Observation { holder, generations, unidentified, log_path, stale_socket }: Observation) -> Self {
        let (holder, holder_pid, place) = match holder {
            Holder::Nobody => ("nobody", None, None),
            Holder::Owner(pid) => ("owner", Some(pid), None),
            Holder::Keeper(pid) => ("keeper", Some(pid), None),
            Holder::Elsewhere(pid, Elsewhere::Machine(name)) => ("elsewhere", Some(pid), Some(format!("on another machine, {name}"))),
            Holder::Elsewhere(pid, Elsewhere::PidNamespace | Elsewhere::NetworkNamespace) => {
                ("elsewhere", Some(pid), Some("in another container".to_owned()))
            }
        };
        Self {
            plugin_name,
            problem: None,
            holder: holder.to_owned(),
            holder_pid,
            place,
            generations: generations.into_iter().map(NativeGeneration::from).collect(),
            unidentified_pid: unidentified.map(|(pid, _)| pid),
            unidentified_lives: unidentified.is_some_and(|(_, lives)| lives),
            log_path: log_path.map(|path| path.display().to_string()),
            stale_socket: stale_socket.map(|path| path.display().to_string()),
        }
    }

    fn failed(plugin_name: String, problem: String) -> Self {
        Self {
            plugin_name,
            problem: Some(problem),
            holder: "nobody".to_owned(),
            holder_pid: None,
            place: None,
            generations: Vec::new(),
            unidentified_pid: None,
            unidentified_lives: false,
            log_path: None,
            stale_socket: None,
        }
    }
}

impl From<ObservedGeneration> for NativeGeneration {
    fn from(ObservedGeneration { identity, boot, lives, listens, usage, left, doubtful }: ObservedGeneration) -> Self {
        let same_boot = match boot {
            SameBoot::Yes => "yes",
            SameBoot::No => "no",
            SameBoot::Unknown => "unknown",
        };
        Self {
            pid: identity.leader,
            start: identity.start.to_string(),
            same_boot: same_boot.to_owned(),
            keeper: identity.keeper,
            version: identity.version,
            lives,
            listens,
            cpu_time: usage.map(|Usage { cpu, .. }| millis(cpu)),
            memory: usage.map(|Usage { memory, .. }| count(memory)),
            processes: usage.map(|Usage { processes, .. }| count(processes as u64)),
            left,
            doubtful,
        }
    }
}
