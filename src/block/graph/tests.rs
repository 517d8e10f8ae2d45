//! The graph as clients change it.

use std::fs::OpenOptions;
use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::block::testing::block_on;
use crate::block::{Policy, WriteFlags};
use crate::qapi::visit::{At, Decode, Mode};

/// Opens files itself.
struct Direct;

impl Opener for Direct {
    fn open(
        &self,
        path: &str,
        mode: OpenMode,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<std::os::fd::OwnedFd, Error>> + '_>> {
        let opened = OpenOptions::new().read(true).write(mode.write).open(path);
        let opened = opened
            .map(Into::into)
            .map_err(|error| Error::generic(format!("Could not open '{path}': {}", crate::report::reason(&error))));
        Box::pin(async { opened })
    }
}

struct Bench {
    graph: Graph,
    path: PathBuf,
}

impl Bench {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("remuda-graph-{}-{name}", std::process::id()));
        std::fs::write(&path, vec![0; 65536]).unwrap();
        Self {
            graph: Graph::default(),
            path,
        }
    }

    fn add(&self, options: Value) -> Result<(), String> {
        let options = Decode::decode(options, &At::root(Mode::Json)).map_err(|error| error.desc)?;
        block_on(self.graph.add(&Direct, &options)).map_err(|error| error.desc)
    }

    fn add_file(&self, name: &str) -> Result<(), String> {
        self.add(json!({"driver": "file", "node-name": name, "filename": self.path}))
    }

    fn attach(&self, node: &str, path: &str) -> Result<Arc<Backend>, String> {
        let attached = self.graph.attach(Attachment {
            node,
            path: path.to_owned(),
            share_writes: false,
            writeback: true,
            policy: ErrorPolicy {
                read: Policy::Report,
                write: Policy::StopIfFull,
            },
            notify: Arc::new(|| {}),
        });
        attached.map_err(|error| error.to_string())
    }

    fn remove(&self, name: &str) -> Result<(), String> {
        block_on(self.graph.remove(name)).map_err(|error| error.desc)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).unwrap();
    }
}

#[test]
fn nodes_come_and_go_by_name() {
    let bench = Bench::new("names");
    bench.add_file("x1").unwrap();
    let part = json!({"driver": "raw", "node-name": "x2", "file": "x1", "offset": 4096, "size": 8192});
    bench.add(part.clone()).unwrap();
    for (options, why) in [
        (part, "Duplicate nodes with node-name='x2'"),
        (
            json!({"driver": "raw", "file": "x1"}),
            "'node-name' must be specified for the root node",
        ),
        (
            json!({"driver": "raw", "node-name": "x3", "file": "nofile"}),
            "Cannot find device='nofile' nor node-name='nofile'",
        ),
        (
            json!({"driver": "raw", "node-name": "1bad", "file": "x1"}),
            "Invalid node-name: '1bad'",
        ),
        (
            json!({"driver": "raw", "node-name": "x".repeat(40), "file": "x1"}),
            "Node name too long",
        ),
        (
            json!({"driver": "raw", "node-name": "x3", "file": "x1", "offset": 4096, "size": 1_u64 << 40}),
            "The sum of offset (4096) and size (1099511627776) has to be smaller or equal to the  actual size of the \
             containing file (65536)",
        ),
        (
            json!({"driver": "file", "node-name": "x4", "filename": "/nodir/x"}),
            "Could not open '/nodir/x': No such file or directory",
        ),
        (
            json!({"driver": "host_device", "node-name": "x4", "filename": bench.path}),
            &format!(
                "'host_device' driver requires '{}' to be either a character or block device",
                bench.path.display()
            ),
        ),
    ] {
        assert_eq!(bench.add(options).unwrap_err(), why);
    }
    let names: Vec<_> = bench
        .graph
        .nodes(false)
        .into_iter()
        .filter_map(|node| node.node_name)
        .collect();
    assert_eq!(names, ["x2", "x1"], "the newest first");
    assert_eq!(bench.remove("x1").unwrap_err(), "Block device x1 is in use");
    bench.remove("x2").unwrap();
    bench.remove("x1").unwrap();
    assert_eq!(
        bench.remove("x1").unwrap_err(),
        "Failed to find node with node-name='x1'"
    );
}

#[test]
fn a_node_that_is_described_within_another_goes_with_it() {
    let bench = Bench::new("within");
    let file = json!({"driver": "file", "filename": bench.path});
    bench
        .add(json!({"driver": "raw", "node-name": "r", "file": file, "read-only": true}))
        .unwrap();
    let nodes = bench.graph.nodes(false);
    assert_eq!((nodes.len(), nodes[0].children.len()), (2, 1));
    let inner = nodes[1].node_name.clone().unwrap();
    assert!(inner.starts_with("#block") && nodes[1].ro, "it is read-only as well");
    assert_eq!(
        bench.remove(&inner).unwrap_err(),
        format!("Block device {inner} is in use")
    );
    bench.remove("r").unwrap();
    assert!(bench.graph.nodes(false).is_empty());
    // Nor does it stay when there is no node for it.
    let part = json!({"driver": "raw", "node-name": "r", "file": file, "offset": 1 << 20});
    bench.add(part).unwrap_err();
    assert!(bench.graph.nodes(false).is_empty());
}

