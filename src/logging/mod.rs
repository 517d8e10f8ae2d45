//! The log of this process: what is in it and where it goes. Both can be changed while it is written.
//!
//! Warnings and errors of this program are always in it. An event has the name of the place it comes from ([`events`]); what
//! devices find strange about the guest has names of its own as well ([`items`]).

mod destination;
pub mod events;
pub mod items;
mod selection;
mod throttle;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::id;
use std::sync::OnceLock;

use tracing_subscriber::Layer;
use tracing_subscriber::filter::{FilterExt, dynamic_filter_fn, filter_fn};
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use destination::{Destination, Writer};
use selection::Selection;
use throttle::Throttle;

use crate::report;

static SELECTION: Selection = Selection::new();
static DESTINATION: Destination = Destination::new();
/// The process that people know the guest by.
static PROCESS: OnceLock<u32> = OnceLock::new();

/// Starts the log of this process, on standard error until [`write_to`] says otherwise.
///
/// # Errors
/// There is a log already.
pub fn start() -> Result<(), String> {
    let throttle = Throttle::default();
    let filter = filter_fn(|metadata| SELECTION.includes(metadata));
    let filter = filter.and(dynamic_filter_fn(move |metadata, _| throttle.lets_through(metadata)));
    let output = layer().with_ansi(false).with_writer(|| Writer(&DESTINATION));
    tracing_subscriber::registry()
        .with(output.with_filter(filter))
        .try_init()
        .map_err(|error| error.to_string())
}

/// From now on the log holds what the items of that name are about, and no others'.
pub fn set_items(items: &[impl AsRef<str>]) {
    SELECTION.set_items(items);
    tracing::callsite::rebuild_interest_cache();
}

/// From now on the events whose names fit `pattern` are in the log, or are not.
pub fn set_events(pattern: &str, wanted: bool) {
    SELECTION.set_events(pattern, wanted);
    tracing::callsite::rebuild_interest_cache();
}

/// The events whose names fit `pattern`, and whether they are in the log because of their names.
pub fn event_states(pattern: &str) -> impl Iterator<Item = (&'static str, bool)> + '_ {
    SELECTION.event_states(pattern)
}

/// From now on the log goes to the end of this file.
pub fn write_to(file: File) {
    DESTINATION.set(file);
}

/// Why a log file cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A name with a `%` that is not `%d`, or with two.
    #[error("Bad logfile template: {}", .0.display())]
    Template(PathBuf),
    /// The file cannot be opened.
    #[error("Error opening logfile {}: {}", .path.display(), report::reason(.error))]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

/// Opens a log file, which several processes may write whole lines to. `%d` in its name stands for the number of the process
/// that did this first, or from which this one was forked then.
///
/// # Errors
/// The name is none, or the file cannot be opened.
pub fn open(template: &Path, is_emptied: bool) -> Result<File, FileError> {
    let path = path_of(template, *PROCESS.get_or_init(id))?;
    let opened = match is_emptied {
        true => File::create(&path).map(drop),
        false => Ok(()),
    };
    let opened = opened.and_then(|()| File::options().append(true).create(true).open(&path));
    opened.map_err(|error| FileError::Open { path, error })
}

/// From now on `%d` in the names of log files is the number of this process, and in those of its children.
pub fn name_files_after_this_process() {
    PROCESS.get_or_init(id);
}

fn path_of(template: &Path, process: u32) -> Result<PathBuf, FileError> {
    let bad = || FileError::Template(template.to_owned());
    let Some(text) = template.to_str().filter(|text| text.contains('%')) else {
        return Ok(template.to_owned());
    };
    match text.split_once("%d") {
        Some((head, tail)) if !head.contains('%') && !tail.contains('%') => Ok(format!("{head}{process}{tail}").into()),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_after_the_process() {
        let path = |template: &str| path_of(template.as_ref(), 42).map_err(|error| error.to_string());
        assert_eq!(path("/tmp/log"), Ok("/tmp/log".into()));
        assert_eq!(path("/tmp/%d.log"), Ok("/tmp/42.log".into()));
        for wrong in ["/tmp/%s", "/tmp/%d%d", "/tmp/%", "%%d"] {
            assert_eq!(path(wrong), Err(format!("Bad logfile template: {wrong}")));
        }
    }
}
