//! Where the log goes.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

/// A file, or standard error if there is none.
#[derive(Debug)]
pub(super) struct Destination(Mutex<Option<File>>);

impl Destination {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    pub(super) fn set(&self, file: File) {
        self.with(|current| drop(current.replace(file)));
    }

    /// A panic while the lock was held cannot leave half a value.
    fn with<T>(&self, act: impl FnOnce(&mut Option<File>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Writes there, wherever that is by then.
#[derive(Debug)]
pub(super) struct Writer<'a>(pub(super) &'a Destination);

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.with(|file| match file {
            Some(file) => file.write(bytes),
            None => io::stderr().write(bytes),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};

    #[test]
    fn lines_go_to_the_latest_file() {
        let destination = Destination::new();
        let file = || nix::sys::memfd::memfd_create("log", nix::sys::memfd::MFdFlags::empty()).map(File::from);
        let (mut first, mut second) = (file().unwrap(), file().unwrap());
        let writer = || Writer(&destination);
        destination.set(first.try_clone().unwrap());
        writer().write_all(b"one\n").unwrap();
        destination.set(second.try_clone().unwrap());
        writer().write_all(b"two\n").unwrap();
        for (file, expected) in [(&mut first, "one\n"), (&mut second, "two\n")] {
            let mut text = String::new();
            file.rewind().unwrap();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, expected);
        }
    }
}
