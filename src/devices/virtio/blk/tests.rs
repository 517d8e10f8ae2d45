//! A disk as its driver sees it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::*;
use crate::block::memory::MemoryDriver;
use crate::block::{
    Attachment, BlockDriver, BlockFuture, ErrorPolicy, Extent, Graph, IoBuffer, IoStatus, Node, NodeConfig, Operation,
    Outcome, Policy, WriteFlags, ZeroFlags,
};
use crate::devices::virtio::queue::testing::{BUFFERS, SplitDriver, memory};
use crate::devices::virtio::queue::{Ring, RingRules};
use crate::devices::virtio::status::DRIVER_OK;
use crate::io::EventLoop;
use crate::mem::Doorbell;

const LONG: Duration = Duration::from_secs(20);
const DATA: u64 = BUFFERS + 0x1000;
const STATUS: u64 = BUFFERS + 0x100;
const WRITE: u16 = 2;

/// A disk that fails as long as it is told to.
struct Faulty {
    inner: MemoryDriver,
    fault: Arc<Mutex<Option<Errno>>>,
}

impl Faulty {
    fn unless_it_fails<'a>(&self, then: BlockFuture<'a, ()>) -> BlockFuture<'a, ()> {
        match *self.fault.lock().unwrap() {
            Some(errno) => Box::pin(async move { Err(errno.into()) }),
            None => then,
        }
    }
}

impl BlockDriver for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn length(&self) -> u64 {
        self.inner.length()
    }

    fn read(&self, offset: u64, into: IoBuffer) -> BlockFuture<'_, ()> {
        self.unless_it_fails(self.inner.read(offset, into))
    }

    fn write(&self, offset: u64, from: IoBuffer, flags: WriteFlags) -> BlockFuture<'_, ()> {
        match *self.fault.lock().unwrap() {
            Some(errno) => Box::pin(async move { Err(errno.into()) }),
            None => self.inner.write(offset, from, flags),
        }
    }

    fn write_zeroes(&self, offset: u64, bytes: u64, flags: ZeroFlags) -> BlockFuture<'_, ()> {
        self.inner.write_zeroes(offset, bytes, flags)
    }

    fn discard(&self, offset: u64, bytes: u64) -> BlockFuture<'_, ()> {
        self.unless_it_fails(self.inner.discard(offset, bytes))
    }

    fn flush(&self) -> BlockFuture<'_, ()> {
        self.unless_it_fails(self.inner.flush())
    }

    fn status(&self, offset: u64, bytes: u64) -> BlockFuture<'_, Extent> {
        self.inner.status(offset, bytes)
    }

    fn truncate(&self, length: u64) -> BlockFuture<'_, ()> {
        self.inner.truncate(length)
    }
}

const CONFIG: BlkConfig = BlkConfig {
    queues: 1,
    queue_size: 256,
    serial: Vec::new(),
    config_wce: true,
    writeback: true,
    discard: true,
    write_zeroes: true,
    max_discard: 0x3f_ffff,
    max_zeroes: 0x3f_ffff,
    logical_block: 512,
    physical_block: 512,
    min_io: 0,
    opt_io: 0,
    discard_granularity: 512,
    seg_max_adjust: true,
    geometry: None,
};
const DEFAULT_POLICY: ErrorPolicy = ErrorPolicy {
    read: Policy::Report,
    write: Policy::StopIfFull,
};

struct Bench {
    graph: Graph,
    fault: Arc<Mutex<Option<Errno>>>,
    told: Arc<AtomicUsize>,
    device: Blk,
    link: Arc<Link>,
    queue: Arc<Virtqueue>,
    driver: SplitDriver,
    _served: EventLoop,
}

