//! Descriptors that this process was given by number when it was started.
#![expect(unsafe_code, reason = "that a number was inherited is beyond the type system")]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

/// Inherited descriptors by number. A number that is not among them was not handed down, whatever it stands for in
/// this process by now.
#[derive(Debug, Default)]
pub struct Inherited {
    fds: BTreeMap<RawFd, OwnedFd>,
}

impl Inherited {
    /// Takes over those of `numbers` that were handed down and that nobody has claimed before, the standard ones
    /// excepted. What was handed down is told by its being open without close-on-exec: nothing in this process opens a
    /// descriptor so, and what is claimed is closed on exec from then on.
    #[must_use]
    pub fn claim(numbers: impl IntoIterator<Item = RawFd>) -> Self {
        let adopt = |number: RawFd| {
            // SAFETY: the number is not -1 and the borrow ends with this function. Should the number not be open, the
            // kernel answers EBADF and nothing else happens.
            let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
            let flags = fcntl_getfd(borrowed).ok()?;
            if flags.contains(FdFlags::CLOEXEC) {
                return None;
            }
            fcntl_setfd(borrowed, FdFlags::CLOEXEC).ok()?;
            // SAFETY: the number is open, as the kernel just told. It came through exec, since it would not have been
            // closed by one; so no value of this process owns it.
            Some((number, unsafe { OwnedFd::from_raw_fd(number) }))
        };
        let mut wanted: Vec<RawFd> = numbers.into_iter().filter(|number| *number > 2).collect();
        wanted.sort_unstable();
        wanted.dedup();
        Self {
            fds: wanted.into_iter().filter_map(adopt).collect(),
        }
    }

    /// Takes over all that were handed down and that nobody has claimed before, the standard ones excepted: for a process that
    /// is told later which of them is meant.
    ///
    /// # Errors
    /// The kernel does not tell which there are.
    pub fn claim_all() -> io::Result<Self> {
        let names = std::fs::read_dir("/proc/self/fd")?.map(|entry| Ok(entry?.file_name()));
        let names = names.collect::<io::Result<Vec<_>>>()?;
        Ok(Self::claim(names.iter().filter_map(|name| name.to_str()?.parse().ok())))
    }

    /// Takes the descriptor of that number, if it was handed down and nobody has taken it.
    #[must_use]
    pub fn take(&mut self, number: RawFd) -> Option<OwnedFd> {
        self.fds.remove(&number)
    }

    /// The descriptor of that number, if it was handed down and nobody has taken it.
    #[must_use]
    pub fn get(&self, number: RawFd) -> Option<BorrowedFd<'_>> {
        use std::os::fd::AsFd;
        self.fds.get(&number).map(AsFd::as_fd)
    }
}

impl FromIterator<OwnedFd> for Inherited {
    /// As if these descriptors had been handed down under the numbers they have.
    fn from_iter<I: IntoIterator<Item = OwnedFd>>(fds: I) -> Self {
        use std::os::fd::AsRawFd;
        Self {
            fds: fds.into_iter().map(|fd| (fd.as_raw_fd(), fd)).collect(),
        }
    }
}

impl IntoIterator for Inherited {
    type Item = OwnedFd;
    type IntoIter = std::collections::btree_map::IntoValues<RawFd, OwnedFd>;

    fn into_iter(self) -> Self::IntoIter {
        self.fds.into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_was_not_handed_down_is_none() {
        let own = std::fs::File::open("/dev/null").unwrap();
        let own_number = std::os::fd::AsRawFd::as_raw_fd(&own);
        let numbers = [-1, 0, 1, 2, own_number, 987_654];
        let mut claimed = Inherited::claim(numbers);
        assert!(numbers.iter().all(|number| claimed.take(*number).is_none()));
    }
}
