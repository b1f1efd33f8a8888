//! `logs()`: the lines that are kept, and each line after them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ally_core::model::Stream::{self, Stderr, Stdout};
use ally_core::supervisor::{Batch, Follower, Line, Mailbox, Message, Tail};
use proptest::collection::vec;
use proptest::prelude::*;

const PID: i32 = 4_242;

struct Reader {
    mailbox: Arc<Mailbox>,
    follower: Arc<Follower>,
    wakes: Arc<AtomicUsize>,
}

impl Reader {
    fn new(tail: &Tail, count: usize, live: bool) -> Self {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&wakes);
        let mailbox = Arc::new(Mailbox::new(Box::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        })));
        let follower = Follower::new(live, &mailbox);
        tail.follow(count, &follower);
        Self { mailbox, follower, wakes }
    }

    fn texts(&self) -> Vec<String> {
        self.all().into_iter().map(|line| line.text).collect()
    }

    fn all(&self) -> Vec<Line> {
        self.follower.take(usize::MAX).lines
    }
}

/// A tail with a process whose pid is known.
fn running() -> (Tail, u64) {
    let tail = Tail::default();
    let process = tail.begin();
    tail.name_process(process, PID);
    (tail, process)
}

#[test]
fn logs_have_stream_time_and_pid_also_across_processes() {
    let (tail, first) = running();
    tail.append_at(first, Stdout, b"one\ntwo\nthr", 1_000.0);
    tail.append_at(first, Stderr, b"fault\n", 2_000.5);
    tail.append_at(first, Stdout, b"ee\n", 3_000.0);
    let live = Reader::new(&tail, 1_000, true);
    tail.append_at(first, Stdout, b"unfinished", 4_000.0);
    tail.end(first);
    let second = tail.begin();
    tail.name_process(second, PID + 1);
    tail.append_at(second, Stdout, b"again\n", 5_000.0);
    let expected = [
        ("one", Stdout, 1_000.0, PID),
        ("two", Stdout, 1_000.0, PID),
        ("fault", Stderr, 2_000.5, PID),
        ("three", Stdout, 3_000.0, PID),
        ("unfinished", Stdout, 4_000.0, PID),
        ("again", Stdout, 5_000.0, PID + 1),
    ];
    // "one", "two", "fault", "three", "unfinished", "again".
    let ends = [4, 8, 6, 14, 24, 30];
    for reader in [live, Reader::new(&tail, 1_000, false), Reader::new(&tail, 1_000, true)] {
        let lines = reader.all();
        assert_eq!(lines.iter().map(|line| line.end).collect::<Vec<_>>(), ends);
        let seen: Vec<_> = lines.iter().map(|line| (line.text.as_str(), line.stream, line.at, line.pid.unwrap())).collect();
        assert_eq!(seen, expected);
    }
}

#[test]
fn logs_times_survive_a_line_a_millisecond() {
    let (tail, process) = running();
    for number in 0..5_000_u32 {
        tail.append_at(process, Stdout, format!("{number}\n").as_bytes(), f64::from(number));
    }
    let lines = Reader::new(&tail, 1_000, false).all();
    assert_eq!(lines.len(), 1_000);
    assert!(lines.iter().all(|line| line.text == line.at.to_string()), "{:?}", lines.first());
}

#[test]
fn logs_lines_limits_what_is_kept_and_not_what_follows() {
    let (tail, process) = running();
    tail.append(process, Stdout, b"a\nb\nc\nopen");
    assert_eq!(Reader::new(&tail, 2, false).texts(), ["c", "open"]);
    let reader = Reader::new(&tail, 0, true);
    assert_eq!(reader.texts(), [""; 0]);
    tail.append(process, Stdout, b"ed\nd\n");
    assert_eq!(reader.texts(), ["opened", "d"], "a line that was open at the beginning comes whole, and once");
}

#[test]
fn logs_follower_of_a_flood_loses_the_oldest_lines_and_counts_them() {
    let (tail, process) = running();
    let reader = Reader::new(&tail, 1_000, true);
    for number in 0..10_000 {
        tail.append(process, Stdout, format!("{number}\n").as_bytes());
    }
    let Batch { dropped, lines, ended, .. } = reader.follower.take(usize::MAX);
    assert_eq!((dropped, lines.len(), ended), (6_000, 4_000, false));
    assert_eq!((lines[0].text.as_str(), lines[3_999].text.as_str()), ("6000", "9999"));
    // By bytes.
    for _ in 0..100 {
        tail.append(process, Stdout, format!("{:060000}\n", 0).as_bytes());
    }
    let batch = reader.follower.take(usize::MAX);
    assert_eq!((batch.dropped, batch.lines.len()), (92, 8));
}

