//! Names of signals and errnos, and text that a terminal can show.

/// Without control characters, which could rewrite the reader's terminal, and without the colours that
/// they introduce. A tab becomes a blank.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '\t' => shown.push(' '),
            '\u{1b}' if rest.next_if_eq(&'[').is_some() => {
                // Parameters, intermediates, one final byte (ECMA-48).
                while rest.next_if(|byte| matches!(byte, ' '..='?')).is_some() {}
                rest.next_if(|byte| matches!(byte, '@'..='~'));
            }
            // The marks that reverse the direction of text deceive as well.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            control if control.is_control() => {}
            other => shown.push(other),
        }
    }
    shown
}

/// `ENOENT`.
pub fn errno_name(errno: i32) -> String {
    format!("{:?}", nix::errno::Errno::from_raw(errno))
}

/// The name as `kill -l` has it; real-time signals and the unknown as `signal N`.
pub fn signal_name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |known| known.as_str().to_owned())
}

/// `ENOENT: No such file or directory`: the system's word with its name first.
pub fn errno_text(errno: i32) -> String {
    let known = nix::errno::Errno::from_raw(errno);
    format!("{known:?}: {}", known.desc())
}

/// The same for an `io::Error`, whose own text ends in "(os error 2)" and lacks the name.
pub fn io_text(error: &std::io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), errno_text)
}
