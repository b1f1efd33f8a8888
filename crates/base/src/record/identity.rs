//! `daemon.id`: the identities of a daemon's leaders, one for each generation that lives.

/// The kernel reuses pids. Pid, start time and boot together name one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub leader: i32,
    /// As [`crate::os::Process::start`].
    pub start: u64,
    /// [`crate::os::boot_id`]: pid and start time are valid only in this boot and pid namespace.
    pub boot: String,
    /// The POSIX session that the keeper made.
    pub session: i32,
    /// The leader's process group at the start.
    pub group: i32,
    /// [`DAEMON_ID`] of the attempt. `None` in the record of an older version.
    pub token: Option<String>,
    /// `None` in the record of an older version.
    pub keeper: Option<i32>,
    /// The version of the package that wrote the record. `None` in the record of an older version.
    pub version: Option<String>,
    /// On SIGTERM of its own user the keeper ends its tree, within this grace period, also while the owner lives. `None` in the record
    /// of an older version, whose keeper does so after the owner's death only.
    pub grace_ms: Option<u64>,
}

/// The variable that carries an attempt's token to every process of its tree. A process that began with the token descends from
/// the attempt's leader, whatever its pid, its parent and its POSIX session.
pub const DAEMON_ID: &str = "ALLY_DAEMON_ID";

/// The version in a new record.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A token has 128 random bits.
pub const TOKEN_BYTES: usize = 16;

const TITLE: &str = "ally-daemon 1";

/// Before each line of a further generation. An older version does not know the word, and reads the first generation only.
const FURTHER: &str = "also ";

/// The text of a token: hexadecimal digits.
pub fn token_text(bytes: [u8; TOKEN_BYTES]) -> String {
    format!("{:032x}", u128::from_be_bytes(bytes))
}

fn is_token(text: &str) -> bool {
    text.len() == 2 * TOKEN_BYTES && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A number of a process, a group or a POSIX session.
fn number(text: &str) -> Option<i32> {
    text.parse().ok().filter(|number| *number > 1)
}

/// The identities in the text of a record, the serving generation first. Without those of which a line is missing or damaged.
pub fn parse_identities(text: &str) -> Vec<Identity> {
    let Some(first) = Identity::parse(text) else { return Vec::new() };
    let mut further: Vec<String> = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix(FURTHER)) {
        if line.starts_with("pid ") {
            further.push(format!("{TITLE}\n"));
        }
        if let Some(block) = further.last_mut() {
            block.extend([line, "\n"]);
        }
    }
    [first].into_iter().chain(further.iter().filter_map(|block| Identity::parse(block))).collect()
}

/// The text of a record.
pub fn identities_text(identities: &[Identity]) -> String {
    let Some((first, further)) = identities.split_first() else { return String::new() };
    let mut text = first.to_string();
    for line in further.iter().flat_map(|identity| identity.to_string().lines().skip(1).map(str::to_owned).collect::<Vec<_>>()) {
        text.extend([FURTHER, &line, "\n"]);
    }
    text
}

impl Identity {
    /// The first identity of a record. `None` if this package did not write `text`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != TITLE {
            return None;
        }
        let leader = number(lines.next()?.strip_prefix("pid ")?)?;
        let start = lines.next()?.strip_prefix("start ")?.parse().ok()?;
        let boot = lines.next()?.strip_prefix("boot ")?.to_owned();
        // In an older version the leader made the POSIX session and the group.
        let mut identity =
            Self { leader, start, boot, session: leader, group: leader, token: None, keeper: None, version: None, grace_ms: None };
        for line in lines {
            match line.split_once(' ') {
                Some(("session", text)) => identity.session = number(text)?,
                Some(("group", text)) => identity.group = number(text)?,
                Some(("keeper", text)) => identity.keeper = Some(number(text)?),
                Some(("token", text)) => identity.token = Some(Some(text).filter(|text| is_token(text))?.to_owned()),
                Some(("version", text)) => identity.version = Some(text.to_owned()),
                Some(("grace", text)) => identity.grace_ms = Some(text.parse().ok()?),
                // A line of a later version.
                _ => {}
            }
        }
        Some(identity)
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { leader, start, boot, session, group, token, keeper, version, grace_ms } = self;
        writeln!(f, "{TITLE}\npid {leader}\nstart {start}\nboot {boot}\nsession {session}\ngroup {group}")?;
        token.iter().try_for_each(|token| writeln!(f, "token {token}"))?;
        keeper.iter().try_for_each(|keeper| writeln!(f, "keeper {keeper}"))?;
        version.iter().try_for_each(|version| writeln!(f, "version {version}"))?;
        grace_ms.iter().try_for_each(|grace| writeln!(f, "grace {grace}"))
    }
}
