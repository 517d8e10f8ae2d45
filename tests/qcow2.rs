//! Images of qcow2 between this program and QEMU's own tools (Debian's qemu-utils): what one writes the other reads, and
//! finds nothing wrong with.
#![cfg(test)]
#![cfg(target_arch = "x86_64")]

use std::fs::{File, OpenOptions as Access};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use remuda::block::qcow2::{CreateOptions, OpenOptions, Qcow2, create};
use remuda::block::{BlockDriver, FileConfig, FileDriver, IoBuffer, Node, NodeConfig, Pool, WriteFlags};

const SIZE: u64 = 4 << 20;

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("remuda-qcow2-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs one of QEMU's tools, which must succeed. Returns what it says.
fn tool(folder: &Folder, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(&folder.0)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; it is in the package qemu-utils"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}{errors}");
    text
}

fn file_node(path: &Path, pool: &Arc<Pool>) -> Arc<Node> {
    let mut access = Access::new();
    let file: File = access
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .unwrap();
    let driver = FileDriver::new(file, FileConfig::default(), pool).unwrap();
    Node::new("file", Box::new(driver), NodeConfig::default())
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn open(folder: &Folder, name: &str, data: Option<&str>, backing: Option<&str>) -> Qcow2 {
    let pool = Pool::new();
    let options = OpenOptions {
        data_file: data.map(|name| file_node(&folder.path(name), &pool)),
        backing: backing.map(|name| file_node(&folder.path(name), &pool)),
        ..OpenOptions::new(file_node(&folder.path(name), &pool), pool)
    };
    wait(Qcow2::open(options)).unwrap()
}

fn read(image: &Qcow2) -> Vec<u8> {
    let buffer = IoBuffer::zeroed(image.length() as usize);
    wait(image.read(0, buffer.clone())).unwrap();
    buffer.to_vec()
}

fn write(image: &Qcow2, offset: u64, bytes: &[u8]) {
    wait(image.write(offset, IoBuffer::copy_of(bytes), WriteFlags::default())).unwrap();
}

/// What QEMU reads of an image.
fn seen_by_qemu(folder: &Folder, name: &str) -> Vec<u8> {
    tool(
        folder,
        "qemu-img",
        &["convert", "-f", "qcow2", "-O", "raw", name, "seen"],
    );
    std::fs::read(folder.path("seen")).unwrap()
}

/// Every kind of image that `qemu-img create` makes.
const KINDS: [&str; 13] = [
    "cluster_size=512",
    "cluster_size=4k",
    "cluster_size=64k",
    "cluster_size=2M",
    "compat=0.10",
    "cluster_size=1k,refcount_bits=1",
    "cluster_size=1k,refcount_bits=2",
    "cluster_size=1k,refcount_bits=8",
    "cluster_size=1k,refcount_bits=64",
    "lazy_refcounts=on",
    "extended_l2=on",
    "extended_l2=on,cluster_size=16k",
    "preallocation=metadata",
];

#[test]
fn an_image_of_qemu_is_read_changed_and_given_back() {
    for kind in KINDS {
        let folder = Folder::new("back");
        tool(
            &folder,
            "qemu-img",
            &["create", "-q", "-f", "qcow2", "-o", kind, "image", "4M"],
        );
        let requests = ["write -P 17 1000 70000", "write -P 34 2M 300k", "discard 2100k 100k"];
        let requests: Vec<_> = requests.iter().flat_map(|request| ["-c", request]).collect();
        tool(
            &folder,
            "qemu-io",
            &[&["-f", "qcow2"], &requests[..], &["image"]].concat(),
        );
        let mut model = seen_by_qemu(&folder, "image");
        let image = open(&folder, "image", None, None);
        assert!(read(&image) == model, "{kind}");
        for (offset, len, byte) in [(500, 600, 51), (1 << 20, 200_000, 68), (2_090_000, 50_000, 85)] {
            write(&image, offset, &vec![byte; len]);
            model[offset as usize..offset as usize + len].fill(byte);
        }
        wait(image.discard(3 << 20, 1 << 20)).unwrap();
        wait(image.close()).unwrap();
        tool(&folder, "qemu-img", &["check", "-q", "image"]);
        assert!(seen_by_qemu(&folder, "image") == model, "{kind}");
    }
}

#[test]
fn compressed_clusters_are_read_and_written_over() {
    for kind in [
        "compression_type=zlib",
        "compression_type=zstd",
        "compression_type=zstd,extended_l2=on",
    ] {
        let folder = Folder::new("compressed");
        let mut model: Vec<u8> = (0..SIZE).map(|at| (at / 700) as u8 ^ (at % 13) as u8).collect();
        std::fs::write(folder.path("raw"), &model).unwrap();
        let arguments = ["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", kind, "raw", "image"];
        tool(&folder, "qemu-img", &arguments);
        let image = open(&folder, "image", None, None);
        assert!(read(&image) == model, "{kind}");
        write(&image, 100_000, &[9; 5000]);
        model[100_000..105_000].fill(9);
        wait(image.close()).unwrap();
        tool(&folder, "qemu-img", &["check", "-q", "image"]);
        assert!(seen_by_qemu(&folder, "image") == model, "{kind}");
    }
}

#[test]
fn snapshots_keep_what_they_have() {
    for kind in ["compat=0.10", "compat=1.1", "extended_l2=on"] {
        let folder = Folder::new("snapshots");
        tool(
            &folder,
            "qemu-img",
            &["create", "-q", "-f", "qcow2", "-o", kind, "image", "4M"],
        );
        let fill = ["-f", "qcow2", "-c", "write -P 17 0 3M", "image"];
        tool(&folder, "qemu-io", &fill);
        let first = seen_by_qemu(&folder, "image");
        tool(&folder, "qemu-img", &["snapshot", "-c", "one", "image"]);
        let image = open(&folder, "image", None, None);
        write(&image, 70_000, &[34; 300_000]);
        wait(image.close()).unwrap();
        let second = seen_by_qemu(&folder, "image");
        assert!(second[70_000..370_000].iter().all(|byte| *byte == 34));
        tool(&folder, "qemu-img", &["snapshot", "-c", "two", "image"]);
        let image = open(&folder, "image", None, None);
        wait(image.discard(0, SIZE)).unwrap();
        write(&image, 1 << 20, &[51; 100]);
        wait(image.close()).unwrap();
        tool(&folder, "qemu-img", &["check", "-q", "image"]);
        for (name, wanted) in [("one", &first), ("two", &second)] {
            tool(&folder, "qemu-img", &["snapshot", "-a", name, "image"]);
            assert!(seen_by_qemu(&folder, "image") == *wanted, "{kind}, {name}");
        }
    }
}

#[test]
fn data_files_and_backing_files() {
    for raw in ["off", "on"] {
        let folder = Folder::new("data");
        let options = format!("data_file=data,data_file_raw={raw}");
        tool(
            &folder,
            "qemu-img",
            &["create", "-q", "-f", "qcow2", "-o", &options, "image", "4M"],
        );
        tool(&folder, "qemu-io", &["-f", "qcow2", "-c", "write -P 17 0 1M", "image"]);
        let image = open(&folder, "image", Some("data"), None);
        write(&image, 1_000_000, &[34; 200_000]);
        wait(image.close()).unwrap();
        let mut model = vec![0; SIZE as usize];
        model[..1 << 20].fill(17);
        model[1_000_000..1_200_000].fill(34);
        tool(&folder, "qemu-img", &["check", "-q", "image"]);
        assert!(seen_by_qemu(&folder, "image") == model, "raw={raw}");
    }
    for kind in ["compat=0.10", "extended_l2=on"] {
        let folder = Folder::new("backing");
        std::fs::write(folder.path("base"), vec![17; 3_000_064]).unwrap();
        let options = format!("{kind},backing_file=base,backing_fmt=raw");
        tool(
            &folder,
            "qemu-img",
            &["create", "-q", "-f", "qcow2", "-o", &options, "image", "4M"],
        );
        let image = open(&folder, "image", None, Some("base"));
        write(&image, 2_999_000, &[34; 100]);
        let mut model = vec![0; SIZE as usize];
        model[..3_000_064].fill(17);
        model[2_999_000..2_999_100].fill(34);
        assert!(read(&image) == model, "{kind}");
        wait(image.close()).unwrap();
        tool(&folder, "qemu-img", &["check", "-q", "image"]);
        assert!(seen_by_qemu(&folder, "image") == model, "{kind}");
    }
}

#[test]
fn an_image_of_ours_is_one_of_qemus() {
    let pool = Pool::new();
    for (cluster_size, version, refcount_bits, extended_l2) in [
        (512, 3, 16, false),
        (65536, 2, 16, false),
        (65536, 3, 1, true),
        (2 << 20, 3, 64, false),
    ] {
        let folder = Folder::new("ours");
        let options = CreateOptions {
            size: SIZE,
            version,
            cluster_size,
            refcount_bits,
            extended_l2,
            ..CreateOptions::default()
        };
        let file = file_node(&folder.path("image"), &pool);
        wait(create(&file, None, &options, Arc::clone(&pool))).unwrap();
        tool(&folder, "qemu-img", &["check", "-q", "image"]);
        let info = tool(&folder, "qemu-img", &["info", "--output=json", "image"]);
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        let data = &info["format-specific"]["data"];
        assert_eq!(info["virtual-size"], SIZE);
        assert_eq!(info["cluster-size"], cluster_size);
        assert_eq!(data["compat"], if version == 2 { "0.10" } else { "1.1" });
        assert_eq!(data["refcount-bits"], refcount_bits);
        tool(
            &folder,
            "qemu-io",
            &["-f", "qcow2", "-c", "write -P 17 1000 1M", "image"],
        );
        let image = open(&folder, "image", None, None);
        wait(image.truncate(SIZE * 4)).unwrap();
        write(&image, SIZE * 4 - 512, &[34; 512]);
        wait(image.truncate(SIZE / 2)).unwrap();
        wait(image.close()).unwrap();
        tool(&folder, "qemu-img", &["check", "-q", "image"]);
        let seen = seen_by_qemu(&folder, "image");
        assert!(seen.len() as u64 == SIZE / 2 && seen[1000..1000 + (1 << 20)].iter().all(|byte| *byte == 17));
    }
}

#[test]
fn a_dirty_image_is_repaired() {
    let folder = Folder::new("dirty");
    let options = "lazy_refcounts=on,cluster_size=4k";
    tool(
        &folder,
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "-o", options, "image", "4M"],
    );
    let request = "write -P 17 0 1M";
    // It ends without writing the refcounts.
    let killed = ["-f", "qcow2", "-c", request, "-c", "flush", "-c", "sigraise 9", "image"];
    let status = Command::new("qemu-io")
        .args(killed)
        .current_dir(&folder.0)
        .output()
        .unwrap()
        .status;
    assert!(!status.success());
    let image = open(&folder, "image", None, None);
    assert!(read(&image)[..1 << 20].iter().all(|byte| *byte == 17));
    wait(image.close()).unwrap();
    tool(&folder, "qemu-img", &["check", "-q", "image"]);
}

