//! Integers as they lie in a stream: big-endian.

use super::error::StateError;
use super::input::Input;

/// A fixed-size integer of a stream.
pub trait Integer: Copy {
    /// QEMU's name of the type.
    const TYPE: &'static str;
    /// Bytes it takes.
    const SIZE: usize;

    /// Appends it.
    fn put(self, bytes: &mut Vec<u8>);

    /// Takes one.
    ///
    /// # Errors
    /// The data end before.
    fn take(input: &mut Input<'_>) -> Result<Self, StateError>;
}

macro_rules! integers {
    ($($int:ty: $name:literal),*) => {$(
        impl Integer for $int {
            const TYPE: &'static str = $name;
            const SIZE: usize = size_of::<$int>();

            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_be_bytes());
            }

            fn take(input: &mut Input<'_>) -> Result<Self, StateError> {
                input.array().map(Self::from_be_bytes)
            }
        }
    )*};
}

integers!(u8: "uint8", u16: "uint16", u32: "uint32", u64: "uint64", i8: "int8", i16: "int16", i32: "int32", i64: "int64");

impl Integer for bool {
    const TYPE: &'static str = "bool";
    const SIZE: usize = 1;

    fn put(self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(self));
    }

    fn take(input: &mut Input<'_>) -> Result<Self, StateError> {
        u8::take(input).map(|byte| byte != 0)
    }
}
