//! `-pidfile`: tells others the process id, and that the process lives.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};

use crate::report::reason;

/// A pid file, locked while its process lives and removed when the value goes.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    /// Holds the lock.
    _file: File,
}

impl PidFile {
    /// Creates or takes over `path` and writes this process's id as decimal text and a line feed.
    ///
    /// # Errors
    /// The file cannot be made, or another live process holds it.
    pub fn create(path: &Path) -> Result<Self, String> {
        let failed = |doing: &str, error: std::io::Error| {
            format!(
                "cannot create PID file: {doing} '{}': {}",
                path.display(),
                reason(&error)
            )
        };
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .open(path)
                .map_err(|error| failed("cannot open", error))?;
            fcntl(&file, FcntlArg::F_SETLK(&whole_file_lock())).map_err(|error| failed("cannot lock", error.into()))?;
            // Between opening and locking, the former owner may have removed the name.
            let ours = file.metadata().map_err(|error| failed("cannot read", error))?;
            if !std::fs::metadata(path).is_ok_and(|named| named.ino() == ours.ino() && named.dev() == ours.dev()) {
                continue;
            }
            file.set_len(0).map_err(|error| failed("cannot truncate", error))?;
            writeln!(file, "{}", std::process::id()).map_err(|error| failed("cannot write", error))?;
            // A daemon changes its directory, so the name has to stay true from anywhere.
            let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            return Ok(Self { path, _file: file });
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Someone else may have tidied up.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn whole_file_lock() -> nix::libc::flock {
    nix::libc::flock {
        l_type: nix::libc::F_WRLCK as nix::libc::c_short,
        l_whence: nix::libc::SEEK_SET as nix::libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_pid_and_goes_with_its_value() {
        let path = std::env::temp_dir().join(format!("remuda-pidfile-{}", std::process::id()));
        std::fs::write(&path, "an older and longer text\n").unwrap();
        let pidfile = PidFile::create(&path).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            format!("{}\n", std::process::id())
        );
        drop(pidfile);
        assert!(!path.exists());
    }

    #[test]
    fn says_which_file_cannot_be_made() {
        let error = PidFile::create(Path::new("/proc/nowhere/pid")).unwrap_err();
        assert!(error.contains("'/proc/nowhere/pid'"), "{error}");
    }
}
