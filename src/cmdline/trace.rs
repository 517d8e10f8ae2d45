//! Names of events, and the patterns that `-trace` and `-d trace:` choose them by.
//!
//! An event has the name of the place in the source that it comes from, such as `devices_serial_chip`.

include!(concat!(env!("OUT_DIR"), "/trace_events.rs"));

/// Whether an event of this name is wanted: the last pattern that fits decides.
#[must_use]
pub fn is_enabled(patterns: &[String], name: &str) -> bool {
    let last = patterns.iter().rev().find_map(|pattern| {
        let (pattern, wanted) = strip(pattern);
        fits(pattern, name).then_some(wanted)
    });
    last.unwrap_or(false)
}

/// What to tell the user about a pattern that is the name of no event.
pub(super) fn complaint(pattern: &str) -> Option<String> {
    let (name, _) = strip(pattern);
    let is_name = !name.contains('*');
    (is_name && !EVENTS.contains(&name)).then(|| format!("trace event '{name}' does not exist"))
}

/// The pattern without its sign, and whether it adds events rather than taking them out.
fn strip(pattern: &str) -> (&str, bool) {
    match pattern.strip_prefix('-') {
        Some(rest) => (rest, false),
        None => (pattern, true),
    }
}

/// Whether `name` fits a pattern in which `*` stands for any text.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(rest) = name.strip_prefix(head) else {
        return false;
    };
    (0..=rest.len())
        .filter_map(|start| rest.get(start..))
        .any(|rest| fits(tail, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::HelpRequest;
    use crate::cmdline::tests::{config, help};

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("devices_serial", "devices_serial", true),
            ("devices_serial", "devices_serial_port", false),
            ("devices_*", "devices_pci_slot", true),
            ("*_kvm_*_vcpu", "accel_kvm_x86_64_vcpu", true),
            ("*", "", true),
            ("kvm_*", "accel_kvm_x86_64_vcpu", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
        let patterns = ["devices_*", "-devices_serial_*"].map(str::to_owned);
        assert!(is_enabled(&patterns, "devices_pm"));
        assert!(!is_enabled(&patterns, "devices_serial_chip"));
    }

    #[test]
    fn an_event_that_does_not_exist_is_a_warning() {
        assert!(EVENTS.contains(&"devices_i8042") && EVENTS.is_sorted());
        assert!(
            config(&["-trace", "devices_i8042", "-d", "trace:nosuch_*"])
                .warnings
                .is_empty()
        );
        let warnings = config(&["-trace", "enable=nosuch"]).warnings;
        assert_eq!(warnings[0].location.as_deref(), Some("-trace enable=nosuch"));
        assert_eq!(warnings[0].text, "trace event 'nosuch' does not exist");
        assert!(matches!(help(&["-trace", "help"]), HelpRequest::TraceEvents));
        assert!(matches!(help(&["-d", "trace:help"]), HelpRequest::TraceEvents));
    }
}
