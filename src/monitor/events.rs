//! The event bus: one guest's events on their way to its clients.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;

use crate::qapi::types::Event;

/// An event as it is sent: encoded once for all clients.
pub type EventText = Rc<[u8]>;
