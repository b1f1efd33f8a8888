//! The log file of a daemon.

use std::path::{Path, PathBuf};

use super::fields::{Checked, Fields};

const MAX_SIZE: u64 = 10 * 1024 * 1024;
/// A smaller file would hold a few lines, and each would cost a rotation.
const MAX_SIZE_LEAST: f64 = 1024.0;
/// 2^53 - 1: a larger number of JavaScript is not exact.
const MAX_SIZE_MOST: f64 = 9_007_199_254_740_991.0;
const MAX_FILES: u32 = 5;
/// NAME_MAX of the common file systems, less what the names of older and unfinished files need beside it: `.`, `.1.gz.new` or a
/// number.
const NAME_MAX: usize = 240;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    pub file: PathBuf,
    pub max_size: u64,
    /// With the live file.
    pub max_files: u32,
    pub compress: bool,
}

impl LogConfig {
    pub fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("/"))
    }

    pub fn name(&self) -> &Path {
        self.file.file_name().map_or(Path::new(""), Path::new)
    }

    /// Whether one of the two would rename or write the other's files.
    pub fn collides(&self, other: &Self) -> bool {
        self.folder() == other.folder() && self.collides_in_one_folder(other)
    }

    /// As [`Self::collides`], for folders that are one folder, however their paths are written.
    pub fn collides_in_one_folder(&self, other: &Self) -> bool {
        let (own, others) = (self.name().as_os_str().as_encoded_bytes(), other.name().as_os_str().as_encoded_bytes());
        own == others || is_older_of(own, others) || is_older_of(others, own)
    }
}

/// Whether `name` is `live` with the ending of an older file: `.1` or `.1.gz`.
fn is_older_of(name: &[u8], live: &[u8]) -> bool {
    let Some(ending) = name.strip_prefix(live).and_then(|rest| rest.strip_prefix(b".")) else { return false };
    let number = ending.strip_suffix(b".gz").unwrap_or(ending);
    !number.is_empty() && number.iter().all(u8::is_ascii_digit)
}

/// `None` without a file: the output is only kept in memory.
///
/// # Errors
/// The first wrong field.
pub fn logs(fields: &mut Fields) -> Checked<Option<LogConfig>> {
    let file = if fields.is_absent("file") { None } else { Some(file(fields)?) };
    let max_size = fields.number("maxSize", MAX_SIZE_LEAST, MAX_SIZE_MOST)?;
    if let Some(size) = max_size.filter(|size| size.fract() != 0.0) {
        return Err(fields.wrong("maxSize", format!("must be a whole number of bytes, got {size}")));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and within range, as just checked")]
    let max_size = max_size.map_or(MAX_SIZE, |size| size as u64);
    let max_files = fields.count("maxFiles", 1)?.unwrap_or(MAX_FILES);
    let compress = fields.flag("compress")?.unwrap_or(false);
    Ok(file.map(|file| LogConfig { file, max_size, max_files, compress }))
}

fn file(fields: &mut Fields) -> Checked<PathBuf> {
    let path = fields.absolute("file")?;
    let text = path.as_os_str().as_encoded_bytes();
    if path.file_name().is_none() || text.ends_with(b"/") || text.ends_with(b"/.") {
        return Err(fields.wrong("file", "must be the path of a file, not of a folder"));
    }
    match path.file_name().map(std::ffi::OsStr::len) {
        Some(length) if length > NAME_MAX => Err(fields
            .wrong("file", format!("must have a name of at most {NAME_MAX} bytes, so that older files can have one; it has {length}"))),
        _ => Ok(path),
    }
}
