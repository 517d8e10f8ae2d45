//! What a guest, a crash and a hostile image meet.

mod crash;
mod hostile;
mod parallel;
mod requests;
mod trouble;

use std::sync::Arc;

use super::{CreateOptions, OpenOptions, Qcow2, create};
use crate::block::memory::MemoryDriver;
use crate::block::testing::block_on;
use crate::block::{BlockDriver, IoBuffer, Node, NodeConfig, Pool, WriteFlags, ZeroFlags};

/// SplitMix64: the same numbers every time.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

/// A file in memory.
pub(super) fn memory(bytes: Vec<u8>) -> Arc<Node> {
    let config = NodeConfig {
        unmap: true,
        ..NodeConfig::default()
    };
    Node::new("file", Box::new(MemoryDriver::new(bytes)), config)
}

/// A new image.
pub(super) fn new_image(options: &CreateOptions) -> Arc<Node> {
    let file = memory(Vec::new());
    block_on(create(&file, None, options, Pool::new())).unwrap();
    file
}

pub(super) fn open(file: &Arc<Node>) -> Qcow2 {
    block_on(Qcow2::open(OpenOptions::new(Arc::clone(file), Pool::new()))).unwrap()
}

pub(super) fn read(image: &Qcow2, offset: u64, len: usize) -> Vec<u8> {
    let buffer = IoBuffer::zeroed(len);
    buffer.fill(0xee);
    block_on(image.read(offset, buffer.clone())).unwrap();
    buffer.to_vec()
}

pub(super) fn write(image: &Qcow2, offset: u64, bytes: &[u8]) {
    block_on(image.write(offset, IoBuffer::copy_of(bytes), WriteFlags::default())).unwrap();
}

/// All bytes of a file.
pub(super) fn bytes_of(file: &Node) -> Vec<u8> {
    let buffer = IoBuffer::zeroed(file.length() as usize);
    block_on(file.read(0, buffer.clone())).unwrap();
    buffer.to_vec()
}

/// Closes an image, opens it again, and expects it to be without any fault.
pub(super) fn reopen_clean(image: Qcow2, file: &Arc<Node>) -> Qcow2 {
    block_on(image.close()).unwrap();
    drop(image);
    let image = open(file);
    let report = block_on(image.check(false)).unwrap();
    assert_eq!((report.corruptions, report.leaks), (0, 0), "{:#?}", report.problems);
    image
}

/// One random change, done to an image and to what it should be.
pub(super) fn change(random: &mut Random, image: &Qcow2, model: &mut [u8]) -> Result<(), crate::block::BlockError> {
    let size = model.len() as u64;
    let offset = random.below(size);
    let most = [512, 4096, 65536, 200_000][random.below(4) as usize];
    let mut len = (1 + random.below(most)).min(size - offset);
    let mut offset = offset;
    if random.below(3) == 0 {
        offset &= !511;
        len = (len.next_multiple_of(512)).min(size - offset);
    }
    let range = offset as usize..(offset + len) as usize;
    match random.below(8) {
        0 => {
            let flags = ZeroFlags {
                may_unmap: random.below(2) == 0,
                fua: false,
            };
            match block_on(image.write_zeroes(offset, len, flags)) {
                Err(crate::block::BlockError::Unsupported(_)) => {}
                result => {
                    result?;
                    model[range].fill(0);
                }
            }
        }
        1 => {
            block_on(image.discard(offset, len))?;
            // What discarded bytes read as is the image's to say.
            let seen = read(image, offset, len as usize);
            model[range].copy_from_slice(&seen);
        }
        2 => block_on(image.flush())?,
        _ => {
            let byte = random.next() as u8;
            let data: Vec<u8> = (0..len).map(|at| byte.wrapping_add((at >> 9) as u8)).collect();
            model[range].copy_from_slice(&data);
            block_on(image.write(offset, IoBuffer::copy_of(&data), WriteFlags::default()))?;
        }
    }
    Ok(())
}
