//! What a guest may do to a function's configuration space: each access is a byte with size and direction, two of the
//! offset, and for a write as many of the value.

use remuda::devices::pci::{BarKind, ConfigSpace};

/// The bytes of a configuration space.
const SIZE: u16 = 4096;

/// One guest.
pub(crate) fn run(bytes: &[u8]) {
    let mut space = ConfigSpace::new(0x1b36, 0x000c, [6, 4, 0], 0).with_interrupt_pin(1);
    space.add_bar(0, BarKind::Memory32, 4096);
    space.add_capability(0x10, &[0; 58]);
    let mut space = space.sealed();
    let fixed = [space.u32(0), space.u32(8)];
    let mut rest = bytes;
    while let [kind, low, high, more @ ..] = rest {
        let size = 1usize << (kind % 3);
        let at = (u16::from_le_bytes([*low, *high]) % SIZE) & !(size as u16 - 1);
        rest = more;
        if kind & 0x80 == 0 {
            space.read(at, &mut [0; 4][..size]);
            continue;
        }
        let Some((value, more)) = rest.split_at_checked(size) else {
            break;
        };
        rest = more;
        space.write(at, value);
        if let Some(range) = space.bar_range(0) {
            assert!(range.end - range.start == 4096 && range.start % 4096 == 0);
        }
    }
    assert_eq!(
        [space.u32(0), space.u32(8)],
        fixed,
        "a guest cannot change what a function is"
    );
    let saved = space.bytes().to_vec();
    assert_eq!(space.restore(&saved), Ok(()));
    space.reset();
}
