//! Decoding of arguments and encoding of replies: what generated code is written in.
//!
//! [`Decode`] turns JSON values into the schema's types with QEMU's checks and its texts. [`Encode`] writes JSON
//! straight into bytes, members in the order of the schema, a space after each colon and comma.

mod any;
mod at;
mod decode;
mod encode;
mod fields;
mod policy;

pub use any::Any;
pub use at::{At, Mode};
pub use decode::{Decode, DecodeMembers, Null, decode_enum, decode_list, decode_size};
pub use encode::{Encode, EncodeMembers, ObjectWriter, encode_str, encoded, encoded_nothing};
pub use fields::{Fields, command_not_found, decode_arguments, decode_keyval, no_arguments};
pub use policy::{Feature, Policy, Reaction};

/// What every generated event type offers.
pub trait WireEvent {
    /// Its name on the wire.
    fn name(&self) -> &'static str;

    /// Appends its data as a JSON object; nothing if it has no data.
    fn encode_data(&self, out: &mut Vec<u8>);

    /// Events with the same key are held back when they come too often; `None` never is.
    fn throttle_key(&self) -> Option<String>;
}

#[cfg(test)]
mod tests;
