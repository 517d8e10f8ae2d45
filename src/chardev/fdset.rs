//! Descriptors that came from outside: inherited, sent over QMP under a name, or kept in sets.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::Mode;

use super::error::FdError;
use crate::host::inherited::Inherited;
use crate::report::Voice;

/// One guest's descriptors. Clones are the same table.
#[derive(Clone, Debug, Default)]
pub struct FdTable {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// What the command line may name by number and nobody took yet.
    inherited: Inherited,
    /// `getfd`.
    named: BTreeMap<String, OwnedFd>,
    /// `add-fd`.
    sets: BTreeMap<i64, Vec<Member>>,
    /// The process has other guests too.
    is_one_among_many: bool,
    /// Speaks for the guest.
    voice: Voice,
}

#[derive(Debug)]
struct Member {
    fd: OwnedFd,
    opaque: Option<String>,
}

/// A set as `query-fdsets` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FdSetInfo {
    /// `fdset-id`.
    pub id: i64,
    /// The descriptor numbers with their opaque texts.
    pub fds: Vec<(RawFd, Option<String>)>,
}

/// The reply to `add-fd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddedFd {
    /// `fdset-id`.
    pub set: i64,
    /// `fd`.
    pub fd: RawFd,
}

impl FdTable {
    /// The folder below which a path names a set rather than a file.
    pub const SET_FOLDER: &str = "/dev/fdset/";

