//! Probes: readiness and health. Both ask by [`question::Question`], and each has its own schedule.

mod accepted;
mod connection;
mod daemon;
mod exec;
mod health;
mod held;
pub mod http;
mod last_line;
mod listen;
mod lookup;
mod question;
mod ready;
mod schedule;
mod tcp;
mod wakeups;

pub use daemon::{HeldProbe, ProbedDaemon};
pub use exec::CommandRunner;
pub use health::{HealthCheck, check};
pub use held::has_taken;
pub use ready::{ReadinessStatus, await_other_socket, await_ready};
