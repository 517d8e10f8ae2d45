//! What a forked process takes along from the command line: plain data.
#![expect(unsafe_code, reason = "that a type owns no descriptor is beyond the type system")]

use crate::cmdline::{Config, Sandbox};
use crate::host::process::HoldsNoDescriptor;
use crate::machine::config::AccelConfig;
use crate::target::Target;

use super::zygote::Work;

// SAFETY: texts, numbers and lists of them.
unsafe impl HoldsNoDescriptor for Config {}
// SAFETY: a few choices.
unsafe impl HoldsNoDescriptor for Sandbox {}
// SAFETY: texts.
unsafe impl HoldsNoDescriptor for AccelConfig {}
// SAFETY: a choice.
unsafe impl HoldsNoDescriptor for Target {}
// SAFETY: a text.
unsafe impl HoldsNoDescriptor for String {}
// SAFETY: a function without captures.
unsafe impl HoldsNoDescriptor for Work {}
