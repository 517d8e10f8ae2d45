//! The options of `remuda serve`.

use std::path::PathBuf;

use crate::target::Target;

/// What the server is told at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// Where clients connect.
    pub(super) control: PathBuf,
    /// Where the guests' QMP sockets are made.
    pub(super) directory: PathBuf,
    /// The architecture of the guests.
    pub(super) target: Target,
}

impl Options {
    /// Reads the arguments behind `serve`. An option's value follows it, or stands behind `=`.
    ///
    /// # Errors
    /// Names the argument at fault.
    pub(super) fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut control = None;
        let mut directory = PathBuf::from("/run/remuda");
        let mut target = if cfg!(target_arch = "s390x") {
            Target::S390x
        } else {
            Target::X86_64
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let (name, mut attached) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (argument.as_str(), None),
            };
            let mut value = || {
                let value = attached.take().or_else(|| arguments.next().map(String::as_str));
                value
                    .filter(|value| !value.is_empty())
                    .ok_or_else(|| format!("{name} requires an argument"))
            };
            match name {
                "--control" => control = Some(PathBuf::from(value()?)),
                "--directory" => directory = PathBuf::from(value()?),
                "--target" => {
                    target = match value()? {
                        "x86_64" => Target::X86_64,
                        "s390x" => Target::S390x,
                        other => return Err(format!("--target {other}: must be x86_64 or s390x")),
                    }
                }
                other => {
                    return Err(format!(
                        "{other}: invalid option\nusage: remuda serve [--control PATH] [--directory PATH] [--target x86_64|s390x]"
                    ));
                }
            }
        }
        let control = control.unwrap_or_else(|| directory.join("control.sock"));
        Ok(Self {
            control,
            directory,
            target,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, String> {
        Options::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_control_socket_lies_in_the_directory_unless_told_otherwise() {
        assert_eq!(
            parse(&["--directory", "/d"]).unwrap().control,
            PathBuf::from("/d/control.sock")
        );
        assert_eq!(
            parse(&["--control", "/c", "--directory", "/d"]).unwrap().control,
            PathBuf::from("/c")
        );
        assert_eq!(parse(&["--target", "s390x"]).unwrap().target, Target::S390x);
        assert_eq!(
            parse(&["--control=/c", "--target=s390x"]),
            parse(&["--control", "/c", "--target", "s390x"])
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(parse(&["--control"]), Err("--control requires an argument".into()));
        assert_eq!(parse(&["--control="]), Err("--control requires an argument".into()));
        assert!(parse(&["--target", "vax"]).unwrap_err().contains("vax"));
        assert!(parse(&["--pool"]).unwrap_err().starts_with("--pool: invalid option"));
    }
}
