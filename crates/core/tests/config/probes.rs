//! The probes: their fields, the messages about them, and whether they need a socket.

use std::net::SocketAddr;

use ally_core::config::{HttpProbe, Pattern, Probe, Raw, TcpAddress, parse};
use ally_core::model::Stream;

use super::support::{array, health, minimal, object, text, with};
use Raw::{Bool, BuiltIn, Null, Number};

fn probe<const N: usize>(fields: [(&str, Raw); N]) -> Raw {
    with(minimal(), "readiness", object(fields))
}

fn readiness<const N: usize>(fields: [(&str, Raw); N]) -> Probe {
    parse(&probe(fields)).unwrap().config.readiness
}

fn refusal<const N: usize>(fields: [(&str, Raw); N]) -> String {
    parse(&probe(fields)).expect_err("refused").to_string()
}

fn tcp(host: &str, port: u16) -> TcpAddress {
    TcpAddress { host: host.to_owned(), port }
}

fn kind(name: &str) -> (&str, Raw) {
    ("type", text(name))
}

#[test]
fn http_has_defaults_for_path_status_and_host() {
    let http = |path: &str, address, status| Probe::Http(HttpProbe { path: path.to_owned(), address, status });
    assert_eq!(readiness([kind("http")]), http("/", None, (200, 299)));
    assert_eq!(readiness([kind("http"), ("path", Null), ("status", Null), ("port", Null), ("host", Null)]), http("/", None, (200, 299)));
    assert_eq!(readiness([kind("http"), ("port", Number(8080.0))]), http("/", Some(tcp("localhost", 8080)), (200, 299)));
    let whole = [
        kind("http"),
        ("path", text("/healthz?full=1")),
        ("port", Number(65_535.0)),
        ("host", text("::1")),
        ("status", array([Number(200.0), Number(404.0)])),
    ];
    assert_eq!(readiness(whole), http("/healthz?full=1", Some(tcp("::1", 65_535)), (200, 404)));
    assert_eq!(readiness([kind("http"), ("status", Number(401.0))]), http("/", None, (401, 401)));
}

#[test]
fn tcp_has_a_default_for_host() {
    assert_eq!(readiness([kind("tcp"), ("port", Number(1.0))]), Probe::Tcp(tcp("localhost", 1)));
    assert_eq!(readiness([kind("tcp"), ("port", Number(1.0)), ("host", text("127.0.0.2"))]), Probe::Tcp(tcp("127.0.0.2", 1)));
}

#[test]
fn output_takes_a_pattern_and_a_stream() {
    let output = |stream| Probe::Output { pattern: "^ready on (\\d+)$".to_owned(), stream };
    let pattern = || ("pattern", text("^ready on (\\d+)$"));
    assert_eq!(readiness([kind("output"), pattern()]), output(None));
    assert_eq!(readiness([kind("output"), pattern(), ("stream", text("stdout"))]), output(Some(Stream::Stdout)));
    assert_eq!(readiness([kind("output"), pattern(), ("stream", text("stderr"))]), output(Some(Stream::Stderr)));
}

#[test]
fn wrong_field_of_a_probe_is_named_with_what_it_must_be() {
    let status = "a status from 100 to 599, or the lowest and the highest";
    let http = |field, value| refusal([kind("http"), (field, value)]);
    assert_eq!(http("path", text("healthz")).split(" and ").next(), Some("readiness.path must begin with '/'"));
    assert!(http("path", text("/a b")).starts_with("readiness.path must begin with '/' and have neither spaces"));
    assert!(http("path", text("/a\r\nX: y")).starts_with("readiness.path must begin"));
    assert!(http("path", text("/é")).starts_with("readiness.path must begin"));
    assert_eq!(http("path", Number(1.0)), "readiness.path must be a string, got a number");
    assert_eq!(http("port", Number(0.0)), "readiness.port must be a number from 1 to 65535, got 0");
    assert_eq!(http("port", Number(65_536.0)), "readiness.port must be a number from 1 to 65535, got 65536");
    assert_eq!(http("port", text("8080")), "readiness.port must be a number, got a string");
    assert_eq!(http("port", Number(80.5)), "readiness.port must be a whole number, got 80.5");
    assert_eq!(http("host", text("localhost")), "readiness.host needs port: without it the request goes over socketPath");
    assert_eq!(http("status", Number(99.0)), format!("readiness.status must be {status}, got 99 to 99"));
    assert_eq!(http("status", array([Number(300.0), Number(200.0)])), format!("readiness.status must be {status}, got 300 to 200"));
    assert_eq!(http("status", array([Number(200.0), Number(201.0), Number(202.0)])), format!("readiness.status must be {status}"));
    assert_eq!(http("status", text("2xx")), format!("readiness.status must be {status}, got a string"));
    assert_eq!(refusal([kind("tcp")]), "readiness.port is required and must be a port");
    assert_eq!(refusal([kind("tcp"), ("port", Number(1.0)), ("host", text(""))]), "readiness.host must not be empty");
    let output = |pattern| refusal([kind("output"), ("pattern", pattern)]);
    assert_eq!(refusal([kind("output")]), "readiness.pattern is required and must be a string");
    assert_eq!(output(text("")), "readiness.pattern must not be empty");
    assert_eq!(output(Bool(true)), "readiness.pattern must be a string, got a boolean");
    assert_eq!(
        output(BuiltIn("a RegExp".to_owned())),
        "readiness.pattern must be a string, got a RegExp: give its source, as in /ready/.source"
    );
    assert_eq!(output(text("x".repeat(1025))), "readiness.pattern must be at most 1024 bytes long, got 1025");
    let stream = refusal([kind("output"), ("pattern", text("x")), ("stream", text("stdin"))]);
    assert_eq!(stream, "readiness.stream must be one of 'stdout', 'stderr'");
}

