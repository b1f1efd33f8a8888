//! The fields in which two configurations of a shared plugin differ, by their paths. Their values may be secrets, and stay out.
//!
//! The structs are taken apart without `..`, so that a new field does not compile until it is compared, or left out for a reason.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{Health, HttpProbe, InheritEnv, Limits, LogConfig, Probe, ProcessConfig, TcpAddress};
use crate::lifecycle::{RestartPlan, Window};
use crate::model::MemoryLimit;

/// `real_path`: a folder without symbolic links. Of a folder that can't be resolved: the folder as it is.
pub fn difference(one: &ProcessConfig, other: &ProcessConfig, real_path: &dyn Fn(&Path) -> PathBuf) -> Vec<String> {
    let ProcessConfig {
        plugin_name,
        plugin_path,
        command,
        args,
        socket_path,
        socket,
        start,
        idle_timeout,
        // The caller's own.
        startup_timeout: _,
        shutdown_grace_period,
        env_vars,
        inherit_env,
        health,
        restart,
        readiness,
        kill_mode,
        stop_signal_to,
        stop_signal,
        // Of the manager that starts the plugin.
        group: _,
        depends_on: _,
        limits,
        umask,
        logs,
        shared,
    } = one;
    let mut fields = Fields { prefix: String::new(), found: Vec::new(), real_path };
    fields.compare("pluginName", plugin_name, &other.plugin_name);
    fields.compare_path("pluginPath", plugin_path, &other.plugin_path);
    fields.compare_command("command", command, &other.command);
    fields.compare_list("args", args, &other.args);
    fields.compare_path("socketPath", socket_path, &other.socket_path);
    fields.compare("socket", socket, &other.socket);
    fields.compare("start", start, &other.start);
    fields.compare("idleTimeout", idle_timeout, &other.idle_timeout);
    fields.compare("shutdownGracePeriod", shutdown_grace_period, &other.shutdown_grace_period);
    fields.compare_variables(env_vars, &other.env_vars);
    fields.compare("inheritEnv", &inherited(inherit_env), &inherited(&other.inherit_env));
    fields.compare_optional("healthcheck", health.as_ref(), other.health.as_ref(), Fields::compare_health);
    fields.within("restart", |fields| fields.compare_restart(restart, &other.restart));
    fields.within("readiness", |fields| fields.compare_probe(readiness, &other.readiness));
    fields.compare("killMode", kill_mode, &other.kill_mode);
    fields.compare("stopSignalTo", stop_signal_to, &other.stop_signal_to);
    fields.compare("stopSignal", stop_signal, &other.stop_signal);
    fields.within("limits", |fields| fields.compare_limits(limits, &other.limits));
    fields.compare("umask", umask, &other.umask);
    fields.compare_optional("logs", logs.as_ref(), other.logs.as_ref(), Fields::compare_logs);
    // Each session has a linger time of its own.
    fields.compare("shared", &shared.is_some(), &other.shared.is_some());
    fields.found
}

/// `None`: everything. The order of the names has no effect.
fn inherited(inherit_env: &InheritEnv) -> Option<BTreeSet<&str>> {
    match inherit_env {
        InheritEnv::All => None,
        InheritEnv::Listed(names) => Some(names.iter().map(String::as_str).collect()),
    }
}

struct Fields<'a> {
    /// As `healthcheck.`.
    prefix: String,
    found: Vec<String>,
    real_path: &'a dyn Fn(&Path) -> PathBuf,
}

