//! What `-d` and the human monitor's `log` take.

use super::events;

/// What can be logged, and what that is.
pub const ITEMS: &[(&str, &str)] = &[
    ("guest_errors", "accesses by the guest that make no sense to the device"),
    ("unimp", "accesses by the guest to what is not implemented"),
];

/// What QEMU logs of a translator, of a program's system calls and of threads.
const NOT_HERE: &[&str] = &[
    "out_asm",
    "in_asm",
    "op",
    "op_opt",
    "op_ind",
    "op_plugin",
    "int",
    "exec",
    "cpu",
    "fpu",
    "mmu",
    "pcall",
    "cpu_reset",
    "page",
    "nochain",
    "plugin",
    "strace",
    "tid",
    "vpu",
    "invalid_mem",
];

/// One of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// What is there to choose from?
    Help,
    /// Which events are there?
    EventHelp,
    /// One of [`ITEMS`].
    Named(&'static str),
    /// The events that fit this pattern, as for [`events::split_sign`].
    Events(String),
}

/// Why something cannot be logged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// Nobody knows it.
    #[error("unknown log item '{0}'")]
    Unknown(String),
    /// QEMU knows it.
    #[error("log item '{0}' is not supported")]
    NotHere(String),
}

/// Reads a list with commas between its items.
///
/// # Errors
/// Names the first that is none.
pub fn parse(list: &str) -> Result<Vec<Item>, ItemError> {
    let mut items = Vec::new();
    for word in list.split(',') {
        match word {
            "help" | "?" => items.push(Item::Help),
            "trace:help" | "trace:?" => items.push(Item::EventHelp),
            "all" => items.extend(ITEMS.iter().map(|(name, _)| Item::Named(name))),
            word => items.push(one(word)?),
        }
    }
    Ok(items)
}

fn one(word: &str) -> Result<Item, ItemError> {
    if let Some(pattern) = word.strip_prefix("trace:") {
        return Ok(Item::Events(pattern.to_owned()));
    }
    match ITEMS.iter().find(|(name, _)| *name == word) {
        Some((name, _)) => Ok(Item::Named(name)),
        None if NOT_HERE.contains(&word) => Err(ItemError::NotHere(word.to_owned())),
        None => Err(ItemError::Unknown(word.to_owned())),
    }
}

/// The list of [`ITEMS`] for people, a line each.
#[must_use]
pub fn help() -> String {
    let mut text = "Log items (comma separated):\n".to_owned();
    for (name, what) in ITEMS {
        text.push_str(&format!("{name:15} {what}\n"));
    }
    text.push_str("trace:PATTERN   trace the events whose names match\n");
    text
}

/// The names of all events, a line each.
#[must_use]
pub fn event_help() -> String {
    events::EVENTS.iter().map(|name| format!("{name}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let both = vec![Item::Named("guest_errors"), Item::Named("unimp")];
        assert_eq!(parse("all"), Ok(both.clone()));
        assert_eq!(parse("guest_errors,unimp"), Ok(both));
        let mixed = parse("trace:-devices_*,help,trace:?").unwrap();
        assert_eq!(mixed, [Item::Events("-devices_*".into()), Item::Help, Item::EventHelp]);
        assert_eq!(
            parse("unimp,in_asm").unwrap_err().to_string(),
            "log item 'in_asm' is not supported"
        );
        assert_eq!(
            parse("unimp,nosuch").unwrap_err().to_string(),
            "unknown log item 'nosuch'"
        );
        assert_eq!(parse("").unwrap_err().to_string(), "unknown log item ''");
    }
}
