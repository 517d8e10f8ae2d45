//! The table of options, in the order of the help text.

mod generic;
mod groups;
mod guest;
mod refused;
mod run;

pub(super) use groups::{CHARDEV, GLOBAL};

use super::option::OptionInfo;

/// Every option there is, those that are turned down at the end.
pub fn options() -> impl Iterator<Item = &'static OptionInfo> {
    let parts: [&'static [OptionInfo]; 4] = [guest::OPTIONS, run::OPTIONS, generic::OPTIONS, refused::OPTIONS];
    parts.into_iter().flatten()
}
