//! The search for a line that matches a pattern: readiness `output`. It exists from the spawn until the end of the wait, so it
//! misses no line, and it never sees a line of an earlier process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use memchr::memchr;
use tokio::sync::Notify;

use super::lines::whole_characters;
use crate::config::{Pattern, Probe};
use crate::model::Stream;

/// The part of a line that is matched.
const LINE_MATCHED: usize = 4 * 1024;
/// Matching takes time of the thread that serves all daemons. If a daemon prints more than this in a period, or if its pattern
/// takes more time, the other lines of the period are not matched.
const BYTES_PER_PERIOD: usize = 1024 * 1024;
const TIME_PER_PERIOD: Duration = Duration::from_millis(200);
const PERIOD: Duration = Duration::from_secs(1);
/// A text without a newline counts as a line, like a prompt, if nothing follows for this time. Otherwise half of a write would
/// count, and `$` would match in the middle of a line.
const PROMPT_DELAY: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineSearch {
    Found,
    /// No line matches so far. With the time at which an unfinished line counts.
    Searching(Option<Instant>),
}

#[derive(Debug)]
pub struct LineMatch {
    /// False after the end of the search. Read for each piece of output, so it needs no lock.
    searching: AtomicBool,
    search: Mutex<Search>,
    changed: Notify,
}

#[derive(Debug)]
struct Search {
    /// `None` after the end of the search.
    pattern: Option<Pattern>,
    /// `None`: both streams.
    stream: Option<Stream>,
    unfinished: [Unfinished; 2],
    found: bool,
    /// Whether [`LineMatch::changed`] was called since the last [`LineMatch::look`].
    notified: bool,
    period: Period,
    matched: u64,
    skipped: u64,
}

/// The matching of about one second.
#[derive(Debug, Default)]
struct Period {
    /// `None` before the first line.
    since: Option<Instant>,
    bytes: usize,
    time: Duration,
}

/// The beginning of a line that has no newline yet.
#[derive(Debug, Default)]
struct Unfinished {
    /// At most [`LINE_MATCHED`].
    bytes: Vec<u8>,
    /// The matched part is complete, and was matched.
    is_full: bool,
    /// The time of the last byte, until the text was matched as a line.
    since: Option<Instant>,
}

impl LineMatch {
    /// `None` if the probe does not search, or if its pattern can't be compiled: the configuration has refused that one.
    pub fn of(probe: &Probe) -> Option<Self> {
        let Probe::Output { pattern, stream } = probe else { return None };
        let search = Search {
            pattern: Some(Pattern::compile(pattern).ok()?),
            stream: *stream,
            unfinished: Default::default(),
            found: false,
            notified: false,
            period: Period::default(),
            matched: 0,
            skipped: 0,
        };
        Some(Self { searching: AtomicBool::new(true), search: Mutex::new(search), changed: Notify::new() })
    }

    pub fn is_searching(&self) -> bool {
        self.searching.load(Ordering::Relaxed)
    }

    /// Output of the daemon, as it was read.
    pub fn feed(&self, stream: Stream, bytes: &[u8], now: Instant) {
        if self.is_searching() {
            self.step(|search| search.feed(stream, bytes, now));
        }
    }

    /// The stream has ended, or the leader has: what has no newline is a line.
    pub fn end_line(&self, stream: Stream, now: Instant) {
        if self.is_searching() {
            self.step(|search| search.match_unfinished(stream as usize, now));
        }
    }

    /// Ends the search.
    pub fn close(&self) {
        self.searching.store(false, Ordering::Relaxed);
        self.lock().end();
    }

    pub fn look(&self, now: Instant) -> LineSearch {
        self.step(|search| search.match_prompts(now));
        let mut search = self.lock();
        search.notified = false;
        if search.found {
            return LineSearch::Found;
        }
        let waiting = search.unfinished.iter().filter_map(|line| line.since).min();
        LineSearch::Searching(waiting.map(|since| since + PROMPT_DELAY))
    }

