//! Names of signals and errnos, and text without control characters.

use std::fmt;

/// `text` without the characters that could change how a terminal or a log shows the rest: control characters, escape
/// sequences, line separators, and format characters such as direction marks. A tab becomes a blank.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '\t' => shown.push(' '),
            '\u{1b}' if rest.next_if_eq(&'[').is_some() => {
                // ECMA-48: parameter bytes, intermediate bytes, one final byte.
                while rest.next_if(|byte| matches!(byte, ' '..='?')).is_some() {}
                rest.next_if(|byte| matches!(byte, '@'..='~'));
            }
            hidden if hidden.is_control() || is_format(hidden) => {}
            other => shown.push(other),
        }
    }
    shown
}

/// As [`printable`], for a text of several lines.
pub fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// Shows a text as [`printable`] does. The work is done only if the text is shown.
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(self.0))
    }
}

/// The general categories Cf, Zl and Zp of Unicode. Direction marks reorder the text on the screen, and so can hide its meaning.
const fn is_format(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2064}'
            | '\u{2066}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0001}'
            | '\u{e0020}'..='\u{e007f}'
    )
}

/// For example `ENOENT`.
pub fn errno_name(errno: i32) -> String {
    format!("{:?}", nix::errno::Errno::from_raw(errno))
}

/// For example `SIGTERM`. A real-time signal or an unknown number is `signal N`.
pub fn signal_name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |known| known.as_str().to_owned())
}

/// For example `ENOENT: No such file or directory`.
pub fn errno_text(errno: i32) -> String {
    let known = nix::errno::Errno::from_raw(errno);
    format!("{known:?}: {}", known.desc())
}

/// As [`errno_text`]. The `Display` text of an `io::Error` ends in "(os error 2)" and lacks the errno's name.
pub fn io_text(error: &std::io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), errno_text)
}
