//! An image that is left in the middle: after any write to its file, and after a loss of power, which keeps any of the writes
//! since the last flush.

use std::sync::Mutex;

use super::*;
use crate::block::{BlockFuture, Extent};

/// What happened to a file.
#[derive(Clone)]
enum Event {
    Write(u64, Vec<u8>),
    Flush,
}

/// A file in memory that remembers how it came about.
#[derive(Clone, Default)]
struct Recorder {
    bytes: Arc<Mutex<Vec<u8>>>,
    events: Arc<Mutex<Vec<Event>>>,
}

fn apply(bytes: &mut Vec<u8>, event: &Event) {
    if let Event::Write(offset, data) = event {
        let (start, end) = (*offset as usize, *offset as usize + data.len());
        bytes.resize(bytes.len().max(end), 0);
        bytes[start..end].copy_from_slice(data);
    }
}

impl Recorder {
    fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes: Arc::new(Mutex::new(bytes)),
            ..Self::default()
        }
    }

    fn record(&self, event: Event) {
        apply(&mut self.bytes.lock().unwrap(), &event);
        self.events.lock().unwrap().push(event);
    }

    fn count(&self) -> usize {
        self.events.lock().unwrap().len()
    }
}

impl BlockDriver for Recorder {
    fn name(&self) -> &'static str {
        "recorder"
    }

    fn length(&self) -> u64 {
        self.bytes.lock().unwrap().len() as u64
    }

    fn read(&self, offset: u64, into: IoBuffer) -> BlockFuture<'_, ()> {
        let bytes = self.bytes.lock().unwrap();
        let start = (offset as usize).min(bytes.len());
        into.fill(0);
        into.copy_from(&bytes[start..(start + into.len()).min(bytes.len())]);
        Box::pin(async { Ok(()) })
    }

    fn write(&self, offset: u64, from: IoBuffer, _flags: WriteFlags) -> BlockFuture<'_, ()> {
        self.record(Event::Write(offset, from.to_vec()));
        Box::pin(async { Ok(()) })
    }

    fn write_zeroes(&self, offset: u64, bytes: u64, _flags: ZeroFlags) -> BlockFuture<'_, ()> {
        self.record(Event::Write(offset, vec![0; bytes as usize]));
        Box::pin(async { Ok(()) })
    }

    fn discard(&self, offset: u64, bytes: u64) -> BlockFuture<'_, ()> {
        // The worst that may be: what was there is gone at once.
        let end = (offset + bytes).min(self.length());
        if offset < end {
            self.record(Event::Write(offset, vec![0xdd; (end - offset) as usize]));
        }
        Box::pin(async { Ok(()) })
    }

    fn flush(&self) -> BlockFuture<'_, ()> {
        self.record(Event::Flush);
        Box::pin(async { Ok(()) })
    }

    fn status(&self, offset: u64, bytes: u64) -> BlockFuture<'_, Extent> {
        Box::pin(async move { Ok(Extent::stored(bytes, offset)) })
    }

    fn truncate(&self, length: u64) -> BlockFuture<'_, ()> {
        self.bytes.lock().unwrap().resize(length as usize, 0);
        Box::pin(async { Ok(()) })
    }
}

/// What a guest is sure of at a moment: that many events later at the earliest, these bytes are there, if it has not
/// written to them since.
struct Promise {
    events: usize,
    model: Vec<u8>,
    /// Which blocks were changed after it.
    touched: Vec<bool>,
}

const BLOCK: usize = 512;

