//! Errors of the rooms below that a client of a machine is told in their own words.

use crate::accel::{AccelError, Gone};
use crate::cpu::x86;
use crate::irq::NoSuchLine;
use crate::mem::{ListenerError, MapError};
use crate::qapi::QmpError;

impl QmpError for AccelError {}
impl QmpError for Gone {}
impl QmpError for ListenerError {}
impl QmpError for MapError {}
impl QmpError for NoSuchLine {}
impl QmpError for x86::Error {}