#[test]
fn output_pattern_is_compiled_with_the_configuration() {
    for pattern in ["ready", "^ready$", r"\bport \d{1,5}\b", "(?i)listening on", "[[:alpha:]]+", "é|ß", "a{1,100}", r"\[::\]", "(?x) a b"]
    {
        assert_eq!(Pattern::compile(pattern).err(), None, "{pattern}");
    }
    // A pattern of the greatest length fits, if it repeats nothing.
    assert_eq!(Pattern::compile(&"x".repeat(1024)).err(), None);
    // The last two are too large.
    for pattern in ["(", "a{2,1}", r"(a)\1", "(?=a)", "(?<!a)b", r"\p{Greek}", "*", "(a{100}){100}", r"(\w{1,200}){20}"] {
        let text = refusal([kind("output"), ("pattern", text(pattern))]);
        assert!(text.starts_with("readiness.pattern must be a regular expression without lookaround and backreferences: "), "{text}");
        assert!(!text.contains(pattern) || pattern.len() < 3, "the pattern stays out: {text}");
    }
}

#[test]
fn key_of_another_probe_is_unknown() {
    let all = ["path", "host", "port", "status", "command", "args", "pattern", "stream"];
    let tables: [(&str, &[&str]); 4] =
        [("listen", &[]), ("tcp", &["host", "port"]), ("http", &["path", "host", "port", "status"]), ("output", &["pattern", "stream"])];
    for (name, own) in tables {
        let mut raw = with(minimal(), "readiness.type", text(name));
        for key in all {
            let value = match key {
                "port" => Number(80.0),
                "path" => text("/"),
                "status" => Number(200.0),
                "stream" => text("stdout"),
                _ => text("x"),
            };
            raw = with(raw, &format!("readiness.{key}"), value);
        }
        let unknown = parse(&raw).unwrap().unknown;
        let expected: Vec<String> = all.iter().filter(|key| !own.contains(key)).map(|key| format!("readiness.{key}")).collect();
        assert_eq!(unknown, expected, "{name}");
    }
}

#[test]
fn socket_is_needed_only_if_a_probe_of_readiness_or_health_looks_there() {
    let port = || object([kind("tcp"), ("port", Number(80.0))]);
    let needed = |readiness: Raw, probe: Option<Raw>| {
        let raw = with(minimal(), "readiness", readiness);
        let raw = match probe {
            Some(probe) => with(with(raw, "healthcheck", health()), "healthcheck.probe", probe),
            None => raw,
        };
        parse(&raw).unwrap().config.needed_socket().is_some()
    };
    for name in ["listen", "socket", "accept", "http"] {
        assert!(needed(object([kind(name)]), None), "{name}");
        assert!(needed(port(), Some(object([kind(name)]))), "health {name}");
    }
    for other in [port(), object([kind("http"), ("port", Number(80.0))]), object([kind("output"), ("pattern", text("x"))])] {
        assert!(!needed(other.clone(), None), "{other:?}");
        assert!(!needed(other.clone(), Some(port())), "{other:?}");
        // The default health probe is `socket`.
        assert!(needed(other, Some(Null)));
    }
}

#[test]
fn host_that_needs_no_lookup_has_its_addresses() {
    let known = |host: &str| tcp(host, 80).known().map(|known| known.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(" "));
    assert_eq!(known("localhost").as_deref(), Some("127.0.0.1:80 [::1]:80"));
    assert_eq!(known("LocalHost").as_deref(), Some("127.0.0.1:80 [::1]:80"));
    assert_eq!(known("127.0.0.2").as_deref(), Some("127.0.0.2:80"));
    assert_eq!(known("::1").as_deref(), Some("[::1]:80"));
    assert_eq!(known("[::1]").as_deref(), Some("[::1]:80"));
    assert_eq!(known("example.org"), None);
}

#[test]
fn output_pattern_matches_as_without_its_search_for_a_literal() {
    let matches = |pattern: &str, line: &str| Pattern::compile(pattern).unwrap().is_match(line);
    for (pattern, line) in [
        ("ready", "it is ready."),
        ("ready now?", "ready no"),
        ("ready*", "read"),
        ("ready{0,2}", "read"),
        ("ready+", "readyy"),
        ("ready|done", "done"),
        ("(?i)ready", "READY"),
        ("^ready", "ready"),
        ("port: \\d+$", "port: 80"),
        ("ready.", "ready!"),
    ] {
        assert!(matches(pattern, line), "{pattern} {line}");
    }
    for (pattern, line) in [("ready", "read"), ("^ready", "it is ready"), ("ready.", "ready"), ("port: \\d+$", "port: x")] {
        assert!(!matches(pattern, line), "{pattern} {line}");
    }
}
