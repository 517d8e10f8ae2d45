//! Images that cannot be right: an error, no panic, no hang, and no file that grows beyond what the guest wrote.

use super::*;

/// An image with all there is: data, zeroes, two refcount blocks, subclusters if asked for.
fn victim(options: &CreateOptions) -> Vec<u8> {
    let file = new_image(options);
    let image = open(&file);
    for at in (0..options.size).step_by(24 << 10) {
        write(&image, at, &[at as u8 | 1; 3000]);
    }
    block_on(image.discard(64 << 10, 64 << 10)).unwrap();
    block_on(image.close()).unwrap();
    bytes_of(&file)
}

/// Opens a damaged image and uses it; whatever comes of it is an answer.
fn use_it(bytes: Vec<u8>, seed: u64) {
    let length = bytes.len() as u64;
    let file = memory(bytes);
    let options = OpenOptions {
        read_only: seed % 4 == 3,
        ..OpenOptions::new(Arc::clone(&file), Pool::new())
    };
    let Ok(image) = block_on(Qcow2::open(options)) else {
        return;
    };
    let mut random = Random(seed);
    let size = image.length().min(8 << 20);
    let mut written = 0;
    for _ in 0..12 {
        let offset = random.below(size);
        let len = (1 + random.below(20_000)).min(size.saturating_sub(offset));
        let buffer = IoBuffer::zeroed(len as usize);
        let _ = block_on(image.read(offset, buffer.clone()));
        let _ = match random.below(4) {
            0 => block_on(image.discard(offset, len)),
            1 => block_on(image.flush()),
            _ => {
                written += len;
                block_on(image.write(offset, buffer, WriteFlags::default()))
            }
        };
    }
    let _ = block_on(image.check(false));
    let _ = block_on(image.close());
    // Each write may take a cluster before and behind it, a table or two, and what was in use beyond the end.
    let most = length + written + 12 * 8 * image.geometry.cluster_size() + (64 << 20) + (4 << 20);
    assert!(file.length() <= most, "{} bytes grew to {}", length, file.length());
}

#[test]
fn bits_flipped_in_tables() {
    let plain = CreateOptions {
        size: 1 << 20,
        cluster_size: 4096,
        ..CreateOptions::default()
    };
    let extended = CreateOptions {
        cluster_size: 16384,
        extended_l2: true,
        ..plain.clone()
    };
    for options in [plain, extended] {
        let good = victim(&options);
        let header = block_on(super::super::read_header(&memory(good.clone()))).unwrap();
        let l1 = header.l1 as usize;
        let entry = |at: usize| u64::from_be_bytes(good[at..at + 8].try_into().unwrap());
        let l2 = (entry(l1) & super::super::entry::OFFSET) as usize;
        let block = entry(header.reftable as usize) as usize;
        let regions = [
            (0, 128),
            (l1, 16),
            (l2, 512),
            (header.reftable as usize, 16),
            (block, 256),
        ];
        let mut random = Random(options.cluster_size);
        for round in 0..1500 {
            let mut bytes = good.clone();
            for _ in 0..=random.below(3) {
                let (start, len) = regions[random.below(5) as usize];
                bytes[start + random.below(len) as usize] ^= 1 << random.below(8);
            }
            use_it(bytes, round);
        }
        for round in 0..100 {
            let mut bytes = good.clone();
            bytes.truncate(random.below(good.len() as u64) as usize);
            use_it(bytes, round);
        }
    }
}

/// An image of 4 KiB clusters whose big-endian number at some place is another one, opened to be written to.
fn with(place: impl Fn(&super::super::Header, &[u8]) -> usize, value: u64) -> String {
    let options = CreateOptions {
        size: 1 << 20,
        cluster_size: 4096,
        ..CreateOptions::default()
    };
    let mut bytes = victim(&options);
    let header = block_on(super::super::read_header(&memory(bytes.clone()))).unwrap();
    let at = place(&header, &bytes);
    bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
    let file = memory(bytes);
    match block_on(Qcow2::open(OpenOptions::new(file, Pool::new()))) {
        Err(error) => error.to_string(),
        Ok(image) => {
            let result = block_on(image.write(0, IoBuffer::zeroed(512), WriteFlags::default()));
            let result = result.and_then(|()| block_on(image.flush()));
            result.map_or_else(|error| error.to_string(), |()| "written".into())
        }
    }
}

#[test]
fn what_is_wrong_is_named() {
    let copied = super::super::entry::COPIED;
    for (value, text) in [
        (copied | 0x200, "L2 table offset 0x200 unaligned (L1 index: 0x0)"),
        (copied, "written"),
        (
            copied | 1 << 40,
            "L2 table offset 0x10000000000 beyond the end of the file (L1 index: 0x0)",
        ),
        (
            copied | 0x1000,
            "active L2 table at offset 0x1000 overlaps with refcount table",
        ),
    ] {
        assert_eq!(with(|header, _| header.l1 as usize, value), text);
    }
    for (value, text) in [
        (0x201, "Refblock offset 0x200 unaligned (reftable index: 0x0)"),
        (0x1000, "refcount block at offset 0x1000 overlaps with refcount table"),
    ] {
        assert_eq!(with(|header, _| header.reftable as usize, value), text);
    }
    let first_l2 = |header: &super::super::Header, bytes: &[u8]| {
        let at = header.l1 as usize;
        (u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap()) & super::super::entry::OFFSET) as usize
    };
    for (value, text) in [
        (copied | 0x200, "cluster offset 0x200 unaligned (guest offset: 0x0)"),
        (
            copied | 0x1000,
            "Preventing invalid write of guest data at offset 0x1000",
        ),
        (
            copied | 1 << 40,
            "Preventing invalid write of guest data at offset 0x10000000000",
        ),
    ] {
        assert_eq!(with(first_l2, value), text);
    }
}

#[test]
fn a_corrupt_image_is_marked_and_only_read_from_then_on() {
    let options = CreateOptions {
        size: 1 << 20,
        cluster_size: 4096,
        ..CreateOptions::default()
    };
    let mut bytes = victim(&options);
    let header = block_on(super::super::read_header(&memory(bytes.clone()))).unwrap();
    let l1 = header.l1 as usize;
    let l2 = u64::from_be_bytes(bytes[l1..l1 + 8].try_into().unwrap()) & super::super::entry::OFFSET;
    let entry = super::super::entry::COPIED | header.l1;
    bytes[l2 as usize..l2 as usize + 8].copy_from_slice(&entry.to_be_bytes());
    let file = memory(bytes);
    let image = open(&file);
    for _ in 0..2 {
        let refused = block_on(image.write(0, IoBuffer::zeroed(512), WriteFlags::default()));
        assert!(refused.is_err());
    }
    assert_eq!(read(&image, 24 << 10, 3000), [1; 3000]);
    drop(image);
    let error = block_on(Qcow2::open(OpenOptions::new(Arc::clone(&file), Pool::new()))).err();
    let text = "qcow2: Image is corrupt; cannot be opened read/write";
    assert_eq!(error.map(|error| error.to_string()).as_deref(), Some(text));
    let options = OpenOptions {
        read_only: true,
        ..OpenOptions::new(file, Pool::new())
    };
    let image = block_on(Qcow2::open(options)).unwrap();
    assert_eq!(read(&image, 24 << 10, 3000), [1; 3000]);
}
