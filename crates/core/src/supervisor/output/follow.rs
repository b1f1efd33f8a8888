//! Followers of a daemon's output: `logs()`. A follower gets the lines of the tail, and then each new line. The tail fills a
//! bounded queue, and the reader empties it, so neither waits for the other.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::lines::Splitter;
use crate::model::{Pid, Stream};
use crate::supervisor::report::{Mailbox, Message};

/// The bounds of one queue. The whole tail fits.
const LINES_MAX: usize = 4_000;
const BYTES_MAX: usize = 512 * 1024;
/// The bounds of a queue that is to have what the tail keeps, and no more.
const NEWEST_LINES_MAX: usize = 1_000;
const NEWEST_BYTES_MAX: usize = 256 * 1024;

/// The number of a follower within this process.
pub type FollowerId = u64;

#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub stream: Stream,
    pub text: String,
    /// The position behind it in the output of its stream, which grows from line to line.
    pub end: u64,
    /// The time of the read(2) that completed the line, in milliseconds since 1970.
    pub at: f64,
    /// The number of the process in the tail.
    pub process: u64,
    /// The leader. `None` as long as the keeper has not reported it.
    pub pid: Option<Pid>,
}

/// The oldest lines of a queue.
#[derive(Debug, Default, PartialEq)]
pub struct Batch {
    /// The number of the output that the lines are of, within this process.
    pub output: u64,
    /// The number of lines that were dropped before these, because the queue was full.
    pub dropped: u64,
    pub lines: Vec<Line>,
    /// Whether no line will follow.
    pub ended: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Wants {
    /// Each line, as far as the queue has room.
    #[default]
    All,
    /// No more than what the tail keeps.
    Newest,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Line>,
    bytes: usize,
    dropped: u64,
    /// Whether the reader waits for a message.
    wanted: bool,
    /// The number of the output that is followed.
    output: u64,
    /// Whether no further line will come.
    ended: bool,
    wants: Wants,
    /// More came than the tail keeps. The tail feeds this follower no further: its reader follows the tail anew.
    parted: bool,
}

impl Queue {
    /// A line waits until its pid is known.
    fn is_ready(&self) -> bool {
        self.parted || self.lines.front().map_or(self.ended, |line| line.pid.is_some())
    }

    /// Whether everything in the queue will be gone from the tail, or is there as well, when the reader comes.
    fn exceeds_tail(&self) -> bool {
        self.wants == Wants::Newest && (self.lines.len() > NEWEST_LINES_MAX || (self.bytes > NEWEST_BYTES_MAX && self.lines.len() > 1))
    }
}

pub struct Follower {
    pub id: FollowerId,
    /// Whether it gets new lines, and not only those that were kept.
    live: bool,
    mailbox: Arc<Mailbox>,
    queue: Mutex<Queue>,
}

impl Follower {
    pub fn new(live: bool, mailbox: &Arc<Mailbox>) -> Arc<Self> {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let queue = Mutex::new(Queue { ended: !live, ..Queue::default() });
        Arc::new(Self { id: IDS.fetch_add(1, Ordering::Relaxed), live, mailbox: Arc::clone(mailbox), queue })
    }

    /// Asks for a message as soon as there is a line or the end.
    pub fn want(&self) {
        let mut queue = self.lock();
        queue.wanted = true;
        self.wake(queue);
    }

    pub fn take(&self, most: usize) -> Batch {
        let mut queue = self.lock();
        let ready = queue.lines.iter().take(most).take_while(|line| line.pid.is_some()).count();
        let lines: Vec<Line> = queue.lines.drain(..ready).collect();
        queue.bytes -= lines.iter().map(|line| line.text.len()).sum::<usize>();
        let dropped = if lines.is_empty() { 0 } else { std::mem::take(&mut queue.dropped) };
        Batch { output: queue.output, dropped, lines, ended: queue.ended && queue.lines.is_empty() }
    }

    /// Whether the reader is to get what the tail keeps, and no more. A flood then costs no line in between: the follower parts
    /// from the tail, and [`Tail::follow`](super::Tail::follow) gives it what is kept later.
    pub fn keep_newest(&self, on: bool) {
        self.lock().wants = if on { Wants::Newest } else { Wants::All };
    }

    /// Whether lines came that the reader gets by following the tail anew. It is then as before its first line.
    pub fn take_parted(&self) -> bool {
        std::mem::take(&mut self.lock().parted)
    }

    /// The lines that come next are of this output.
    pub(super) fn follows(&self, output: u64) {
        self.lock().output = output;
    }

    pub(super) const fn is_live(&self) -> bool {
        self.live
    }

