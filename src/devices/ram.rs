//! Guest memory as devices that copy to and from it see it.

/// The guest has no RAM at part of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no RAM at guest address {addr:#x}, {len} bytes")]
pub struct NoRam {
    /// Guest physical address.
    pub addr: u64,
    /// Bytes.
    pub len: usize,
}

/// Guest memory.
pub trait GuestRam: Send + Sync {
    /// Reads from guest physical address `addr`.
    ///
    /// # Errors
    /// There is no RAM at part of the range.
    fn read(&self, addr: u64, data: &mut [u8]) -> Result<(), NoRam>;
    /// Writes to guest physical address `addr`.
    ///
    /// # Errors
    /// There is no RAM at part of the range.
    fn write(&self, addr: u64, data: &[u8]) -> Result<(), NoRam>;
}
