//! What the processes of a guest say to each other: typed messages that own their descriptors, over a socket pair.
//!
//! [`message`] and [`nursery`] declare each message once; its fields say how they lie on the wire ([`field`]), and a message with its
//! descriptors is one frame ([`frame`]). The same codec serves a process with an async runtime and one without:
//! [`channel`] is the end of a process that polls, `monitor::link` the end of one with a runtime.
//!
//! Either side of a link between a monitor and its worker begins with a [`message::Hello`], which says what it understands, and may ask the other
//! something at any time. An answer carries the id of its request; whatever else arrives meanwhile is handled in its
//! own right.

pub mod channel;
pub mod field;
pub mod frame;
pub mod message;
pub mod nursery;
pub mod socket;
