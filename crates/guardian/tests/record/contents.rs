//! Arbitrary contents of the files.

use ally_base::os;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::unrelated_process::UnrelatedProcess;

/// The content of a file. In a text, PID, START and BOOT stand for facts of the unrelated process, and OWN for this process's pid.
#[derive(Debug, Clone)]
pub enum Content {
    Bytes(Vec<u8>),
    Text(String),
}

impl Content {
    pub fn bytes(&self, unrelated: &UnrelatedProcess) -> Vec<u8> {
        let text = match self {
            Self::Bytes(bytes) => return bytes.clone(),
            Self::Text(text) => text,
        };
        let own = i32::try_from(std::process::id()).unwrap();
        let of = if text.contains("OWN") { own } else { unrelated.pid() };
        let facts = [
            ("PID", unrelated.pid().to_string()),
            ("OWN", own.to_string()),
            ("START", os::start_time(of).unwrap_or_default().to_string()),
            ("BOOT", os::boot_id().unwrap()),
        ];
        facts.iter().fold(text.clone(), |text, (word, fact)| text.replace(word, fact)).into_bytes()
    }
}

pub fn bytes() -> impl Strategy<Value = Content> {
    vec(any::<u8>(), 0..60).prop_map(Content::Bytes)
}

pub fn text(pattern: &'static str) -> impl Strategy<Value = Content> {
    pattern.prop_map(Content::Text)
}

pub fn pid_file() -> impl Strategy<Value = Content> {
    prop_oneof![1 => bytes(), 3 => text("[-+ 0]?(PID|PID|OWN|1|0|[0-9]{1,20})[\n x]{0,2}")]
}

/// Each field is mostly right. Never all fields are right, because that would be the record of an orphan.
pub fn identity() -> impl Strategy<Value = Content> {
    let word = |right: &'static str, wrong: &[&'static str]| prop_oneof![3 => Just(right), 1 => select(wrong.to_vec())];
    let title = word("ally-daemon 1", &["ally-daemon 2", ""]);
    let pid = word("PID", &["OWN", "-PID", "1", "0", "-1", "2147483647"]);
    let start = word("START", &["0", "1", "18446744073709551615"]);
    let boot = word("BOOT", &["BOOT ", "00000000-0000-0000-0000-000000000000 pid:[1]", ""]);
    let words = (title, pid, start, boot).prop_filter("not an orphan", |words| *words != ("ally-daemon 1", "PID", "START", "BOOT"));
    words.prop_map(|(title, pid, start, boot)| Content::Text(format!("{title}\npid {pid}\nstart {start}\nboot {boot}\n")))
}

pub fn note() -> impl Strategy<Value = Content> {
    prop_oneof![1 => bytes(), 3 => text("(owner|keeper|keeper|warden) (PID|PID|OWN|1|0|-1) (START|START|0) [0-9]{1,21}\n?")]
}

pub fn files() -> impl Strategy<Value = [Option<Content>; 3]> {
    let identity = prop_oneof![1 => bytes(), 4 => identity()];
    (option::of(pid_file()), option::weighted(0.7, identity), option::of(note())).prop_map(<[_; 3]>::from)
}

pub const NAMES: [&str; 3] = ["daemon.pid", "daemon.id", "daemon.lock"];
