//! The probes of readiness and of the health checks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::fields::{Checked, Fields};
use super::parse::args;
use super::pattern::Pattern;
use super::{Raw, SocketMaker};
use crate::model::Stream;

/// An answer outside this range fails. An answer has a status from 100 to 599: RFC 9110, section 15.
const STATUS_LEAST: u32 = 100;
const STATUS_MOST: u32 = 599;
const STATUS_SUCCESSFUL: (u32, u32) = (200, 299);
/// In bytes.
const PATTERN_MAX: usize = 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// The kernel shows that a process of the daemon listens at the socket. Nothing connects.
    Listen,
    /// connect(2) to the socket succeeds.
    Socket,
    /// connect(2) succeeds, and the daemon accepts the connection.
    Accept,
    /// GET is answered with a status of the range.
    Http(HttpProbe),
    /// A connection to the port succeeds.
    Tcp(TcpAddress),
    /// A command exits with 0.
    Exec { command: String, args: Vec<String> },
    /// The daemon sends READY=1, then WATCHDOG=1 in each interval: sd_notify(3).
    Notify,
    /// A line matches. Only for readiness.
    Output { pattern: String, stream: Option<Stream> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProbe {
    pub path: String,
    /// `None`: over the daemon's socket.
    pub address: Option<TcpAddress>,
    /// The lowest and the highest status that pass.
    pub status: (u32, u32),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpAddress {
    /// A name or an address. `localhost` is both ::1 and 127.0.0.1.
    pub host: String,
    pub port: u16,
}

impl TcpAddress {
    /// The addresses that the host stands for. `None` if the host is a name that must be looked up.
    pub fn known(&self) -> Option<Vec<SocketAddr>> {
        let ips: &[IpAddr] = if self.host.eq_ignore_ascii_case("localhost") {
            &[IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
        } else {
            let bare = self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&self.host);
            &[bare.parse().ok()?]
        };
        Some(ips.iter().map(|ip| SocketAddr::new(*ip, self.port)).collect())
    }
}

impl Probe {
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::Socket => "socket",
            Self::Accept => "accept",
            Self::Http(_) => "http",
            Self::Tcp(_) => "tcp",
            Self::Exec { .. } => "exec",
            Self::Notify => "notify",
            Self::Output { .. } => "output",
        }
    }

    /// The TCP port that the daemon must listen at to pass.
    pub const fn port(&self) -> Option<&TcpAddress> {
        match self {
            Self::Http(http) => http.address.as_ref(),
            Self::Tcp(address) => Some(address),
            Self::Listen | Self::Socket | Self::Accept | Self::Exec { .. } | Self::Notify | Self::Output { .. } => None,
        }
    }

    /// Whether the daemon must make a socket at `socketPath` to pass.
    pub const fn needs_socket(&self) -> bool {
        match self {
            Self::Listen | Self::Socket | Self::Accept => true,
            Self::Http(http) => http.address.is_none(),
            Self::Tcp(_) | Self::Exec { .. } | Self::Notify | Self::Output { .. } => false,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Listen,
    Socket,
    Accept,
    Http,
    Tcp,
    Exec,
    Notify,
    Output,
}

const EVERYWHERE: [(&str, Option<Kind>); 7] = [
    ("listen", Some(Kind::Listen)),
    ("socket", Some(Kind::Socket)),
    ("accept", Some(Kind::Accept)),
    ("http", Some(Kind::Http)),
    ("exec", Some(Kind::Exec)),
    ("notify", Some(Kind::Notify)),
    ("tcp", Some(Kind::Tcp)),
];

/// # Errors
/// The first wrong field.
pub fn readiness(fields: &mut Fields, socket: SocketMaker) -> Checked<Probe> {
    probe(fields, &[&EVERYWHERE[..], &[("output", Some(Kind::Output))]].concat(), socket)
}

/// # Errors
/// The first wrong field.
pub fn health(fields: &mut Fields, socket: SocketMaker) -> Checked<Probe> {
    probe(fields, &EVERYWHERE, socket)
}

fn probe(fields: &mut Fields, kinds: &[(&str, Option<Kind>)], socket: SocketMaker) -> Checked<Probe> {
    let kind = fields.choice("type", kinds)?.ok_or_else(|| fields.mistyped("type", "the name of a probe, as 'listen' or 'accept'"))?;
    let probe = read(fields, kind)?;
    if socket == SocketMaker::Manager && matches!(probe, Probe::Listen | Probe::Socket) {
        let problem = format!(
            "'{}' says nothing about the daemon here: with socket 'manager' the socket listens before the daemon exists; \
             use 'accept', 'http', 'notify' or 'exec'",
            probe.name()
        );
        return Err(fields.wrong("type", problem));
    }
    Ok(probe)
}

fn read(fields: &mut Fields, kind: Kind) -> Checked<Probe> {
    Ok(match kind {
        Kind::Listen => Probe::Listen,
        Kind::Socket => Probe::Socket,
        Kind::Accept => Probe::Accept,
        Kind::Http => Probe::Http(http(fields)?),
        Kind::Tcp => Probe::Tcp(TcpAddress { port: port(fields)?.ok_or_else(|| fields.missing("port", "a port"))?, host: host(fields)? }),
        Kind::Exec => Probe::Exec { command: fields.text("command")?, args: optional_args(fields)? },
        Kind::Notify => Probe::Notify,
        Kind::Output => Probe::Output { pattern: pattern(fields)?, stream: stream(fields)? },
    })
}

fn http(fields: &mut Fields) -> Checked<HttpProbe> {
    let path = if fields.is_absent("path") { "/".to_owned() } else { fields.text("path")? };
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(fields.wrong("path", "must begin with '/' and have neither spaces nor characters outside ASCII; escape them as %20"));
    }
    let address = match port(fields)? {
        Some(port) => Some(TcpAddress { port, host: host(fields)? }),
        None if fields.is_absent("host") => None,
        None => return Err(fields.wrong("host", "needs port: without it the request goes over socketPath")),
    };
    Ok(HttpProbe { path, address, status: status(fields)? })
}

fn status(fields: &mut Fields) -> Checked<(u32, u32)> {
    let wanted = format!("a status from {STATUS_LEAST} to {STATUS_MOST}, or the lowest and the highest");
    let Some(bounds) = fields.counts("status", &wanted)? else { return Ok(STATUS_SUCCESSFUL) };
    let [low, high] = match bounds[..] {
        [only] => [only, only],
        [low, high] => [low, high],
        _ => return Err(fields.wrong("status", format!("must be {wanted}"))),
    };
    if low < STATUS_LEAST || high > STATUS_MOST || low > high {
        return Err(fields.wrong("status", format!("must be {wanted}, got {low} to {high}")));
    }
    Ok((low, high))
}

fn port(fields: &mut Fields) -> Checked<Option<u16>> {
    match fields.number("port", 1.0, f64::from(u16::MAX))? {
        Some(port) if port.fract() != 0.0 => Err(fields.wrong("port", format!("must be a whole number, got {port}"))),
        port => Ok(port.map(|port| port as u16)),
    }
}

fn host(fields: &mut Fields) -> Checked<String> {
    if fields.is_absent("host") { Ok("localhost".to_owned()) } else { fields.text("host") }
}

fn optional_args(fields: &mut Fields) -> Checked<Vec<String>> {
    if fields.is_absent("args") { Ok(Vec::new()) } else { args(fields) }
}

fn pattern(fields: &mut Fields) -> Checked<String> {
    if matches!(fields.take("pattern"), Raw::BuiltIn(kind) if kind == "a RegExp") {
        return Err(fields.wrong("pattern", "must be a string, got a RegExp: give its source, as in /ready/.source"));
    }
    let pattern = fields.text("pattern")?;
    if pattern.len() > PATTERN_MAX {
        return Err(fields.wrong("pattern", format!("must be at most {PATTERN_MAX} bytes long, got {}", pattern.len())));
    }
    if let Err(problem) = Pattern::compile(&pattern) {
        return Err(fields.wrong("pattern", format!("must be a regular expression without lookaround and backreferences: {problem}")));
    }
    Ok(pattern)
}

fn stream(fields: &mut Fields) -> Checked<Option<Stream>> {
    fields.choice("stream", &[("stdout", Some(Stream::Stdout)), ("stderr", Some(Stream::Stderr))])
}
