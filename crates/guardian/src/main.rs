//! `ally-guardian`: the daemons' parent, one per manager, started by the addon at the first start.
//!
//! ```text
//!   owner (Node) ──── stream ──── guardian ── fork ──▶ keeper ── fork, exec ──▶ leader ──▶ …
//!        └───────────────── stream per daemon ───────────┘
//! ```
//!
//! The guardian forks from a megabyte instead of from Node's heap, and it is a subreaper: no process that it made can leave
//! its tree. For each daemon it forks a **keeper**: the subreaper of that one tree, which reaps, reports, and holds the
//! plugin's lock, so that a free lock means that the tree is gone. A keeper has a stream of its own to the owner. If the
//! guardian is killed, the daemons go on. If the owner is gone, for whatever cause, the keeper reads end of file and stops its
//! tree.
//!
//! All signals are blocked from before the first instruction (the addon spawns the guardian from a thread that blocks them),
//! so a signal to the owner's group or terminal has no effect. One thread, no environment, nothing of a plugin in the
//! arguments. The guardian ends when the owner's stream has ended and no keeper is left.

mod child;
mod guardian;
mod keeper;
mod survivors;
mod sys;
mod tree;

use std::process::ExitCode;

use guardian::Guardian;

fn main() -> ExitCode {
    match Guardian::new() {
        Ok(guardian) => guardian.run(),
        Err(error) => {
            eprintln!("ally-guardian is started by @ally/background-process-manager and is of no use by itself: {error}");
            ExitCode::from(2)
        }
    }
}