    /// Resolves when [`Self::look`] may tell something new.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Why the search has found nothing.
    pub fn problem(&self) -> String {
        let search = self.lock();
        let place = search.stream.map_or("stdout and stderr", Stream::as_str);
        let text = match search.matched {
            0 => format!("no line came on {place}"),
            1 => format!("the only line of {place} does not match"),
            matched => format!("none of {matched} lines of {place} matches"),
        };
        match search.skipped {
            0 => text,
            skipped => format!("{text}; {skipped} more were not matched: more than 1 MiB, or 200 ms of matching, in a second"),
        }
    }

    fn step(&self, step: impl FnOnce(&mut Search)) {
        let mut search = self.lock();
        step(&mut search);
        let is_due = search.found || search.unfinished.iter().any(|line| line.since.is_some());
        if search.found {
            self.searching.store(false, Ordering::Relaxed);
        }
        // Once per look: a flood must not wake the probe for each read.
        if is_due && !std::mem::replace(&mut search.notified, true) {
            drop(search);
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Search> {
        self.search.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Search {
    fn feed(&mut self, stream: Stream, mut bytes: &[u8], now: Instant) {
        if self.stream.is_some_and(|wanted| wanted != stream) {
            return;
        }
        let index = stream as usize;
        while !bytes.is_empty() && !self.found {
            let newline = memchr(b'\n', bytes);
            let (text, rest) = bytes.split_at(newline.unwrap_or(bytes.len()));
            bytes = rest.get(1..).unwrap_or_default();
            if newline.is_some() && self.unfinished[index].bytes.is_empty() {
                // The usual case, without a copy.
                self.match_line(text, now);
                continue;
            }
            let line = &mut self.unfinished[index];
            let room = LINE_MATCHED.saturating_sub(line.bytes.len());
            line.bytes.extend(text.get(..room).unwrap_or(text));
            if !line.is_full && !text.is_empty() {
                line.since = Some(now);
            }
            if newline.is_some() {
                self.match_unfinished(index, now);
                self.unfinished[index] = Unfinished::default();
            } else if self.unfinished[index].bytes.len() == LINE_MATCHED {
                self.match_unfinished(index, now);
                self.unfinished[index].is_full = true;
            }
        }
    }

    fn match_prompts(&mut self, now: Instant) {
        for index in 0..self.unfinished.len() {
            if self.unfinished[index].since.is_some_and(|since| now.duration_since(since) >= PROMPT_DELAY) {
                self.match_unfinished(index, now);
            }
        }
    }

    /// Matches the text without a newline as a line, unless it is known.
    fn match_unfinished(&mut self, index: usize, now: Instant) {
        let line = &mut self.unfinished[index];
        if line.since.take().is_some() {
            let bytes = std::mem::take(&mut line.bytes);
            self.match_line(&bytes, now);
            if !self.found {
                self.unfinished[index].bytes = bytes;
            }
        }
    }

    fn match_line(&mut self, line: &[u8], now: Instant) {
        let Some(pattern) = &self.pattern else { return };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = line.get(..LINE_MATCHED).map_or(line, |start| start.get(..whole_characters(start)).unwrap_or(start));
        if !self.period.admits(line.len(), now) {
            self.skipped += 1;
            return;
        }
        self.matched += 1;
        if !pattern.may_match(line) {
            return;
        }
        let begun = thread_time();
        let is_match = pattern.is_match(&String::from_utf8_lossy(line));
        self.period.time += thread_time().saturating_sub(begun);
        if is_match {
            self.found = true;
            self.end();
        }
    }

    fn end(&mut self) {
        self.pattern = None;
        self.unfinished = Default::default();
    }
}

impl Period {
    fn admits(&mut self, length: usize, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        if now.duration_since(since) >= PERIOD {
            *self = Self { since: Some(now), ..Self::default() };
        }
        if self.bytes + length >= BYTES_PER_PERIOD || self.time > TIME_PER_PERIOD {
            // A shorter line must not pass now: which lines are matched would be chance.
            self.bytes = BYTES_PER_PERIOD;
            return false;
        }
        // An empty line takes time too.
        self.bytes += length + 1;
        true
    }
}

/// The time that this thread has run. Time in which other threads ran instead does not count.
fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the place is writable.
    if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } != 0 {
        return Duration::ZERO;
    }
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}
