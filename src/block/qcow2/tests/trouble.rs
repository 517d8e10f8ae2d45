//! Hosts without room, images that were left, and disks that change their length.

use super::super::header::{field, incompatible};
use super::*;
use crate::block::BlockError;

/// A file of at most so many bytes.
fn small(bytes: Vec<u8>, capacity: u64) -> Arc<Node> {
    let mut driver = MemoryDriver::new(bytes);
    driver.capacity = Some(capacity);
    Node::new("file", Box::new(driver), NodeConfig::default())
}

#[test]
fn a_full_host_loses_nothing_that_was_written() {
    let options = CreateOptions {
        size: 4 << 20,
        cluster_size: 4096,
        ..CreateOptions::default()
    };
    let mut image = open(&small(bytes_of(&new_image(&options)), 700_000));
    let mut model = vec![0; options.size as usize];
    let mut random = Random(1);
    let mut refused = 0;
    for turn in 0..400 {
        let offset = random.below(options.size / 4096) * 4096;
        let len = ((1 + random.below(8)) * 4096).min(options.size - offset);
        let range = offset as usize..(offset + len) as usize;
        let result = match random.below(4) {
            0 => block_on(image.discard(offset, len)),
            _ => block_on(image.write(
                offset,
                IoBuffer::copy_of(&vec![turn as u8 | 1; len as usize]),
                WriteFlags::default(),
            )),
        };
        match result {
            Ok(()) => {
                let seen = read(&image, offset, len as usize);
                model[range].copy_from_slice(&seen);
            }
            Err(error) => {
                assert!(error.is_no_space(), "{error}");
                refused += 1;
                // Any part of it may be there.
                let seen = read(&image, offset, len as usize);
                model[range].copy_from_slice(&seen);
            }
        }
        if turn % 40 == 0 {
            // A flush needs no room.
            block_on(image.flush()).unwrap();
        }
        if turn % 100 == 99 {
            assert!(read(&image, 0, model.len()) == model, "turn {turn}");
            block_on(image.close()).unwrap();
            let file = Arc::clone(&image.file);
            image = open(&small(bytes_of(&file), 700_000));
            let report = block_on(image.check(false)).unwrap();
            assert_eq!(report.corruptions, 0, "{:#?}", report.problems);
            assert!(read(&image, 0, model.len()) == model, "turn {turn}, opened again");
        }
    }
    assert!(refused > 20, "{refused} were refused");
}

#[test]
fn a_repaired_image_is_marked_again_when_it_is_written_to() {
    let options = CreateOptions {
        size: 4 << 20,
        cluster_size: 4096,
        lazy_refcounts: true,
        ..CreateOptions::default()
    };
    let file = new_image(&options);
    let header = block_on(super::super::read_header(&file)).unwrap();
    let image = open(&file);
    write(&image, 0, &vec![1; 1 << 20]);
    block_on(image.flush()).unwrap();
    drop(image);
    let is_dirty = |file: &Node| block_on(super::super::read_header(file)).unwrap().is_dirty();
    assert!(is_dirty(&file), "refcounts are not written yet");
    // As if a refcount block had not reached the disk either: the repair has to make one.
    block_on(file.write(header.reftable, IoBuffer::zeroed(8), WriteFlags::default())).unwrap();
    let image = open(&file);
    assert!(!is_dirty(&file), "it was repaired");
    assert_eq!(block_on(image.check(false)).unwrap().corruptions, 0);
    write(&image, 2 << 20, &vec![2; 1 << 20]);
    block_on(image.flush()).unwrap();
    drop(image);
    assert!(is_dirty(&file));
    let image = reopen_clean(open(&file), &file);
    assert!(read(&image, 0, 1 << 20).iter().all(|byte| *byte == 1));
    assert!(read(&image, 2 << 20, 1 << 20).iter().all(|byte| *byte == 2));
    assert!(!is_dirty(&file));
}

#[test]
fn what_cannot_be_repaired_is_not_opened_to_be_written_to() {
    let options = CreateOptions {
        size: 1 << 20,
        cluster_size: 4096,
        ..CreateOptions::default()
    };
    let file = new_image(&options);
    let image = open(&file);
    write(&image, 0, &[1; 8192]);
    block_on(image.close()).unwrap();
    let header = block_on(super::super::read_header(&file)).unwrap();
    let mut bytes = bytes_of(&file);
    bytes[field::INCOMPATIBLE as usize + 7] |= incompatible::DIRTY as u8;
    let l1 = header.l1 as usize;
    let l2 = (u64::from_be_bytes(bytes[l1..l1 + 8].try_into().unwrap()) & super::super::entry::OFFSET) as usize;
    bytes[l2 + 6] |= 2;
    let file = memory(bytes.clone());
    let error = block_on(Qcow2::open(OpenOptions::new(Arc::clone(&file), Pool::new()))).err();
    let text = format!("Could not repair dirty image: ERROR L2 table at {l2:#x}: cluster offset ");
    let said = error.map(|error| error.to_string()).unwrap_or_default();
    assert!(said.starts_with(&text), "{said}");
    let options = OpenOptions {
        read_only: true,
        ..OpenOptions::new(file, Pool::new())
    };
    let image = block_on(Qcow2::open(options)).unwrap();
    assert_eq!(read(&image, 4096, 4096), [1; 4096]);
}

#[test]
fn what_a_longer_disk_gains_is_zeroes() {
    let options = CreateOptions {
        size: 70_144,
        ..CreateOptions::default()
    };
    let file = new_image(&options);
    let image = open(&file);
    write(&image, 0, &vec![1; options.size as usize]);
    block_on(image.close()).unwrap();
    // Another program left something behind the end in the last cluster.
    let place = block_on(image.status(65536, 512)).unwrap().offset.unwrap();
    drop(image);
    let rubbish = IoBuffer::copy_of(&vec![0xaa; 65536 - 4608]);
    block_on(file.write(place + 4608, rubbish, WriteFlags::default())).unwrap();
    let image = open(&file);
    for (length, kept) in [(400_384, 70_144), (50_176, 50_176), (1 << 20, 50_176)] {
        block_on(image.truncate(length)).unwrap();
        let seen = read(&image, 0, length as usize);
        let (data, rest) = seen.split_at(kept);
        assert!(data.iter().all(|byte| *byte == 1), "{length} bytes");
        assert!(rest.iter().all(|byte| *byte == 0), "{length} bytes");
    }
    reopen_clean(image, &file);
}

#[test]
fn what_a_backing_file_has_behind_the_end_is_not_shown_later() {
    for version in [2, 3] {
        let options = CreateOptions {
            size: 100_352,
            version,
            ..CreateOptions::default()
        };
        let file = new_image(&options);
        let options = OpenOptions {
            backing: Some(memory(vec![9; 300_000])),
            ..OpenOptions::new(Arc::clone(&file), Pool::new())
        };
        let image = block_on(Qcow2::open(options)).unwrap();
        block_on(image.truncate(512_000)).unwrap();
        let seen = read(&image, 0, 512_000);
        assert!(seen[..100_352].iter().all(|byte| *byte == 9), "version {version}");
        assert!(seen[100_352..].iter().all(|byte| *byte == 0), "version {version}");
        let refused = block_on(image.truncate(1000));
        assert!(matches!(refused, Err(BlockError::Invalid(_))), "{refused:?}");
        block_on(image.close()).unwrap();
    }
}