impl Fields<'_> {
    fn compare<T: PartialEq + ?Sized>(&mut self, field: &str, one: &T, other: &T) {
        if one != other {
            self.found.push(format!("{}{field}", self.prefix));
        }
    }

    fn within(&mut self, field: &str, compare: impl FnOnce(&mut Self)) {
        let before = self.prefix.len();
        self.prefix.push_str(field);
        self.prefix.push('.');
        compare(self);
        self.prefix.truncate(before);
    }

    fn compare_optional<T>(&mut self, field: &str, one: Option<&T>, other: Option<&T>, compare: impl FnOnce(&mut Self, &T, &T)) {
        match (one, other) {
            (Some(one), Some(other)) => self.within(field, |fields| compare(fields, one, other)),
            (one, other) => self.compare(field, &one.is_some(), &other.is_some()),
        }
    }

    /// Two names of one folder are equal. The last component may be a symbolic link by intent, as the Python of a virtual
    /// environment is.
    fn compare_path(&mut self, field: &str, one: &Path, other: &Path) {
        if one != other {
            let (one, other) = (self.resolved(one), self.resolved(other));
            self.compare(field, &one, &other);
        }
    }

    fn resolved(&self, path: &Path) -> PathBuf {
        match (path.parent(), path.file_name()) {
            (Some(folder), Some(name)) => (self.real_path)(folder).join(name),
            _ => path.to_owned(),
        }
    }

    /// A name without '/' is looked up in PATH, and is no path.
    fn compare_command(&mut self, field: &str, one: &str, other: &str) {
        let (one, other) = (Path::new(one), Path::new(other));
        if one.is_absolute() && other.is_absolute() {
            self.compare_path(field, one, other);
        } else {
            self.compare(field, one.as_os_str(), other.as_os_str());
        }
    }

    fn compare_list(&mut self, field: &str, one: &[String], other: &[String]) {
        for index in 0..one.len().max(other.len()) {
            self.compare(&format!("{field}[{index}]"), &one.get(index), &other.get(index));
        }
    }

    fn compare_variables(&mut self, one: &[(String, Option<String>)], other: &[(String, Option<String>)]) {
        let by_name = |variables: &[(String, Option<String>)]| variables.iter().cloned().collect::<BTreeMap<_, _>>();
        let (one, other) = (by_name(one), by_name(other));
        let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
        self.within("envVars", |fields| {
            for name in names {
                fields.compare(name, &one.get(name), &other.get(name));
            }
        });
    }

    fn compare_health(&mut self, one: &Health, other: &Health) {
        let Health { interval, timeout, retries, probe } = one;
        self.compare("interval", interval, &other.interval);
        self.compare("timeout", timeout, &other.timeout);
        self.compare("retries", retries, &other.retries);
        self.within("probe", |fields| fields.compare_probe(probe, &other.probe));
    }

    fn compare_probe(&mut self, one: &Probe, other: &Probe) {
        match (one, other) {
            (Probe::Http(one), Probe::Http(other)) => self.compare_http(one, other),
            (Probe::Tcp(one), Probe::Tcp(other)) => self.compare_address(Some(one), Some(other)),
            (Probe::Exec { command: one, args: its }, Probe::Exec { command: other, args: others }) => {
                self.compare_command("command", one, other);
                self.compare_list("args", its, others);
            }
            (Probe::Output { pattern: one, stream: its }, Probe::Output { pattern: other, stream: others }) => {
                self.compare("pattern", one, other);
                self.compare("stream", its, others);
            }
            (
                Probe::Listen
                | Probe::Socket
                | Probe::Accept
                | Probe::Notify
                | Probe::Http(_)
                | Probe::Tcp(_)
                | Probe::Exec { .. }
                | Probe::Output { .. },
                other,
            ) => self.compare("type", one.name(), other.name()),
        }
    }

    fn compare_http(&mut self, one: &HttpProbe, other: &HttpProbe) {
        let HttpProbe { path, address, status } = one;
        self.compare("path", path, &other.path);
        self.compare_address(address.as_ref(), other.address.as_ref());
        self.compare("status", status, &other.status);
    }

    fn compare_address(&mut self, one: Option<&TcpAddress>, other: Option<&TcpAddress>) {
        match (one, other) {
            (Some(TcpAddress { host, port }), Some(other)) => {
                self.compare("host", host, &other.host);
                self.compare("port", port, &other.port);
            }
            (one, other) => self.compare("port", &one.is_some(), &other.is_some()),
        }
    }

    fn compare_restart(&mut self, one: &RestartPlan, other: &RestartPlan) {
        let RestartPlan {
            max_attempts,
            delay,
            backoff,
            factor,
            max_delay,
            jitter,
            window: Window { limit, period },
            on,
            reset_after,
            prevented_by,
        } = one;
        self.compare("maxAttempts", max_attempts, &other.max_attempts);
        self.compare("delay", delay, &other.delay);
        self.compare("backoff", backoff, &other.backoff);
        self.compare("factor", factor, &other.factor);
        self.compare("maxDelay", max_delay, &other.max_delay);
        self.compare("jitter", jitter, &other.jitter);
        self.compare("window.limit", limit, &other.window.limit);
        self.compare("window.period", period, &other.window.period);
        self.compare("on", on, &other.on);
        self.compare("resetAfter", reset_after, &other.reset_after);
        self.compare("preventExitCodes", prevented_by, &other.prevented_by);
    }

    fn compare_limits(&mut self, one: &Limits, other: &Limits) {
        let Limits { memory, open_files, core_dumps, niceness, oom_score_adj } = one;
        match (memory, &other.memory) {
            (Some(MemoryLimit { max, sustain }), Some(other)) => {
                self.compare("maxMemory", max, &other.max);
                self.compare("sustain", sustain, &other.sustain);
            }
            (one, other) => self.compare("maxMemory", &one.is_some(), &other.is_some()),
        }
        self.compare("openFiles", open_files, &other.open_files);
        self.compare("coreDumps", core_dumps, &other.core_dumps);
        self.compare("niceness", niceness, &other.niceness);
        self.compare("oomScoreAdj", oom_score_adj, &other.oom_score_adj);
    }

    fn compare_logs(&mut self, one: &LogConfig, other: &LogConfig) {
        let LogConfig { file, max_size, max_files, compress } = one;
        self.compare_path("file", file, &other.file);
        self.compare("maxSize", max_size, &other.max_size);
        self.compare("maxFiles", max_files, &other.max_files);
        self.compare("compress", compress, &other.compress);
    }
}
