//! `-run-with`: how the process lives.

use super::builder::Builder;
use super::error::Error;
use super::opts::Opts;

/// `-run-with`.
pub(super) fn apply(_: &mut Builder, opts: &Opts) -> Result<(), Error> {
    if opts.boolean("async-teardown") == Some(true) {
        return Err(Error::new("asynchronous teardown is not supported"));
    }
    match ["chroot", "user"].into_iter().find(|key| opts.get(key).is_some()) {
        Some(key) => Err(Error::new(format!(
            "'{key}' is not supported: start the process with the identity and root directory it shall have"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::cmdline::tests::{config, message};

    #[test]
    fn what_is_not_done_is_named() {
        config(&["-run-with", "async-teardown=off"]);
        for (argument, complaint) in [
            ("async-teardown=on", "asynchronous teardown is not supported"),
            (
                "async-teardown=maybe",
                "Parameter 'async-teardown' expects 'on' or 'off'",
            ),
            (
                "chroot=/",
                "'chroot' is not supported: start the process with the identity and root directory it shall have",
            ),
            ("foo=bar", "Invalid parameter 'foo'"),
        ] {
            assert_eq!(
                message(&["-run-with", argument]),
                format!("-run-with {argument}: {complaint}")
            );
        }
    }
}
