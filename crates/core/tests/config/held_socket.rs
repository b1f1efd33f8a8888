//! `socket: 'manager'`, and what needs it: `start: 'onConnect'` and `idleTimeout`.

use std::time::Duration;

use ally_core::config::{Probe, ProcessConfig, Raw, SocketMaker, StartMode, parse};

use crate::support::{health, minimal, object, text, with};

fn held() -> Raw {
    with(minimal(), "socket", text("manager"))
}

fn on_demand(raw: &Raw) -> Result<ProcessConfig, String> {
    parse(raw).map(|parsed| parsed.config).map_err(|failure| failure.to_string())
}

fn checked(raw: &Raw) -> ProcessConfig {
    parse(raw).unwrap().config
}

#[test]
fn socket_manager_makes_accept_the_default_of_readiness_and_health() {
    let config = checked(&with(held(), "healthcheck", health()));
    assert_eq!(config.socket, SocketMaker::Manager);
    assert_eq!((config.readiness, config.health.unwrap().probe), (Probe::Accept, Probe::Accept));
    // In any order of the keys.
    let reordered = with(with(minimal(), "healthcheck", object([])), "socket", text("manager"));
    assert_eq!(checked(&reordered).health.unwrap().probe, Probe::Accept);
}

#[test]
fn socket_manager_needs_socket_path_whatever_the_probes() {
    let config = |raw| checked(&with(raw, "readiness", object([("type", text("notify"))])));
    assert_eq!(config(minimal()).needed_socket(), None);
    assert_eq!(config(held()).needed_socket(), Some(std::path::Path::new("/run/weather.sock")));
}

#[test]
fn socket_manager_refuses_the_probes_listen_and_socket_by_their_field() {
    for probe in ["listen", "socket"] {
        for (field, raw) in [("readiness", held()), ("healthcheck.probe", with(held(), "healthcheck", health()))] {
            let failure = parse(&with(raw, &format!("{field}.type"), text(probe))).unwrap_err().to_string();
            assert!(failure.starts_with(&format!("{field}.type '{probe}' says nothing about the daemon here")), "{failure}");
        }
    }
    for probe in ["accept", "notify", "http"] {
        checked(&with(held(), "readiness.type", text(probe)));
    }
}

#[test]
fn socket_path_leaves_five_bytes_for_the_names_beside_it_whoever_makes_the_socket() {
    let holds = if cfg!(target_os = "macos") { 103 } else { 107 };
    let path = |length: usize| text(format!("/{}", "s".repeat(length - 1)));
    for raw in [minimal(), held()] {
        checked(&with(raw.clone(), "socketPath", path(holds - 5)));
        let failure = parse(&with(raw, "socketPath", path(holds - 4))).unwrap_err().to_string();
        let most = holds - 5;
        let expected = format!(
            "socketPath must be at most {most} bytes long: a socket address holds {holds}, and 5 are for the ending of a name beside it, as .held; it has {}",
            holds - 4
        );
        assert_eq!(failure, expected);
    }
}

#[test]
fn start_on_connect_needs_a_held_socket() {
    let config = on_demand(&with(held(), "start", text("onConnect"))).unwrap();
    assert_eq!((config.start, config.idle_timeout), (StartMode::OnConnect, None));
    let refused = on_demand(&with(minimal(), "start", text("onConnect"))).unwrap_err();
    assert!(refused.starts_with("start 'onConnect' needs socket 'manager'"), "{refused}");
}

#[test]
fn idle_timeout_is_above_zero_and_needs_start_on_connect() {
    let armed = with(held(), "start", text("onConnect"));
    let config = on_demand(&with(armed.clone(), "idleTimeout", Raw::Number(1_500.0))).unwrap();
    assert_eq!(config.idle_timeout, Some(Duration::from_millis(1_500)));
    for idle in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let refused = on_demand(&with(armed.clone(), "idleTimeout", Raw::Number(idle))).unwrap_err();
        assert!(refused.starts_with("idleTimeout must be a number of milliseconds"), "{refused}");
    }
    let refused = on_demand(&with(held(), "idleTimeout", Raw::Number(1_500.0))).unwrap_err();
    assert!(refused.starts_with("idleTimeout needs start 'onConnect'"), "{refused}");
}
