//! What a guest reads is what it wrote, in images of every kind.

use super::*;
use crate::block::BlockError;
use crate::block::qcow2::Compression;

/// Changes an image at random, opening it again now and then, and compares what it has with what it should have.
fn exercise(options: &CreateOptions, rounds: usize) {
    let file = new_image(options);
    let mut image = open(&file);
    let mut model = vec![0; options.size as usize];
    let mut random = Random(options.cluster_size ^ options.refcount_bits);
    for round in 0..rounds {
        change(&mut random, &image, &mut model).unwrap();
        if round % 40 == 39 {
            assert!(read(&image, 0, model.len()) == model, "{options:?}, round {round}");
            image = reopen_clean(image, &file);
            assert!(
                read(&image, 0, model.len()) == model,
                "{options:?}, round {round}, opened again"
            );
        }
    }
    block_on(image.discard(0, options.size)).unwrap();
    let image = reopen_clean(image, &file);
    assert!(read(&image, 0, model.len()).iter().all(|byte| *byte == 0));
    block_on(image.close()).unwrap();
}

#[test]
fn every_cluster_size() {
    for bits in 9..=21 {
        let options = CreateOptions {
            size: (3 << bits).max(1 << 20) + 512,
            cluster_size: 1 << bits,
            ..CreateOptions::default()
        };
        exercise(&options, 120);
    }
}

#[test]
fn every_width_of_refcounts() {
    for order in 0..=6 {
        let options = CreateOptions {
            size: 2 << 20,
            cluster_size: 1024,
            refcount_bits: 1 << order,
            ..CreateOptions::default()
        };
        exercise(&options, 120);
    }
}

#[test]
fn version_2_and_subclusters_and_late_refcounts() {
    let plain = CreateOptions {
        size: 3 << 20,
        ..CreateOptions::default()
    };
    exercise(
        &CreateOptions {
            version: 2,
            ..plain.clone()
        },
        200,
    );
    for cluster_size in [16384, 65536, 1 << 20] {
        let options = CreateOptions {
            cluster_size,
            extended_l2: true,
            ..plain.clone()
        };
        exercise(&options, 200);
    }
    let lazy = CreateOptions {
        lazy_refcounts: true,
        compression: Compression::Zstd,
        ..plain
    };
    exercise(&lazy, 200);
}

#[test]
fn a_disk_of_nothing_and_requests_outside() {
    let file = new_image(&CreateOptions::default());
    let image = open(&file);
    assert_eq!(image.length(), 0);
    let outside = block_on(image.write(0, IoBuffer::zeroed(512), WriteFlags::default()));
    assert!(
        matches!(outside, Err(BlockError::OutOfRange { length: 0, .. })),
        "{outside:?}"
    );
    assert_eq!(read(&image, 1 << 20, 512), [0; 512]);
    reopen_clean(image, &file);
}
