//! Several requests at once, on several threads.

use super::*;

/// Bytes that belong to one thread alone.
const SHARE: usize = 512;
const THREADS: u64 = 4;

fn seen(options: &CreateOptions) -> (Arc<Node>, Qcow2) {
    let file = new_image(options);
    let image = open(&file);
    (file, image)
}

#[test]
fn writers_of_the_same_clusters_keep_to_their_bytes() {
    for (cluster_size, extended_l2) in [(4096, false), (65536, false), (65536, true)] {
        let options = CreateOptions {
            size: 1 << 20,
            cluster_size,
            extended_l2,
            ..CreateOptions::default()
        };
        let (file, image) = seen(&options);
        let shares = options.size / SHARE as u64;
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let image = &image;
                scope.spawn(move || {
                    let mut random = Random(thread);
                    for turn in 0..400u64 {
                        let share = random.below(shares / THREADS) * THREADS + thread;
                        let bytes = [share as u8 | 1; SHARE];
                        write(image, share * SHARE as u64, &bytes);
                        assert_eq!(read(image, share * SHARE as u64, SHARE), bytes);
                        if turn % 50 == thread {
                            block_on(image.flush()).unwrap();
                        }
                    }
                });
            }
        });
        let before = read(&image, 0, options.size as usize);
        let image = reopen_clean(image, &file);
        assert!(read(&image, 0, options.size as usize) == before);
        for (share, bytes) in before.chunks(SHARE).enumerate() {
            let wanted = if bytes[0] == 0 { 0 } else { share as u8 | 1 };
            assert!(bytes.iter().all(|byte| *byte == wanted), "{options:?}, share {share}");
        }
        block_on(image.close()).unwrap();
    }
}

/// Every thread fills a region of its own, and gives it back: what one has let go of is soon another's.
#[test]
fn clusters_go_from_one_to_another() {
    let options = CreateOptions {
        size: 4 << 20,
        cluster_size: 4096,
        ..CreateOptions::default()
    };
    let (file, image) = seen(&options);
    let region = options.size / THREADS;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let image = &image;
            scope.spawn(move || {
                let mut random = Random(thread);
                let start = thread * region;
                let mut model = vec![0; region as usize];
                for _ in 0..150 {
                    let at = random.below(region / 4096) * 4096;
                    let len = ((1 + random.below(16)) * 4096).min(region - at);
                    let range = at as usize..(at + len) as usize;
                    if random.below(3) == 0 {
                        block_on(image.discard(start + at, len)).unwrap();
                        model[range].fill(0);
                        block_on(image.flush()).unwrap();
                    } else {
                        let byte = random.next() as u8;
                        write(image, start + at, &vec![byte; len as usize]);
                        model[range].fill(byte);
                    }
                    assert!(read(image, start, region as usize) == model, "thread {thread}");
                }
            });
        }
    });
    // What was given back was used again: the file is not much larger than the disk.
    assert!(file.length() < 2 * options.size, "{} bytes", file.length());
    block_on(reopen_clean(image, &file).close()).unwrap();
}

#[test]
fn a_disk_becomes_shorter_while_it_is_written_to() {
    let options = CreateOptions {
        size: 2 << 20,
        cluster_size: 4096,
        ..CreateOptions::default()
    };
    let (file, image) = seen(&options);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let image = &image;
            scope.spawn(move || {
                let mut random = Random(thread);
                for _ in 0..300 {
                    let offset = random.below(options.size - 20_000);
                    let data = IoBuffer::copy_of(&vec![1; 1 + random.below(20_000) as usize]);
                    let result = match random.below(4) {
                        0 => block_on(image.discard(offset, data.len() as u64)),
                        1 => block_on(image.write_zeroes(offset, data.len() as u64, ZeroFlags::default())),
                        _ => block_on(image.write(offset, data, WriteFlags::default())),
                    };
                    assert!(
                        matches!(result, Ok(()) | Err(crate::block::BlockError::OutOfRange { .. })),
                        "{result:?}"
                    );
                }
            });
        }
        for turn in 0..60u64 {
            let length = [600_064, 2 << 20, 1 << 20, 4096, 2 << 20, 0][turn as usize % 6];
            block_on(image.truncate(length)).unwrap();
        }
    });
    let image = reopen_clean(image, &file);
    block_on(image.truncate(0)).unwrap();
    block_on(image.truncate(options.size)).unwrap();
    let image = reopen_clean(image, &file);
    assert!(read(&image, 0, options.size as usize).iter().all(|byte| *byte == 0));
}
