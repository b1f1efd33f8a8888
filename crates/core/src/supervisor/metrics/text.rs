//! Metrics as text: OpenMetrics 1.0, and the Prometheus text format 0.0.4.

use std::fmt::{Display, Write as _};

use super::{Durations, PluginMetrics};
use crate::model::{ExitReason, ProcessState, Stream};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFormat {
    OpenMetrics,
    Prometheus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
    StateSet,
    Info,
}

/// A caller's stop is no restart, so it is no reason of one.
const RESTART_REASONS: [ExitReason; 5] =
    [ExitReason::Crashed, ExitReason::Exited, ExitReason::Unhealthy, ExitReason::Startup, ExitReason::Memory];

/// The size of the text of one plugin, to allocate once.
const PLUGIN_BYTES: usize = 7 * 1024;

/// `version`: of this package.
pub fn text(plugins: &[PluginMetrics], version: &str, format: TextFormat) -> String {
    let shared = |plugin: &PluginMetrics| if plugin.shared { ",shared=\"true\"" } else { "" };
    let labels = plugins.iter().map(|plugin| format!("plugin=\"{}\"{}", Escaped(&plugin.plugin), shared(plugin))).collect();
    let mut text = Text { out: String::with_capacity((plugins.len() + 1) * PLUGIN_BYTES), format, plugins, labels };
    text.lifecycle();
    text.checks();
    text.resources();
    text.output();
    text.family("ally_manager", Kind::Info, "", "Version of the package that manages the daemons.");
    text.line("ally_manager_info", &format!("version=\"{}\"", Escaped(version)), "", 1);
    if format == TextFormat::OpenMetrics {
        text.out.push_str("# EOF\n");
    }
    text.out
}

struct Text<'a> {
    out: String,
    format: TextFormat,
    plugins: &'a [PluginMetrics],
    /// The label of each plugin.
    labels: Vec<String>,
}

