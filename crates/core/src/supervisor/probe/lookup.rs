//! The lookup of a host's name.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::supervisor::runtime::{Work, off_thread};
use ally_base::text::io_text;

/// Tries follow each other within milliseconds, and a name server must not be asked as often.
const LIFETIME: Duration = Duration::from_secs(1);

type Found = Result<Vec<IpAddr>, String>;

/// One lookup. If it takes longer than a try, the next try goes on with it.
#[derive(Debug)]
pub struct Lookup {
    host: String,
    thread: JoinHandle<io::Result<Vec<IpAddr>>>,
    found: Option<(Instant, Found)>,
}

impl Lookup {
    pub fn start(host: String) -> Self {
        let name = host.clone();
        // Port 0: only the addresses are wanted.
        let thread =
            tokio::spawn(off_thread(Work::LookUp, move || Ok((name.as_str(), 0).to_socket_addrs()?.map(|address| address.ip()).collect())));
        Self { host, thread, found: None }
    }

    /// False if the result is too old.
    pub fn is_of(&self, host: &str) -> bool {
        self.host == host && self.found.as_ref().is_none_or(|(at, _)| at.elapsed() < LIFETIME)
    }

    /// Cancel-safe: after a drop the lookup goes on.
    pub async fn ips(&mut self, deadline: Instant) -> Found {
        if let Some((_, found)) = &self.found {
            return found.clone();
        }
        let host = &self.host;
        let Ok(ended) = timeout_at(deadline, &mut self.thread).await else {
            return Err(format!("the name {host} is still being looked up"));
        };
        let found = match ended {
            Ok(Ok(ips)) => Ok(ips),
            Ok(Err(error)) => Err(format!("the name {host} can't be looked up: {}", io_text(&error))),
            Err(error) => Err(format!("the name {host} can't be looked up: {error}")),
        };
        self.found.insert((Instant::now(), found)).1.clone()
    }
}
