//! What a source may send as a guest that moves.

use remuda::migration::MigrationError;
use remuda::migration::read::{Destination, read};
use remuda::vmstate::pc::GlobalState;
use remuda::vmstate::{ReceivedSection, StateErrorKind, load};

/// Bytes of the only block.
const LEN: u64 = 64 << 10;
const PAGE: usize = 4096;

/// A guest with one block of memory, whose every section is that of the run state.
struct Guest;

impl Destination for Guest {
    fn machine(&self) -> &str {
        "m"
    }

    fn block(&mut self, name: &str, len: u64) -> Result<usize, MigrationError> {
        match len {
            LEN => self.find_block(name),
            theirs => Err(MigrationError::BlockSize {
                name: name.to_owned(),
                theirs,
                own: LEN,
            }),
        }
    }

    fn find_block(&mut self, name: &str) -> Result<usize, MigrationError> {
        match name {
            "r" => Ok(0),
            _ => Err(MigrationError::UnknownBlock(name.to_owned())),
        }
    }

    fn page(&mut self, block: usize, address: u64, _: Option<&[u8; PAGE]>) -> Result<(), MigrationError> {
        assert_eq!((block, address % 4096), (0, 0), "a page of the block that was found");
        Ok(())
    }

    fn section(&mut self, section: &ReceivedSection<'_>, end: &[u8]) -> Result<Option<usize>, MigrationError> {
        let len = match load(&mut GlobalState::default(), section.version, section.bytes) {
            Ok(len) => len,
            Err(error) if matches!(error.kind, StateErrorKind::Truncated { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match &section.bytes[len..] {
            rest if rest.starts_with(end) => Ok(Some(len)),
            rest if rest.len() < end.len() => Ok(None),
            _ => Err(MigrationError::Footer(section.name.to_owned())),
        }
    }

    fn open_return_path(&mut self) -> Result<(), MigrationError> {
        Ok(())
    }

    fn pong(&mut self, _: u32) -> Result<(), MigrationError> {
        Ok(())
    }
}

/// One stream. It is read to its end, or is an error.
pub(crate) fn run(bytes: &[u8]) {
    let _ = read(bytes, &mut Guest);
}

/// A stream with everything in it that this reader knows.
pub(crate) fn seed() -> Vec<u8> {
    let mut state = vec![0, 0, 0, 8];
    state.extend_from_slice(b"running\0");
    state.resize(4 + 32 + 2 + 66, 0);
    [
        &b"QEVM\0\0\0\x03\x07\0\0\0\x01m\x08\0\x01\0\0\x08\0\x02\0\x04\0\0\0\x01"[..],
        b"\x01\0\0\0\x01\x03ram\0\0\0\0\0\0\0\x04\0\0\0\0\0\x01\0\x04\x01r\0\0\0\0\0\x01\0\0",
        b"\0\0\0\0\0\0\0\x10\x7e\0\0\0\x01\x02\0\0\0\x01\0\0\0\0\0\0\0\x02\x01r\0",
        b"\0\0\0\0\0\0\x10\x28",
        &[5; 4096],
        b"\0\0\0\0\0\0\0\x10\x7e\0\0\0\x01\x08\0\x0b\0\0\x03\0\0\0\x01\0\0\0\0\0\0\0\x10\x7e\0\0\0\x01",
        b"\x04\0\0\0\x02\x01g\0\0\0\0\0\0\0\x01",
        &state,
        b"\x7e\0\0\0\x02\0\x06\0\0\0\x02{}",
    ]
    .concat()
}
