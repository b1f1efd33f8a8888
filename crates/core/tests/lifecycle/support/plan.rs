//! The plan that the tests start from, and their clock.

use ally_core::lifecycle::{Backoff, ExitCodes, Now, Plan, RestartOn, RestartPlan, Window};
use ally_core::model::MemoryLimit;
use std::time::Duration;

pub const fn at(millis: u64) -> Now {
    // 2020-09-13: no monotonic time of a test is that large, so a mix-up of the clocks shows.
    Now { mono: Duration::from_millis(millis), wall: 1_600_000_000_000.0 + millis as f64 }
}

/// Without jitter, so that delays are exact.
pub fn plan() -> Plan {
    Plan {
        socket_path: "/run/p.sock".to_owned(),
        startup_timeout: Duration::from_secs(30),
        grace: Duration::from_secs(5),
        health: Some((Duration::from_secs(10), 2)),
        restart: RestartPlan {
            max_attempts: 2,
            delay: Duration::from_secs(1),
            backoff: Backoff::Exponential,
            factor: 2.0,
            max_delay: Duration::from_secs(60),
            jitter: 0.0,
            window: Window { limit: 10, period: Duration::from_secs(300) },
            on: RestartOn::Failure,
            reset_after: Duration::ZERO,
            prevented_by: ExitCodes::default(),
        },
        memory: Some(MemoryLimit { max: 100 << 20, sustain: Duration::from_secs(3) }),
        on_demand: false,
        stops_idle: false,
    }
}

/// The plan of an upgrade: another grace period, so that a mix-up of the plans shows.
pub fn upgraded() -> Plan {
    Plan { grace: Duration::from_secs(6), ..plan() }
}

/// The first connection starts the daemon, and without a connection it is stopped.
pub fn on_demand() -> Plan {
    Plan { on_demand: true, stops_idle: true, ..plan() }
}

/// At most two restarts within 10 s.
pub fn narrow() -> Plan {
    let mut plan = plan();
    plan.restart.window = Window { limit: 2, period: Duration::from_secs(10) };
    plan
}