    /// Whether a line waits for its pid.
    pub(super) fn lacks_pid(&self) -> bool {
        self.lock().lines.iter().any(|line| line.pid.is_none())
    }

    /// If the queue is full, its oldest lines are dropped and counted. Returns whether the follower gets what follows.
    pub(super) fn push(&self, lines: impl IntoIterator<Item = Line>) -> bool {
        let mut queue = self.lock();
        if queue.parted {
            return false;
        }
        for line in lines {
            queue.bytes += line.text.len();
            queue.lines.push_back(line);
            while queue.lines.len() > LINES_MAX || (queue.bytes > BYTES_MAX && queue.lines.len() > 1) {
                let Some(oldest) = queue.lines.pop_front() else { break };
                queue.bytes -= oldest.text.len();
                queue.dropped += 1;
            }
            if queue.exceeds_tail() {
                queue.lines = VecDeque::new();
                (queue.bytes, queue.dropped, queue.parted) = (0, 0, true);
                self.wake(queue);
                return false;
            }
        }
        self.wake(queue);
        true
    }

    /// Puts lines in front of those that wait, if the follower has taken them. They are at most what the tail keeps.
    pub(super) fn put_back(&self, output: u64, lines: impl Iterator<Item = Line>) {
        let mut queue = self.lock();
        // One that has parted gets everything anew.
        if queue.parted || queue.output != output {
            return;
        }
        let first = |stream| queue.lines.iter().find(|line| line.stream == stream).map_or(u64::MAX, |line| line.end);
        let firsts = [Stream::Stdout, Stream::Stderr].map(first);
        let taken: Vec<Line> = lines.filter(|line| line.end < firsts[line.stream as usize]).collect();
        for line in taken.into_iter().rev() {
            queue.bytes += line.text.len();
            queue.lines.push_front(line);
        }
    }

    pub(super) fn name_process(&self, process: u64, pid: Pid) {
        let mut queue = self.lock();
        for line in queue.lines.iter_mut().filter(|line| line.process == process) {
            line.pid = Some(pid);
        }
        self.wake(queue);
    }

    fn end(&self) {
        let mut queue = self.lock();
        queue.ended = true;
        self.wake(queue);
    }

    fn wake(&self, mut queue: MutexGuard<'_, Queue>) {
        if queue.wanted && queue.is_ready() {
            queue.wanted = false;
            drop(queue);
            self.mailbox.post(Message::Lines { follower: self.id });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The live followers of one tail. Exists only while there is one, because output is split into lines for them.
pub struct Following {
    followers: Vec<Weak<Follower>>,
    /// Per stream: what is behind the last newline.
    splitters: [Splitter; 2],
}

impl Following {
    pub const fn new(splitters: [Splitter; 2]) -> Self {
        Self { followers: Vec::new(), splitters }
    }

    pub fn add(&mut self, follower: &Arc<Follower>) {
        self.followers.push(Arc::downgrade(follower));
    }

    /// `line`: gives a text and its end their stream, time and process.
    pub fn feed(&mut self, stream: Stream, bytes: &[u8], line: impl Fn(String, u64) -> Line) {
        let mut lines = Vec::new();
        self.splitters[stream as usize].feed(bytes, |text, end| lines.push(line(text, end)));
        self.tell(lines);
    }

    /// A text without a newline becomes a line.
    pub fn end_line(&mut self, stream: Stream, line: impl Fn(String, u64) -> Line) {
        let lines = self.splitters[stream as usize].rest().map(|(text, end)| line(text, end));
        self.tell(lines.into_iter().collect());
    }

    pub fn name_process(&mut self, process: u64, pid: Pid) {
        self.each(|follower| {
            follower.name_process(process, pid);
            true
        });
    }

    pub fn end(&mut self) {
        self.each(|follower| {
            follower.end();
            true
        });
    }

    /// Whether every follower is gone, as far as is known since the last line.
    pub fn is_over(&self) -> bool {
        self.followers.is_empty()
    }

    /// Whether a follower is there.
    pub fn is_followed(&self) -> bool {
        self.followers.iter().any(|follower| follower.strong_count() > 0)
    }

    fn tell(&mut self, lines: Vec<Line>) {
        // Also without a line, so that a follower that is gone is noticed.
        self.each(|follower| lines.is_empty() || follower.push(lines.iter().cloned()));
    }

    /// `act`: returns whether the follower stays.
    fn each(&mut self, act: impl Fn(&Follower) -> bool) {
        self.followers.retain(|follower| follower.upgrade().is_some_and(|follower| act(&follower)));
    }
}