impl Bench {
    fn new(config: BlkConfig, node: NodeConfig, policy: ErrorPolicy) -> Self {
        let graph = Graph::default();
        let fault: Arc<Mutex<Option<Errno>>> = Arc::default();
        let inner = MemoryDriver::new((0..65536_u32).map(|at| (at / 512) as u8).collect());
        let driver = Faulty {
            inner,
            fault: Arc::clone(&fault),
        };
        graph.adopt(Node::new("n", Box::new(driver), node));
        let told = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&told);
        let attachment = Attachment {
            node: "n",
            path: "/disk".to_owned(),
            share_writes: false,
            writeback: config.writeback,
            policy,
            notify: Arc::new(move || {
                counter.fetch_add(1, Ordering::Relaxed);
            }),
        };
        let backend = graph.attach(attachment).unwrap();
        let served = EventLoop::new(None).unwrap();
        let device = Blk::new(backend, config, served.handle().clone());
        let space = memory();
        let link = Link::new("virtio-blk", &space);
        let queue = Arc::new(Virtqueue::new(0, &link, Doorbell::new().unwrap()));
        device.connect(&link, vec![Arc::clone(&queue)]);
        let driver = SplitDriver::new(&space, 8);
        let bench = Self {
            graph,
            fault,
            told,
            device,
            link,
            queue,
            driver,
            _served: served,
        };
        bench.set_up();
        bench.run();
        bench
    }

    fn plain() -> Self {
        Self::new(CONFIG, NodeConfig::default(), DEFAULT_POLICY)
    }

    fn set_up(&self) {
        self.queue.set_up(Ring::new(self.driver.layout, RingRules::default()));
        self.link.set_status(DRIVER_OK);
    }

    fn run(&self) {
        self.link.hold_paused(false);
        self.device.resume();
        self.queue.resume();
    }

    fn pause(&self) {
        self.link.hold_paused(true);
        self.queue.settle();
        self.device.pause().unwrap().wait();
    }

    /// Offers a request with these bytes behind its header, and room for as many more.
    fn offer(&mut self, kind: u32, sector: u64, from: &[u8], room: u32) {
        self.driver.write(STATUS, &[0xff]);
        let mut header = kind.to_le_bytes().to_vec();
        header.extend([0; 4]);
        header.extend(sector.to_le_bytes());
        self.driver.write(BUFFERS, &header);
        self.driver.write(DATA, from);
        let mut parts = vec![(BUFFERS, 16, 0)];
        if !from.is_empty() {
            parts.push((DATA, u32::try_from(from.len()).unwrap(), 0));
        }
        if room != 0 {
            parts.push((DATA, room, WRITE));
        }
        parts.push((STATUS, 1, WRITE));
        self.driver.offer(&parts);
        self.queue.ring();
    }

    /// Bytes that were written into the buffer which is given back next.
    fn given_back(&mut self) -> u32 {
        let end = Instant::now() + LONG;
        loop {
            if let [(_, written)] = self.driver.used()[..] {
                return written;
            }
            assert!(Instant::now() < end, "nothing came back");
            std::thread::yield_now();
        }
    }

    /// What comes of a request: its status and how many bytes were written.
    fn ask(&mut self, kind: u32, sector: u64, from: &[u8], room: u32) -> (u8, u32) {
        self.offer(kind, sector, from, room);
        let written = self.given_back();
        (self.bytes(STATUS, 1)[0], written)
    }

    fn bytes(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.driver.space.read_memory(addr, &mut bytes).unwrap();
        bytes
    }

    fn fail_with(&self, errno: Option<Errno>) {
        *self.fault.lock().unwrap() = errno;
    }

    /// Waits until the machine was told of failures; returns them.
    fn failures(&self) -> Vec<(Operation, Outcome)> {
        let end = Instant::now() + LONG;
        while self.told.swap(0, Ordering::Relaxed) == 0 {
            assert!(Instant::now() < end, "nobody was told");
            std::thread::yield_now();
        }
        let failures = self.graph.take_failures().into_iter();
        failures.map(|failure| (failure.operation, failure.outcome)).collect()
    }
}

