//! What a process is called by those who list processes.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Calls this process `name`: its first fifteen bytes in short lists, and as much of `name (remuda)` as there is room
/// for in place of the arguments.
///
/// # Errors
/// What the system said. A name with a zero byte is cut there.
pub(super) fn set(name: &str) -> io::Result<()> {
    let visible = name.split('\0').next().unwrap_or_default();
    nix::sys::prctl::set_name(&CString::new(visible)?)?;
    let status = std::fs::read_to_string("/proc/self/stat")?;
    let (start, end) = arguments(&status).ok_or(io::ErrorKind::Unsupported)?;
    let room = usize::try_from(end - start).unwrap_or_default();
    let mut text = format!("{visible} (remuda)").into_bytes();
    // The last byte stays zero, which ends the last argument.
    text.truncate(room.saturating_sub(1));
    text.resize(room, 0);
    File::options()
        .write(true)
        .open("/proc/self/mem")?
        .write_all_at(&text, start)
}

/// Where the arguments lie in memory: `arg_start` and `arg_end` of `/proc/PID/stat`.
fn arguments(status: &str) -> Option<(u64, u64)> {
    // Fields are counted from 1. The second may hold anything, in parentheses.
    let (_, rest) = status.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(48 - 3);
    let (start, end) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    (start > 0 && start < end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_found_behind_any_name() {
        let numbers: Vec<String> = (4..=52).map(|field| field.to_string()).collect();
        let status = format!("1 (a) S 3 (x)) S {}", numbers.join(" "));
        assert_eq!(arguments(&status), Some((48, 49)));
        assert_eq!(arguments("1 (a) S 4"), None);
    }

    #[test]
    fn this_process_has_arguments() {
        let status = std::fs::read_to_string("/proc/self/stat").unwrap();
        assert!(arguments(&status).is_some());
    }
}