#[test]
fn two_writers_do_not_go_together() {
    let bench = Bench::new("writers");
    bench.add_file("x1").unwrap();
    bench
        .add(json!({"driver": "raw", "node-name": "r", "file": "x1"}))
        .unwrap();
    let first = bench.attach("r", "/machine/peripheral/a").unwrap();
    assert_eq!(
        bench.attach("r", "/machine/peripheral/b").unwrap_err(),
        "Permission conflict on node 'r': permissions 'write' are both required by block device \
         '/machine/peripheral/a' (uses node 'r' as 'root' child) and unshared by block device '/machine/peripheral/b' \
         (uses node 'r' as 'root' child)."
    );
    assert!(
        bench
            .attach("x1", "/machine/peripheral/b")
            .unwrap_err()
            .starts_with("Permission conflict on node 'x1'")
    );
    assert_eq!(bench.remove("r").unwrap_err(), "Node r is in use");
    // Another node over the same file finds it locked.
    bench.add_file("x2").unwrap();
    assert_eq!(bench.attach("x2", "/b").unwrap_err(), "Failed to get \"write\" lock");
    first.detach();
    let second = bench.attach("x2", "/b").unwrap();
    assert_eq!(bench.attach("r", "/a").unwrap_err(), "Failed to get \"write\" lock");
    second.detach();
    bench.attach("r", "/a").unwrap().detach();
    assert_eq!(bench.attach("none", "/a").unwrap_err(), "can't find value 'none'");
}

#[test]
fn a_part_keeps_its_file_from_being_cut() {
    let bench = Bench::new("part");
    bench.add_file("x1").unwrap();
    bench
        .add(json!({"driver": "raw", "node-name": "p", "file": "x1", "offset": 512, "size": 1024}))
        .unwrap();
    let node = bench.graph.node("p").unwrap();
    let write = |at| node.write(at, crate::block::IoBuffer::copy_of(b"abcd"), WriteFlags::default());
    block_on(write(1020)).unwrap();
    assert!(matches!(block_on(write(1021)), Err(BlockError::OutOfRange { .. })));
    assert_eq!(std::fs::read(&bench.path).unwrap()[1532..1537], *b"abcd\0");
    let info = &bench.graph.nodes(false)[0];
    assert_eq!(
        info.file,
        format!(
            "json:{{\"driver\": \"raw\", \"offset\": 512, \"size\": 1024, \"file\": {{\"driver\": \"file\", \"filename\": \"{}\"}}}}",
            bench.path.display()
        )
    );
    assert_eq!(info.image.virtual_size, 1024);
    let conflict = block_on(bench.graph.resize(None, Some("x1"), 512)).unwrap_err();
    assert_eq!(
        conflict.desc,
        "Permission conflict on node 'x1': permissions 'resize' are both required by an unnamed block device (uses node \
         'x1' as 'root' child) and unshared by node 'p' (uses node 'x1' as 'file' child)."
    );
    let error = block_on(bench.graph.resize(None, Some("p"), 512)).unwrap_err();
    assert_eq!(error.desc, "Cannot resize fixed-size raw disks");
}

#[test]
fn a_disk_that_is_made_longer_hears_of_it() {
    let bench = Bench::new("resize");
    bench.add_file("x1").unwrap();
    bench
        .add(json!({"driver": "raw", "node-name": "r", "file": "x1"}))
        .unwrap();
    let backend = bench.attach("r", "/a").unwrap();
    let told = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counter = Arc::clone(&told);
    backend.on_resize(move || {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    });
    let resize = |name, size| block_on(bench.graph.resize(None, name, size)).map_err(|error| error.desc);
    assert_eq!(
        resize(Some("r"), 1000).unwrap_err(),
        "The new size must be a multiple of 512"
    );
    assert_eq!(resize(Some("r"), -1).unwrap_err(), "Parameter 'size' expects a >0 size");
    assert_eq!(resize(None, 512).unwrap_err(), "Cannot find device='' nor node-name=''");
    assert_eq!(
        resize(Some("no"), 512).unwrap_err(),
        "Cannot find device='' nor node-name='no'"
    );
    resize(Some("r"), 1 << 20).unwrap();
    assert_eq!(backend.node().length(), 1 << 20);
    assert_eq!(told.load(std::sync::atomic::Ordering::Relaxed), 1);
}