fn range(sector: u64, count: u32, flags: u32) -> Vec<u8> {
    let mut bytes = sector.to_le_bytes().to_vec();
    bytes.extend(count.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes
}

#[test]
fn each_kind_of_request_does_what_it_is_for() {
    let serial = b"0123456789abcdefghijk".to_vec();
    let mut bench = Bench::new(BlkConfig { serial, ..CONFIG }, NodeConfig::default(), DEFAULT_POLICY);
    assert_eq!(bench.ask(0, 3, &[], 1024), (0, 1025));
    assert_eq!(bench.bytes(DATA, 1024), [[3; 512], [4; 512]].concat());
    assert_eq!(bench.ask(1, 3, &[9; 512], 0), (0, 1));
    assert_eq!(bench.ask(0, 3, &[], 512), (0, 513));
    assert_eq!(bench.bytes(DATA, 512), [9; 512]);
    assert_eq!(bench.ask(4, 0, &[], 0), (0, 1));
    assert_eq!(bench.ask(8, 0, &[], 20), (0, 21));
    assert_eq!(bench.bytes(DATA, 20), b"0123456789abcdefghij");
    assert_eq!(bench.ask(13, 0, &range(3, 1, 1), 0), (0, 1));
    assert_eq!(bench.ask(11, 0, &range(4, 1, 0), 0), (0, 1));
    assert_eq!(bench.ask(0, 3, &[], 512), (0, 513));
    assert_eq!(bench.bytes(DATA, 512), [0; 512]);
    assert_eq!(bench.ask(7, 0, &[], 0), (2, 1), "no such request");
    let stats = &bench.device.shared.backend.stats;
    assert_eq!(stats.read.bytes.load(Ordering::Relaxed), 2048);
    assert_eq!(stats.write.operations.load(Ordering::Relaxed), 2);
    assert_eq!(stats.unmap.bytes.load(Ordering::Relaxed), 512);
    assert_eq!(stats.flush.operations.load(Ordering::Relaxed), 1);
}

#[test]
fn what_no_disk_does_is_refused_and_the_disk_goes_on() {
    let config = BlkConfig {
        logical_block: 4096,
        physical_block: 4096,
        max_discard: 16,
        ..CONFIG
    };
    let mut bench = Bench::new(config, NodeConfig::default(), DEFAULT_POLICY);
    for (kind, sector, from, room) in [
        (0, 128, vec![], 4096),
        (0, u64::MAX, vec![], 4096),
        (0, 1, vec![], 4096),
        (0, 0, vec![], 512),
        (1, 121, vec![1; 4096], 0),
        (11, 0, range(0, 24, 0), 0),
        (13, 0, range(120, 16, 0), 0),
    ] {
        assert_eq!(bench.ask(kind, sector, &from, room).0, 1, "kind {kind} at {sector}");
    }
    for (kind, from) in [(11, range(0, 8, 1)), (13, range(0, 8, 2)), (13, vec![0; 32])] {
        assert_eq!(bench.ask(kind, 0, &from, 0).0, 2, "kind {kind}");
    }
    assert_eq!(bench.ask(0, 0, &[], 4096), (0, 4097));
    let read_only = NodeConfig {
        read_only: true,
        ..NodeConfig::default()
    };
    let mut bench = Bench::new(CONFIG, read_only, DEFAULT_POLICY);
    assert_eq!(bench.ask(1, 0, &[1; 512], 0).0, 1);
    assert_eq!(bench.ask(13, 0, &range(0, 1, 0), 0).0, 1);
    assert_eq!(bench.ask(0, 0, &[], 512), (0, 513));
    assert_eq!(bench.graph.take_failures(), []);
}

#[test]
fn a_request_without_header_or_status_breaks_the_device() {
    for parts in [
        &[(BUFFERS, 16, 0)][..],
        &[(STATUS, 1, WRITE)],
        &[(BUFFERS, 15, 0), (STATUS, 1, WRITE)],
    ] {
        let mut bench = Bench::plain();
        bench.driver.offer(parts);
        bench.queue.ring();
        let end = Instant::now() + LONG;
        while !bench.link.is_broken() {
            assert!(Instant::now() < end, "{parts:?}");
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_failure_is_reported_ignored_or_waits_as_the_policy_says() {
    let ignore = ErrorPolicy {
        read: Policy::Ignore,
        write: Policy::Stop,
    };
    let mut bench = Bench::new(CONFIG, NodeConfig::default(), ignore);
    bench.fail_with(Some(Errno::EIO));
    assert_eq!(bench.ask(0, 0, &[], 512), (0, 513));
    assert_eq!(bench.failures(), [(Operation::Read, Outcome::Ignore)]);
    let mut bench = Bench::plain();
    bench.fail_with(Some(Errno::EIO));
    assert_eq!(bench.ask(0, 0, &[], 512).0, 1);
    assert_eq!(bench.ask(1, 0, &[1; 512], 0).0, 1);
    let reported = [(Operation::Read, Outcome::Report), (Operation::Write, Outcome::Report)];
    assert_eq!(bench.failures(), reported);
    assert_eq!(bench.device.shared.backend.status(), IoStatus::Ok);
    bench.fail_with(Some(Errno::ENOSPC));
    bench.offer(1, 2, &[7; 512], 0);
    assert_eq!(bench.failures(), [(Operation::Write, Outcome::Stop)]);
    assert_eq!(bench.device.shared.backend.status(), IoStatus::NoSpace);
    bench.pause();
    assert_eq!(bench.driver.used(), []);
    // It fails again, and then it does not.
    bench.run();
    assert_eq!(bench.failures(), [(Operation::Write, Outcome::Stop)]);
    bench.pause();
    bench.fail_with(None);
    bench.run();
    assert_eq!(bench.given_back(), 1);
    assert_eq!(bench.bytes(STATUS, 1), [0]);
    assert_eq!(bench.device.shared.backend.status(), IoStatus::Ok);
    assert_eq!(bench.ask(0, 2, &[], 512), (0, 513));
    assert_eq!(bench.bytes(DATA, 512), [7; 512]);
}

#[test]
fn a_reset_forgets_what_waits() {
    let mut bench = Bench::plain();
    bench.fail_with(Some(Errno::ENOSPC));
    bench.offer(1, 2, &[7; 512], 0);
    bench.failures();
    bench.pause();
    bench.queue.take_down();
    bench.device.reset_queue(0);
    bench.fail_with(None);
    bench.driver = SplitDriver::new(&bench.driver.space, 8);
    for addr in [bench.driver.layout.driver, bench.driver.layout.device] {
        bench.driver.write(addr, &[0; 256]);
    }
    bench.set_up();
    bench.run();
    assert_eq!(bench.ask(0, 2, &[], 512), (0, 513));
    assert_eq!(bench.bytes(DATA, 512), [2; 512], "it was not written after all");
}

#[test]
fn the_driver_chooses_the_cache_and_hears_of_another_length() {
    let bench = Bench::plain();
    let wce = |device: &Blk| device.config()[config::WCE];
    bench.device.write_config(config::WCE, &[0]);
    assert_eq!(wce(&bench.device), 0);
    bench.device.driver_gone();
    assert_eq!(wce(&bench.device), 1, "as at the start");
    bench.device.driver_ready(config::FLUSH);
    assert_eq!(wce(&bench.device), 1);
    bench.device.driver_ready(Features::NONE);
    assert_eq!(wce(&bench.device), 0, "nobody would flush it");
    let before = bench.link.generation();
    crate::block::testing::block_on(bench.graph.resize(None, Some("n"), 1 << 20)).unwrap();
    assert_ne!(bench.link.generation(), before);
    assert_eq!(bench.device.config()[..8], 2048_u64.to_le_bytes());
}

/// What QEMU offers for a disk of 64 MiB.
#[test]
fn features_and_configuration_are_qemus() {
    let bits = |features: Features| (0..64).filter(move |bit| features.contains(Features::bit(*bit)));
    let usual = "000002000000000000000000fe0000008200103f000200000000000000000000010001";
    let ranges = "ffff3f000100000001000000ffff3f000100000001";
    let large = "000002000000000000000000fe0000008200103800100000000000000000000001000100ffff3f000100000008000000ffff3f000100000001";
    for (config, writable, wanted, shown) in [
        (
            CONFIG,
            true,
            vec![2, 4, 6, 9, 10, 11, 13, 14],
            format!("{usual}00{ranges}"),
        ),
        (
            CONFIG,
            false,
            vec![2, 4, 5, 6, 9, 10, 11, 13, 14],
            format!("{usual}00{ranges}"),
        ),
        (
            BlkConfig {
                discard: false,
                write_zeroes: false,
                config_wce: false,
                ..CONFIG
            },
            true,
            vec![2, 4, 6, 9, 10],
            format!("{usual}00"),
        ),
        (
            BlkConfig {
                queues: 2,
                queue_size: 1024,
                ..CONFIG
            },
            true,
            vec![2, 4, 6, 9, 10, 11, 12, 13, 14],
            format!(
                "{}0200{ranges}",
                usual.replace("fe00", "fe03").strip_suffix("01").unwrap()
            ),
        ),
        (
            BlkConfig {
                logical_block: 4096,
                physical_block: 4096,
                discard_granularity: 4096,
                ..CONFIG
            },
            true,
            vec![2, 4, 6, 9, 10, 11, 13, 14],
            large.to_owned(),
        ),
    ] {
        let node = NodeConfig {
            read_only: !writable,
            ..NodeConfig::default()
        };
        let bench = Bench::new(config, node, DEFAULT_POLICY);
        let backend = &bench.device.shared.backend;
        if writable {
            crate::block::testing::block_on(bench.graph.resize(None, Some("n"), 64 << 20)).unwrap();
        }
        assert_eq!(bits(bench.device.features()).collect::<Vec<_>>(), wanted);
        let shown_now: String = bench
            .device
            .shared
            .config
            .bytes(backend)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        if writable {
            assert_eq!(shown_now, shown);
        }
    }
}
