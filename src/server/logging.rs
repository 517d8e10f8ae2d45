//! `-D`, `-d` and `-trace`: where the log goes, and what is in it.
//!
//! Without any of them only errors are logged. An event has the name of the place it comes from, such as
//! `devices_serial` or `accel_kvm_x86_64_vcpu`.

use std::fs::File;
use std::io;
use std::sync::Mutex;

use tracing::{Level, Metadata};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cmdline::{LogConfig, trace};
use crate::report;

/// Starts the log of this process.
///
/// # Errors
/// The file cannot be opened.
pub(super) fn start(config: &LogConfig) -> Result<(), String> {
    let wanted = Wanted::new(config);
    let filter = filter_fn(move |metadata| wanted.includes(metadata));
    let output = layer().with_ansi(false);
    let output = match &config.file {
        Some(path) => {
            // Monitor and worker write to the same file, each whole lines at its end.
            let file = File::options().append(true).create(true).open(path);
            let file =
                file.map_err(|error| format!("could not open '{}': {}", path.display(), report::reason(&error)))?;
            output.with_writer(Mutex::new(file)).with_filter(filter).boxed()
        }
        None => output.with_writer(io::stderr).with_filter(filter).boxed(),
    };
    tracing_subscriber::registry()
        .with(output)
        .try_init()
        .map_err(|error| error.to_string())
}

/// What is logged.
#[derive(Debug)]
struct Wanted {
    /// What devices find strange about the guest.
    guest_mistakes: bool,
    /// Patterns of names of events.
    patterns: Vec<String>,
}

impl Wanted {
    fn new(config: &LogConfig) -> Self {
        Self {
            guest_mistakes: !config.items.is_empty(),
            patterns: config.events.clone(),
        }
    }

    fn includes(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR || self.traces(metadata.target(), *metadata.level())
    }

    fn traces(&self, place: &str, level: Level) -> bool {
        let Some(place) = place.strip_prefix("remuda::") else {
            return false;
        };
        if self.guest_mistakes && level <= Level::DEBUG && place.starts_with("devices::") {
            return true;
        }
        trace::is_enabled(&self.patterns, &place.replace("::", "_"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_about_devices() {
        let wanted = Wanted {
            guest_mistakes: true,
            patterns: vec!["chardev_*".to_owned()],
        };
        assert!(wanted.traces("remuda::devices::i8042", Level::DEBUG));
        assert!(!wanted.traces("remuda::devices::i8042", Level::TRACE));
        assert!(wanted.traces("remuda::chardev::socket", Level::TRACE));
        assert!(!wanted.traces("remuda::machine::pc::boot", Level::DEBUG));
        assert!(!wanted.traces("mio::poll", Level::DEBUG));
    }
}
