//! `-D`, `-d` and `-trace`: what is in the log from the start, and where it goes.

use std::fs::File;

use crate::cmdline::LogConfig;
use crate::logging::{self, events};

/// Opens the file of `-D`, if there is one. Monitor and worker share it; each writes whole lines at its end. What a former run
/// left in it goes.
///
/// # Errors
/// The file cannot be opened.
pub(super) fn open(config: &LogConfig) -> Result<Option<File>, String> {
    logging::name_files_after_this_process();
    let file = config.file.as_deref().map(|path| logging::open(path, true));
    file.transpose().map_err(|error| error.to_string())
}

/// Starts the log of this process, into `file` if there is one.
///
/// # Errors
/// There is a log already.
pub(super) fn start(config: &LogConfig, file: Option<File>) -> Result<(), String> {
    logging::start()?;
    if let Some(file) = file {
        logging::write_to(file);
    }
    if !config.items.is_empty() {
        logging::set_items(&config.items);
    }
    for pattern in &config.events {
        let (pattern, wanted) = events::split_sign(pattern);
        logging::set_events(pattern, wanted);
    }
    Ok(())
}
