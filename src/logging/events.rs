//! Names of events, and the patterns that `-trace`, `-d trace:` and the monitors choose them by.
//!
//! An event has the name of the place in the source that it comes from, such as `devices_serial_uart`.

include!(concat!(env!("OUT_DIR"), "/trace_events.rs"));

/// The names that fit a pattern, each with its place in [`EVENTS`].
pub fn matching(pattern: &str) -> impl Iterator<Item = (usize, &'static str)> + '_ {
    let events = EVENTS.iter().copied().enumerate();
    events.filter(move |(_, name)| fits(pattern, name))
}

/// Whether a pattern stands for one event alone.
#[must_use]
pub fn is_name(pattern: &str) -> bool {
    !pattern.contains('*')
}

/// What to tell the user about a pattern that is the name of no event.
#[must_use]
pub fn complaint(pattern: &str) -> Option<String> {
    let (name, _) = split_sign(pattern);
    (is_name(name) && !EVENTS.contains(&name)).then(|| format!("trace event '{name}' does not exist"))
}

/// A pattern without the `-` that takes events out, and whether it adds them.
#[must_use]
pub fn split_sign(pattern: &str) -> (&str, bool) {
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
    let (between, end) = tail.rsplit_once('*').unwrap_or(("", tail));
    let Some(mut rest) = name.strip_prefix(head) else {
        return false;
    };
    // The first place where a part fits leaves most to those that follow.
    for part in between.split('*') {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("devices_serial", "devices_serial", true),
            ("devices_serial", "devices_serial_port", false),
            ("devices_*", "devices_pci_slot", true),
            ("*_kvm_*_vcpu", "accel_kvm_x86_64_vcpu", true),
            ("*", "", true),
            ("kvm_*", "accel_kvm_x86_64_vcpu", false),
            ("*a*b", "ab", true),
            ("a*a", "a", false),
            ("a*ab*b", "aabb", true),
            ("a*ab*b", "aab", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
        assert_eq!(split_sign("-devices_*"), ("devices_*", false));
        assert_eq!(matching("devices_i8042").count(), 1);
        assert!(matching("*").map(|(place, _)| place).eq(0..EVENTS.len()));
    }
}
