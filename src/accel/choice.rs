//! Which accelerators there are, and what a command line may say about them.

use super::hostfile;
use crate::target::Target;

/// The accelerators that a command line gets when it names none, in order.
#[must_use]
pub const fn built_in(target: Target) -> &'static [&'static str] {
    if target.is_native() { &["kvm"] } else { &[] }
}

/// Whether this binary has an accelerator of this name.
#[must_use]
pub fn is_known(target: Target, name: &str) -> bool {
    built_in(target).contains(&name) || name == hostfile::NAME
}

/// Checks that this binary has an accelerator of this name.
///
/// # Errors
/// It has none.
pub fn check_name(target: Target, name: &str) -> Result<(), String> {
    match is_known(target, name) {
        true => Ok(()),
        false => Err(format!("invalid accelerator {name}")),
    }
}

/// Why an accelerator runs no guests of `target`; none for one that does.
#[must_use]
pub fn refusal(target: Target, name: &str) -> Option<String> {
    if built_in(target).contains(&name) {
        return None;
    }
    Some(match name {
        hostfile::NAME => {
            "accelerator hostfile runs no guest: it answers questions about the host in its file".to_owned()
        }
        other => format!("invalid accelerator {other}"),
    })
}

/// Checks a list of accelerators to be probed, in which each has a name and properties. Where several are listed, one
/// that is not built in does not matter; `tcg` never does, as clients without KVM ask for it.
///
/// # Errors
/// None of them is known, or one has a property that it does not understand.
pub fn check_probed<'a, P>(target: Target, accels: impl Iterator<Item = (&'a str, P)>) -> Result<(), String>
where
    P: AsRef<[(String, String)]>,
{
    let mut labels = Vec::new();
    let mut stranger = None;
    let mut is_any_known = false;
    for (name, props) in accels {
        let props = props.as_ref();
        if name == hostfile::NAME {
            hostfile::check_properties(props)?;
            let label = hostfile::label(props);
            if labels.contains(&label.to_owned()) {
                return Err(format!(
                    "two accelerators answer as '{label}': tell them apart with name=NAME"
                ));
            }
            labels.push(label.to_owned());
        }
        if is_known(target, name) || name == "tcg" {
            is_any_known = true;
        } else {
            stranger.get_or_insert_with(|| name.to_owned());
        }
    }
    match stranger {
        Some(name) if !is_any_known => Err(format!("invalid accelerator {name}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Target = if Target::X86_64.is_native() {
        Target::X86_64
    } else {
        Target::S390x
    };
    const ELSEWHERE: Target = if Target::X86_64.is_native() {
        Target::S390x
    } else {
        Target::X86_64
    };

    fn check(target: Target, list: &str) -> Result<(), String> {
        let pair = |text: &str| {
            let (key, value) = text.split_once('=').unwrap();
            (key.to_owned(), value.to_owned())
        };
        let accels: Vec<(&str, Vec<(String, String)>)> = list
            .split(' ')
            .map(|accel| {
                let mut parts = accel.split(',');
                (parts.next().unwrap(), parts.map(pair).collect())
            })
            .collect();
        check_probed(target, accels.iter().map(|(name, props)| (*name, props)))
    }

    #[test]
    fn guests_run_on_kvm_of_their_own_architecture() {
        assert_eq!(refusal(HERE, "kvm"), None);
        assert_eq!(refusal(ELSEWHERE, "kvm").unwrap(), "invalid accelerator kvm");
        assert_eq!(refusal(HERE, "tcg").unwrap(), "invalid accelerator tcg");
        assert!(refusal(HERE, "hostfile").unwrap().contains("runs no guest"));
    }

    #[test]
    fn what_is_probed_must_be_there() {
        for list in [
            "kvm",
            "kvm tcg",
            "tcg",
            "hvf kvm",
            "hostfile,path=a",
            "hostfile,path=a hostfile,path=b,name=b",
        ] {
            assert_eq!(check(HERE, list), Ok(()), "{list}");
        }
        assert_eq!(check(ELSEWHERE, "kvm tcg"), Ok(()));
        for (target, list, error) in [
            (ELSEWHERE, "kvm", "invalid accelerator kvm"),
            (HERE, "hvf", "invalid accelerator hvf"),
            (HERE, "hostfile", "accelerator hostfile needs path=FILE"),
            (
                HERE,
                "kvm hostfile,path=a,size=1",
                "Property 'hostfile-accel.size' not found",
            ),
            (
                HERE,
                "hostfile,path=a hostfile,path=b",
                "two accelerators answer as 'hostfile': tell them apart with name=NAME",
            ),
        ] {
            assert_eq!(check(target, list).unwrap_err(), error);
        }
    }
}
