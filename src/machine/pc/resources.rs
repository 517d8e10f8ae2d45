//! What the rest of the process hands to a machine, already opened.

use std::{collections::HashMap, os::unix::net::UnixStream};

/// Descriptors for the guest's side of host back ends.
#[derive(Debug, Default)]
pub struct Resources {
    /// For each character device by id: a stream whose other end the back end has.
    pub chardevs: HashMap<String, UnixStream>,
}