    /// A table of a guest whose command line may name `inherited` descriptors.
    #[must_use]
    pub fn with_inherited(inherited: Inherited) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                inherited,
                ..Inner::default()
            })),
        }
    }

    /// A table of a guest that shares its monitor's process with others: nothing that the process has is its but what it
    /// is given by name, neither numbers nor standard input and output.
    #[must_use]
    pub fn of_one_among_many() -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                is_one_among_many: true,
                ..Inner::default()
            })),
        }
    }

    /// Whether this is the table of a guest that shares its monitor's process with others.
    #[must_use]
    pub fn is_one_among_many(&self) -> bool {
        self.lock().is_one_among_many
    }

    /// Sets who speaks in messages about what this guest opens.
    pub fn set_voice(&self, voice: Voice) {
        self.lock().voice = voice;
    }

    /// Who speaks in messages about what this guest opens.
    #[must_use]
    pub fn voice(&self) -> Voice {
        self.lock().voice.clone()
    }

    /// Keeps `fd` under `name`, in place of what had that name before (`getfd`).
    ///
    /// # Errors
    /// No descriptor came with the command, or the name starts with a digit or is empty.
    pub fn getfd(&self, name: &str, fd: Option<OwnedFd>) -> Result<(), FdError> {
        let fd = fd.ok_or(FdError::NotSent)?;
        if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(FdError::BadName);
        }
        self.lock().named.insert(name.to_owned(), fd);
        Ok(())
    }

    /// Closes the descriptor of that name (`closefd`).
    ///
    /// # Errors
    /// There is none.
    pub fn closefd(&self, name: &str) -> Result<(), FdError> {
        match self.lock().named.remove(name) {
            Some(_) => Ok(()),
            None => Err(FdError::NotFound(name.to_owned())),
        }
    }

    /// Takes the descriptor kept under `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn take_named(&self, name: &str) -> Result<OwnedFd, FdError> {
        let taken = self.lock().named.remove(name);
        taken.ok_or_else(|| FdError::NoName(name.to_owned()))
    }

    /// Takes an inherited descriptor. Each can be taken once.
    #[must_use]
    pub fn take_inherited(&self, number: RawFd) -> Option<OwnedFd> {
        self.lock().inherited.take(number)
    }

    /// Takes the descriptor that an `fd` argument means: a name of `getfd`, or the number of an inherited one.
    ///
    /// # Errors
    /// Neither exists.
    pub fn resolve(&self, text: &str) -> Result<OwnedFd, FdError> {
        if !text.starts_with(|first: char| first.is_ascii_digit()) {
            return self.take_named(text);
        }
        let number = text.parse().map_err(|_| FdError::BadNumber(text.to_owned()))?;
        self.take_inherited(number).ok_or(FdError::NotInherited(number))
    }

    /// Puts a descriptor into set `set`, or into a set of its own (`add-fd`).
    ///
    /// # Errors
    /// No descriptor came with the command, or the number is negative.
    pub fn add_fd(&self, set: Option<i64>, opaque: Option<String>, fd: Option<OwnedFd>) -> Result<AddedFd, FdError> {
        let fd = fd.ok_or(FdError::NotSent)?;
        if set.is_some_and(|set| set < 0) {
            return Err(FdError::NegativeSet);
        }
        let mut inner = self.lock();
        let set = match set {
            Some(set) => set,
            None => inner.free_set()?,
        };
        let number = fd.as_raw_fd();
        inner.sets.entry(set).or_default().push(Member { fd, opaque });
        Ok(AddedFd { set, fd: number })
    }

    /// Puts a duplicate of the inherited descriptor `number` into set `set` (`-add-fd`). The same descriptor may be
    /// put into several sets.
    ///
    /// # Errors
    /// The numbers are not those of a set and of an inherited descriptor.
    pub fn add_inherited(&self, set: i64, number: RawFd, opaque: Option<String>) -> Result<AddedFd, FdError> {
        if (0..=2).contains(&number) {
            return Err(FdError::Standard);
        }
        if number < 0 {
            return Err(FdError::NegativeFdOption);
        }
        if set < 0 {
            return Err(FdError::NegativeSetOption);
        }
        // The number stays available: other options may name it as well.
        let duplicate = match self.lock().inherited.get(number) {
            Some(original) => original.try_clone_to_owned().map_err(FdError::Duplicate)?,
            None => return Err(FdError::NotDeclared),
        };
        self.add_fd(Some(set), opaque, Some(duplicate))
    }

    /// Closes the descriptors that no option took, once the command line is done.
    pub fn close_inherited(&self) {
        self.lock().inherited = Inherited::default();
    }

    /// Removes one descriptor of a set, or the whole set (`remove-fd`). Files opened through it stay open.
    ///
    /// # Errors
    /// There is no such set or descriptor.
    pub fn remove_fd(&self, set: i64, number: Option<i64>) -> Result<(), FdError> {
        let mut inner = self.lock();
        let missing = FdError::NotFound;
        let Some(number) = number else {
            return match inner.sets.remove(&set) {
                Some(_) => Ok(()),
                None => Err(missing(format!("fdset-id:{set}"))),
            };
        };
        let members = inner
            .sets
            .get_mut(&set)
            .ok_or_else(|| missing(format!("fdset-id:{set}, fd:{number}")))?;
        let position = members
            .iter()
            .position(|member| i64::from(member.fd.as_raw_fd()) == number)
            .ok_or_else(|| missing(format!("fdset-id:{set}, fd:{number}")))?;
        members.remove(position);
        if members.is_empty() {
            inner.sets.remove(&set);
        }
        Ok(())
    }

    /// Every set in the order of its number (`query-fdsets`).
    #[must_use]
    pub fn query_fdsets(&self) -> Vec<FdSetInfo> {
        let inner = self.lock();
        let show = |member: &Member| (member.fd.as_raw_fd(), member.opaque.clone());
        inner
            .sets
            .iter()
            .map(|(id, members)| FdSetInfo {
                id: *id,
                fds: members.iter().map(show).collect(),
            })
            .collect()
    }

    /// Opens a file, where `/dev/fdset/N` stands for the member of set N that has the access mode asked for.
    ///
    /// # Errors
    /// What the system said; `ENOENT` for a set that does not exist and `EACCES` for one without such a member.
    pub fn open_path(&self, path: &str, flags: OFlag, mode: Mode) -> io::Result<OwnedFd> {
        let Some(set) = set_of_path(path) else {
            return Ok(open(Path::new(path), flags | OFlag::O_CLOEXEC, mode)?);
        };
        let inner = self.lock();
        let members = inner.sets.get(&set?).ok_or(Errno::ENOENT)?;
        let wanted = flags & OFlag::O_ACCMODE;
        for member in members {
            let have = OFlag::from_bits_truncate(fcntl(member.fd.as_fd(), FcntlArg::F_GETFL)?);
            if have & OFlag::O_ACCMODE != wanted {
                continue;
            }
            let duplicate = member.fd.try_clone()?;
            // Appending belongs to the open file, which whoever passed the descriptor has set up as it should be.
            if flags.contains(OFlag::O_TRUNC) {
                truncate(&duplicate)?;
            }
            return Ok(duplicate);
        }
        Err(Errno::EACCES.into())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock was held cannot leave a map half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn free_set(&self) -> Result<i64, FdError> {
        let free = (0..=i64::MAX).find(|set| !self.sets.contains_key(set));
        free.ok_or(FdError::NoFreeSet)
    }
}

/// The number in `/dev/fdset/N`; none for any other path.
fn set_of_path(path: &str) -> Option<io::Result<i64>> {
    let number = path.strip_prefix(FdTable::SET_FOLDER)?;
    let valid = number.parse::<i64>().ok().filter(|number| *number >= 0);
    Some(valid.ok_or_else(|| Errno::EINVAL.into()))
}

