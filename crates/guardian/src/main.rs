//! `ally-guardian`: the program of guardian and keepers, and of the host of shared daemons (crate `ally-host`). The addon starts a
//! guardian per manager, at the manager's first start.
//!
//! ```text
//!   owner (Node) ──── stream ──── guardian ── fork ──▶ keeper ── fork, exec ──▶ leader ──▶ …
//!        └───────────────── stream per daemon ───────────┘
//! ```
//!
//! fork(2) of the guardian copies a megabyte; fork(2) of Node would copy the page tables of its heap. The guardian is a subreaper
//! (prctl(2), `PR_SET_CHILD_SUBREAPER`), so no process of a daemon can leave the guardian's tree.
//!
//! For each daemon the guardian forks a **keeper**, the subreaper of the daemon's tree. The keeper reaps the tree, reports to the
//! owner on a stream of its own, and holds the plugin's lock: a free lock means that the tree is gone. If the guardian is killed,
//! keepers and daemons run on. If the owner dies for any cause, the keeper reads end of file and stops its tree (with
//! `OwnerDeath::Keep` only after a SIGTERM to the keeper).
//!
//! All signals are blocked before the first instruction, because the addon spawns the guardian from a thread that blocks all
//! signals. So a signal to the owner's group or terminal has no effect. The guardian has one thread, an empty environment, and
//! no data of a plugin in its arguments. The guardian exits when the owner's stream has ended and no keeper is left.

mod child;
mod freeze;
mod guardian;
mod keeper;
mod limits;
mod logs;
mod survivors;
mod sys;
mod tree;

use std::path::PathBuf;
use std::process::ExitCode;

use guardian::Guardian;

/// The first argument of the host's role. The second one is `envsDir`.
const HOST: &str = "host";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|role| role == HOST)
        && let Some(envs_dir) = args.next()
    {
        sys::set_process_name(c"ally-host");
        // No value of this program owns a descriptor above 2 yet.
        sys::close_all_but(vec![0, 1, 2]);
        return ally_host::run(PathBuf::from(envs_dir));
    }
    // The host spawns its guardian by a path without a name.
    sys::set_process_name(c"ally-guardian");
    match Guardian::new() {
        Ok(guardian) => guardian.run(),
        Err(error) => {
            eprintln!("ally-guardian is started by @ally/background-process-manager and is of no use by itself: {error}");
            ExitCode::from(2)
        }
    }
}