/// Runs random requests; returns the file at the beginning, all that happened to it, and what was promised when.
fn run(options: &CreateOptions, seed: u64) -> (Vec<u8>, Vec<Event>, Vec<Promise>) {
    let start = bytes_of(&new_image(options));
    let recorder = Recorder::new(start.clone());
    let config = NodeConfig {
        unmap: true,
        ..NodeConfig::default()
    };
    let file = Node::new("file", Box::new(recorder.clone()), config);
    let image = open(&file);
    let mut random = Random(seed);
    let mut model = vec![0; options.size as usize];
    let mut promises: Vec<Promise> = Vec::new();
    for _ in 0..30 {
        let before = model.clone();
        if random.below(4) == 0 {
            block_on(image.flush()).unwrap();
            promises.push(Promise {
                events: recorder.count(),
                model: model.clone(),
                touched: vec![false; model.len() / BLOCK],
            });
            continue;
        }
        let offset = random.below(options.size / BLOCK as u64) * BLOCK as u64;
        let len = ((1 + random.below(40)) * BLOCK as u64).min(options.size - offset);
        let range = offset as usize..(offset + len) as usize;
        match random.below(5) {
            0 => {
                block_on(image.discard(offset, len)).unwrap();
                model[range.clone()].copy_from_slice(&read(&image, offset, len as usize));
            }
            1 if options.version == 3 => {
                let flags = ZeroFlags {
                    may_unmap: true,
                    fua: false,
                };
                block_on(image.write_zeroes(offset, len, flags)).unwrap();
                model[range.clone()].fill(0);
            }
            _ => {
                let data = vec![random.next() as u8 | 1; len as usize];
                write(&image, offset, &data);
                model[range.clone()].copy_from_slice(&data);
            }
        }
        assert_eq!(before.len(), model.len());
        for promise in &mut promises {
            promise.touched[range.start / BLOCK..range.end.div_ceil(BLOCK)].fill(true);
        }
    }
    block_on(image.close()).unwrap();
    let events = recorder.events.lock().unwrap().clone();
    (start, events, promises)
}

/// The image is not corrupt, and has what was promised before `at`.
fn expect_sound(bytes: Vec<u8>, promises: &[Promise], at: usize, what: &str) {
    let file = memory(bytes);
    let image = open(&file);
    let report = block_on(image.check(false)).unwrap();
    assert_eq!(report.corruptions, 0, "{what}: {:#?}", report.problems);
    let Some(promise) = promises.iter().rev().find(|promise| promise.events <= at) else {
        return;
    };
    let seen = read(&image, 0, promise.model.len());
    for (block, touched) in promise.touched.iter().enumerate() {
        let range = block * BLOCK..(block + 1) * BLOCK;
        assert!(
            *touched || seen[range.clone()] == promise.model[range],
            "{what}: block {block} was flushed and is lost"
        );
    }
    // And it can be used as before.
    write(&image, 0, &[7; 4096]);
    block_on(image.close()).unwrap();
    let image = open(&file);
    let report = block_on(image.check(true)).unwrap();
    assert_eq!(report.corruptions, 0, "{what}, written to: {:#?}", report.problems);
    assert_eq!(read(&image, 0, 4096), [7; 4096]);
    let report = block_on(image.check(false)).unwrap();
    assert_eq!((report.corruptions, report.leaks), (0, 0), "{what}, repaired");
}

fn kinds() -> Vec<CreateOptions> {
    let small = CreateOptions {
        size: 256 << 10,
        cluster_size: 512,
        ..CreateOptions::default()
    };
    vec![
        small.clone(),
        CreateOptions {
            refcount_bits: 1,
            ..small.clone()
        },
        CreateOptions {
            version: 2,
            cluster_size: 4096,
            ..small.clone()
        },
        CreateOptions {
            lazy_refcounts: true,
            ..small.clone()
        },
        CreateOptions {
            extended_l2: true,
            cluster_size: 16384,
            ..small
        },
    ]
}

#[test]
fn killed_after_any_write() {
    for (seed, options) in kinds().iter().enumerate() {
        let (start, events, promises) = run(options, seed as u64);
        let mut bytes = start;
        for (at, event) in events.iter().enumerate() {
            expect_sound(bytes.clone(), &promises, at, &format!("{options:?} before event {at}"));
            apply(&mut bytes, event);
        }
    }
}

#[test]
fn without_power_after_any_flush() {
    for (seed, options) in kinds().iter().enumerate() {
        let (start, events, promises) = run(options, seed as u64);
        let mut random = Random(seed as u64);
        let mut durable = start;
        let mut cached: Vec<&Event> = Vec::new();
        for (at, event) in events.iter().enumerate() {
            cached.push(event);
            // Any of those that were not flushed, in any order that keeps what overlaps.
            let mut bytes = durable.clone();
            for event in &cached {
                if random.below(2) == 0 {
                    apply(&mut bytes, event);
                }
            }
            expect_sound(bytes, &promises, at, &format!("{options:?}, power lost at event {at}"));
            if matches!(event, Event::Flush) {
                cached.drain(..).for_each(|event| apply(&mut durable, event));
            }
        }
    }
}
