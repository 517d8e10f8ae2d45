//! Reference counts as they lie in a refcount block, of any width from a bit to eight bytes.

/// The count at `index` in a block, or in a part of one that starts with a whole byte. The index is within it.
#[must_use]
pub(super) fn get(block: &[u8], order: u32, index: usize) -> u64 {
    if order < 3 {
        let per_byte = 8 >> order;
        let shift = (index % per_byte) << order;
        let mask = (1u64 << (1 << order)) - 1;
        return (u64::from(block[index / per_byte]) >> shift) & mask;
    }
    let bytes = 1 << (order - 3);
    block[index * bytes..][..bytes]
        .iter()
        .fold(0, |count, byte| count << 8 | u64::from(*byte))
}

/// Sets the count at `index`, which the width has room for. Returns the bytes that changed.
pub(super) fn set(block: &mut [u8], order: u32, index: usize, count: u64) -> std::ops::Range<usize> {
    if order < 3 {
        let per_byte = 8 >> order;
        let shift = (index % per_byte) << order;
        let mask = ((1u32 << (1 << order)) - 1) as u8;
        let byte = &mut block[index / per_byte];
        *byte = *byte & !(mask << shift) | (count as u8 & mask) << shift;
        return index / per_byte..index / per_byte + 1;
    }
    let bytes = 1 << (order - 3);
    let range = index * bytes..(index + 1) * bytes;
    block[range.clone()].copy_from_slice(&count.to_be_bytes()[8 - bytes..]);
    range
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_keeps_its_neighbours() {
        for order in 0..=6 {
            let mut block = [0; 64];
            let entries = (64 * 8) >> order;
            let max = u64::MAX >> (64 - (1 << order));
            for index in 0..entries {
                set(&mut block, order, index, (index as u64 * 7) & max);
            }
            set(&mut block, order, 3, max);
            for index in (0..entries).filter(|index| *index != 3) {
                assert_eq!(
                    get(&block, order, index),
                    (index as u64 * 7) & max,
                    "order {order}, {index}"
                );
            }
            assert_eq!(get(&block, order, 3), max);
        }
    }

    #[test]
    fn narrow_counts_begin_with_the_least_bit() {
        let mut block = [0; 2];
        assert_eq!(set(&mut block, 0, 9, 1), 1..2);
        assert_eq!(block, [0, 2]);
        assert_eq!(set(&mut block, 4, 0, 0x1234), 0..2);
        assert_eq!(block, [0x12, 0x34]);
    }
}
