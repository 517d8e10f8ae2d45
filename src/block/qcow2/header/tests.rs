//! Headers as they are, and as they cannot be.

use super::*;

/// The header that `qemu-img create -f qcow2 IMAGE 64M` writes.
fn sample() -> Header {
    Header {
        version: 3,
        backing_file: None,
        backing_format: None,
        data_file: None,
        geometry: Geometry {
            cluster_bits: 16,
            refcount_order: 4,
            extended: false,
        },
        size: 64 << 20,
        l1_entries: 1,
        l1: 0x3_0000,
        reftable: 0x1_0000,
        reftable_clusters: 1,
        snapshots: 0,
        snapshot_table: 0,
        incompatible: 0,
        compatible: 0,
        autoclear: 0,
        compression: Compression::Zlib,
        bitmaps: None,
    }
}

fn changed(at: usize, value: &[u8]) -> Result<Header, ImageError> {
    let mut bytes = sample().encode().unwrap();
    bytes.resize(65536, 0);
    bytes[at..at + value.len()].copy_from_slice(value);
    Header::parse(&bytes)
}

#[test]
fn a_header_is_read_as_it_was_written() {
    let plain = sample();
    assert_eq!(Header::parse(&plain.encode().unwrap()), Ok(plain.clone()));
    let version2 = Header {
        version: 2,
        backing_file: Some("base.raw".into()),
        backing_format: Some("raw".into()),
        ..plain.clone()
    };
    assert_eq!(Header::parse(&version2.encode().unwrap()), Ok(version2));
    let rich = Header {
        data_file: Some("data".into()),
        incompatible: incompatible::DATA_FILE | incompatible::COMPRESSION | incompatible::EXTENDED_L2,
        compatible: LAZY_REFCOUNTS,
        autoclear: autoclear::RAW_DATA_FILE,
        compression: Compression::Zstd,
        geometry: Geometry {
            extended: true,
            refcount_order: 6,
            ..plain.geometry
        },
        ..plain
    };
    assert_eq!(Header::parse(&rich.encode().unwrap()), Ok(rich));
}

#[test]
fn what_qemu_refuses_is_refused_in_its_words() {
    let q = u64::to_be_bytes;
    let i = u32::to_be_bytes;
    let cases: [(usize, &[u8], &str); 30] = [
        (0, &i(1), "Image is not in qcow2 format"),
        (4, &i(4), "Unsupported qcow2 version 4"),
        (20, &i(8), "Unsupported cluster size: 2^8"),
        (20, &i(22), "Unsupported cluster size: 2^22"),
        (100, &i(72), "qcow2 header too short"),
        (100, &i(1 << 20), "qcow2 header exceeds cluster size"),
        (
            72,
            &q(1 << 40),
            "Unsupported qcow2 feature(s): Unknown incompatible feature: 10000000000",
        ),
        (
            96,
            &i(7),
            "Reference count entry width too large; may not exceed 64 bits",
        ),
        (32, &i(3), "Unsupported encryption method 3"),
        (48, &q(513), "Reference count table offset invalid"),
        (48, &q(u64::MAX << 16), "Reference count table offset invalid"),
        (56, &i(0), "Image does not contain a reference count table"),
        (56, &i(1 << 30), "Reference count table too large"),
        (36, &i(1 << 30), "Active L1 table too large"),
        (36, &i(0), "L1 table is too small"),
        (40, &q(513), "Active L1 table offset invalid"),
        (40, &q(1 << 63), "Active L1 table offset invalid"),
        (24, &q(1 << 62), "L1 table is too small"),
        (24, &q(1 << 63), "Image is too big"),
        (60, &i(70000), "Snapshot table too large"),
        (
            60,
            &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 1],
            "Snapshot table offset invalid",
        ),
        (8, &[0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 4, 0], "Backing file name too long"),
        (8, &[0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 9], "Invalid backing file offset"),
        (
            8,
            &[0, 0, 0, 0, 0, 0, 255, 250, 0, 0, 0, 10],
            "Backing file name too long",
        ),
        (
            104,
            &[1],
            "qcow2: Compression type incompatible feature bit must be set",
        ),
        (
            72,
            &q(8),
            "qcow2: Compression type incompatible feature bit must not be set",
        ),
        (88, &q(2), "data-file-raw requires a data file"),
        (112, &[0, 0, 18, 52, 0, 2, 0, 0], "Header extension too large"),
        (112, &[0, 0, 18, 52, 255, 255, 255, 255], "Header extension too large"),
        (32, &i(2), "encrypted images (LUKS) are not supported"),
    ];
    for (at, value, text) in cases {
        let error = changed(at, value).expect_err(text);
        assert_eq!(error.to_string(), text, "at {at}");
    }
    let mut short = sample().encode().unwrap();
    short.truncate(80);
    assert_eq!(Header::parse(&short).unwrap_err().to_string(), "qcow2 header too short");
    assert_eq!(Header::parse(&[]), Err(ImageError::NotQcow2));
}

#[test]
fn the_directory_of_bitmaps_is_looked_at_if_it_can_be_trusted() {
    let mut bytes = sample().encode().unwrap();
    bytes.resize(65536, 0);
    bytes[112..120].copy_from_slice(&[0x23, 0x85, 0x28, 0x75, 0, 0, 0, 8]);
    assert_eq!(Header::parse(&bytes).unwrap().bitmaps, None);
    bytes[95] = 1;
    let error = Header::parse(&bytes).unwrap_err();
    assert_eq!(error.to_string(), "bitmaps_ext: Invalid extension length");
    bytes[112..144].copy_from_slice(&[
        0x23, 0x85, 0x28, 0x75, 0, 0, 0, 24, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 80, 0, 0, 0, 0, 0, 5, 0, 0,
    ]);
    let found = BitmapsExtension {
        position: 120,
        count: 2,
        directory_size: 80,
        directory: 0x5_0000,
    };
    assert_eq!(Header::parse(&bytes).unwrap().bitmaps, Some(found));
}

#[test]
fn unknown_features_are_named_by_the_image() {
    let mut bytes = sample().encode().unwrap();
    bytes.resize(65536, 0);
    bytes[72..80].copy_from_slice(&(1u64 << 17 | 1 << 5).to_be_bytes());
    // The first name of the table, at its place in a new image.
    bytes[120..122].copy_from_slice(&[0, 17]);
    bytes[122..131].copy_from_slice(b"folding\0x");
    let error = Header::parse(&bytes).unwrap_err();
    let text = "Unsupported qcow2 feature(s): folding, Unknown incompatible feature: 20";
    assert_eq!(error.to_string(), text);
}

#[test]
fn compression_of_another_kind_is_named() {
    let mut bytes = sample().encode().unwrap();
    bytes[79] = 8;
    bytes[104] = 2;
    let error = Header::parse(&bytes).unwrap_err();
    assert_eq!(error.to_string(), "qcow2: unknown compression type: 2");
}