#[test]
fn logs_message_comes_once_for_each_want() {
    let (tail, process) = running();
    let reader = Reader::new(&tail, 1_000, true);
    tail.append(process, Stdout, b"one\n");
    assert!(reader.mailbox.take().is_empty(), "nobody has asked");
    reader.follower.want();
    tail.append(process, Stdout, b"two\n");
    assert_eq!(reader.mailbox.take(), [Message::Lines { follower: reader.follower.id }]);
    assert_eq!(reader.texts(), ["one", "two"]);
    reader.follower.want();
    assert!(reader.mailbox.take().is_empty());
    tail.append(process, Stdout, b"thr");
    assert!(reader.mailbox.take().is_empty(), "no line is complete");
    tail.append(process, Stdout, b"ee\n");
    assert_eq!(reader.mailbox.take().len(), 1);
    assert_eq!(reader.wakes.load(Ordering::Relaxed), 2);
}

#[test]
fn logs_line_waits_for_its_pid() {
    let tail = Tail::default();
    let process = tail.begin();
    let [live, kept] = [true, false].map(|live| {
        let reader = Reader::new(&tail, 1_000, live);
        reader.follower.want();
        reader
    });
    tail.append(process, Stdout, b"early\n");
    let late = Reader::new(&tail, 1_000, false);
    assert_eq!((live.texts(), late.texts()), (vec![], vec![]));
    assert!(live.mailbox.take().is_empty());
    assert!(kept.follower.take(usize::MAX).ended, "nothing was kept when it came");
    late.follower.want();
    tail.name_process(process, PID);
    for reader in [&live, &late] {
        assert_eq!(reader.mailbox.take().len(), 1);
        assert_eq!(reader.all()[0].pid, Some(PID));
    }

    // The keeper was killed before its report.
    let process = tail.begin();
    tail.append(process, Stdout, b"orphaned\n");
    assert_eq!(live.texts(), [""; 0]);
    tail.end(process);
    assert_eq!(live.all()[0].pid, Some(0));
}

#[test]
fn logs_end_with_the_tail_after_the_last_line() {
    let (tail, process) = running();
    let reader = Reader::new(&tail, 1_000, true);
    tail.append(process, Stdout, b"last\n");
    tail.close();
    let batch = reader.follower.take(usize::MAX);
    assert_eq!((batch.lines.len(), batch.ended), (1, true));
    reader.follower.want();
    assert_eq!(reader.mailbox.take().len(), 1);
}

#[derive(Debug, Clone)]
enum Step {
    /// By the newest process, or by the one beside it.
    Append(bool, bool, &'static str),
    EndLine(bool, bool),
    Begin,
    /// An upgrade: the newest process goes on beside the next one.
    BeginBeside,
    EndFormer,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let text = prop_oneof![Just("a"), Just("b\n"), Just("\n"), Just("c\nd"), Just("e\r\n"), Just("\r"), Just("f\ng\n")];
    let step = prop_oneof![
        12 => (any::<bool>(), any::<bool>(), text).prop_map(|(former, err, text)| Step::Append(former, err, text)),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(former, err)| Step::EndLine(former, err)),
        1 => Just(Step::Begin),
        2 => Just(Step::BeginBeside),
        1 => Just(Step::EndFormer),
    ];
    vec(step, 0..40)
}

const fn stream(err: bool) -> Stream {
    if err { Stderr } else { Stdout }
}

/// Writes as one or two processes of a plugin do.
struct Writers {
    newest: u64,
    former: Option<u64>,
}

impl Writers {
    fn act(&mut self, tail: &Tail, step: &Step) {
        let of = |former: bool, writers: &Self| writers.former.filter(|_| former).unwrap_or(writers.newest);
        match step {
            Step::Append(former, err, text) => {
                tail.append(of(*former, self), stream(*err), text.as_bytes());
            }
            Step::EndLine(former, err) => tail.end_line(of(*former, self), stream(*err)),
            Step::Begin => {
                *self = Self { newest: tail.begin(), former: None };
                tail.name_process(self.newest, PID);
            }
            Step::BeginBeside => {
                self.end_former(tail);
                *self = Self { newest: tail.begin_beside(), former: Some(self.newest) };
                tail.name_process(self.newest, PID);
            }
            Step::EndFormer => self.end_former(tail),
        }
    }

    /// As the pipes of a process are ended.
    fn end_former(&mut self, tail: &Tail) {
        if let Some(former) = self.former.take() {
            [Stdout, Stderr].into_iter().for_each(|stream| tail.end_line(former, stream));
            tail.end(former);
        }
    }
}

/// The lines of each stream in order, with their process and their end. Each ends behind the one before it.
fn by_stream(lines: &[Line]) -> [Vec<(u64, u64, String)>; 2] {
    let of = |stream| lines.iter().filter(move |line| line.stream == stream);
    for stream in [Stdout, Stderr] {
        assert!(of(stream).is_sorted_by(|one, next| one.end < next.end), "{lines:?}");
    }
    [Stdout, Stderr].map(|stream| of(stream).map(|line| (line.process, line.end, line.text.clone())).collect())
}

