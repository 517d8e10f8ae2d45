//! How often one place in the program is heard.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tracing::callsite::Identifier;
use tracing::{Level, Metadata};

use crate::report;

/// How often one place in the program may warn.
const MOST_WARNINGS: u32 = 20;

/// Keeps a guest that makes the same warning over and over from filling the log.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// How often each place has warned.
    warnings: Mutex<HashMap<Identifier, u32>>,
}

impl Throttle {
    pub(super) fn lets_through(&self, metadata: &Metadata<'_>) -> bool {
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
    use std::io;
    use std::sync::Arc;
    use tracing::warn;
    use tracing_subscriber::Layer;
    use tracing_subscriber::filter::dynamic_filter_fn;
    use tracing_subscriber::fmt::layer;
    use tracing_subscriber::layer::SubscriberExt;

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
                warn!("again");
            }
            warn!("another");
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
}