#[test]
fn bitmaps_that_record_are_marked_and_others_stay() {
    let folder = Folder::new("bitmaps");
    tool(&folder, "qemu-img", &["create", "-q", "-f", "qcow2", "image", "4M"]);
    tool(&folder, "qemu-img", &["bitmap", "--add", "image", "recording"]);
    tool(&folder, "qemu-io", &["-f", "qcow2", "-c", "write -P 17 0 1M", "image"]);
    tool(&folder, "qemu-img", &["bitmap", "--add", "--disable", "image", "still"]);
    let flags = || {
        let info = tool(&folder, "qemu-img", &["info", "--output=json", "image"]);
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        let list = info["format-specific"]["data"]["bitmaps"].as_array().unwrap().clone();
        list.iter()
            .map(|bitmap| format!("{} {}", bitmap["name"], bitmap["flags"]))
            .collect::<Vec<_>>()
    };
    let before = flags();
    assert_eq!(before, ["\"recording\" [\"auto\"]", "\"still\" []"]);
    let image = open(&folder, "image", None, None);
    assert!(read(&image)[..1 << 20].iter().all(|byte| *byte == 17));
    wait(image.close()).unwrap();
    assert_eq!(flags(), before, "nothing was written");
    let image = open(&folder, "image", None, None);
    write(&image, 2 << 20, &[34; 1 << 20]);
    wait(image.discard(0, 1 << 20)).unwrap();
    assert!(wait(image.truncate(SIZE * 2)).is_err());
    wait(image.close()).unwrap();
    let marked = flags();
    assert!(marked[0].contains("in-use") && marked[1] == before[1], "{marked:?}");
    tool(&folder, "qemu-img", &["check", "-q", "image"]);
}