proptest! {
    /// Followers that come at any moment, and leave and come again, see the same lines, each once.
    #[test]
    fn logs_have_no_gap_and_no_line_twice(steps in vec(steps(), 1..4)) {
        let (tail, process) = running();
        let mut writers = Writers { newest: process, former: None };
        let first = Reader::new(&tail, 1_000, true);
        let mut others = Vec::new();
        let mut shortly = None;
        for (index, part) in steps.iter().enumerate() {
            part.iter().for_each(|step| writers.act(&tail, step));
            others.push(Reader::new(&tail, 1_000, true));
            shortly = Some(Reader::new(&tail, 0, true)).filter(|_| index % 2 == 0);
        }
        drop(shortly);
        tail.begin();
        let expected = by_stream(&first.all());
        for reader in others.iter().chain([&Reader::new(&tail, 1_000, false)]) {
            prop_assert_eq!(by_stream(&reader.all()), expected.clone());
        }
    }

    /// As above, without a follower from the beginning: the first one begins with what the tail has.
    #[test]
    fn logs_of_the_first_follower_are_those_of_the_tail(before in steps(), after in steps()) {
        let (tail, process) = running();
        let mut writers = Writers { newest: process, former: None };
        let mut reader = None;
        for (index, step) in before.iter().chain(&after).enumerate() {
            if index == before.len() {
                reader = Some(Reader::new(&tail, 1_000, true));
            }
            writers.act(&tail, step);
        }
        tail.begin();
        if let Some(reader) = reader {
            prop_assert_eq!(by_stream(&reader.all()), by_stream(&Reader::new(&tail, 1_000, false).all()));
        }
    }
}

#[test]
fn a_follower_that_keeps_the_newest_parts_from_a_flood_and_reads_the_tail_later() {
    let (tail, process) = running();
    let reader = Reader::new(&tail, 1_000, true);
    reader.follower.keep_newest(true);
    let print = |from: u32, to: u32| (from..to).for_each(|number| assert!(tail.append(process, Stdout, format!("{number}\n").as_bytes())));
    print(0, 1_000);
    assert!(!reader.follower.take_parted(), "as much as the tail keeps");
    assert_eq!(reader.texts().len(), 1_000);
    reader.follower.want();
    print(1_000, 2_500);
    assert_eq!(reader.mailbox.take().len(), 1, "one message for the first line, and none for those after it");
    let nothing = reader.follower.take(usize::MAX);
    assert_eq!(nothing, Batch { output: nothing.output, ..Batch::default() }, "what it has missed is not counted as dropped");
    assert!(!tail.is_followed(), "nothing is split into lines for it");
    tail.append(process, Stdout, b"half");
    assert!(reader.follower.take_parted());
    tail.follow(1_000, &reader.follower);
    let newest: Vec<String> = (1_500..2_500).map(|number| number.to_string()).collect();
    assert_eq!(reader.texts(), newest);
    tail.append(process, Stdout, b" a line\n");
    assert_eq!(reader.texts(), ["half a line"]);
    reader.follower.keep_newest(false);
    print(0, 2_000);
    assert_eq!(reader.texts().len(), 2_000);
}

#[test]
fn lines_that_were_lost_behind_a_follower_come_once_more_in_front_of_those_that_wait() {
    let (tail, process) = running();
    let reader = Reader::new(&tail, 1_000, true);
    tail.append(process, Stdout, b"one\ntwo\n");
    tail.append(process, Stderr, b"fault\n");
    assert_eq!(reader.texts(), ["one", "two", "fault"]);
    tail.append(process, Stdout, b"three\nfo");
    tail.repeat(1_000, &reader.follower);
    assert_eq!(reader.texts(), ["one", "two", "fault", "three"]);
    tail.append(process, Stdout, b"ur\n");
    tail.repeat(2, &reader.follower);
    assert_eq!(reader.texts(), ["three", "four"]);
    tail.repeat(0, &reader.follower);
    assert_eq!(reader.texts(), <[String; 0]>::default());
    // Of another output.
    Tail::default().repeat(1_000, &reader.follower);
    assert_eq!(reader.texts(), <[String; 0]>::default());
}

#[test]
fn what_a_slow_reader_has_lost_is_counted_also_when_lines_come_once_more() {
    let (tail, process) = running();
    let reader = Reader::new(&tail, 1_000, true);
    for number in 0..5_000_u32 {
        tail.append(process, Stdout, format!("{number}\n").as_bytes());
    }
    tail.repeat(1_000, &reader.follower);
    let Batch { dropped, lines, .. } = reader.follower.take(usize::MAX);
    assert_eq!((dropped, lines.len()), (1_000, 4_000));
}
