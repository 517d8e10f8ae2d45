//! Pages of a guest's memory that come from elsewhere.

use super::error::MigrationError;
use super::wire::PAGE;
use crate::machine::saved::{StreamBlock, StreamMemory};

const ZERO: [u8; PAGE] = [0; PAGE];

/// The number of a block for which there is no use here.
const UNUSED: usize = usize::MAX;

/// Finds the block of a list, which has `len` bytes on the other side.
pub(super) fn listed(memory: &StreamMemory, name: &str, len: u64) -> Result<usize, MigrationError> {
    let index = find(memory, name)?;
    let Some(block) = memory.blocks.get(index) else {
        return Ok(index);
    };
    let fits = len == block.len || block.max > block.len && len <= block.max;
    fits.then_some(index).ok_or_else(|| MigrationError::BlockSize {
        name: name.to_owned(),
        theirs: len,
        own: block.len,
    })
}

/// Finds a block.
pub(super) fn find(memory: &StreamMemory, name: &str) -> Result<usize, MigrationError> {
    let index = memory.blocks.iter().position(|block| block.name == name);
    let unused = || memory.unused.contains(&name).then_some(UNUSED);
    index
        .or_else(unused)
        .ok_or_else(|| MigrationError::UnknownBlock(name.to_owned()))
}

/// Puts a page where it belongs. Zeroes are not written where there are zeroes, so that no memory is taken for them.
pub(super) fn store(
    memory: &StreamMemory,
    index: usize,
    address: u64,
    content: Option<&[u8; PAGE]>,
) -> Result<(), MigrationError> {
    let Some(StreamBlock { name, block, .. }) = memory.blocks.get(index) else {
        return Ok(());
    };
    let outside = |_| MigrationError::Page {
        name: name.clone(),
        address,
    };
    if let Some(content) = content {
        return block.write(address, content).map_err(outside);
    }
    let mut present = [0; PAGE];
    block.read(address, &mut present).map_err(outside)?;
    match present == ZERO {
        true => Ok(()),
        false => block.write(address, &ZERO).map_err(outside),
    }
}

/// Reads a page; none if it is zero.
pub(super) fn fetch<'a>(
    block: &StreamBlock,
    address: u64,
    page: &'a mut [u8; PAGE],
) -> Result<Option<&'a [u8; PAGE]>, MigrationError> {
    let outside = |_| MigrationError::Page {
        name: block.name.clone(),
        address,
    };
    block.block.read(address, page).map_err(outside)?;
    Ok((*page != ZERO).then_some(&*page))
}
