//! Names of signals and errnos, and text without control characters.

/// `text` without control characters and escape sequences, which could rewrite a terminal. A tab becomes a blank.
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
            // Bidirectional marks reorder the text on the screen, and so can hide its meaning.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            control if control.is_control() => {}
            other => shown.push(other),
        }
    }
    shown
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
