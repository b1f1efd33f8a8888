//! What the host of shared daemons tells the command line.

use napi_derive::napi;

use super::types::{NativeFailure, NativeInfo, NativeMetrics, failure, millis};
use ally_core::error::Failure;
use ally_core::sharing::client::HostView;
use ally_core::supervisor::Published;

/// Without a host: no pid and no failure.
#[napi(object)]
pub struct NativeHostView {
    pub pid: Option<i32>,
    pub plugins: Vec<NativeShared>,
    /// Why a host that is there can't be asked.
    pub failure: Option<NativeFailure>,
}

#[napi(object)]
pub struct NativeShared {
    pub plugin_name: String,
    pub info: NativeInfo,
    pub metrics: NativeMetrics,
    /// Milliseconds that are left of `shared.linger`, if no session has the daemon.
    pub linger: Option<f64>,
}

impl From<Result<Option<HostView>, Failure>> for NativeHostView {
    fn from(viewed: Result<Option<HostView>, Failure>) -> Self {
        match viewed {
            Ok(None) => Self { pid: None, plugins: Vec::new(), failure: None },
            Err(problem) => Self { pid: problem.pid(), plugins: Vec::new(), failure: Some(failure(&problem, None)) },
            Ok(Some(HostView { host, plugins })) => {
                let plugins = plugins.into_iter().map(|listed| {
                    let shown = listed.shown;
                    let published = Published {
                        snapshot: shown.snapshot,
                        revision: 0,
                        uptime: shown.uptime.map(millis),
                        job: 0,
                        status: shown.status,
                        sessions: Some(shown.sessions),
                    };
                    NativeShared {
                        plugin_name: listed.plugin,
                        info: published.into(),
                        metrics: shown.metrics.into(),
                        linger: listed.linger.map(millis),
                    }
                });
                Self { pid: Some(host), plugins: plugins.collect(), failure: None }
            }
        }
    }
}
