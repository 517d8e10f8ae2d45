//! What the machine type decides about CPUs.

use super::tables::{MACHINES, Setting};

/// The release whose machine types are newest.
const NEWEST: (u32, u32) = (10, 2);

/// The machine's part in CPU models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineCompat {
    release: (u32, u32),
    default_version: DefaultVersion,
}

/// The version of a model that is meant when none is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DefaultVersion {
    /// The first one.
    First,
    /// The last one.
    Latest,
    /// There were no versions then.
    None,
}

impl MachineCompat {
    /// The newest machine types, and none at all.
    #[must_use]
    pub const fn newest() -> Self {
        Self {
            release: NEWEST,
            default_version: DefaultVersion::First,
        }
    }

    /// By the name of a machine type (`none`, `microvm`, `q35`, `pc-q35-9.0`, ...).
    #[must_use]
    pub fn of_machine(name: &str) -> Option<Self> {
        match name {
            "none" | "q35" | "pc" => return Some(Self::newest()),
            "microvm" => {
                return Some(Self {
                    default_version: DefaultVersion::Latest,
                    ..Self::newest()
                });
            }
            _ => {}
        }
        let version = name
            .strip_prefix("pc-q35-")
            .or_else(|| name.strip_prefix("pc-i440fx-"))?;
        let (major, minor) = version.split_once('.')?;
        let release = (major.parse().ok()?, minor.parse().ok()?);
        let default_version = if release <= (4, 0) {
            DefaultVersion::None
        } else {
            DefaultVersion::First
        };
        Some(Self {
            release,
            default_version,
        })
    }

    pub(super) fn default_version(self) -> DefaultVersion {
        self.default_version
    }

    /// What differs from the newest machine types; later ones override earlier ones.
    pub(super) fn settings(self) -> impl Iterator<Item = &'static Setting> {
        MACHINES
            .iter()
            .filter(move |release| self.release <= release.up_to)
            .flat_map(|release| release.settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_machines_change_more() {
        let count = |name| MachineCompat::of_machine(name).unwrap().settings().count();
        assert_eq!((count("none"), count("pc-q35-10.2"), count("q35")), (0, 0, 0));
        assert_eq!(count("pc-q35-10.1"), 1);
        assert!(count("pc-q35-9.0") > count("pc-q35-9.1"));
        assert_eq!(MachineCompat::of_machine("s390-ccw-virtio"), None);
    }
}
