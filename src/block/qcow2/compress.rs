//! Data of compressed clusters.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// How an image's compressed clusters are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Deflate, which QEMU calls `zlib`; without a header.
    Zlib,
    /// A zstd frame.
    Zstd,
}

impl Compression {
    /// Its name in QMP.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Zlib => "zlib",
            Self::Zstd => "zstd",
        }
    }

    /// The `size` bytes that `data` begin with, compressed; behind them may be anything. None if they are not that.
    /// Takes memory for little more than `size`, whatever the data are.
    #[must_use]
    pub fn decompress(self, data: &[u8], size: usize) -> Option<Vec<u8>> {
        match self {
            Self::Zlib => inflate(data, size),
            Self::Zstd => unzstd(data, size),
        }
    }
}

fn inflate(data: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut out = vec![0; size];
    let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, _, written) = decompress(&mut DecompressorOxide::new(), data, &mut out, 0, flags);
    let whole = matches!(status, TINFLStatus::Done | TINFLStatus::HasMoreOutput) && written == size;
    whole.then_some(out)
}

fn unzstd(data: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut rest = data;
    let mut decoder = FrameDecoder::new();
    decoder.init(&mut rest).ok()?;
    // A block of data reaches over the limit by less than 128 KiB; an empty one may follow it.
    let mut finished = decoder
        .decode_blocks(&mut rest, BlockDecodingStrategy::UptoBytes(size))
        .ok()?;
    if !finished {
        finished = decoder
            .decode_blocks(&mut rest, BlockDecodingStrategy::UptoBlocks(1))
            .ok()?;
    }
    let out = decoder.collect().filter(|_| finished)?;
    (out.len() == size).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cluster that compresses, and how.
    fn sample() -> Vec<u8> {
        (0..65536u32).map(|at| (at / 300) as u8).collect()
    }

    #[test]
    fn deflated_data_are_restored_whatever_follows() {
        let mut data = miniz_oxide::deflate::compress_to_vec(&sample(), 6);
        data.extend_from_slice(&[0xff; 300]);
        assert_eq!(Compression::Zlib.decompress(&data, 65536), Some(sample()));
        assert_eq!(Compression::Zlib.decompress(&data, 131072), None);
        assert_eq!(Compression::Zlib.decompress(&data[..100], 65536), None);
        assert_eq!(Compression::Zlib.decompress(&[], 65536), None);
    }

    /// A frame with one block of each kind that needs no entropy coder: 40000 times a byte, then four bytes, then nothing.
    fn frame(window: u8) -> Vec<u8> {
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, window];
        for (last, kind, size, body) in [(0, 1, 40000u32, &b"r"[..]), (0, 0, 4, b"abcd"), (1, 0, 0, b"")] {
            let header = size << 3 | kind << 1 | last;
            frame.extend_from_slice(&header.to_le_bytes()[..3]);
            frame.extend_from_slice(body);
        }
        frame
    }

    #[test]
    fn a_frame_of_zstd_is_restored_whatever_follows() {
        let mut data = frame(0x38);
        data.extend_from_slice(&[0xff; 300]);
        let out = Compression::Zstd.decompress(&data, 40004).unwrap();
        assert!(out[..40000].iter().all(|byte| *byte == b'r') && &out[40000..] == b"abcd");
        assert_eq!(Compression::Zstd.decompress(&data, 40003), None);
        assert_eq!(Compression::Zstd.decompress(&data, 65536), None);
        assert_eq!(Compression::Zstd.decompress(&data[..10], 40004), None);
    }

    #[test]
    fn a_frame_that_never_ends_takes_little_memory() {
        // 16 million blocks of 128 KiB would follow, in a window of terabytes.
        let mut data = frame(0xff);
        data.truncate(6);
        for _ in 0..500_000 {
            data.extend_from_slice(&[0x02, 0, 0x10, b'x']);
        }
        assert_eq!(Compression::Zstd.decompress(&data, 65536), None);
    }
}