impl Text<'_> {
    fn lifecycle(&mut self) {
        self.family("ally_daemon_state", Kind::StateSet, "", "State of the daemon.");
        self.each(|text, labels, plugin| {
            for state in ProcessState::ALL {
                let label = [",ally_daemon_state=\"", state.as_str(), "\""].concat();
                text.line("ally_daemon_state", labels, &label, u8::from(state == plugin.state));
            }
        });
        self.family("ally_daemon_start_time_seconds", Kind::Gauge, "seconds", "Start of the leader, in seconds since 1970.");
        self.each(|text, labels, plugin| {
            if let Some(since) = plugin.counts.leader_since {
                text.line("ally_daemon_start_time_seconds", labels, "", since / 1e3);
            }
        });
        self.family("ally_daemon_starts", Kind::Counter, "", "Leaders that were made, by starts and by restarts.");
        self.each(|text, labels, plugin| text.line("ally_daemon_starts_total", labels, "", plugin.counts.starts));
        self.family("ally_daemon_restarts", Kind::Counter, "", "Restarts by the restart policy, by the reason of the exit.");
        self.each(|text, labels, plugin| text.by_reason("ally_daemon_restarts_total", labels, &RESTART_REASONS, &plugin.counts.restarts));
        self.family("ally_daemon_exits", Kind::Counter, "", "Exits of leaders, by reason.");
        self.each(|text, labels, plugin| text.by_reason("ally_daemon_exits_total", labels, &ExitReason::ALL, &plugin.counts.exits));
        self.family("ally_daemon_ready_duration_seconds", Kind::Histogram, "seconds", "Time from the spawn of the leader to readiness.");
        self.each(|text, labels, plugin| text.histogram("ally_daemon_ready_duration_seconds", labels, &plugin.counts.ready));
    }

    fn checks(&mut self) {
        self.family("ally_daemon_probes", Kind::Counter, "", "Health checks, by result.");
        self.each(|text, labels, plugin| {
            text.line("ally_daemon_probes_total", labels, ",result=\"passed\"", plugin.counts.checks_passed);
            text.line("ally_daemon_probes_total", labels, ",result=\"failed\"", plugin.counts.checks_failed);
        });
        self.family("ally_daemon_probe_duration_seconds", Kind::Histogram, "seconds", "Duration of health checks.");
        self.each(|text, labels, plugin| text.histogram("ally_daemon_probe_duration_seconds", labels, &plugin.counts.checks));
    }

    fn resources(&mut self) {
        self.family("ally_daemon_cpu_seconds", Kind::Counter, "seconds", "CPU time of all processes of the daemon, ended ones included.");
        self.each(|text, labels, plugin| text.line("ally_daemon_cpu_seconds_total", labels, "", plugin.cpu_time.as_secs_f64()));
        self.family("ally_daemon_resident_memory_bytes", Kind::Gauge, "bytes", "Memory of all processes of the daemon.");
        self.each(|text, labels, plugin| {
            text.present("ally_daemon_resident_memory_bytes", labels, plugin.resources.map(|resources| resources.memory));
        });
        self.family("ally_daemon_processes", Kind::Gauge, "", "Processes of the daemon.");
        self.each(|text, labels, plugin| {
            text.present("ally_daemon_processes", labels, plugin.resources.map(|resources| resources.processes));
        });
        self.family("ally_daemon_threads", Kind::Gauge, "", "Threads of all processes of the daemon.");
        self.each(|text, labels, plugin| text.present("ally_daemon_threads", labels, plugin.resources.map(|resources| resources.threads)));
        self.family("ally_daemon_open_fds", Kind::Gauge, "", "Open file descriptors of all processes of the daemon.");
        self.each(|text, labels, plugin| {
            text.present("ally_daemon_open_fds", labels, plugin.resources.map(|resources| resources.open_files));
        });
    }

    fn output(&mut self) {
        self.family("ally_daemon_output_bytes", Kind::Counter, "bytes", "Bytes that the daemon wrote, by stream.");
        self.each(|text, labels, plugin| {
            for stream in [Stream::Stdout, Stream::Stderr] {
                let label = if stream == Stream::Stdout { ",stream=\"stdout\"" } else { ",stream=\"stderr\"" };
                text.line("ally_daemon_output_bytes_total", labels, label, plugin.output.bytes[stream as usize]);
            }
        });
        let help = "Lines of output that are missing in events or in the log file.";
        self.family("ally_daemon_output_dropped_lines", Kind::Counter, "", help);
        self.each(|text, labels, plugin| text.line("ally_daemon_output_dropped_lines_total", labels, "", plugin.output.dropped_lines));
    }

    /// `name`: of the family, without the suffix of its samples. OpenMetrics describes the family, Prometheus the samples.
    fn family(&mut self, name: &str, kind: Kind, unit: &str, help: &str) {
        let out = &mut self.out;
        let (suffix, word) = match (self.format, kind) {
            (TextFormat::OpenMetrics, Kind::StateSet) => ("", "stateset"),
            (TextFormat::OpenMetrics, Kind::Info) => ("", "info"),
            (TextFormat::OpenMetrics, Kind::Counter) => ("", "counter"),
            (TextFormat::Prometheus, Kind::Counter) => ("_total", "counter"),
            (TextFormat::Prometheus, Kind::Info) => ("_info", "gauge"),
            (_, Kind::Gauge) | (TextFormat::Prometheus, Kind::StateSet) => ("", "gauge"),
            (_, Kind::Histogram) => ("", "histogram"),
        };
        out.push_str("# HELP ");
        out.extend([name, suffix, " ", help, "\n# TYPE ", name, suffix, " ", word, "\n"]);
        if self.format == TextFormat::OpenMetrics && !unit.is_empty() {
            out.extend(["# UNIT ", name, " ", unit, "\n"]);
        }
    }

    fn each(&mut self, write: impl Fn(&mut Self, &str, &PluginMetrics)) {
        let labels = std::mem::take(&mut self.labels);
        for (labels, plugin) in labels.iter().zip(self.plugins) {
            write(self, labels, plugin);
        }
        self.labels = labels;
    }

    fn by_reason(&mut self, name: &str, labels: &str, reasons: &[ExitReason], counts: &[u64]) {
        for reason in reasons {
            let label = [",reason=\"", reason.as_str(), "\""].concat();
            self.line(name, labels, &label, counts.get(*reason as usize).copied().unwrap_or_default());
        }
    }

    /// Without an observation there is no histogram.
    fn histogram(&mut self, name: &str, labels: &str, durations: &Durations) {
        if durations.count == 0 {
            return;
        }
        let bucket = [name, "_bucket"].concat();
        let mut below = 0;
        for (bound, count) in Durations::BOUNDS.iter().zip(durations.buckets) {
            below += count;
            self.line(&bucket, labels, &format!(",le=\"{:?}\"", bound.as_secs_f64()), below);
        }
        self.line(&bucket, labels, ",le=\"+Inf\"", durations.count);
        self.line(&[name, "_sum"].concat(), labels, "", durations.sum.as_secs_f64());
        self.line(&[name, "_count"].concat(), labels, "", durations.count);
    }

    fn present(&mut self, name: &str, labels: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.line(name, labels, "", value);
        }
    }

    fn line(&mut self, name: &str, labels: &str, more: &str, value: impl Display) {
        self.out.extend([name, "{", labels, more, "} ", &value.to_string(), "\n"]);
    }
}

/// A label value.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}
