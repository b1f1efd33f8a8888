//! The first bytes of a program file: the interpreter of a script, the machine of an ELF file.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The kernel reads as many bytes of a script (`BINPRM_BUF_SIZE`).
const START: u64 = 256;

/// A script's interpreter may be a script. The kernel follows this many (`exec_binprm`).
const SCRIPTS_MAX: usize = 6;

pub fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// The interpreter that a script, or the script that interprets the script, names and that does not exist. Control characters
/// are escaped: after an edit on Windows, the name ends with a carriage return.
pub fn missing_interpreter(script: &Path, folder: &Path) -> Option<String> {
    let mut script = script.to_owned();
    for _ in 0..SCRIPTS_MAX {
        let start = start_of(&script)?;
        let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n' || *byte == 0).next()?;
        let words = line.split(|byte| matches!(byte, b' ' | b'\t'));
        let name = String::from_utf8_lossy(words.into_iter().find(|word| !word.is_empty())?).into_owned();
        script = folder.join(&name);
        if !script.exists() {
            return Some(
                name.chars().map(|char| if char.is_control() { char.escape_default().to_string() } else { char.into() }).collect(),
            );
        }
    }
    None
}

/// The machine for which an ELF file is built, by the names of [`std::env::consts::ARCH`].
pub fn machine_of(program: &Path) -> Option<String> {
    let start = start_of(program)?;
    let [b'\x7f', b'E', b'L', b'F', _, order, ..] = start[..] else { return None };
    let bytes: [u8; 2] = start.get(18..20)?.try_into().ok()?;
    // `EI_DATA` 2: big-endian.
    let number = if order == 2 { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) };
    // The numbers `EM_*` of elf.h.
    let name = match number {
        3 => "x86",
        8 => "mips",
        20 => "powerpc",
        21 => "powerpc64",
        22 => "s390x",
        40 => "arm",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv",
        258 => "loongarch",
        _ => return Some(format!("number {number}")),
    };
    Some(name.to_owned())
}

fn start_of(path: &Path) -> Option<Vec<u8>> {
    // open(2) of a FIFO would block.
    if !path.is_file() {
        return None;
    }
    let mut start = Vec::new();
    File::open(path).ok()?.take(START).read_to_end(&mut start).ok()?;
    Some(start)
}
