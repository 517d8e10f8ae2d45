//! What is in the log. Nothing of this is looked at where an event is made: whether a place in the program logs is worked out
//! when it first does, and again after a change.

use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{Level, Metadata};

use super::events;

/// What is wanted beside what somebody has to know of unasked.
#[derive(Debug)]
pub(super) struct Selection {
    /// What devices find strange about the guest.
    guest_mistakes: AtomicBool,
    /// For each of [`events::EVENTS`], whether its name was chosen.
    chosen: [AtomicBool; events::EVENTS.len()],
}

impl Selection {
    pub(super) const fn new() -> Self {
        Self {
            guest_mistakes: AtomicBool::new(false),
            chosen: [const { AtomicBool::new(false) }; events::EVENTS.len()],
        }
    }

    /// All items that there are say what devices find strange.
    pub(super) fn set_items(&self, items: &[impl AsRef<str>]) {
        self.guest_mistakes.store(!items.is_empty(), Ordering::Relaxed);
    }

    pub(super) fn set_events(&self, pattern: &str, wanted: bool) {
        for (place, _) in events::matching(pattern) {
            self.chosen[place].store(wanted, Ordering::Relaxed);
        }
    }

    pub(super) fn event_states(&self, pattern: &str) -> impl Iterator<Item = (&'static str, bool)> {
        events::matching(pattern).map(|(place, name)| (name, self.chosen[place].load(Ordering::Relaxed)))
    }

    pub(super) fn includes(&self, metadata: &Metadata<'_>) -> bool {
        is_grave(metadata.target(), *metadata.level()) || self.traces(metadata.target(), *metadata.level())
    }

    fn traces(&self, place: &str, level: Level) -> bool {
        let Some(place) = place.strip_prefix("remuda::") else {
            return false;
        };
        if self.guest_mistakes.load(Ordering::Relaxed) && level <= Level::DEBUG && place.starts_with("devices::") {
            return true;
        }
        let event = events::EVENTS.binary_search(&place.replace("::", "_").as_str());
        event.is_ok_and(|place| self.chosen[place].load(Ordering::Relaxed))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_told_unasked() {
        assert!(is_grave("remuda::machine::pc::lines", Level::WARN));
        assert!(is_grave("mio::poll", Level::ERROR));
        assert!(!is_grave("mio::poll", Level::WARN));
        assert!(!is_grave("remuda::devices::pm", Level::WARN));
        assert!(!is_grave("remuda::monitor::run", Level::INFO));
    }

    #[test]
    fn items_are_about_devices() {
        let selection = Selection::new();
        assert!(!selection.traces("remuda::devices::i8042", Level::DEBUG));
        selection.set_items(&["unimp"]);
        assert!(selection.traces("remuda::devices::i8042", Level::DEBUG));
        assert!(!selection.traces("remuda::devices::i8042", Level::TRACE));
        assert!(!selection.traces("remuda::machine::pc::lines", Level::DEBUG));
        assert!(!selection.traces("mio::poll", Level::DEBUG));
        selection.set_items(&[""; 0]);
        assert!(!selection.traces("remuda::devices::i8042", Level::DEBUG));
    }

    #[test]
    fn events_are_chosen_and_taken_out_by_name() {
        let selection = Selection::new();
        selection.set_events("devices_*", true);
        selection.set_events("devices_pm", false);
        assert!(selection.traces("remuda::devices::i8042", Level::TRACE));
        assert!(!selection.traces("remuda::devices::pm", Level::TRACE));
        assert!(selection.event_states("devices_pm").eq([("devices_pm", false)]));
        assert!(
            selection
                .event_states("*")
                .any(|state| state == ("devices_i8042", true))
        );
        assert_eq!(selection.event_states("nosuch*").count(), 0);
    }
}
