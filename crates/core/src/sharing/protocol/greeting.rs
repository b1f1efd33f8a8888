//! The first frame in each direction. All builds share its format, for ever: the greeting of guardian and owner
//! ([`Hello`]), with a few bytes behind it.

use std::time::Duration;

use ally_base::wire::{BadFrame, FrameBuffer, Hello};

/// The bytes that are read before a greeting is complete.
pub const GREETING_MAX: usize = 4096;

/// Behind the greeting of a host that makes room comes text, up to its end: what it could not end. So many bytes at most.
pub const LEFT_MAX: usize = 4096;

/// The time for a host whose greeting has none.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// What a client asks with its greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// To be a session.
    Session,
    /// To be this session again. A host that does not know it takes the client for another one.
    Resume(u64),
    /// To end every daemon, whoever has it.
    End,
    /// To look at the plugins. A host of another build makes no room for that.
    Look,
}

/// What the host answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// `token`: by which a client resumes the session.
    Welcome { token: u64 },
    /// The host ends everything. The client waits as for a dead owner: the host is gone within this time.
    MakesRoom { within: Duration },
    /// The client is of another build, and so many sessions hold daemons.
    OtherBuild { sessions: u32 },
    /// The client is outside of the host's sandbox, or the other way round. The text says what differs.
    Outside { difference: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientGreeting {
    pub hello: Hello,
    pub ask: Ask,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostGreeting {
    pub hello: Hello,
    pub verdict: Verdict,
}

const SESSION: u8 = 0;
const END: u8 = 1;
const LOOK: u8 = 2;
const WELCOME: u8 = 0;
const MAKES_ROOM: u8 = 1;
const OTHER_BUILD: u8 = 2;
const OUTSIDE: u8 = 3;

impl ClientGreeting {
    pub fn encode(&self) -> Vec<u8> {
        let rest = match self.ask {
            Ask::Session => vec![SESSION],
            Ask::Resume(token) => [&[SESSION][..], &token.to_le_bytes()].concat(),
            Ask::End => vec![END],
            Ask::Look => vec![LOOK],
        };
        encode(&self.hello, &rest)
    }

    /// `None` while the greeting is incomplete.
    ///
    /// # Errors
    /// The bytes are no greeting.
    pub fn take_from(buffer: &mut FrameBuffer) -> Result<Option<Self>, BadFrame> {
        let Some((hello, rest)) = Hello::take_with_rest(buffer)? else { return Ok(None) };
        let ask = match rest.split_first() {
            Some((&END, _)) => Ask::End,
            Some((&LOOK, _)) => Ask::Look,
            Some((&SESSION, token)) => token.first_chunk().map_or(Ask::Session, |bytes| Ask::Resume(u64::from_le_bytes(*bytes))),
            _ => Ask::Session,
        };
        Ok(Some(Self { hello, ask }))
    }
}

impl HostGreeting {
    pub fn encode(&self) -> Vec<u8> {
        let rest = match &self.verdict {
            Verdict::Welcome { token } => [&[WELCOME][..], &token.to_le_bytes()].concat(),
            Verdict::MakesRoom { within } => {
                let within = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
                [&[MAKES_ROOM][..], &within.to_le_bytes()].concat()
            }
            Verdict::OtherBuild { sessions } => [&[OTHER_BUILD][..], &sessions.to_le_bytes()].concat(),
            Verdict::Outside { difference } => [&[OUTSIDE][..], difference.as_bytes()].concat(),
        };
        encode(&self.hello, &rest)
    }

    /// `None` while the greeting is incomplete.
    ///
    /// # Errors
    /// The bytes are no greeting.
    pub fn take_from(buffer: &mut FrameBuffer) -> Result<Option<Self>, BadFrame> {
        let Some((hello, rest)) = Hello::take_with_rest(buffer)? else { return Ok(None) };
        let verdict = match rest.split_first() {
            None => Verdict::Welcome { token: 0 },
            Some((&WELCOME, token)) => Verdict::Welcome { token: token.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)) },
            Some((&MAKES_ROOM, within)) => {
                let within = within.first_chunk().map(|bytes| Duration::from_millis(u32::from_le_bytes(*bytes).into()));
                Verdict::MakesRoom { within: within.unwrap_or(ENDS_WITHIN) }
            }
            Some((&OTHER_BUILD, sessions)) => {
                Verdict::OtherBuild { sessions: sessions.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)) }
            }
            Some((&OUTSIDE, text)) => Verdict::Outside { difference: String::from_utf8_lossy(text).into_owned() },
            // Of a later build.
            Some(_) => return Err(BadFrame),
        };
        Ok(Some(Self { hello, verdict }))
    }
}

fn encode(hello: &Hello, rest: &[u8]) -> Vec<u8> {
    let mut frame = hello.encode();
    frame.extend(rest);
    let length = u32::try_from(frame.len() - Hello::PREFIX).unwrap_or(u32::MAX);
    frame[Hello::PREFIX - 4..Hello::PREFIX].copy_from_slice(&length.to_le_bytes());
    frame
}
