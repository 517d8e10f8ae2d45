//! Files for a guest that shares this process with others: no path leads it to what the process itself has open.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, fstat, stat};
use nix::sys::termios::tcgetsid;
use nix::unistd::isatty;

/// Opens `path` as `open(2)` does, but neither what a link below `/proc` stands for (`/proc/self/fd/N`, and so
/// `/dev/fd/N` and `/dev/stdout`) nor the terminal of this process, by whatever name.
///
/// # Errors
/// What the system said, or that the file is the server's.
pub fn open(path: &Path, flags: OFlag, mode: Mode) -> io::Result<OwnedFd> {
    // openat2(2) takes no mode for a file that it does not create.
    let mode = match flags.contains(OFlag::O_CREAT) {
        true => mode,
        false => Mode::empty(),
    };
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY)
        .mode(mode)
        .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = match openat2(AT_FDCWD, path, how) {
        // Ordinary links that go round in circles go nowhere without the restriction either.
        Err(Errno::ELOOP) if !matches!(stat(path), Err(Errno::ELOOP)) => {
            return Err(io::Error::other(
                "links to what a process has open are not followed in a server",
            ));
        }
        opened => opened?,
    };
    match is_own_terminal(&file) {
        true => Err(io::Error::other("it is the server's terminal")),
        false => Ok(file),
    }
}

fn is_own_terminal(file: &OwnedFd) -> bool {
    if !isatty(file).unwrap_or(false) {
        return false;
    }
    // A terminal tells its session to the processes that it controls only.
    if tcgetsid(file).is_ok() {
        return true;
    }
    let device = |file: &dyn AsFd| fstat(file.as_fd()).ok().map(|status| status.st_rdev);
    let ours: [&dyn AsFd; 3] = [&io::stdin(), &io::stdout(), &io::stderr()];
    ours.into_iter()
        .any(|own| isatty(own.as_fd()).unwrap_or(false) && device(own) == device(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::path::PathBuf;

    /// A folder of one test, removed at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("remuda-outside-{name}-{}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_the_process_has_open_is_not_opened_by_path() {
        let (reader, _writer) = nix::unistd::pipe().unwrap();
        let folder = Folder::new("own");
        let link = folder.0.join("link");
        let number = reader.as_raw_fd();
        std::os::unix::fs::symlink(format!("/proc/self/fd/{number}"), &link).unwrap();
        let pid = std::process::id();
        for path in [
            format!("/proc/self/fd/{number}"),
            format!("/proc/{pid}/fd/{number}"),
            format!("/dev/fd/{number}"),
            link.display().to_string(),
        ] {
            let error = open(Path::new(&path), OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty()).unwrap_err();
            assert!(
                error.to_string().contains("links to what a process has open"),
                "{path}: {error}"
            );
        }
    }

    #[test]
    fn other_files_are_opened_as_ever() {
        let folder = Folder::new("other");
        let (file, link, round) = (folder.0.join("file"), folder.0.join("link"), folder.0.join("round"));
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        open(&file, OFlag::O_WRONLY | OFlag::O_CREAT, mode).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        open(&link, OFlag::O_RDONLY, mode).unwrap();
        open(Path::new("/dev/null"), OFlag::O_RDWR, mode).unwrap();
        std::os::unix::fs::symlink(&round, &round).unwrap();
        let error = open(&round, OFlag::O_RDONLY, mode).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::ELOOP as i32));
    }
}
