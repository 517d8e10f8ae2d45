//! A guest with a disk whose image somebody made up.

use std::fs::{File, OpenOptions as Access};
use std::future::Future;
use std::io::{Read, Seek, SeekFrom, Write};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use remuda::block::qcow2::{CreateOptions, OpenOptions, Qcow2, create};
use remuda::block::{BlockDriver, FileConfig, FileDriver, IoBuffer, Node, NodeConfig, Pool, WriteFlags, ZeroFlags};

/// Most bytes by which these requests may make a file longer: what they write, with tables, and what was in use behind its end.
const MOST: u64 = 72 << 20;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn pool() -> Arc<Pool> {
    static POOL: OnceLock<Arc<Pool>> = OnceLock::new();
    Arc::clone(POOL.get_or_init(Pool::new))
}

/// A file without a name that begins with these bytes, and a node over it.
fn file(bytes: &[u8]) -> Option<(File, Arc<Node>)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("remuda-fuzz-{}-{count}", std::process::id()));
    let mut access = Access::new();
    let mut file = access.read(true).write(true).create_new(true).open(&path).ok()?;
    std::fs::remove_file(&path).ok()?;
    file.write_all(bytes).ok()?;
    let driver = FileDriver::new(file.try_clone().ok()?, FileConfig::default(), &pool()).ok()?;
    let config = NodeConfig {
        unmap: true,
        ..NodeConfig::default()
    };
    Some((file, Node::new("file", Box::new(driver), config)))
}

/// Images to begin with: of small clusters, with data, zeroes and what was given back.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let small = CreateOptions {
        size: 96 << 10,
        cluster_size: 512,
        ..CreateOptions::default()
    };
    let kinds = [
        CreateOptions {
            refcount_bits: 1,
            ..small.clone()
        },
        CreateOptions {
            version: 2,
            ..small.clone()
        },
        CreateOptions {
            lazy_refcounts: true,
            ..small
        },
    ];
    kinds.iter().filter_map(seed).collect()
}

fn seed(options: &CreateOptions) -> Option<Vec<u8>> {
    let (mut file, node) = file(&[])?;
    wait(create(&node, None, options, pool())).ok()?;
    let image = wait(Qcow2::open(OpenOptions::new(node, pool()))).ok()?;
    for (offset, bytes) in [(100, 900), (40 << 10, 2048), (95 << 10, 1024)] {
        let data = IoBuffer::copy_of(&vec![7; bytes]);
        wait(image.write(offset, data, WriteFlags::default())).ok()?;
    }
    wait(image.discard(40 << 10, 1024)).ok()?;
    wait(image.close()).ok()?;
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Opens an image, to be read only and to be written to, and uses it.
pub(crate) fn run(bytes: &[u8]) {
    for read_only in [true, false] {
        let Some((file, node)) = file(bytes) else { return };
        let options = OpenOptions {
            read_only,
            ..OpenOptions::new(node, pool())
        };
        if let Ok(image) = wait(Qcow2::open(options)) {
            wait(use_it(&image));
        }
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        assert!(
            length <= bytes.len() as u64 + MOST,
            "{} bytes grew to {length}",
            bytes.len()
        );
    }
}

/// Whatever comes of a request is an answer.
async fn use_it(image: &Qcow2) {
    let size = image.length();
    for offset in [0, 600, 40 << 10, size / 2, size.saturating_sub(700)] {
        let buffer = IoBuffer::zeroed(2000);
        let _ = image.read(offset, buffer.clone()).await;
        let _ = image.status(offset, 2000).await;
        let _ = image.write(offset, buffer, WriteFlags::default()).await;
        let _ = image.write_zeroes(offset, 1024, ZeroFlags::default()).await;
        let _ = image.discard(offset, 4096).await;
        let _ = image.flush().await;
    }
    let _ = image.check(true).await;
    let _ = image.truncate(64 << 10).await;
    let _ = image.truncate(128 << 10).await;
    let _ = image.close().await;
}
