//! `-D`, `-d` and `-trace`: where the log goes, and what is in it.
//!
//! Without any of them warnings and errors of this program are logged. An event has the name of the place it comes from, such as
//! `devices_serial` or `accel_kvm_x86_64_vcpu`.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};

use tracing::callsite::Identifier;
use tracing::{Level, Metadata};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{FilterExt, dynamic_filter_fn, filter_fn};
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cmdline::{LogConfig, trace};
use crate::report;

/// Opens the file of `-D`, if there is one. Monitor and worker share it; each writes whole lines at its end.
///
/// # Errors
/// The file cannot be opened.
pub(super) fn open(config: &LogConfig) -> Result<Option<File>, String> {
    let Some(path) = &config.file else {
        return Ok(None);
    };
    let failed = |error: io::Error| format!("could not open '{}': {}", path.display(), report::reason(&error));
    // What a former run left in it goes. Appending keeps the lines of two processes apart.
    File::create(path).map_err(failed)?;
    File::options().append(true).open(path).map(Some).map_err(failed)
}

/// Starts the log of this process, into `file` if there is one.
///
/// # Errors
/// There is a log already.
pub(super) fn start(config: &LogConfig, file: Option<File>) -> Result<(), String> {
    let wanted = Wanted::new(config);
    let throttle = Throttle::default();
    let filter = filter_fn(move |metadata| wanted.includes(metadata));
    let filter = filter.and(dynamic_filter_fn(move |metadata, _| throttle.lets_through(metadata)));
    let output = layer().with_ansi(false);
    let output = match file {
        Some(file) => output.with_writer(Mutex::new(file)).with_filter(filter).boxed(),
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
        is_grave(metadata.target(), *metadata.level()) || self.traces(metadata.target(), *metadata.level())
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

/// Whether somebody has to know of it unasked: what this program could not do, such as an interrupt that was lost. What
/// the guest does strangely is told on demand, as it could do it without end.
fn is_grave(place: &str, level: Level) -> bool {
    let ours = place
        .strip_prefix("remuda::")
        .is_some_and(|place| !place.starts_with("devices::"));
    level == Level::ERROR || level == Level::WARN && ours
}

/// How often one place in the program may warn.
const MOST_WARNINGS: u32 = 20;

/// Keeps a guest that makes the same warning over and over from filling the log.
#[derive(Debug, Default)]
struct Throttle {
    /// How often each place has warned.
    warnings: Mutex<HashMap<Identifier, u32>>,
}

impl Throttle {
    fn lets_through(&self, metadata: &Metadata<'_>) -> bool {
        if *metadata.level() != Level::WARN {
            return true;
        }
        // A panic while the lock was held cannot leave the map half changed.
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        let count = warnings.entry(metadata.callsite()).or_default();
        *count = count.saturating_add(1);
        if *count == MOST_WARNINGS + 1 {
            report::warning(format!(
                "{}: more warnings of this kind are not logged",
                metadata.target()
            ));
        }
        *count <= MOST_WARNINGS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn warnings_are_told_unasked() {
        assert!(is_grave("remuda::machine::pc::lines", Level::WARN));
        assert!(is_grave("mio::poll", Level::ERROR));
        assert!(!is_grave("mio::poll", Level::WARN));
        assert!(!is_grave("remuda::devices::pm", Level::WARN));
        assert!(!is_grave("remuda::monitor::run", Level::INFO));
    }

    #[test]
    fn one_place_warns_so_often_and_no_more() {
        let (lines, throttle) = (Arc::new(Mutex::new(Vec::<u8>::new())), Throttle::default());
        let output = layer().with_ansi(false).with_writer({
            let lines = Arc::clone(&lines);
            move || Lines(Arc::clone(&lines))
        });
        let filter = dynamic_filter_fn(move |metadata, _| throttle.lets_through(metadata));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(output.with_filter(filter)), || {
            for _ in 0..100 {
                tracing::warn!("again");
            }
            tracing::warn!("another");
        });
        let text = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches("again").count(), MOST_WARNINGS as usize);
        assert_eq!(text.matches("another").count(), 1);
    }

    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

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
