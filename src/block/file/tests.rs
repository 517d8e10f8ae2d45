//! Files as a node sees them.

use std::fs::OpenOptions;
use std::path::PathBuf;

use super::*;
use crate::block::testing::block_on;
use crate::block::{Node, NodeConfig};

/// A file that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("remuda-file-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }

    fn node(&self, config: NodeConfig) -> Arc<Node> {
        let file = OpenOptions::new().read(true).write(true).open(&self.0).unwrap();
        let driver = FileDriver::new(file, FileConfig::default(), &Pool::new()).unwrap();
        Node::new("n", Box::new(driver), config)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

#[test]
fn bytes_are_read_and_written_where_they_belong() {
    let scratch = Scratch::new("rw", b"0123456789");
    let node = scratch.node(NodeConfig::default());
    block_on(async {
        let buffer = IoBuffer::copy_of(&[0xff; 8]);
        node.read(6, buffer.clone()).await.unwrap();
        assert_eq!(buffer.to_vec(), b"6789\0\0\0\0", "zeroes beyond the end");
        let from = IoBuffer::copy_of(b"abc");
        node.write(9, from, WriteFlags { fua: true }).await.unwrap();
        assert_eq!(node.length(), 12);
        node.flush().await.unwrap();
        node.truncate(11).await.unwrap();
    });
    assert_eq!(std::fs::read(&scratch.0).unwrap(), b"012345678ab");
    assert_eq!(node.highest_written(), 12);
}

#[test]
fn zeroes_and_holes_are_told_apart_from_data() {
    let scratch = Scratch::new("holes", &[1; 65536]);
    let node = scratch.node(NodeConfig {
        unmap: true,
        ..NodeConfig::default()
    });
    block_on(async {
        node.discard(4096, 8192).await.unwrap();
        let hole = node.status(4096, 65536 - 4096).await.unwrap();
        assert_eq!(hole, Extent::zeroes(8192));
        let data = node.status(12288, 1 << 20).await.unwrap();
        assert_eq!(data, Extent::stored(65536 - 12288, 12288));
        node.write_zeroes(1, 3, ZeroFlags::default()).await.unwrap();
        // Beyond the end, the file grows.
        let flags = ZeroFlags {
            may_unmap: true,
            fua: true,
        };
        node.write_zeroes(65535, 2, flags).await.unwrap();
        assert_eq!(node.length(), 65537);
    });
    let bytes = std::fs::read(&scratch.0).unwrap();
    assert_eq!(bytes[..5], [1, 0, 0, 0, 1]);
    assert!(bytes[4096..12288].iter().all(|byte| *byte == 0));
    assert_eq!(bytes[65533..], [1, 1, 0, 0]);
}

#[test]
fn what_is_no_image_is_no_driver() {
    let pool = Pool::new();
    for path in ["/dev/null", "/tmp"] {
        let file = File::open(path).unwrap();
        let error = FileDriver::new(file, FileConfig::default(), &pool).err();
        assert_eq!(error, Some(BlockError::Io(Errno::EINVAL)), "{path}");
    }
}
