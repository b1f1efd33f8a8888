//! `metricsText`: the text of given numbers. The jest tests read the text of real daemons with prometheus_client.

use std::time::Duration;

use ally_core::model::{ExitReason, ProcessState};
use ally_core::supervisor::{Counts, Durations, OutputCounts, PluginMetrics, Resources, TextFormat, metrics_text};

fn plugin(name: &str) -> PluginMetrics {
    let counts = Counts {
        starts: 0,
        restarts: [0; ExitReason::ALL.len()],
        exits: [0; ExitReason::ALL.len()],
        ready: Durations::default(),
        checks_passed: 0,
        checks_failed: 0,
        checks: Durations::default(),
        last_check: None,
        leader_since: None,
    };
    PluginMetrics {
        shared: false,
        plugin: name.to_owned(),
        state: ProcessState::Stopped,
        uptime: None,
        counts,
        check_quantiles: None,
        output: OutputCounts::default(),
        resources: None,
        cpu_time: Duration::ZERO,
    }
}

fn running() -> PluginMetrics {
    let mut metrics = plugin("search");
    metrics.state = ProcessState::Running;
    metrics.counts.starts = 3;
    metrics.counts.restarts[ExitReason::Crashed as usize] = 2;
    metrics.counts.exits[ExitReason::Crashed as usize] = 2;
    metrics.counts.leader_since = Some(1_700_000_000_125.0);
    for ms in [1, 3, 30_001] {
        metrics.counts.ready.add(Duration::from_millis(ms));
    }
    metrics.output = OutputCounts { bytes: [10, 20], dropped_lines: 5 };
    metrics.cpu_time = Duration::from_millis(1_250);
    metrics.resources =
        Some(Resources { cpu_percent: 1.0, cpu_time: Duration::ZERO, memory: 1 << 40, processes: 2, threads: 3, open_files: 4 });
    metrics
}

/// The lines of a family, without its descriptions.
fn samples<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.starts_with(name) && !line.starts_with('#')).collect()
}

#[test]
fn metrics_text_has_the_numbers_of_each_plugin() {
    let text = metrics_text(&[running()], "1.2.3", TextFormat::OpenMetrics);
    let expected = [
        "ally_daemon_state{plugin=\"search\",ally_daemon_state=\"starting\"} 0",
        "ally_daemon_state{plugin=\"search\",ally_daemon_state=\"running\"} 1",
        "ally_daemon_start_time_seconds{plugin=\"search\"} 1700000000.125",
        "ally_daemon_starts_total{plugin=\"search\"} 3",
        "ally_daemon_restarts_total{plugin=\"search\",reason=\"crashed\"} 2",
        "ally_daemon_restarts_total{plugin=\"search\",reason=\"unhealthy\"} 0",
        "ally_daemon_exits_total{plugin=\"search\",reason=\"stopped\"} 0",
        "ally_daemon_ready_duration_seconds_bucket{plugin=\"search\",le=\"0.001\"} 1",
        "ally_daemon_ready_duration_seconds_bucket{plugin=\"search\",le=\"0.005\"} 2",
        "ally_daemon_ready_duration_seconds_bucket{plugin=\"search\",le=\"30.0\"} 2",
        "ally_daemon_ready_duration_seconds_bucket{plugin=\"search\",le=\"+Inf\"} 3",
        "ally_daemon_ready_duration_seconds_sum{plugin=\"search\"} 30.005",
        "ally_daemon_ready_duration_seconds_count{plugin=\"search\"} 3",
        "ally_daemon_probes_total{plugin=\"search\",result=\"failed\"} 0",
        "ally_daemon_cpu_seconds_total{plugin=\"search\"} 1.25",
        "ally_daemon_resident_memory_bytes{plugin=\"search\"} 1099511627776",
        "ally_daemon_processes{plugin=\"search\"} 2",
        "ally_daemon_threads{plugin=\"search\"} 3",
        "ally_daemon_open_fds{plugin=\"search\"} 4",
        "ally_daemon_output_bytes_total{plugin=\"search\",stream=\"stderr\"} 20",
        "ally_daemon_output_dropped_lines_total{plugin=\"search\"} 5",
        "ally_manager_info{version=\"1.2.3\"} 1",
    ];
    for line in expected {
        assert!(text.lines().any(|own| own == line), "{line}\n{text}");
    }
    assert!(text.ends_with("\n# EOF\n"));
    assert_eq!(samples(&text, "ally_daemon_probe_duration_seconds"), [""; 0], "there was no check");
}

#[test]
fn metrics_text_omits_what_is_not_known() {
    let text = metrics_text(&[plugin("stopped")], "1.2.3", TextFormat::OpenMetrics);
    for absent in ["start_time_seconds", "ready_duration_seconds", "resident_memory_bytes", "processes", "threads", "open_fds"] {
        assert_eq!(samples(&text, &format!("ally_daemon_{absent}")), [""; 0], "{absent}");
    }
    assert_eq!(samples(&text, "ally_daemon_starts_total").len(), 1);
    assert!(!text.contains("NaN"));
}

#[test]
fn metrics_text_describes_families_as_the_format_wants_them() {
    let open = metrics_text(&[], "1", TextFormat::OpenMetrics);
    for line in ["# TYPE ally_daemon_starts counter", "# TYPE ally_daemon_state stateset", "# TYPE ally_manager info"] {
        assert!(open.lines().any(|own| own == line), "{line}");
    }
    assert!(open.contains("# UNIT ally_daemon_cpu_seconds seconds\n"));
    let classic = metrics_text(&[], "1", TextFormat::Prometheus);
    for line in ["# TYPE ally_daemon_starts_total counter", "# TYPE ally_daemon_state gauge", "# TYPE ally_manager_info gauge"] {
        assert!(classic.lines().any(|own| own == line), "{line}");
    }
    assert!(!classic.contains("# UNIT") && !classic.contains("# EOF"));
    for text in [open, classic] {
        assert_eq!(text.matches("# HELP ").count(), text.matches("# TYPE ").count());
    }
}

#[test]
fn metrics_text_escapes_label_values() {
    let text = metrics_text(&[plugin("a\"b\\c\nd")], "1", TextFormat::Prometheus);
    assert_eq!(samples(&text, "ally_daemon_starts_total"), [r#"ally_daemon_starts_total{plugin="a\"b\\c\nd"} 0"#]);
}
