//! What holds for every node, whatever its driver.

use std::num::NonZeroU32;

use super::memory::MemoryDriver;
use super::testing::block_on;
use super::*;

fn unit(bytes: u32) -> NonZeroU32 {
    NonZeroU32::new(bytes).unwrap()
}

/// A node whose driver takes only whole blocks of 512 bytes, at most two at once.
fn blocks(bytes: Vec<u8>, config: NodeConfig) -> std::sync::Arc<Node> {
    let mut driver = MemoryDriver::new(bytes);
    driver.limits = Limits {
        request_alignment: unit(512),
        memory_alignment: unit(4096),
        max_transfer: Some(unit(1024)),
        ..Limits::default()
    };
    Node::new("n", Box::new(driver), config)
}

fn contents(node: &Node) -> Vec<u8> {
    let buffer = IoBuffer::zeroed(usize::try_from(node.length()).unwrap());
    block_on(node.read(0, buffer.clone())).unwrap();
    buffer.to_vec()
}

#[test]
fn a_buffer_is_one_range_whatever_it_is_made_of() {
    let buffer = IoBuffer::copy_of(b"0123").followed_by(&IoBuffer::copy_of(b"456789"));
    assert_eq!((buffer.len(), buffer.slice(2..7).to_vec()), (10, b"23456".to_vec()));
    assert_eq!(buffer.slice(8..99).to_vec(), b"89");
    assert!(buffer.slice(10..12).is_empty());
    buffer.slice(3..5).copy_from(b"ab");
    assert_eq!(buffer.to_vec(), b"012ab56789", "a slice is of the same memory");
    buffer.copy_from_buffer(&IoBuffer::copy_of(b"XY").followed_by(&IoBuffer::copy_of(b"ZZZ")));
    assert_eq!(buffer.to_vec(), b"XYZZZ56789");
    assert!(!buffer.is_zero());
    buffer.fill(0);
    assert!(buffer.is_zero() && IoBuffer::default().is_zero());
}

#[test]
fn requests_of_any_place_become_such_as_the_driver_takes() {
    let node = blocks((0..4096_u32).map(|n| n as u8).collect(), NodeConfig::default());
    let mut expected = contents(&node);
    for (offset, len) in [(0, 4096), (1, 1), (511, 2), (512, 512), (700, 1500), (3000, 1096)] {
        let data: Vec<u8> = (0..len).map(|n| (offset + n) as u8 ^ 0x5a).collect();
        // Memory that begins at an odd address.
        let from = IoBuffer::copy_of(&[&[0], &data[..]].concat()).slice(1..len + 1);
        block_on(node.write(offset as u64, from, WriteFlags::default())).unwrap();
        expected[offset..offset + len].copy_from_slice(&data);
        assert_eq!(contents(&node), expected, "{offset} {len}");
        let into = IoBuffer::zeroed(len + 1).slice(1..len + 1);
        block_on(node.read(offset as u64, into.clone())).unwrap();
        assert_eq!(into.to_vec(), data);
    }
}

#[test]
fn a_read_only_node_is_not_written_to() {
    let config = NodeConfig {
        read_only: true,
        ..NodeConfig::default()
    };
    let node = blocks(vec![1; 1024], config);
    let write = || node.write(0, IoBuffer::zeroed(1), WriteFlags::default());
    assert_eq!(block_on(write()), Err(BlockError::ReadOnly));
    assert_eq!(block_on(node.discard(0, 512)), Err(BlockError::ReadOnly));
    assert_eq!(block_on(node.truncate(0)), Err(BlockError::ReadOnly));
    let zeroes = node.write_zeroes(0, 512, ZeroFlags::default());
    assert_eq!(block_on(zeroes), Err(BlockError::ReadOnly));
    assert_eq!(block_on(node.flush()), Ok(()));
    assert_eq!(contents(&node), vec![1; 1024]);
}

#[test]
fn a_range_that_no_file_has_is_an_error() {
    let node = MemoryDriver::node("m", Vec::new());
    let read = node.read(u64::MAX, IoBuffer::zeroed(2));
    assert!(matches!(block_on(read), Err(BlockError::OutOfRange { .. })));
}

#[test]
fn a_drained_node_has_nothing_under_way() {
    let node = MemoryDriver::node("m", vec![0; 16]);
    let mut request = Box::pin(node.read(0, IoBuffer::zeroed(1)));
    block_on(node.drain());
    assert_eq!(block_on(request.as_mut()), Ok(()));
    drop(request);
    assert_eq!(node.in_flight(), 0);
}
