//! What `-cpu help` prints.

use super::model::definitions;
use super::tables::{CURRENT, GROUPS};
use crate::target::Target;

/// The models with their other names, then features and groups of features.
#[must_use]
pub fn help() -> String {
    let mut text = "Available CPUs:\n".to_owned();
    let mut line = |name: &str, what: &str| text += &format!("  {name:<20}  {what}\n");
    line(
        "qemu",
        "the default of machines without an accelerator (migration-safe)",
    );
    line("max", "all that the accelerator offers on this host");
    if Target::S390x.is_native() {
        line("host", "the CPU of this host, as far as KVM offers it");
    }
    for definition in definitions() {
        let made_after = format!("machine type {:04x} GA{}", definition.machine_type, definition.own_ga);
        line(definition.base_name, &format!("{made_after} (static, migration-safe)"));
        line(definition.name, &format!("{made_after} (migration-safe)"));
        for alias in definition.aliases() {
            line(alias, &format!("(alias of {})", definition.name));
        }
    }
    text += "\nRecognized feature flags:\n";
    for id in CURRENT.iter() {
        text += &format!("  {:<20}  {}\n", id.name(), id.entry().description);
    }
    text += "\nRecognized feature groups:\n";
    for group in &GROUPS {
        text += &format!("  {:<20}  {}\n", group.name, group.description);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_aliases_features_and_groups_are_listed() {
        let text = help();
        for line in [
            "  z13                   machine type 2964 GA1 (migration-safe)",
            "  z13-base              machine type 2964 GA1 (static, migration-safe)",
            "  2964-ga1              (alias of z13)",
            "  2066-ga1              (alias of z800)",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}");
        }
        assert!(
            text.contains("\n  nnpa ") && text.contains("\nRecognized feature groups:\n") && text.contains("\n  msa5 ")
        );
    }
}
