//! Paths that belong to one server at a time.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

use crate::report;

/// The longest process id, with the end of its line.
const LONGEST: u64 = 12;

/// A lock file, which holds the process id of whoever has it. The lock ends with the process, however that ends; the
/// file goes with the value.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    file: Flock<File>,
}

impl Lock {
    /// Takes the lock, which nobody may have.
    ///
    /// # Errors
    /// Says who has it, or why it cannot be made.
    pub(super) fn take(mut path: PathBuf) -> Result<Self, String> {
        let failed = |path: &Path, error: &io::Error| format!("{}: {}", path.display(), report::reason(error));
        loop {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
            let mut file = options.open(&path).map_err(|error| failed(&path, &error))?;
            let holder = read_holder(&mut file).map_err(|error| failed(&path, &error))?;
            let Some(holder) = holder else {
                return Err(format!("{}: exists and is no lock file", path.display()));
            };
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => {
                    let mut lock = Self { path, file };
                    if !lock.is_in_place() {
                        // Whoever had it has removed it in this instant.
                        path = lock.let_go();
                        continue;
                    }
                    lock.sign().map_err(|error| failed(&lock.path, &error))?;
                    return Ok(lock);
                }
                Err((_, Errno::EWOULDBLOCK)) => {
                    return Err(format!("{}: another server has it (process {holder})", path.display()));
                }
                Err((_, errno)) => return Err(failed(&path, &errno.into())),
            }
        }
    }

    fn is_in_place(&self) -> bool {
        let same = |ours: Metadata, there: Metadata| (ours.dev(), ours.ino()) == (there.dev(), there.ino());
        match (self.file.metadata(), std::fs::symlink_metadata(&self.path)) {
            (Ok(ours), Ok(there)) => same(ours, there),
            _ => false,
        }
    }

    fn sign(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        writeln!(self.file, "{}", std::process::id())
    }

    /// Gives the lock up without touching what is at its path now.
    fn let_go(mut self) -> PathBuf {
        std::mem::take(&mut self.path)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() && self.is_in_place() {
            // Somebody may have tidied up.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The process id in a lock file, as text, empty in a new one; none if the file is something else.
fn read_holder(file: &mut File) -> io::Result<Option<String>> {
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > LONGEST {
        return Ok(None);
    }
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text)?;
    let text = String::from_utf8(text).unwrap_or_else(|_| "?".to_owned());
    let digits = text.strip_suffix('\n').unwrap_or(&text);
    Ok(digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("remuda-lock-{}-{name}", std::process::id()))
    }

    #[test]
    fn one_has_it_at_a_time() {
        let path = scratch("one");
        let lock = Lock::take(path.clone()).unwrap();
        let refused = Lock::take(path.clone()).unwrap_err();
        assert!(
            refused.contains(&format!("(process {})", std::process::id())),
            "{refused}"
        );
        drop(lock);
        assert!(!path.exists());
        drop(Lock::take(path.clone()).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn a_lock_that_a_dead_server_left_is_free() {
        let path = scratch("stale");
        std::fs::write(&path, "4194304\n").unwrap();
        drop(Lock::take(path.clone()).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_lock_file_is_left_alone() {
        let path = scratch("foreign");
        std::fs::write(&path, "dear diary, ...").unwrap();
        assert!(Lock::take(path.clone()).unwrap_err().contains("no lock file"));
        assert_eq!(std::fs::read(&path).unwrap(), b"dear diary, ...");
        std::fs::remove_file(&path).unwrap();
    }
}