/// Empties a regular file; pipes and devices have nothing to empty.
fn truncate(fd: &OwnedFd) -> io::Result<()> {
    match nix::unistd::ftruncate(fd, 0) {
        Ok(()) | Err(Errno::EINVAL) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};

    fn null() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    /// A table with one inherited descriptor, and its number.
    fn table_of_one() -> (RawFd, FdTable) {
        let fd = null();
        (fd.as_raw_fd(), FdTable::with_inherited([fd].into_iter().collect()))
    }

    #[test]
    fn a_named_descriptor_is_taken_once() {
        let table = FdTable::default();
        table.getfd("migrate", Some(null())).unwrap();
        assert!(table.take_named("migrate").is_ok());
        let error = table.resolve("migrate").unwrap_err();
        assert_eq!(error.to_string(), "File descriptor named 'migrate' has not been found");
        assert_eq!(
            table.closefd("migrate").unwrap_err().to_string(),
            "File descriptor named 'migrate' not found"
        );
    }

    #[test]
    fn getfd_wants_a_descriptor_and_a_name() {
        let table = FdTable::default();
        assert_eq!(
            table.getfd("x", None).unwrap_err().to_string(),
            "No file descriptor supplied via SCM_RIGHTS"
        );
        let error = table.getfd("1x", Some(null())).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Parameter 'fdname' expects a name not starting with a digit"
        );
    }

    #[test]
    fn only_declared_numbers_can_be_inherited() {
        let (number, table) = table_of_one();
        assert!(table.take_inherited(number + 1000).is_none());
        let fd = table.resolve(&number.to_string()).unwrap();
        assert_eq!(fd.as_raw_fd(), number);
        assert!(table.take_inherited(number).is_none(), "taken already");
    }

    #[test]
    fn inherited_descriptors_can_be_in_two_sets() {
        let (number, table) = table_of_one();
        table.add_inherited(2, number, None).unwrap();
        table.add_inherited(3, number, Some("log".into())).unwrap();
        let sets = table.query_fdsets();
        assert_eq!(sets.len(), 2);
        assert_eq!(
            (sets[0].id, sets[1].id, sets[1].fds[0].1.as_deref()),
            (2, 3, Some("log"))
        );
        assert_eq!(
            table.add_inherited(2, 1, None).unwrap_err().to_string(),
            "fd cannot be a standard I/O stream"
        );
        assert_eq!(
            table.add_inherited(2, 7777, None).unwrap_err().to_string(),
            "fd is not valid or already in use"
        );
        table.close_inherited();
        assert!(table.take_inherited(number).is_none());
    }

    #[test]
    fn a_set_is_opened_by_access_mode() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let table = FdTable::default();
        let added = table.add_fd(None, None, Some(reader)).unwrap();
        assert_eq!(added.set, 0);
        table.add_fd(Some(0), Some("console".into()), Some(writer)).unwrap();
        let open = |path: &str, flags| table.open_path(path, flags, Mode::empty());
        let mut writer = File::from(open("/dev/fdset/0", OFlag::O_WRONLY | OFlag::O_APPEND).unwrap());
        let mut reader = File::from(open("/dev/fdset/0", OFlag::O_RDONLY).unwrap());
        writer.write_all(b"text").unwrap();
        let mut text = [0; 4];
        reader.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"text");
        let errno = |path, flags| open(path, flags).unwrap_err().raw_os_error();
        assert_eq!(errno("/dev/fdset/0", OFlag::O_RDWR), Some(Errno::EACCES as i32));
        assert_eq!(errno("/dev/fdset/9", OFlag::O_RDWR), Some(Errno::ENOENT as i32));
        assert_eq!(errno("/dev/fdset/x", OFlag::O_RDWR), Some(Errno::EINVAL as i32));
    }

    #[test]
    fn sets_go_member_by_member_or_whole() {
        let table = FdTable::default();
        let first = table.add_fd(Some(5), None, Some(null())).unwrap();
        table.add_fd(Some(5), None, Some(null())).unwrap();
        table.remove_fd(5, Some(first.fd.into())).unwrap();
        assert_eq!(table.query_fdsets()[0].fds.len(), 1);
        let gone = table.remove_fd(5, Some(99_999)).unwrap_err();
        assert_eq!(
            gone.to_string(),
            "File descriptor named 'fdset-id:5, fd:99999' not found"
        );
        table.remove_fd(5, None).unwrap();
        assert!(table.query_fdsets().is_empty());
        assert_eq!(
            table.remove_fd(5, None).unwrap_err().to_string(),
            "File descriptor named 'fdset-id:5' not found"
        );
        let negative = table.add_fd(Some(-1), None, Some(null())).unwrap_err();
        assert_eq!(
            negative.to_string(),
            "Parameter 'fdset-id' expects a non-negative value"
        );
    }
}
