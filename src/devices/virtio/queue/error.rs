//! What drivers do wrong.

/// Why a ring cannot be used any further. The texts are those that QEMU logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// More buffers became available at once than the ring holds.
    #[error("Guest moved used index from {from} to {to}")]
    Moved {
        /// The index before.
        from: u16,
        /// The index now.
        to: u16,
    },
    /// A buffer starts with a descriptor that the ring does not have.
    #[error("Guest says index {0} is available")]
    Head(u16),
    /// A chain goes on at a descriptor that its table does not have.
    #[error("Desc next is {0}")]
    Next(u16),
    /// A chain has more descriptors than its table.
    #[error("Looped descriptor")]
    Looped,
    /// A table of indirect descriptors that is empty, not a multiple of a descriptor, or goes on elsewhere.
    #[error("Invalid size for indirect buffer table")]
    IndirectTable,
    /// A table of indirect descriptors within one.
    #[error("Indirect descriptor in an indirect table")]
    Nested,
    /// A part that the device reads follows one that it writes.
    #[error("Incorrect order for descriptors")]
    Order,
    /// A part without bytes.
    #[error("virtio: zero sized buffers are not allowed")]
    Empty,
    /// A buffer with more parts than there may be.
    #[error("virtio: too many descriptors in a chain")]
    TooMany,
    /// A buffer that has nothing to be written, where there has to be.
    #[error("a buffer for the device to write to has no such part")]
    NothingToWrite,
    /// More buffers are under way than the ring holds.
    #[error("Virtqueue size exceeded")]
    Exceeded,
    /// A part of a buffer is not in RAM.
    #[error("virtio: bogus descriptor or out of resources")]
    Buffer,
    /// The ring, or a table of indirect descriptors, is not in RAM or not aligned.
    #[error("Cannot map descriptor ring at {0:#x}")]
    Ring(u64),
}
