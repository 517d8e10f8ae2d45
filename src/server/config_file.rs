//! Files that a command line names and that are read as a whole (`-readconfig`).

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::host::outside;

/// The most that such a file holds, in bytes: far more than anyone writes, and less than a device without an end gives.
const LIMIT: u64 = 1 << 20;

/// The text of the file at `path`.
///
/// # Errors
/// What the system said, or that it is too large or not UTF-8.
pub(super) fn read(path: &Path) -> io::Result<String> {
    text_of(File::open(path)?)
}

/// The text of the file at `path`, for a guest that shares this process with others.
///
/// # Errors
/// As [`read`], or that the file is the server's.
pub(super) fn read_for_guest(path: &Path) -> io::Result<String> {
    text_of(outside::open(path, OFlag::O_RDONLY, Mode::empty())?.into())
}

fn text_of(file: File) -> io::Result<String> {
    let mut text = String::new();
    let count = file.take(LIMIT + 1).read_to_string(&mut text)?;
    if count as u64 > LIMIT {
        return Err(io::Error::other(format!("it is larger than {LIMIT} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_is_too_large() {
        let error = read(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.to_string(), "it is larger than 1048576 bytes");
        assert_eq!(read(Path::new("/dev/null")).unwrap(), "");
    }
}
