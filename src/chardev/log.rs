//! `logfile=`: a copy of everything the front end sends.

use super::host_file::HostFile;
use crate::report::{Voice, reason};

/// A log file. A log that cannot be written is given up, the guest goes on.
#[derive(Debug)]
pub(super) struct LogFile {
    file: Option<HostFile>,
    path: String,
    voice: Voice,
}

impl LogFile {
    pub(super) fn new(file: HostFile, path: &str, voice: Voice) -> Self {
        Self {
            file: Some(file),
            path: path.to_owned(),
            voice,
        }
    }

    /// Adds bytes to the log, waiting while a pipe to a log daemon is full.
    pub(super) async fn write(&mut self, bytes: &[u8]) {
        let Some(file) = &self.file else { return };
        if let Err(error) = file.write_all(bytes).await {
            let reason = reason(&error);
            self.voice.warning(format!(
                "cannot write to log '{}', which is given up: {reason}",
                self.path
            ));
            self.file = None;
        }
    }
}
