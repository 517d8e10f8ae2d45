//! Numbers of the stream. All integers in it are big-endian; a "string" is a length byte and that many bytes.

/// The first bytes.
pub(super) const MAGIC: u32 = 0x5145_564d;
/// The version of the stream.
pub(super) const VERSION: u32 = 3;

/// What a section begins with.
pub(super) mod kind {
    pub(crate) const EOF: u8 = 0x00;
    pub(crate) const START: u8 = 0x01;
    pub(crate) const PART: u8 = 0x02;
    pub(crate) const END: u8 = 0x03;
    pub(crate) const FULL: u8 = 0x04;
    pub(crate) const DESCRIPTION: u8 = 0x06;
    pub(crate) const CONFIGURATION: u8 = 0x07;
    pub(crate) const COMMAND: u8 = 0x08;
    pub(crate) const FOOTER: u8 = 0x7e;
}

/// Commands.
pub(super) mod command {
    pub(crate) const OPEN_RETURN_PATH: u16 = 1;
    pub(crate) const PING: u16 = 2;
    pub(crate) const SWITCHOVER_START: u16 = 11;
}

/// Messages of the return path: 16-bit number, 16-bit length, data.
pub(super) mod answer {
    pub(crate) const SHUT: u16 = 1;
    pub(crate) const PONG: u16 = 2;
}

/// The section of memory.
pub(super) const RAM: &str = "ram";
/// Its version.
pub(super) const RAM_VERSION: u32 = 4;
/// Bytes of a page of the stream.
pub(super) const PAGE: usize = 4096;

/// Flags of a record of memory, in the low bits of its address.
pub(super) mod record {
    pub(crate) const ZERO: u64 = 0x02;
    pub(crate) const MEM_SIZE: u64 = 0x04;
    pub(crate) const PAGE: u64 = 0x08;
    pub(crate) const EOS: u64 = 0x10;
    /// The block is that of the record before.
    pub(crate) const CONTINUE: u64 = 0x20;
    pub(crate) const XBZRLE: u64 = 0x40;
    /// All flags.
    pub(crate) const MASK: u64 = 0xfff;
}
